package frame_test

import (
	"math"
	"strings"
	"testing"

	"github.com/servercore-go/servercore/frame"
)

func TestVarintSplit(t *testing.T) {
	all, small := frame.Varint{}, frame.Varint{Max: 4}
	large := frame.Varint{Max: math.MaxInt}
	cases := []splitCase{
		{name: "nothing", f: all},
		{name: "length alone", f: all, data: "\x03"},
		{name: "one byte missing", f: all, data: "\x03ab"},
		{name: "whole", f: all, data: "\x03abc", packet: "abc", n: 4},
		{name: "more behind it", f: all, data: "\x03abc\x01d", packet: "abc", n: 4},
		{name: "empty", f: all, data: "\x00\x03", n: 1},
		{name: "127", f: all, data: "\x7f" + strings.Repeat("x", 127), packet: strings.Repeat("x", 127), n: 128},
		{name: "128", f: all, data: "\x80\x01" + strings.Repeat("x", 128), packet: strings.Repeat("x", 128), n: 130},
		{name: "300", f: all, data: "\xac\x02" + strings.Repeat("x", 300), packet: strings.Repeat("x", 300), n: 302},
		{name: "half a length", f: all, data: "\xac"},
		{name: "four fifths of a length", f: all, data: "\xff\xff\xff\xff"},
		{name: "0 in two bytes", f: all, data: "\x80\x00\x01a", n: 2},
		{name: "3 in five bytes", f: all, data: "\x83\x80\x80\x80\x00abc", packet: "abc", n: 8},
		{name: "a sixth byte to come", f: all, data: "\x83\x80\x80\x80\x80", err: frame.ErrMalformed},
		{name: "33 bits", f: all, data: "\x80\x80\x80\x80\x10", err: frame.ErrMalformed},
		{name: "35 bits", f: all, data: "\xff\xff\xff\xff\x7f", err: frame.ErrMalformed},
		{name: "-1 in ten bytes", f: all, data: "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", err: frame.ErrMalformed},
		{name: "33 bits, whatever the maximum", f: large, data: "\x80\x80\x80\x80\x10", err: frame.ErrMalformed},
		{name: "32 bits", f: all, data: "\xff\xff\xff\xff\x0f", err: frame.ErrTooLarge},
		{name: "at the maximum", f: small, data: "\x04abcd", packet: "abcd", n: 5},
		{name: "over the maximum", f: small, data: "\x05abcde", err: frame.ErrTooLarge},
		{name: "F3, refused on the length", f: small, data: "\x05", err: frame.ErrTooLarge},
		{name: "F3, in five bytes too", f: small, data: "\x85\x80\x80\x80\x00", err: frame.ErrTooLarge},
		{name: "F3, not before", f: small, data: "\xff"},
	}
	if math.MaxInt > math.MaxInt32 {
		cases = append(cases, splitCase{name: "32 bits are allowed", f: large, data: "\xff\xff\xff\xff\x0f"})
	}
	checkSplits(t, cases)
}

func TestVarintAppend(t *testing.T) {
	all, small := frame.Varint{}, frame.Varint{Max: 4}
	checkAppends(t, []appendCase{
		{name: "payload", f: all, payload: "abc", framed: "\x03abc"},
		{name: "empty", f: all, framed: "\x00"},
		{name: "300", f: all, payload: strings.Repeat("x", 300), framed: "\xac\x02" + strings.Repeat("x", 300)},
		{name: "largest", f: all, payload: strings.Repeat("x", 65536), framed: "\x80\x80\x04" + strings.Repeat("x", 65536)},
		{name: "larger", f: all, payload: strings.Repeat("x", 65537), err: frame.ErrTooLarge},
		{name: "at the maximum", f: small, payload: "abcd", framed: "\x04abcd"},
		{name: "over the maximum", f: small, payload: "abcde", err: frame.ErrTooLarge},
	})
}

func FuzzVarint(f *testing.F) {
	f.Add([]byte("\x03abc\x80\x00"), 0, uint64(1))
	f.Fuzz(func(t *testing.T, data []byte, most int, seed uint64) {
		fuzz(t, frame.Varint{Max: most}, data, seed)
	})
}
