package websocket_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"unicode/utf8"

	"github.com/servercore-go/servercore/layer/websocket"
	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

// fuzzMost is MaxMessage of the fuzzed layers.
const fuzzMost = 4 << 10

// FuzzOpen gives any bytes to both sides, cut anywhere. Open must keep its contract and its bounds, and come to the same messages and the
// same end as when all bytes came at once.
func FuzzOpen(f *testing.F) {
	hello := frame{fin | text, "Hello"}
	for _, frames := range [][]frame{{hello}, {{text, "Hel"}, {fin | ping, "p"}, {fin | cont, "lo"}}, {{fin | closeOp, "\x03\xe8bye"}}, {{fin | rsv1 | text, "\xf2\x48\xcd\xc9\xc9\x07\x00"}},
		{{rsv1 | binaryOp, "\xf2\x48\xcd"}, {fin | cont, "\xc9\xc9\x07\x00"}, hello}, {{fin | text, "\xce\xba\xe1\xbd\xb9"}}, {{fin | binaryOp, string(make([]byte, 300))}}} {
		f.Add(encodeAll(true, frames...), uint64(1), false, uint16(64))
		f.Add(encodeAll(false, frames...), uint64(2), true, uint16(0))
	}
	f.Fuzz(func(t *testing.T, wire []byte, seed uint64, client bool, room uint16) {
		wire = wire[:min(len(wire), 64<<10)]
		o := websocket.Options{Compression: true, MaxMessage: fuzzMost}
		side := func() *websocket.Layer {
			if client {
				return dialled(t, o, both)
			}
			return accepted(t, o, offer)
		}
		r := rand.New(rand.NewPCG(seed, 0))
		whole := fuzzSide(t, side(), wire, func(left int) int { return left }, int(room), client)
		cut := fuzzSide(t, side(), wire, func(left int) int { return 1 + r.IntN(left) }, int(room), client)
		if len(whole.messages) != len(cut.messages) || code(whole.err) != code(cut.err) {
			t.Fatalf("%d messages and %v; cut, %d messages and %v", len(whole.messages), whole.err, len(cut.messages), cut.err)
		}
		for i, m := range whole.messages {
			if m != cut.messages[i] {
				t.Fatalf("message %d: %q; cut, %q", i, m, cut.messages[i])
			}
		}
		noBuffers(t)
	})
}

// fuzzSide gives wire to l.
func fuzzSide(t *testing.T, l *websocket.Layer, wire []byte, next func(left int) int, room int, client bool) (h heard) {
	dst := make([]byte, room)
	untouched := bytes.Clone(wire)
	for rest := wire; len(rest) > 0 && h.err == nil; {
		n := next(len(rest))
		for in, more := rest[:n], true; (len(in) > 0 || more) && h.err == nil; {
			var data []byte
			var used int
			data, used, more, h.err = l.Open(dst, in)
			if used < 0 || used > len(in) || data == nil && h.err == nil && used != len(in) || data == nil && more || len(data) > fuzzMost {
				t.Fatalf("%d bytes, used %d of %d, more %v, %v", len(data), used, len(in), more, h.err)
			}
			if data != nil {
				if h.messages = append(h.messages, string(data)); l.Text() && !utf8.Valid(data) {
					t.Fatalf("text %q", data)
				}
			}
			if live := pool.Live(); live > 3 {
				t.Fatalf("%d buffers", live)
			}
			if in = in[used:]; l.Pending() {
				decode(t, l.Own(nil, true), client)
			}
		}
		rest = rest[n:]
	}
	if !bytes.Equal(wire, untouched) {
		t.Fatal("Open has written to its input")
	}
	if h.err != nil {
		var wrong *websocket.ProtocolError
		if errors.As(h.err, &wrong) == errors.Is(h.err, io.EOF) {
			t.Fatalf("neither wrong nor the end, or both: %v", h.err)
		}
		l.Finish(h.err)
		for _, f := range decode(t, l.Own(nil, true), client) {
			if len(f.payload) == 1 || len(f.payload) > 125 || !utf8.ValidString(f.payload[min(2, len(f.payload)):]) {
				t.Fatalf("last word %q", f)
			}
		}
	}
	l.Drop()
	return h
}

// FuzzUpgrade gives any bytes as a request. What is established had a key, and what is refused gets an answer of HTTP or comes out with its
// bytes.
func FuzzUpgrade(f *testing.F) {
	f.Add([]byte(request()), uint64(1))
	f.Add([]byte(request(offer+"; server_max_window_bits=9", "Origin: https://example.com", "Sec-WebSocket-Protocol: v1")), uint64(2))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\nbody"), uint64(3))
	s, err := websocket.NewServer(websocket.Options{Compression: true, PassHTTP: true, Subprotocols: []string{"v1"}, Origins: []string{"*.b"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, wire []byte, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		whole, cut := s.Layer(nil), s.Layer(nil)
		used, err := openAll(t, whole, string(wire), cuts(0)[0])
		used2, err2 := openAll(t, cut, string(wire), cutRandomly(r))
		if (err == nil) != (err2 == nil) || whole.Established() != cut.Established() || err == nil && used != used2 {
			t.Fatalf("used %d, %v; cut, used %d, %v", used, err, used2, err2)
		}
		own := whole.Own(nil, true)
		_, buffered, passed := whole.NotUpgrade()
		switch {
		case whole.Established():
			if !bytes.HasPrefix(own, []byte("HTTP/1.1 101 ")) || bytes.Count(own, []byte("\r\n\r\n")) != 1 || !bytes.Contains(bytes.ToLower(wire), []byte("sec-websocket-key:")) {
				t.Fatalf("answer %q", own)
			}
		case err == nil:
			if len(own) > 0 || used != len(wire) || len(wire) > 16<<10 {
				t.Fatalf("still waiting after %d bytes, answer %q", used, own)
			}
		case passed:
			if !bytes.HasPrefix(wire, buffered) || len(buffered) != used || len(own) > 0 {
				t.Fatalf("passed %q", buffered)
			}
		default:
			if !errors.Is(err, session.ErrHandshake) || !bytes.HasPrefix(own, []byte("HTTP/1.1 4")) {
				t.Fatalf("%v, answer %q", err, own)
			}
		}
		whole.Drop()
		cut.Drop()
		noBuffers(t)
	})
}

func cutRandomly(r *rand.Rand) cut {
	return cut{"random", func(left int) int { return 1 + r.IntN(left) }}
}

// FuzzAnswer gives any bytes as a server's answer to a client.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		l, err := websocket.NewClient(compressing, "ws://example.com", nil)
		if err != nil {
			t.Fatal(err)
		}
		l.Own(nil, true)
		if _, err := openAll(t, l, string(wire), cuts(0)[0]); err != nil && !errors.Is(err, session.ErrHandshake) || l.Established() {
			t.Fatalf("%v, established %v: the key cannot be known", err, l.Established())
		}
		l.Drop()
		noBuffers(t)
	})
}

// FuzzFramer sends any payload from each side to the other, with each window.
func FuzzFramer(f *testing.F) {
	f.Add(bytes.Repeat([]byte("abcd"), 1000), uint8(0))
	f.Add([]byte("a"), uint8(7))
	f.Fuzz(func(t *testing.T, payload []byte, bits uint8) {
		o := websocket.Options{Compression: true, MaxMessage: max(1, len(payload))}
		window := "; server_max_window_bits=" + []string{"8", "9", "10", "11", "12", "13", "14", "15"}[bits%8]
		server, client := accepted(t, o, offer+window), dialled(t, o, both+window)
		for _, way := range [][2]*websocket.Layer{{server, client}, {client, server}} {
			for kind := range 2 {
				wire, err := way[0].Framer(kind).Append(nil, payload)
				if kind == 1 && !utf8.Valid(payload) {
					if err == nil {
						t.Fatal("text that is not UTF-8 is sent")
					}
					continue
				}
				data, used, _, err2 := way[1].Open(nil, wire)
				if !bytes.Equal(data, payload) || data == nil || used != len(wire) || err != nil || err2 != nil || way[1].Text() != (kind == 1) {
					t.Fatalf("%d bytes came as %d, %v, %v", len(payload), len(data), err, err2)
				}
				if uint64(len(wire)) > uint64(len(payload))+14 {
					t.Fatalf("%d bytes became %d", len(payload), len(wire))
				}
			}
		}
		server.Drop()
		client.Drop()
		noBuffers(t)
	})
}

// FuzzXor compares with the definition.
func FuzzXor(f *testing.F) {
	f.Add([]byte("abcdefghijklmnopqrstuvwxyz0123456789"), uint32(1), uint8(3))
	f.Fuzz(func(t *testing.T, src []byte, key uint32, at uint8) {
		mask := binary.LittleEndian.AppendUint32(nil, key)
		dst := make([]byte, len(src))
		n := min(int(at), len(src))
		websocket.Xor(dst[n:], src[n:], websocket.Xor(dst[:n], src[:n], key))
		for i := range src {
			if dst[i] != src[i]^mask[i%4] {
				t.Fatalf("byte %d", i)
			}
		}
	})
}
