package websocket_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/servercore-go/servercore/layer/websocket"
	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

const key = "dGhlIHNhbXBsZSBub25jZQ==" // RFC 6455, section 1.3

// request is an upgrade with more lines behind the necessary ones.
func request(lines ...string) string {
	return "GET /chat HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Key: " + key +
		"\r\nSec-WebSocket-Version: 13\r\n" + headerLines(lines)
}

// headerLines ends each line, and the header.
func headerLines(lines []string) string {
	return strings.Join(append(lines, "", ""), "\r\n")
}

// accepted returns an established layer of a server, whose answer was taken.
func accepted(t testing.TB, o websocket.Options, lines ...string) *websocket.Layer {
	t.Helper()
	s, err := websocket.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	l := s.Layer(nil)
	in := request(lines...)
	if data, used, more, err := l.Open(nil, []byte(in)); data != nil || used != len(in) || more || err != nil || !l.Established() || !l.Pending() {
		t.Fatalf("upgrade: data %q, used %d of %d, more %v, %v, established %v", data, used, len(in), more, err, l.Established())
	}
	if answer := string(l.Own(nil, true)); !strings.HasPrefix(answer, "HTTP/1.1 101 ") || l.Pending() {
		t.Fatalf("answer %q, pending %v", answer, l.Pending())
	}
	return l
}

// answer is what a server says to a client's request.
func answer(request []byte, lines ...string) string {
	_, rest, _ := bytes.Cut(request, []byte("Sec-WebSocket-Key: "))
	key, _, _ := bytes.Cut(rest, []byte("\r\n"))
	sum := sha1.Sum(append(key, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"...))
	return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		base64.StdEncoding.EncodeToString(sum[:]) + "\r\n" + headerLines(lines)
}

// dialled returns an established layer of a client.
func dialled(t testing.TB, o websocket.Options, lines ...string) *websocket.Layer {
	t.Helper()
	l, err := websocket.NewClient(o, "ws://example.com/chat", nil)
	if err != nil {
		t.Fatal(err)
	}
	in := answer(l.Own(nil, true), lines...)
	if _, used, _, err := l.Open(nil, []byte(in)); used != len(in) || err != nil || !l.Established() || l.Pending() {
		t.Fatalf("answer: used %d of %d, %v", used, len(in), err)
	}
	return l
}

// frame is one on the wire: its first byte, and its payload.
type frame struct {
	first   byte
	payload string
}

const (
	fin                                       = 0x80
	cont, text, binaryOp, closeOp, ping, pong = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
)

// encode returns the frame's bytes; it shares no code with the package.
func (f frame) encode(masked bool) []byte {
	b := []byte{f.first, 0}
	switch n := len(f.payload); {
	case n < 126:
		b[1] = byte(n)
	case n < 65536:
		b[1] = 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b[1] = 127
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	if !masked {
		return append(b, f.payload...)
	}
	b[1] |= 0x80
	mask := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	b = append(b, mask[:]...)
	for i := range len(f.payload) {
		b = append(b, f.payload[i]^mask[i%4])
	}
	return b
}

func encodeAll(masked bool, frames ...frame) (wire []byte) {
	for _, f := range frames {
		wire = append(wire, f.encode(masked)...)
	}
	return wire
}

// decode takes frames apart, and fails for what a peer would refuse.
func decode(t testing.TB, wire []byte, masked bool) (frames []frame) {
	t.Helper()
	for len(wire) > 0 {
		if len(wire) < 2 {
			t.Fatalf("a header is cut: %x", wire)
		}
		f, n := frame{first: wire[0]}, int(wire[1]&0x7F)
		if (wire[1]&0x80 != 0) != masked {
			t.Fatalf("masked %v, want %v", !masked, masked)
		}
		wire = wire[2:]
		switch n {
		case 126:
			n, wire = int(binary.BigEndian.Uint16(wire)), wire[2:]
		case 127:
			n, wire = int(binary.BigEndian.Uint64(wire)), wire[8:]
		}
		var mask []byte
		if masked {
			mask, wire = wire[:4], wire[4:]
		}
		if n > len(wire) {
			t.Fatalf("a frame of %d bytes is cut after %d", n, len(wire))
		}
		payload := bytes.Clone(wire[:n])
		for i := range payload {
			if masked {
				payload[i] ^= mask[i%4]
			}
		}
		f.payload, wire = string(payload), wire[n:]
		frames = append(frames, f)
	}
	return frames
}

// show is a payload as a test's message shows it.
func show(p string) string {
	if len(p) > 80 {
		return fmt.Sprintf("%d bytes, CRC %08x", len(p), crc32.ChecksumIEEE([]byte(p)))
	}
	return fmt.Sprintf("%q", p)
}

// heard is what came out of a layer.
type heard struct {
	messages []string // "text ..." or "binary ..."
	own      []string // "pong ..."
	err      error
	last     string // the close frame that follows
}

// cut says in which pieces a wire comes.
type cut struct {
	name string
	next func(left int) int
}

func cuts(wire int) []cut {
	all := []cut{{"whole", func(left int) int { return left }}}
	random := rand.New(rand.NewPCG(1, uint64(wire)))
	all = append(all, cut{"random", func(left int) int { return 1 + random.IntN(min(left, 1+wire/3)) }})
	if wire > 20<<10 {
		return append(all, cut{"in reads of 16 KiB", func(left int) int { return min(left, 16<<10) }})
	}
	return append(all, cut{"byte by byte", func(left int) int { return 1 }})
}

// hear gives wire to l in pieces, holds Open to its contract, and finishes for the error if there is one. dst is the memory it brings.
func hear(t testing.TB, l *websocket.Layer, wire []byte, c cut, dst []byte, client bool) (h heard) {
	t.Helper()
	untouched := bytes.Clone(wire)
	for rest := wire; len(rest) > 0 && h.err == nil; {
		n := c.next(len(rest))
		for in, more := rest[:n:n], true; (len(in) > 0 || more) && h.err == nil; {
			var data []byte
			var used int
			data, used, more, h.err = l.Open(dst, in)
			if used < 0 || used > len(in) || data == nil && !more && used != len(in) || data == nil && more {
				t.Fatalf("data %q, used %d of %d, more %v", data, used, len(in), more)
			}
			in = in[used:]
			if data != nil {
				kind := "binary "
				if l.Text() {
					kind = "text "
				}
				h.messages = append(h.messages, kind+show(string(data)))
			}
			h.own = append(h.own, hearOwn(t, l, client)...)
		}
		rest = rest[n:]
	}
	if !bytes.Equal(wire, untouched) {
		t.Fatal("Open has written to its input")
	}
	if h.err != nil {
		l.Finish(h.err)
		last := hearOwn(t, l, client)
		if len(last) != 1 {
			t.Fatalf("the last word is %q", last)
		}
		h.last = last[0]
		if l.Finish(nil); l.Pending() {
			t.Fatal("bytes of its own wait behind the last word")
		}
		if _, used, _, err := l.Open(dst, []byte("more")); used != 4 || !errors.Is(err, h.err) {
			t.Fatalf("after the end: used %d, %v", used, err)
		}
		if errors.Is(h.err, io.EOF) != (l.Ended() == nil) {
			t.Fatalf("Ended() = %v after %v", l.Ended(), h.err)
		}
	}
	return h
}

// hearOwn takes the layer's own bytes.
func hearOwn(t testing.TB, l *websocket.Layer, client bool) (own []string) {
	t.Helper()
	if got := l.Own(nil, false); len(got) > 0 {
		t.Fatalf("%x would stand within a message", got)
	}
	for _, f := range decode(t, l.Own(nil, true), client) {
		switch p := f.payload; f.first {
		case fin | pong:
			own = append(own, "pong "+show(p))
		case fin | ping:
			own = append(own, "ping "+show(p))
		case fin | closeOp:
			if p == "" {
				own = append(own, "close")
			} else {
				own = append(own, fmt.Sprint("close ", binary.BigEndian.Uint16([]byte(p))))
			}
		default:
			t.Fatalf("a frame that begins with %#x", f.first)
		}
	}
	return own
}

// code returns the close code in err, 0 for none.
func code(err error) int {
	var wrong *websocket.ProtocolError
	if errors.As(err, &wrong) {
		return wrong.Code
	}
	var closed *session.CloseError
	if errors.As(err, &closed) {
		return closed.Code
	}
	return 0
}

// noBuffers fails if the process holds pooled memory.
func noBuffers(t testing.TB) {
	t.Helper()
	if n := pool.Live(); n != 0 {
		t.Fatalf("%d buffers are held", n)
	}
}
