package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// framedPattern is the pattern of messages that are sent as frames.
func framedPattern(seed uint64, size int, text bool) *pattern {
	p := Plan{Seed: seed, Size: size, WS: "/", WSText: text}
	return p.pattern()
}

// A message that is sent as a frame has the payload of one that is not, whole or in parts, and its mask can be taken off.
func TestFillFrames(t *testing.T) {
	keys := map[string]bool{}
	for _, size := range []int{1, 5, 15, 16, 17, 64, 125, 126, 1000, 65535, 65536, tableSize, 3*tableSize + 100} {
		for _, text := range []bool{false, true} {
			p := framedPattern(7, size, text)
			for seq := range uint64(9) {
				id := uint32(3 + seq<<20)
				b := make([]byte, p.wire()+10)
				if n := p.fill(b, id, seq, 0); n != p.wire() {
					t.Fatalf("size %d: %d bytes, want %d", size, n, p.wire())
				}
				b = b[:p.wire()]
				s := &wsServer{in: bufio.NewReader(bytes.NewReader(b))}
				first, payload, err := s.read()
				if err != nil || (first == textFrame) != text || len(payload) != size {
					t.Fatalf("size %d: frame %x with %d bytes, %v", size, first, len(payload), err)
				}
				keys[string(b[len(p.lead):p.head])] = true
				want := make([]byte, size)
				if p.payload(want, id, seq, 0); !bytes.Equal(payload, want) {
					t.Fatalf("size %d, text %v, message %d: the payload differs", size, text, seq)
				}
				if text && (!utf8.Valid(payload) || slices.Max(payload) > 0x7f) {
					t.Fatalf("size %d: not ASCII", size)
				}
				if size < headerSize {
					continue
				}
				if got, ok := p.header(payload, id); !ok || got != seq {
					t.Fatalf("size %d: header %d, %v, want %d", size, got, ok, seq)
				}
				if _, ok := p.header(payload, id+1); ok {
					t.Fatalf("size %d: the header is that of another stream too", size)
				}
				var parts []byte
				for step := 1 + size/7; len(parts) < len(b); {
					part := make([]byte, step)
					parts = append(parts, part[:p.fill(part, id, seq, len(parts))]...)
				}
				if !bytes.Equal(parts, b) {
					t.Fatalf("size %d: parts differ from the whole", size)
				}
			}
		}
	}
	if len(keys) != 4 {
		t.Errorf("%d keys of masks", len(keys))
	}
}

// Text headers hold every stream and sequence numbers up to 2^49.
func TestTextHeader(t *testing.T) {
	p := framedPattern(1, 64, true)
	for _, id := range []uint32{0, 1, 127, 128, 1<<32 - 1} {
		for _, seq := range []uint64{0, 1, 127, 128, 1 << 48, 1<<49 - 1} {
			var b [headerSize]byte
			p.putHeader(b[:], id, seq)
			if got, ok := p.header(b[:], id); !ok || got != seq {
				t.Errorf("stream %d, message %d: read as %d, %v", id, seq, got, ok)
			}
			for i := range b {
				for bit := range 8 {
					b[i] ^= 1 << bit
					if _, ok := p.header(b[:], id); ok {
						t.Errorf("stream %d, message %d: byte %d may have another bit %d", id, seq, i, bit)
					}
					b[i] ^= 1 << bit
				}
			}
		}
	}
}

// received is what a parser has found in a stream of frames.
type received struct {
	text string // a line for each message and control frame
	err  string
}

// parse gives b to the parser in pieces.
func parse(b, cuts []byte) (r received) {
	var f frames
	var message []byte
	for len(b) > 0 {
		piece := b
		if len(cuts) > 0 {
			piece, cuts = b[:min(len(b), 1+int(cuts[0]))], cuts[1:]
		}
		b = b[len(piece):]
		for len(piece) > 0 || f.inside && f.left == 0 {
			if !f.inside {
				n, err := f.next(piece)
				if err != nil {
					r.err = err.Error()
					return r
				}
				piece = piece[n:]
				continue
			}
			n := int(min(int64(len(piece)), f.left))
			if f.op >= opClose {
				f.control = append(f.control, piece[:n]...)
			} else {
				message = append(message, piece[:n]...)
			}
			piece, f.left = piece[n:], f.left-int64(n)
			if f.left > 0 {
				break
			}
			if f.end() {
				r.text += fmt.Sprintf("message %v %x\n", f.text, message)
				message = nil
			} else if f.op >= opClose {
				r.text += fmt.Sprintf("control %d %x\n", f.op, f.control)
			}
		}
	}
	return r
}

// FuzzFrames: the parser finds the same however its input is cut, and all that was put into frames comes out of them.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{}, []byte{1, 0, 3}, []byte{2, 1, 0, 0x89, 5, 0x80, 200, 0, 0x81, 3})
	f.Add(frame(binaryFrame, make([]byte, 70_000)), []byte{0, 0, 255, 255, 7}, []byte{0x82, 1})
	f.Add(frame(pingFrame, []byte("x")), []byte{0}, []byte{1, 1, 0x8a, 0, 0x80, 0})
	f.Add([]byte{0x81, 126, 0, 1}, []byte{}, []byte{})
	f.Add([]byte{0x82, 0xff, 0, 0, 0, 0, 0, 0, 0, 0}, []byte{2}, []byte{})
	f.Fuzz(func(t *testing.T, raw, cuts, plan []byte) {
		whole := parse(raw, nil)
		if cut := parse(raw, cuts); cut != whole {
			t.Errorf("cut: %+v, whole: %+v", cut, whole)
		}
		// Pairs of the plan are frames: their first bytes, if they can stand there, and lengths.
		var stream, message []byte
		want, open, text := "", false, false
		for ; len(plan) >= 2; plan = plan[2:] {
			first, n := plan[0]&^0x70, int(plan[1])
			op := first & 0x0f
			payload := bytes.Repeat([]byte{plan[0] ^ plan[1]}, n)
			switch {
			case op >= opClose && op <= opPong:
				first, payload = first|finBit, payload[:min(n, controlMax)]
				want += fmt.Sprintf("control %d %x\n", op, payload)
			case op == opContinuation && open || op == opText && !open || op == opBinary && !open:
				if op != opContinuation {
					text = op == opText
				}
				message = append(message, payload...)
				if open = first&finBit == 0; !open {
					want += fmt.Sprintf("message %v %x\n", text, message)
					message = nil
				}
			default:
				continue
			}
			stream = append(stream, frame(first, payload)...)
		}
		if got := parse(stream, cuts); got.text != want || got.err != "" {
			t.Errorf("got %+v, want %s", got, want)
		}
	})
}

// FuzzUpgradeAnswer: an answer that is taken is one that net/http takes too, with the fields that RFC 6455 wants.
func FuzzUpgradeAnswer(f *testing.F) {
	const accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
	good := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: " + accept + "\r\n\r\n"
	for _, text := range []string{good, good + "\x81\x00", good[:20], strings.ToLower(good), strings.Replace(good, "101", "200", 1),
		strings.Replace(good, "Upgrade", "Updrade", 1), "HTTP/1.1 403 Forbidden\r\n\r\nno", "SSH-2.0-x\r\n", strings.Replace(good, "\r\n\r\n", "\r\nX: y\r\n\r\n", 1)} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := parseAnswer(b, accept)
		if n < 0 || n > len(b) {
			t.Fatalf("%d of %d bytes", n, len(b))
		}
		if n == 0 || err != nil {
			return
		}
		if again, err := parseAnswer(b[:n], accept); again != n || err != nil {
			t.Errorf("%d bytes without what stands behind: %d, %v", n, again, err)
		}
		if short, err := parseAnswer(b[:n-1], accept); short != 0 || err != nil {
			t.Errorf("without its last byte it has %d bytes, %v", short, err)
		}
		if !bytes.Contains(b[:n], []byte(accept)) {
			t.Error("there is no key in it")
		}
		r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b[:n])), nil)
		if err == nil && r.StatusCode != http.StatusSwitchingProtocols {
			t.Errorf("status %d", r.StatusCode)
		}
	})
}

// The bytes of a message cost no allocation, sent or received.
func TestFramesAllocateNothing(t *testing.T) {
	for _, text := range []bool{false, true} {
		p := framedPattern(1, 64, text)
		out := make([]byte, p.wire())
		first := byte(binaryFrame)
		if text {
			first = textFrame
		}
		payload := make([]byte, p.size)
		p.payload(payload, 5, 0, 0)
		in := frame(first, payload)
		var s webSocket
		n := testing.AllocsPerRun(100, func() {
			v := verifier{id: 5}
			p.fill(out, 5, 0, 0)
			k, err := s.next(in)
			if err != nil || !s.inside {
				t.Fatal(k, err)
			}
			s.message.piece(p, &v, in[k:], 1)
			if !s.end() || !s.message.end(p, &v, 1, s.text == text).done {
				t.Fatal("the message was not taken")
			}
		})
		if n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
}

// BenchmarkFrames is what WebSocket adds to a message on the client: its frame is made, and the answer's parsed and compared.
func BenchmarkFrames(b *testing.B) {
	for _, size := range []int{64, 4096} {
		for _, framed := range []bool{false, true} {
			b.Run(fmt.Sprintf("size=%d/framed=%v", size, framed), func(b *testing.B) {
				p := newPattern(1, size)
				if framed {
					p.frame()
				}
				out, payload := make([]byte, p.wire()), make([]byte, size)
				in := make([]byte, 0, size+serverHead)
				var s webSocket
				v := verifier{id: 5}
				b.SetBytes(int64(size))
				for seq := uint64(0); b.Loop(); seq++ {
					p.fill(out, 5, seq, 0)
					p.payload(payload, 5, seq, 0)
					if !framed {
						v.step(p, payload, seq+1)
						continue
					}
					in = append(append(in[:0], binaryFrame, 126, byte(size>>8), byte(size)), payload...)
					if size < 126 {
						in = append(append(in[:0], binaryFrame, byte(size)), payload...)
					}
					n, _ := s.next(in)
					s.message.piece(p, &v, in[n:], seq+1)
					s.end()
					if !s.message.end(p, &v, seq+1, true).done {
						b.Fatal("a wrong message")
					}
				}
			})
		}
	}
}
