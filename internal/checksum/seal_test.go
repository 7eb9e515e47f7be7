package checksum

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/servercore-go/servercore/frame"
)

func TestSealErrors(t *testing.T) {
	check := func(name string, s *Sealer, n int, text string) {
		t.Helper()
		dst := []byte("before")
		out, err := s.Seal(dst, make([]byte, n))
		if string(out) != "before" || err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: Seal = %q, %v, want %q", name, out, err, text)
		}
	}
	check("server before the handshake", newEnd(t, Sealing, Options{Server: true}).sealer, 1, "before our hello")
	check("client before its hello", newEnd(t, Sealing, Options{}).sealer, 1, "before our hello")
	server := newEnd(t, Sealing, Options{Server: true})
	server.open(t, newEnd(t, Sealing, Options{}).Own(nil, true))
	check("server before its hello", server.sealer, 1, "before our hello")
	server.Own(nil, true)
	check("too much", server.sealer, MaxSeal+1, "Seal of 16385 bytes, at most 16384")
	if out, err := server.sealer.Seal(nil, make([]byte, MaxSeal)); err != nil || len(out) != MaxSeal+16*Overhead {
		t.Errorf("Seal made %d bytes, error %v", len(out), err)
	}
	server.sealer.Fault = errors.New("broken")
	check("a fault", server.sealer, 1, "broken")
	server.sealer.Fault = nil
	server.Finish(nil)
	check("finished", server.sealer, 1, "after Finish")
	server.Own(nil, true)
	check("said", server.sealer, 1, "after Finish")
}

// F1, F4: Split returns what Append was given, and it lies within what it took.
func TestFramer(t *testing.T) {
	for _, f := range []Framer{{}, {Server: true}} {
		for _, n := range []int{0, 1, 1024, 1025, MaxMessage} {
			framed, err := f.Append([]byte("before"), pattern(n))
			if err != nil || len(framed) != len("before")+n+Overhead || !bytes.HasPrefix(framed, []byte("before")) {
				t.Fatalf("Append of %d bytes made %d, error %v", n, len(framed), err)
			}
			framed = append(framed[len("before"):], "later"...)
			for cut := range len(framed) {
				if n > 1 && cut > 20 && cut < n {
					continue
				}
				packet, size, err := f.Split(framed[:cut])
				whole := cut >= n+Overhead
				if err != nil || (packet != nil) != whole || whole && (size != n+Overhead || !bytes.Equal(packet, pattern(n)) || cap(packet) != n) {
					t.Fatalf("Split of %d bytes of %d: %d bytes, %d used, error %v", cut, n, len(packet), size, err)
				}
			}
		}
		if out, err := f.Append([]byte("before"), make([]byte, MaxMessage+1)); string(out) != "before" || !errors.Is(err, frame.ErrTooLarge) {
			t.Errorf("Append: %q, %v", out, err)
		}
	}
}

func TestFramerErrors(t *testing.T) {
	broken, _ := Framer{}.Append(nil, []byte("x"))
	broken[headerSize]++
	for _, tt := range []struct {
		name string
		wire []byte
		err  error
	}{
		{"too large", []byte{byte(kindData), 1, 0, 1, 0, 0, 0, 0}, frame.ErrTooLarge},
		{"CRC", broken, frame.ErrMalformed},
		{"the other side", record8(kindData|fromServer, 0, "x"), frame.ErrMalformed},
		{"a number", record8(kindData, 1, "x"), frame.ErrMalformed},
		{"a probe", record8(kindProbe, 0, "x"), frame.ErrMalformed},
	} {
		for cut := range len(tt.wire) + 1 {
			packet, n, err := Framer{}.Split(tt.wire[:cut])
			if last := cut == len(tt.wire); packet != nil || n != 0 || last && !errors.Is(err, tt.err) || !last && err != nil {
				t.Errorf("%s, %d bytes: %q, %d, %v", tt.name, cut, packet, n, err)
			}
		}
	}
}

// A message that was made once is right for any number of receivers, whatever else they were sent.
func TestOneMessageForManyReceivers(t *testing.T) {
	shared, err := Framer{Server: true}.Append(nil, []byte("to all"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		from, to := newPair(t, Framing, true)
		var wire []byte
		for range i {
			if err := from.Probe(nil); err != nil {
				t.Fatal(err)
			}
			wire = append(from.Own(wire, true), shared...)
		}
		r := &receiver{end: to, room: always(100)}
		r.feed(t, append(wire, shared...))
		if r.err != nil || len(r.data) != i+1 || string(r.data[i]) != "to all" {
			t.Errorf("%d: %q, error %v", i, r.data, r.err)
		}
	}
}
