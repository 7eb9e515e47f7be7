package frame_test

import (
	"strings"
	"testing"

	"github.com/servercore-go/servercore/frame"
)

func TestServerCoreSplit(t *testing.T) {
	all := frame.ServerCore{}
	checkSplits(t, []splitCase{
		{name: "nothing", f: all},
		{name: "half a size", f: all, data: "\x06"},
		{name: "size alone", f: all, data: "\x06\x00"},
		{name: "one byte missing", f: all, data: "\x06\x00abc"},
		{name: "whole", f: all, data: "\x06\x00abcd", packet: "abcd", n: 6},
		{name: "more behind it", f: all, data: "\x06\x00abcd\x03\x00e", packet: "abcd", n: 6},
		{name: "empty payload", f: all, data: "\x02\x00\x02\x00", n: 2},
		{name: "little-endian", f: all, data: "\x02\x01" + strings.Repeat("x", 256), packet: strings.Repeat("x", 256), n: 258},
		{name: "size 0", f: all, data: "\x00\x00", err: frame.ErrMalformed},
		{name: "size 1", f: all, data: "\x01\x00", err: frame.ErrMalformed},
		{name: "size 0 behind a packet", f: all, data: "\x03\x00a\x00\x00", packet: "a", n: 3},
		{name: "largest", f: all, data: "\xff\xff" + strings.Repeat("x", 300)},
		{name: "at the maximum", f: frame.ServerCore{Max: 4}, data: "\x06\x00abcd", packet: "abcd", n: 6},
		{name: "over the maximum", f: frame.ServerCore{Max: 4}, data: "\x07\x00abcde", err: frame.ErrTooLarge},
		{name: "F3, refused on the size", f: frame.ServerCore{Max: 4}, data: "\x07\x00", err: frame.ErrTooLarge},
		{name: "F3, not before", f: frame.ServerCore{Max: 4}, data: "\x07"},
	})
}

func TestServerCoreAppend(t *testing.T) {
	all := frame.ServerCore{}
	largest := strings.Repeat("x", 65533)
	checkAppends(t, []appendCase{
		{name: "empty", f: all, framed: "\x02\x00"},
		{name: "payload", f: all, payload: "abcd", framed: "\x06\x00abcd"},
		{name: "largest", f: all, payload: largest, framed: "\xff\xff" + largest},
		{name: "larger", f: all, payload: largest + "x", err: frame.ErrTooLarge},
		{name: "at the maximum", f: frame.ServerCore{Max: 3}, payload: "abc", framed: "\x05\x00abc"},
		{name: "over the maximum", f: frame.ServerCore{Max: 3}, payload: "abcd", err: frame.ErrTooLarge},
	})
}

func FuzzServerCore(f *testing.F) {
	f.Add([]byte("\x06\x00abcd\x02\x00\x00\x00"), 0, uint64(1))
	f.Fuzz(func(t *testing.T, data []byte, most int, seed uint64) {
		fuzz(t, frame.ServerCore{Max: most}, data, seed)
	})
}
