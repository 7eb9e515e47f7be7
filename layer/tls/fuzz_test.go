package tls

import (
	"bytes"
	"io"
	"testing"
)

// Whatever comes after the handshake: Open keeps its promises (end checks them), what comes out is a beginning of what was sealed, and the
// first changed byte ends the stream.
func FuzzOpen(f *testing.F) {
	f.Add([]byte{10, 0, 200}, 5, byte(1), byte(7))
	f.Add([]byte{255, 255, 1}, 300, byte(0x80), byte(0))
	f.Add([]byte{1}, -1, byte(0), byte(255))
	f.Fuzz(func(t *testing.T, sizes []byte, at int, flip, cut byte) {
		s, out, _ := rawClient(t)
		s.cut = int(cut) + 1
		s.dst = make([]byte, 1+int(flip)*3)
		var wire, want []byte
		for i, n := range sizes[:min(len(sizes), 16)] {
			p := bytes.Repeat([]byte{byte(i)}, int(n)*3+1)
			wire, want = append(wire, out.record(typeData, p)...), append(want, p...)
		}
		wire = append(wire, out.record(typeAlert, []byte{1, 0})...)
		changed := at >= 0 && at < len(wire) && flip != 0
		if changed {
			wire[at] ^= flip
		}
		s.kept = wire
		s.open()
		if !bytes.HasPrefix(want, s.got) {
			t.Fatal("bytes came out that were not sealed")
		}
		if !changed && (s.err != io.EOF || len(s.got) != len(want)) {
			t.Errorf("%d of %d bytes, %v", len(s.got), len(want), s.err)
		}
		if changed && (s.err == io.EOF || s.err == nil && s.layer.Ended() == nil) {
			t.Errorf("a changed byte at %d was not noticed: %v", at, s.err)
		}
		s.layer.Finish(s.err)
		if out := s.layer.Own(nil, true); len(out) != 24 && s.err != io.EOF && s.err != nil {
			t.Errorf("the last word is %d bytes, want one alert", len(out))
		}
	})
}

// Whatever comes before and in the handshake: the layer fails, or waits for more. It never panics, and takes bounded input.
func FuzzHandshake(f *testing.F) {
	h := &Handshakes{}
	flight := helloFlight(f, h)
	f.Add(flight, byte(255))
	f.Add(flight[:100], byte(7))
	f.Add([]byte("GET / HTTP/1.1\r\n"), byte(1))
	config := serverConfig()
	f.Fuzz(func(t *testing.T, stream []byte, cut byte) {
		s := newServer(t, config, h)
		s.cut = int(cut) + 1
		s.kept = stream
		s.turn()
		s.layer.Drop()
		idle(t, h)
		if s.layer.Established() {
			t.Error("established by half a handshake")
		}
	})
}
