package frame_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/servercore-go/servercore/frame"
)

// measured returns the framers to measure. All accept a payload of 64 bytes.
func measured() []frame.Framer {
	return []frame.Framer{
		frame.ServerCore{},
		frame.LengthField{LengthFieldLength: 4, InitialBytesToStrip: 4},
		frame.LengthField{LengthFieldOffset: 1, LengthFieldLength: 3, InitialBytesToStrip: 6, ByteOrder: binary.LittleEndian},
		frame.Delimiter{Delimiter: []byte("\r\n\r\n")},
		frame.Line{},
		frame.Fixed{Size: 64},
		frame.Varint{},
	}
}

func name(f frame.Framer) string {
	if f, ok := f.(frame.LengthField); ok {
		return fmt.Sprintf("LengthField/%d+%d", f.LengthFieldOffset, f.LengthFieldLength)
	}
	return fmt.Sprintf("%T", f)[len("frame."):]
}

// F6: Split, SplitFrom and SizeOf do not allocate, and Append does not while dst has room.
func TestF6NoAllocation(t *testing.T) {
	payload := bytes.Repeat([]byte("x"), 64)
	for _, f := range measured() {
		framed, err := f.Append(nil, payload)
		if err != nil {
			t.Fatal(err)
		}
		dst := make([]byte, 0, 2*len(framed))
		if n := testing.AllocsPerRun(100, func() {
			_, _, _ = f.Split(framed)
			_, _, _ = f.Split(framed[:len(framed)-1]) // not whole yet
			_, _ = f.Append(dst, payload)
			if s, ok := f.(frame.Sizer); ok {
				s.SizeOf(framed)
			}
			if r, ok := f.(frame.Resumer); ok {
				_, _, _ = r.SplitFrom(framed, 10)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name(f), n)
		}
		if n := testing.AllocsPerRun(100, func() { _, _ = f.Append(nil, payload) }); n > 2 {
			t.Errorf("%s: %v allocations for a packet of its own", name(f), n)
		}
	}
}

// One packet of 64 bytes with another after it.
func BenchmarkSplit(b *testing.B) {
	payload := bytes.Repeat([]byte("x"), 64)
	for _, f := range measured() {
		b.Run(name(f), func(b *testing.B) {
			stream, _ := f.Append(nil, payload)
			stream = append(stream, stream...)
			b.ReportAllocs()
			for b.Loop() {
				if _, n, err := f.Split(stream); n == 0 || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}

// One packet of 64 bytes, appended to a buffer that has room.
func BenchmarkAppend(b *testing.B) {
	payload := bytes.Repeat([]byte("x"), 64)
	for _, f := range measured() {
		b.Run(name(f), func(b *testing.B) {
			dst := make([]byte, 0, 128)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := f.Append(dst, payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A packet of 16 KiB that arrives in reads of 16 bytes, the case for Resumer. The times are per packet.
func BenchmarkManySmallReads(b *testing.B) {
	stream := append(bytes.Repeat([]byte("x"), 16<<10), "\r\n"...)
	for _, f := range []frame.Framer{frame.Delimiter{Delimiter: []byte("\r\n")}, frame.Line{}} {
		b.Run(name(f)+"/Split", func(b *testing.B) {
			for b.Loop() {
				for i := 16; i < len(stream); i += 16 {
					_, _, _ = f.Split(stream[:i])
				}
			}
		})
		b.Run(name(f)+"/SplitFrom", func(b *testing.B) {
			for b.Loop() {
				for i := 16; i < len(stream); i += 16 {
					_, _, _ = f.(frame.Resumer).SplitFrom(stream[:i], i-16)
				}
			}
		})
	}
}
