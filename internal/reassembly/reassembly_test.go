package reassembly_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/internal/reassembly"
	"github.com/servercore-go/servercore/pool"
)

// feed gives data to s in chunks of that many bytes and returns the packets.
func feed(t *testing.T, s *reassembly.Stream, f frame.Framer, data []byte, chunk int) (packets []string) {
	t.Helper()
	for c := range slices.Chunk(data, chunk) {
		for len(c) > 0 {
			packet, n, err := s.Next(f, c)
			if err != nil || n <= 0 {
				t.Fatalf("consumed %d, %v", n, err)
			}
			if packet != nil {
				packets = append(packets, string(packet))
			}
			s.Delivered()
			c = c[n:]
		}
	}
	return packets
}

// Packets come out whole and in order, however the stream is cut, and nothing is held after the last one.
func TestPacketsAreWholeHoweverTheStreamIsCut(t *testing.T) {
	want := []string{"a", "", string(bytes.Repeat([]byte("long "), 1000)), "end"}
	for name, f := range map[string]frame.Framer{
		"size in front": frame.ServerCore{}, "size bit by bit": frame.Varint{Max: 1 << 16}, "mark at the end": frame.Delimiter{Delimiter: []byte("\r\n"), Max: 1 << 16},
	} {
		var wire []byte
		for _, p := range want {
			var err error
			if wire, err = f.Append(wire, []byte(p)); err != nil {
				t.Fatal(err)
			}
		}
		for _, chunk := range []int{1, 2, 7, 600, len(wire)} {
			var s reassembly.Stream
			if got := feed(t, &s, f, wire, chunk); !slices.Equal(got, want) {
				t.Errorf("%s, in chunks of %d: packets %.60q", name, chunk, got)
			}
			if n := pool.Live(); n != 0 {
				t.Errorf("%s, in chunks of %d: %d buffers are held at the end", name, chunk, n)
			}
		}
	}
}

// A packet that arrives whole is not copied.
func TestWholePacketIsAPieceOfTheInput(t *testing.T) {
	wire, err := frame.ServerCore{}.Append(nil, []byte("packet"))
	if err != nil {
		t.Fatal(err)
	}
	var s reassembly.Stream
	packet, n, err := s.Next(frame.ServerCore{}, wire)
	if err != nil || n != len(wire) || &packet[len(packet)-1] != &wire[len(wire)-1] {
		t.Errorf("consumed %d of %d, %v, packet %q", n, len(wire), err, packet)
	}
}

// Drop gives up what was kept, and the stream begins anew.
func TestDropBeginsAnew(t *testing.T) {
	var s reassembly.Stream
	if packet, n, err := s.Next(frame.ServerCore{}, []byte{9, 0, 'x'}); packet != nil || n != 3 || err != nil {
		t.Fatalf("packet %q, consumed %d, %v", packet, n, err)
	}
	s.Drop()
	if n := pool.Live(); n != 0 {
		t.Errorf("%d buffers are held", n)
	}
	wire, err := frame.ServerCore{}.Append(nil, []byte("new"))
	if err != nil {
		t.Fatal(err)
	}
	if got := feed(t, &s, frame.ServerCore{}, wire, len(wire)); len(got) != 1 {
		t.Errorf("packets %q", got)
	}
}

// liar is a framer that says it took more or less than it may.
type liar struct {
	frame.Framer
	size int
}

func (l liar) Split([]byte) ([]byte, int, error) { return nil, l.size, nil }

// A framer that takes an impossible number of bytes is refused.
func TestImpossibleSizeIsMalformed(t *testing.T) {
	for _, size := range []int{-1, 3} {
		var s reassembly.Stream
		if _, _, err := s.Next(liar{frame.ServerCore{}, size}, []byte("ab")); !errors.Is(err, frame.ErrMalformed) {
			t.Errorf("size %d of 2: %v", size, err)
		}
		s.Drop()
	}
}
