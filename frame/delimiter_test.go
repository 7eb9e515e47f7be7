package frame_test

import (
	"strings"
	"testing"

	"github.com/servercore-go/servercore/frame"
)

func TestDelimiterSplit(t *testing.T) {
	bar := frame.Delimiter{Delimiter: []byte("||")}
	small := frame.Delimiter{Delimiter: []byte("||"), Max: 4}
	checkSplits(t, []splitCase{
		{name: "nothing", f: bar},
		{name: "no delimiter", f: bar, data: "abc"},
		{name: "half a delimiter", f: bar, data: "abc|"},
		{name: "whole", f: bar, data: "abc||", packet: "abc", n: 5},
		{name: "more behind it", f: bar, data: "abc||de||", packet: "abc", n: 5},
		{name: "empty", f: bar, data: "||abc", n: 2},
		{name: "the first of overlapping delimiters", f: bar, data: "a|||b", packet: "a", n: 3},
		{name: "half a delimiter inside", f: bar, data: "a|b||", packet: "a|b", n: 5},
		{name: "kept", f: frame.Delimiter{Delimiter: []byte("||"), Keep: true}, data: "abc||de", packet: "abc||", n: 5},
		{name: "at the maximum", f: small, data: "abcd||", packet: "abcd", n: 6},
		{name: "over the maximum", f: small, data: "abcde||", err: frame.ErrTooLarge},
		{name: "far over the maximum", f: small, data: "abcdefghijk||", err: frame.ErrTooLarge},
		{name: "the maximum is without the kept delimiter", f: frame.Delimiter{Delimiter: []byte("||"), Max: 4, Keep: true},
			data: "abcd||", packet: "abcd||", n: 6},
		{name: "F3, the maximum has passed", f: small, data: "abcdef", err: frame.ErrTooLarge},
		{name: "F3, a delimiter may still come", f: small, data: "abcd|"},
		{name: "64 KiB and no delimiter", f: bar, data: strings.Repeat("x", frame.DefaultMax+2), err: frame.ErrTooLarge},
	})
}

func TestDelimiterAppend(t *testing.T) {
	bar := frame.Delimiter{Delimiter: []byte("||")}
	head := frame.Delimiter{Delimiter: []byte("\r\n\r\n")}
	small := frame.Delimiter{Delimiter: []byte("||"), Max: 4}
	keep := frame.Delimiter{Delimiter: []byte("||"), Max: 4, Keep: true}
	checkAppends(t, []appendCase{
		{name: "payload", f: bar, payload: "abc", framed: "abc||"},
		{name: "empty", f: bar, framed: "||"},
		{name: "delimiter inside", f: bar, payload: "a||b", err: frame.ErrMalformed},
		{name: "delimiter at the end", f: bar, payload: "ab||", err: frame.ErrMalformed},
		{name: "would end one byte early", f: bar, payload: "ab|", err: frame.ErrMalformed},
		{name: "would end two bytes early", f: head, payload: "ab\r\n", err: frame.ErrMalformed},
		{name: "ends like a delimiter begins, harmlessly", f: head, payload: "ab\r", framed: "ab\r\r\n\r\n"},
		{name: "begins like a delimiter ends", f: bar, payload: "|ab", framed: "|ab||"},
		{name: "at the maximum", f: small, payload: "abcd", framed: "abcd||"},
		{name: "over the maximum", f: small, payload: "abcde", err: frame.ErrTooLarge},
		{name: "kept", f: keep, payload: "abcd||", framed: "abcd||"},
		{name: "kept, empty", f: keep, payload: "||", framed: "||"},
		{name: "kept, missing", f: keep, payload: "abcd", err: frame.ErrMalformed},
		{name: "kept, twice", f: keep, payload: "a||b||", err: frame.ErrMalformed},
		{name: "kept, would end one byte early", f: keep, payload: "a|||", err: frame.ErrMalformed},
		{name: "kept, over the maximum", f: keep, payload: "abcde||", err: frame.ErrTooLarge},
	})
}

// F7: SplitFrom does not search bytes again that an earlier call has searched. The test shows it with a false value of scanned: a
// delimiter in those bytes is not found.
func TestF7DelimiterGoesOnWhereItStopped(t *testing.T) {
	f := frame.Delimiter{Delimiter: []byte("||")}
	for _, tt := range []struct {
		data    string
		scanned int
		n       int
	}{
		{"a||b", 0, 3},
		{"a||b", 2, 3}, // it may have begun at byte 1
		{"a||b", 3, 0}, // a packet was there, or scanned is wrong
		{"a||b||", 3, 6},
		{"a||b", 4, 0},
		{"a||b", 99, 0}, // more than there is: all
		{"a||b", -1, 3}, // less than nothing: nothing
	} {
		if _, n, err := f.SplitFrom([]byte(tt.data), tt.scanned); n != tt.n || err != nil {
			t.Errorf("SplitFrom(%q, %d): n = %d, error %v, want %d", tt.data, tt.scanned, n, err, tt.n)
		}
	}
	small := frame.Delimiter{Delimiter: []byte("||"), Max: 1}
	if _, n, err := small.SplitFrom([]byte("abcdef||"), 8); n != 0 || kind(err) != "too large" {
		t.Errorf("n = %d, error %v", n, err)
	}
}

func FuzzDelimiter(f *testing.F) {
	f.Add([]byte("ab||cd||"), []byte("||"), 0, false, uint64(1))
	f.Fuzz(func(t *testing.T, data, delimiter []byte, most int, keep bool, seed uint64) {
		d := frame.Delimiter{Delimiter: delimiter, Max: most, Keep: keep}
		fuzz(t, d, data, seed)
		if keep { // the payload alone will hardly ever do
			checkRoundTrip(t, d, append(data[:len(data):len(data)], delimiter...))
		}
	})
}
