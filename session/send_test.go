package session_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

// S1: Send copies, and keeps the order of acceptance.
func TestSendCopiesAndKeepsOrder(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{}, h)
	p := []byte("first ")
	if err := h.Send(p); err != nil {
		t.Fatal(err)
	}
	copy(p, "XXXXXX")
	if err := h.SendBuffer(buffer("second ")); err != nil {
		t.Fatal(err)
	}
	mustSend(t, h, "third")
	wantSent(t, h, 18, 0)
	l.Run()
	wantWire(t, c, "first second third")
	wantSent(t, h, 18, 18)
	wantLog(t, h, "connected", "sent 18")
}

// S3: what callbacks send leaves in one write when they return, and no loop is woken.
func TestSendInEachCallbackNeedsNoWake(t *testing.T) {
	twice := func(h *testkit.Handler) {
		mustSend(t, h, "a")
		mustSend(t, h, "b")
	}
	once := true
	h := &testkit.Handler{
		Connected: twice,
		Recv:      func(h *testkit.Handler, _ []byte) { twice(h) },
		Sent: func(h *testkit.Handler, _ int) {
			if once {
				once = false
				twice(h)
			}
		},
		Disconnected: func(h *testkit.Handler) {
			if err := h.Send([]byte("late")); !errors.Is(err, session.ErrClosed) {
				t.Errorf("Send in OnDisconnected: %v", err)
			}
		},
	}
	l, c := connect(t, session.Limits{}, h)
	if c.Wants() != 0 || len(c.Writes) != 2 {
		t.Fatalf("after OnConnected: wants %b, %d writes", c.Wants(), len(c.Writes))
	}
	c.PeerWrite([]byte("x"))
	c.Serve(testkit.Input)
	wantLog(t, h, "connected", "sent 2", "sent 2", "recv x", "sent 2")
	wantWire(t, c, "ababab")
	if l.Wakeups() != 0 || c.Wakes() != 0 {
		t.Errorf("%d wake-ups", l.Wakeups())
	}
	if err := h.Post(h.Posted("f", func() { twice(h) })); err != nil {
		t.Fatal(err)
	}
	l.Run()
	if len(c.Writes) != 4 || c.Wakes() != 1 {
		t.Errorf("%d writes, %d wakes, want 4 and the one of Post", len(c.Writes), c.Wakes())
	}
	h.Disconnect()
	c.PeerFIN()
	l.Run()
	wantWire(t, c, "abababab")
	wantClosed(t, c, false)
}

// S3: Sends from elsewhere wake once, whatever their number and that of the sessions.
func TestSendsFromElsewhereWakeOnce(t *testing.T) {
	l := newLoop(t, session.Limits{})
	a, b := &testkit.Handler{}, &testkit.Handler{}
	ca, cb := l.Connect(a), l.Connect(b)
	for range 10 {
		mustSend(t, a, "a")
		mustSend(t, b, "b")
	}
	if l.Wakeups() != 1 || ca.Wakes() != 1 || cb.Wakes() != 1 {
		t.Errorf("%d wake-ups, %d and %d turns asked for, want 1 each", l.Wakeups(), ca.Wakes(), cb.Wakes())
	}
	l.Run()
	mustSend(t, a, "a")
	l.Run()
	if ca.Wakes() != 2 || len(ca.Writes) != 2 || len(cb.Writes) != 1 {
		t.Errorf("%d wakes, %d and %d writes", ca.Wakes(), len(ca.Writes), len(cb.Writes))
	}
}

// S3: a Send in another session's callback counts as one from elsewhere.
func TestSendToAnotherSession(t *testing.T) {
	l := newLoop(t, session.Limits{})
	b := &testkit.Handler{}
	a := &testkit.Handler{Recv: func(_ *testkit.Handler, p []byte) {
		for range 5 {
			if err := b.Send(p); err != nil {
				t.Error(err)
			}
		}
	}}
	ca, cb := l.Connect(a), l.Connect(b)
	ca.PeerWrite([]byte("hi"))
	l.Run()
	wantWire(t, cb, "hihihihihi")
	if len(cb.Writes) != 1 || l.Wakeups() != 1 {
		t.Errorf("%d writes, %d wake-ups", len(cb.Writes), l.Wakeups())
	}
}

// A session that waits for the kernel is not woken for more bytes.
func TestSendToBlockedSessionDoesNotWake(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{}, h)
	c.Kernel = 4
	mustSend(t, h, "12345678")
	l.Run()
	wakes := c.Wakes()
	mustSend(t, h, "9")
	if c.Wakes() != wakes || c.Wants() != 0 {
		t.Errorf("woken %d times", c.Wakes()-wakes)
	}
	c.PeerRead(4)
	l.Run()
	c.PeerRead(4)
	l.Run()
	wantWire(t, c, "123456789")
}

// S4: OnSend is exact and comes once per write, wherever the kernel cuts.
func TestOnSendIsExact(t *testing.T) {
	for _, tt := range []struct{ kernel, most int }{{0, 0}, {1, 0}, {7, 0}, {0, 1}, {0, 13}, {5000, 4097}, {100, 33}} {
		t.Run(fmt.Sprintf("kernel %d, write %d", tt.kernel, tt.most), func(t *testing.T) {
			// The scratch memory, a shared segment, and buffers of the caller's, in one queue.
			var want bytes.Buffer
			fill := func(h *testkit.Handler) {
				for i := range 5 {
					p := bytes.Repeat([]byte{byte('a' + i)}, 1+i*i*40)
					want.Write(p)
					mustSend(t, h, string(p))
					want.WriteString("buffer")
					if err := h.SendBuffer(buffer("buffer")); err != nil {
						t.Error(err)
					}
				}
			}
			h := &testkit.Handler{Recv: func(h *testkit.Handler, _ []byte) { fill(h) }}
			l, c := connect(t, session.Limits{}, h)
			c.Kernel, c.MaxWrite = tt.kernel, tt.most
			c.PeerWrite([]byte("go"))
			l.Run()
			fill(h)
			for l.Run(); h.Pending() > 0; l.Run() {
				wantSent(t, h, want.Len(), c.Took)
				if c.Held() == 0 {
					t.Fatal("the session stands still")
				}
				c.PeerRead(c.Held())
			}
			wantSent(t, h, want.Len(), want.Len())
			wantWire(t, c, want.String())
			if h.SentN != c.TookN {
				t.Errorf("%d OnSend for %d writes", h.SentN, c.TookN)
			}
		})
	}
}

// S5: a Send that would pass the limit is refused whole; what fits exactly is not.
func TestSendLimitRefusesWhole(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{SendLimit: 10}, h)
	mustSend(t, h, "123456")
	before := pool.Live()
	for _, p := range []string{"12345", strings.Repeat("x", 100)} {
		if err := h.Send([]byte(p)); !errors.Is(err, session.ErrSendLimit) {
			t.Errorf("Send of %d over the limit: %v", len(p), err)
		}
		if err := h.SendBuffer(buffer(p)); !errors.Is(err, session.ErrSendLimit) {
			t.Errorf("SendBuffer of %d over the limit: %v", len(p), err)
		}
	}
	if pool.Live() != before {
		t.Error("a refused SendBuffer kept its reference")
	}
	mustSend(t, h, "7890")
	if err := h.Send(nil); err != nil {
		t.Errorf("Send of nothing at the limit: %v", err)
	}
	l.Run()
	wantWire(t, c, "1234567890")
	mustSend(t, h, "0123456789")
	if h.Err() != nil {
		t.Errorf("a refused Send ended the session: %v", h.Err())
	}
	l.Run()
	wantSent(t, h, 20, 20)
}

// S5: the policy that ends a slow peer's session.
func TestEndSlowEndsTheSession(t *testing.T) {
	for name, send := range map[string]func(h *testkit.Handler) error{
		"Send":       func(h *testkit.Handler) error { return h.Send([]byte("12345")) },
		"SendBuffer": func(h *testkit.Handler) error { return h.SendBuffer(buffer("12345")) },
	} {
		t.Run(name, func(t *testing.T) {
			h := &testkit.Handler{}
			l, c := connect(t, session.Limits{SendLimit: 10, EndSlow: true}, h)
			c.Kernel = 1
			mustSend(t, h, "12345678901"[:10])
			l.Run()
			if err := send(h); !errors.Is(err, session.ErrSendLimit) {
				t.Errorf("over the limit: %v", err)
			}
			if err := h.Send([]byte("1")); !errors.Is(err, session.ErrClosed) {
				t.Errorf("and then: %v", err)
			}
			l.Run()
			wantClosed(t, c, true)
			if !errors.Is(h.Err(), session.ErrSendLimit) {
				t.Errorf("Err: %v", h.Err())
			}
			wantWire(t, c, "1")
			if got := l.Shared.Counters.BytesDropped.Load(); got != 9 {
				t.Errorf("%d bytes dropped, want 9", got)
			}
		})
	}
}

// SendBuffer takes the reference over on success and on failure, releases it when the last byte has left, and
// never writes into what others hold.
func TestSendBufferOwnership(t *testing.T) {
	l := newLoop(t, session.Limits{})
	b := buffer("shared ")
	var handlers []*testkit.Handler
	var conns []*testkit.Conn
	for range 3 {
		h := &testkit.Handler{}
		c := l.Connect(h)
		c.Kernel = 10
		handlers, conns = append(handlers, h), append(conns, c)
		if err := h.SendBuffer(b.Retain()); err != nil {
			t.Fatal(err)
		}
		mustSend(t, h, "own")
	}
	if string(b.B) != "shared " {
		t.Errorf("the shared buffer became %q", b.B)
	}
	b.Release()
	l.Run()
	for _, c := range conns {
		wantWire(t, c, "shared own")
	}
	if pool.Live() != 0 {
		t.Errorf("%d buffers live after the last byte has left", pool.Live())
	}

	h, c := handlers[0], conns[0] // its kernel is full
	if err := h.SendBuffer(buffer("dropped")); err != nil {
		t.Fatal(err)
	}
	if err := h.SendBuffer(pool.Get()); err != nil || pool.Live() != 1 {
		t.Errorf("an empty buffer: %v, %d live", err, pool.Live())
	}
	h.Abort()
	if err := h.SendBuffer(buffer("refused")); !errors.Is(err, session.ErrClosed) || pool.Live() != 1 {
		t.Errorf("after Abort: %v, %d live", err, pool.Live())
	}
	l.Run()
	if pool.Live() != 0 {
		t.Error("the end kept a buffer")
	}
	wantClosed(t, c, true)
	fresh := &testkit.Handler{}
	if err := fresh.SendBuffer(buffer("early")); !errors.Is(err, session.ErrClosed) || pool.Live() != 0 {
		t.Errorf("before the connection: %v, %d live", err, pool.Live())
	}
}

func TestEmptySendQueuesNothing(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{}, h)
	if err := h.Send(nil); err != nil {
		t.Errorf("Send(nil): %v", err)
	}
	l.Run()
	if len(c.Writes) != 0 || c.Wakes() != 0 {
		t.Errorf("%d writes, %d wakes for nothing", len(c.Writes), c.Wakes())
	}
}

// L3: after the end Send fails with an error that matches ErrClosed and net.ErrClosed, and Pending is 0.
func TestSendAfterEnd(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{}, h)
	c.PeerReset(errors.New("gone"))
	l.Run()
	wantClosed(t, c, false)
	for _, err := range []error{h.Send([]byte("x")), h.SendBuffer(buffer("x")), h.Post(func() {})} {
		if !errors.Is(err, session.ErrClosed) || !errors.Is(err, net.ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
	}
	h.Disconnect()
	h.Abort()
	h.PauseRecv()
	h.ResumeRecv()
	l.Run()
	wantSent(t, h, 0, 0)
	wantLog(t, h, "connected", "disconnected")
}

// A handler that sends in OnSend does not keep the loop.
func TestEndlessSenderYields(t *testing.T) {
	l := newLoop(t, session.Limits{})
	h := &testkit.Handler{Quiet: true, Sent: func(h *testkit.Handler, n int) { mustSend(t, h, "again") }}
	c := l.Connect(h)
	mustSend(t, h, "first")
	c.Serve(testkit.Turn)
	for range 3 {
		before := h.SentN
		if c.Wants() != testkit.Resume {
			t.Fatalf("wants %b, want to be resumed", c.Wants())
		}
		c.Serve(testkit.Resume)
		if n := h.SentN - before; n == 0 || n > 8 {
			t.Errorf("%d writes in one visit", n)
		}
	}
	h.Sent = nil
	l.Run()
}

// A connection that breaks in a write ends the session; what was taken before is still told.
func TestFailedWriteEndsTheSession(t *testing.T) {
	broken := errors.New("broken pipe")
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{}, h)
	c.Plan = func(int) (int, error) {
		c.Plan = func(int) (int, error) { return 0, broken }
		return 2, nil
	}
	mustSend(t, h, "12345")
	l.Run()
	wantLog(t, h, "connected", "sent 2", "disconnected")
	wantClosed(t, c, false)
	if !errors.Is(h.Err(), session.ErrPeerReset) || !errors.Is(h.Err(), broken) {
		t.Errorf("Err: %v", h.Err())
	}
	if got := l.Shared.Counters.BytesDropped.Load(); got != 3 {
		t.Errorf("%d bytes dropped, want 3", got)
	}
}

// A buffer that is nil panics at its sender, and leaves the session as it was.
func TestSendBufferOfNilPanics(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{}, h)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		_ = h.SendBuffer(nil)
	}()
	mustSend(t, h, "alive")
	l.Run()
	if string(c.Wire) != "alive" {
		t.Errorf("the wire has %q", c.Wire)
	}
}
