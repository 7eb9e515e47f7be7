package frame_test

import (
	"strings"
	"testing"

	"github.com/servercore-go/servercore/frame"
)

func TestLineSplit(t *testing.T) {
	all, small := frame.Line{}, frame.Line{Max: 4}
	checkSplits(t, []splitCase{
		{name: "nothing", f: all},
		{name: "no end", f: all, data: "abc"},
		{name: "half an end", f: all, data: "abc\r"},
		{name: "newline", f: all, data: "abc\nde", packet: "abc", n: 4},
		{name: "carriage return and newline", f: all, data: "abc\r\nde", packet: "abc", n: 5},
		{name: "only one carriage return is dropped", f: all, data: "abc\r\r\n", packet: "abc\r", n: 6},
		{name: "carriage return inside", f: all, data: "a\rbc\n", packet: "a\rbc", n: 5},
		{name: "empty", f: all, data: "\nabc", n: 1},
		{name: "empty with carriage return", f: all, data: "\r\nabc", n: 2},
		{name: "at the maximum", f: small, data: "abcd\n", packet: "abcd", n: 5},
		{name: "at the maximum with carriage return", f: small, data: "abcd\r\n", packet: "abcd", n: 6},
		{name: "over the maximum", f: small, data: "abcde\n", err: frame.ErrTooLarge},
		{name: "over the maximum with carriage return", f: small, data: "abcde\r\n", err: frame.ErrTooLarge},
		{name: "over the maximum by a carriage return", f: small, data: "abcd\r\r\n", err: frame.ErrTooLarge},
		{name: "F3, the maximum has passed", f: small, data: "abcdef", err: frame.ErrTooLarge},
		{name: "F3, an end may still come", f: small, data: "abcd\r"},
		{name: "64 KiB and no end", f: all, data: strings.Repeat("x", frame.DefaultMax+2), err: frame.ErrTooLarge},
	})
}

func TestLineAppend(t *testing.T) {
	all, small := frame.Line{}, frame.Line{Max: 4}
	checkAppends(t, []appendCase{
		{name: "line", f: all, payload: "abc", framed: "abc\n"},
		{name: "empty", f: all, framed: "\n"},
		{name: "newline inside", f: all, payload: "a\nb", err: frame.ErrMalformed},
		{name: "newline at the end", f: all, payload: "ab\n", err: frame.ErrMalformed},
		{name: "carriage return at the end", f: all, payload: "ab\r", err: frame.ErrMalformed},
		{name: "carriage return inside", f: all, payload: "a\rb", framed: "a\rb\n"},
		{name: "at the maximum", f: small, payload: "abcd", framed: "abcd\n"},
		{name: "over the maximum", f: small, payload: "abcde", err: frame.ErrTooLarge},
	})
}

// F7: SplitFrom does not search bytes again that an earlier call has searched. The test shows it with a false value of scanned: a \n in
// those bytes is not found.
func TestF7LineGoesOnWhereItStopped(t *testing.T) {
	for _, tt := range []struct {
		data    string
		scanned int
		n       int
		packet  string
	}{
		{"a\nb", 0, 2, "a"},
		{"a\nb", 1, 2, "a"},
		{"a\nb", 2, 0, ""},
		{"a\r\nb", 2, 3, "a"}, // the \r came with an earlier read
		{"a\nb\n", 2, 4, "a\nb"},
		{"a\nb", 99, 0, ""},  // more than len(data) counts as all of it
		{"a\nb", -1, 2, "a"}, // a negative number counts as 0
	} {
		packet, n, err := frame.Line{}.SplitFrom([]byte(tt.data), tt.scanned)
		if n != tt.n || string(packet) != tt.packet || err != nil {
			t.Errorf("SplitFrom(%q, %d) = %q, %d, %v, want %q, %d", tt.data, tt.scanned, packet, n, err, tt.packet, tt.n)
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add([]byte("ab\r\ncd\n\n"), 0, uint64(1))
	f.Fuzz(func(t *testing.T, data []byte, most int, seed uint64) {
		fuzz(t, frame.Line{Max: most}, data, seed)
	})
}
