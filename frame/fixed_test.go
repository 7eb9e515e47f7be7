package frame_test

import (
	"testing"

	"github.com/servercore-go/servercore/frame"
)

func TestFixedSplit(t *testing.T) {
	three := frame.Fixed{Size: 3}
	checkSplits(t, []splitCase{
		{name: "nothing", f: three},
		{name: "one byte missing", f: three, data: "ab"},
		{name: "whole", f: three, data: "abc", packet: "abc", n: 3},
		{name: "more behind it", f: three, data: "abcdefg", packet: "abc", n: 3},
		{name: "single bytes", f: frame.Fixed{Size: 1}, data: "ab", packet: "a", n: 1},
	})
	if got := three.SizeOf(nil); got != 3 {
		t.Errorf("SizeOf(nil) = %d, want 3: it is known from the start", got)
	}
}

func TestFixedAppend(t *testing.T) {
	three := frame.Fixed{Size: 3}
	checkAppends(t, []appendCase{
		{name: "right", f: three, payload: "abc", framed: "abc"},
		{name: "short", f: three, payload: "ab", err: frame.ErrMalformed},
		{name: "empty", f: three, err: frame.ErrMalformed},
		{name: "long", f: three, payload: "abcd", err: frame.ErrTooLarge},
	})
}

func FuzzFixed(f *testing.F) {
	f.Add([]byte("abcdefg"), 3, uint64(1))
	f.Fuzz(func(t *testing.T, data []byte, size int, seed uint64) {
		fuzz(t, frame.Fixed{Size: size}, data, seed)
	})
}
