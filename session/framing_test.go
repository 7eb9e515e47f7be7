package session_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

// connectFramed is connect for a session with a framer.
func connectFramed(t testing.TB, limits session.Limits, f frame.Framer, h *testkit.Handler) (*testkit.Loop, *testkit.Conn) {
	t.Helper()
	l := newLoop(t, limits)
	c, err := l.Bind(h, session.NewFraming(f))
	if err != nil {
		t.Fatal(err)
	}
	h.Framed = true
	c.Connected()
	return l, c
}

// simple is a framer of the application's: one byte of length, nothing else. It is no Sizer and no Resumer.
type simple struct{}

func (simple) Split(data []byte) ([]byte, int, error) {
	if len(data) == 0 || len(data) < 1+int(data[0]) {
		return nil, 0, nil
	}
	n := 1 + int(data[0])
	return data[1:n], n, nil
}

func (simple) Append(dst, payload []byte) ([]byte, error) {
	if len(payload) > 255 {
		return dst, frame.ErrTooLarge
	}
	return append(append(dst, byte(len(payload))), payload...), nil
}

var framers = map[string]struct {
	frame.Framer
	most int // payload
}{
	"ServerCore":  {frame.ServerCore{}, 65533},
	"LengthField": {frame.LengthField{LengthFieldLength: 4, InitialBytesToStrip: 4, MaxFrameLength: 300_000}, 200_000},
	"Varint":      {frame.Varint{Max: 300_000}, 200_000},
	"Line":        {frame.Line{Max: 100_000}, 90_000},
	"Delimiter":   {frame.Delimiter{Delimiter: []byte("\r\n\r\n"), Max: 100_000}, 90_000},
	"simple":      {simple{}, 255},
}

// payload is letters only, so that every framer takes it.
func payload(r *rand.Rand, most int) []byte {
	n := r.IntN(1 + min(most, []int{4, 100, 5000, 200_000}[r.IntN(4)]))
	p := make([]byte, n)
	for i := range p {
		p[i] = 'a' + byte(r.IntN(26))
	}
	return p
}

// Each packet of one side is one OnRecv on the other, in order, however the stream is cut, whichever side pauses, and whatever is answered. OnSend
// and Pending count payload. Nothing is held between packets.
func TestPacketsAgainstModel(t *testing.T) {
	seeds := uint64(60)
	if raced {
		seeds = 10
	}
	for name, f := range framers {
		t.Run(name, func(t *testing.T) {
			for seed := range seeds {
				r := rand.New(rand.NewPCG(seed, 7))
				var sent, got, answers [][]byte
				answered := 0
				h := &testkit.Handler{Quiet: true}
				h.Recv = func(h *testkit.Handler, p []byte) {
					got = append(got, bytes.Clone(p))
					if r.IntN(8) == 0 {
						h.PauseRecv()
					}
					if r.IntN(2) == 0 {
						answer := p
						if r.IntN(3) == 0 {
							answer = payload(r, f.most)
						}
						if err := h.Send(answer); err != nil {
							t.Fatalf("seed %d: Send: %v", seed, err)
						}
						answers = append(answers, bytes.Clone(answer))
						answered += len(answer)
					}
				}
				limits := session.Limits{}
				if r.IntN(2) == 0 {
					limits = session.Limits{SendLimit: 1 << 20, PauseAbove: 1 + r.IntN(100_000)}
				}
				l, c := connectFramed(t, limits, f, h)
				c.Kernel = 1 + r.IntN([]int{10, 5000, 100_000}[r.IntN(3)])
				var stream []byte
				for range 1 + r.IntN(20) {
					p := payload(r, f.most)
					sent = append(sent, p)
					var err error
					if stream, err = f.Append(stream, p); err != nil {
						t.Fatal(err)
					}
				}
				for len(stream) > 0 || c.Backlog() > 0 || len(got) < len(sent) || h.Pending() > 0 {
					n := min(len(stream), 1+r.IntN([]int{3, 700, 100_000}[r.IntN(3)]))
					if len(stream) > 5000 && n < 10 {
						n = 500
					}
					c.PeerWrite(stream[:n])
					stream = stream[n:]
					l.Run()
					c.PeerRead(r.IntN(2 * c.Kernel))
					c.PeerRead(1000)
					h.ResumeRecv()
					l.Run()
				}
				c.Kernel = 0 // for the header of an empty packet
				c.Room()
				l.Run()
				if len(got) != len(sent) {
					t.Fatalf("seed %d: %d packets came, %d were sent", seed, len(got), len(sent))
				}
				for i := range sent {
					if !bytes.Equal(got[i], sent[i]) {
						t.Fatalf("seed %d: packet %d has %d bytes, want %d, or differs", seed, i, len(got[i]), len(sent[i]))
					}
				}
				if pool.Live() != 0 {
					t.Fatalf("seed %d: %d buffers between packets", seed, pool.Live())
				}
				wantSent(t, h, answered, answered)
				wire := c.Wire
				for i, want := range answers {
					p, n, err := f.Split(wire)
					if err != nil || n == 0 || !bytes.Equal(p, want) {
						t.Fatalf("seed %d: answer %d of %d: %d bytes, took %d, %v; want %d", seed, i, len(answers), len(p), n, err, len(want))
					}
					wire = wire[n:]
				}
				if len(wire) > 0 {
					t.Fatalf("seed %d: %d bytes too many on the wire", seed, len(wire))
				}
				l.Abort()
			}
		})
	}
}

// A packet that arrives whole is not copied; of one that does not, one buffer is held until it is whole.
func TestWholePacketIsNotCopied(t *testing.T) {
	var given []byte
	h := &testkit.Handler{Quiet: true, Recv: func(_ *testkit.Handler, p []byte) { given = p }}
	l, c := connectFramed(t, session.Limits{}, frame.ServerCore{}, h)
	data := []byte("\x07\x00hello\x07\x00wor")
	l.Inside(func() { c.Driver.Receive(data) })
	if &given[0] != &data[2] {
		t.Error("the packet was copied")
	}
	if pool.Live() != 1 {
		t.Errorf("%d buffers for the beginning of a packet, want 1", pool.Live())
	}
	c.PeerWrite([]byte("ld"))
	l.Run()
	if string(given) != "world" || pool.Live() != 0 {
		t.Errorf("%q, %d buffers", given, pool.Live())
	}
}

// A packet over the maximum is refused on the header; memory does not follow what a header promises.
func TestOversizedPacketIsRefusedOnItsHeader(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connectFramed(t, session.Limits{}, frame.LengthField{LengthFieldLength: 4, InitialBytesToStrip: 4}, h)
	c.PeerWrite([]byte{0xff, 0xff, 0xff, 0xff})
	l.Run()
	if err := h.Err(); !errors.Is(err, frame.ErrTooLarge) {
		t.Errorf("the reason is %v", err)
	}
	wantClosed(t, c, true)

	h = &testkit.Handler{Quiet: true}
	l, c = connectFramed(t, session.Limits{}, frame.LengthField{LengthFieldLength: 4, InitialBytesToStrip: 4, MaxFrameLength: 1 << 30}, h)
	held := pool.Live()
	c.PeerWrite(binary.BigEndian.AppendUint32(nil, 1<<29))
	l.Run()
	if pool.Live() != held+1 {
		t.Errorf("%d buffers, want one", pool.Live()-held)
	}
	c.PeerFIN() // in the midst of it
	l.Run()
	if err := h.Err(); !errors.Is(err, session.ErrPeerClosed) {
		t.Errorf("the reason is %v", err)
	}
	wantClosed(t, c, false)
}

// Send returns what the framer says, and nothing of a refused payload is queued.
func TestRefusedPayloadIsNotQueued(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connectFramed(t, session.Limits{SendLimit: 10}, frame.ServerCore{Max: 100}, h)
	if err := h.Send(make([]byte, 101)); !errors.Is(err, frame.ErrTooLarge) {
		t.Errorf("Send: %v", err)
	}
	if err := h.SendBuffer(buffer(string(make([]byte, 101)))); !errors.Is(err, frame.ErrTooLarge) {
		t.Errorf("SendBuffer: %v", err)
	}
	if err := h.Send(make([]byte, 9)); !errors.Is(err, session.ErrSendLimit) { // 11 with its header
		t.Errorf("Send: %v", err)
	}
	mustSend(t, h, "12345678")
	if h.Pending() != 8 {
		t.Errorf("%d bytes wait, want 8", h.Pending())
	}
	l.Run()
	wantWire(t, c, "\x0a\x0012345678")
	wantSent(t, h, 8, 8)
	if err := h.SendBuffer(buffer("")); err != nil {
		t.Error(err)
	}
	l.Run()
	wantLog(t, h, "connected", "sent 8", "sent 0")
	h.Disconnect()
	if err := h.Send(make([]byte, 101)); !errors.Is(err, session.ErrClosed) { // L3
		t.Errorf("Send after the end: %v", err)
	}
}

// A framer's error whose methods panic ends its session, not the process.
func TestFramerErrorThatPanicsEndsItsSession(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connectFramed(t, session.Limits{}, brokenFramer{}, h)
	c.PeerWrite([]byte("x"))
	l.Run()
	if err := h.Err(); !errors.Is(err, session.ErrPanic) || h.Over != 1 {
		t.Errorf("Err %v, %d OnDisconnected", err, h.Over)
	}
}

type brokenFramer struct{ frame.ServerCore }

func (brokenFramer) Split([]byte) ([]byte, int, error) { return nil, 0, (*net.OpError)(nil) }

// S4: a packet counts once its last byte is taken, however many writes that takes.
func TestOnSendTellsOfWholePackets(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connectFramed(t, session.Limits{}, frame.ServerCore{}, h)
	c.Kernel = 5
	mustSend(t, h, "abc")
	mustSend(t, h, "defg")
	for range 6 {
		l.Run()
		c.PeerRead(5)
	}
	wantWire(t, c, "\x05\x00abc\x06\x00defg")
	wantSent(t, h, 7, 7)
	wantLog(t, h, "connected", "sent 3", "sent 4")
}

// What is dropped at the end is counted in payload, as it was accepted (S8).
func TestDroppedPacketsAreCountedInPayload(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connectFramed(t, session.Limits{}, frame.ServerCore{}, h)
	c.Kernel = 6
	mustSend(t, h, "abc")
	mustSend(t, h, "defgh")
	l.Run()
	h.Abort()
	l.Run()
	if n := l.Shared.Counters.BytesDropped.Load(); n != 5 || h.SentSum != 3 || h.Pending() != 0 {
		t.Errorf("%d dropped, %d sent, %d pending", n, h.SentSum, h.Pending())
	}
}

// After a callback that ends or pauses the session no packet is delivered, though more were read with it.
func TestStopBetweenPackets(t *testing.T) {
	for name, test := range map[string]struct {
		stop func(*testkit.Handler)
		ends bool
	}{
		"PauseRecv":  {func(h *testkit.Handler) { h.PauseRecv() }, false},
		"Disconnect": {func(h *testkit.Handler) { h.Disconnect() }, true},
		"Abort":      {func(h *testkit.Handler) { h.Abort() }, true},
		"panic":      {func(h *testkit.Handler) { panic("handler") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			h := &testkit.Handler{Quiet: true, Recv: func(h *testkit.Handler, p []byte) {
				got = append(got, string(p))
				if string(p) == "two" {
					test.stop(h)
				}
			}}
			l, c := connectFramed(t, session.Limits{}, frame.Line{}, h)
			c.PeerWrite([]byte("one\ntwo\nthree\nfo"))
			l.Run()
			if fmt.Sprint(got) != "[one two]" {
				t.Errorf("got %q", got)
			}
			if test.ends {
				return
			}
			c.PeerWrite([]byte("ur\n"))
			l.Run()
			h.ResumeRecv()
			l.Run()
			if fmt.Sprint(got) != "[one two three four]" {
				t.Errorf("after ResumeRecv %q", got)
			}
		})
	}
}

// wrong is a framer that breaks its promises.
type wrong struct {
	simple
	split func(data []byte) ([]byte, int, error)
}

func (w wrong) Split(data []byte) ([]byte, int, error) { return w.split(data) }

// A framer that fails, or gives an impossible answer, ends that session and nothing else.
func TestWrongFramerEndsItsSessionOnly(t *testing.T) {
	for name, test := range map[string]struct {
		split  func(data []byte) ([]byte, int, error)
		reason error
	}{
		"panic":    {func([]byte) ([]byte, int, error) { panic("framer") }, session.ErrPanic},
		"negative": {func([]byte) ([]byte, int, error) { return nil, -1, nil }, frame.ErrMalformed},
		"too many": {func(data []byte) ([]byte, int, error) { return data, len(data) + 1, nil }, frame.ErrMalformed},
		"late": {func(data []byte) ([]byte, int, error) {
			if len(data) < 10 {
				return nil, 0, nil
			}
			return data[:1], 1, nil
		}, frame.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			h := &testkit.Handler{Quiet: true}
			l, c := connectFramed(t, session.Limits{}, wrong{split: test.split}, h)
			for range 3 {
				c.PeerWrite([]byte("12345"))
				l.Run()
			}
			if err := h.Err(); !errors.Is(err, test.reason) {
				t.Errorf("the reason is %v", err)
			}
			wantClosed(t, c, true)
		})
	}
}
