package session_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

// E1: everything accepted before Disconnect is delivered, then FIN; nothing after.
func TestDisconnectDelivers(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{Drain: time.Second, Linger: time.Second}, h)
	c.Kernel = 100
	want := strings.Repeat("0123456789", 100)
	mustSend(t, h, want)
	h.Disconnect()
	if err := h.Send([]byte("late")); !errors.Is(err, session.ErrClosed) {
		t.Errorf("Send after Disconnect: %v", err)
	}
	if !errors.Is(h.Err(), session.ErrDisconnected) {
		t.Errorf("Err: %v", h.Err())
	}
	for l.Run(); h.Pending() > 0; l.Run() {
		if c.FINSent || c.Closed || c.Held() == 0 {
			t.Fatalf("with %d bytes waiting: FIN sent %t, closed %t", h.Pending(), c.FINSent, c.Closed)
		}
		c.PeerRead(100)
		c.Room()
	}
	wantWire(t, c, want)
	if !c.FINSent || c.Closed {
		t.Fatalf("FIN sent %t, closed %t: want to linger", c.FINSent, c.Closed)
	}
	c.PeerWrite([]byte("discarded"))
	l.Run()
	if c.Backlog() > 0 || len(h.Received) > 0 {
		t.Errorf("%d bytes not read, OnRecv got %q", c.Backlog(), h.Received)
	}
	c.PeerFIN()
	c.PeerRead(c.Held())
	l.Advance(time.Second)
	wantClosed(t, c, false)
	wantSent(t, h, 1000, 1000)
}

// E1: Disconnect in each callback, with something to send.
func TestDisconnectInEachCallback(t *testing.T) {
	bye := func(h *testkit.Handler) {
		mustSend(t, h, "bye")
		for range 3 {
			h.Disconnect()
		}
		if h.Send([]byte("late")) == nil {
			t.Error("Send after Disconnect")
		}
	}
	for name, h := range map[string]*testkit.Handler{
		"OnConnected": {Connected: bye},
		"OnRecv":      {Recv: func(h *testkit.Handler, _ []byte) { bye(h) }},
		"OnSend": {
			Connected: func(h *testkit.Handler) { mustSend(t, h, "hi ") },
			Sent: func(h *testkit.Handler, _ int) {
				if h.SentN == 1 {
					bye(h)
				}
			},
		},
		"Post": {Connected: func(h *testkit.Handler) { _ = h.Post(h.Posted("", func() { bye(h) })) }},
	} {
		t.Run(name, func(t *testing.T) {
			l, c := connect(t, session.Limits{}, h)
			c.Chunk = 1
			c.PeerWrite([]byte("xyz"))
			c.PeerFIN()
			l.Run()
			if got := string(c.Wire); !strings.HasSuffix(got, "bye") {
				t.Errorf("the kernel took %q", got)
			}
			wantClosed(t, c, false)
			if name == "OnRecv" && string(h.Received) != "x" {
				t.Errorf("OnRecv went on: %q", h.Received)
			}
			if h.Err() != session.ErrDisconnected || h.Over != 1 {
				t.Errorf("Err %v, %d OnDisconnected", h.Err(), h.Over)
			}
		})
	}
}

// E3: Abort in each callback: nothing more is sent, the connection is reset, buffers are freed.
func TestAbortInEachCallback(t *testing.T) {
	die := func(h *testkit.Handler) {
		mustSend(t, h, "never")
		for range 3 {
			h.Abort()
		}
		if h.Send([]byte("late")) == nil {
			t.Error("Send after Abort")
		}
	}
	for name, h := range map[string]*testkit.Handler{
		"OnConnected": {Connected: die},
		"OnRecv":      {Recv: func(h *testkit.Handler, _ []byte) { die(h) }},
		"OnSend": {
			Recv: func(h *testkit.Handler, _ []byte) { mustSend(t, h, "x") },
			Sent: func(h *testkit.Handler, _ int) { die(h) },
		},
		"Post": {Recv: func(h *testkit.Handler, _ []byte) { _ = h.Post(h.Posted("", func() { die(h) })) }},
	} {
		t.Run(name, func(t *testing.T) {
			l, c := connect(t, session.Limits{}, h)
			c.PeerWrite([]byte("x"))
			l.Run()
			wantClosed(t, c, true)
			if strings.Contains(string(c.Wire), "never") || c.FINSent {
				t.Errorf("the kernel took %q, FIN %t", c.Wire, c.FINSent)
			}
			if h.Err() != session.ErrAborted || h.Over != 1 || pool.Live() != 0 {
				t.Errorf("Err %v, %d OnDisconnected, %d buffers", h.Err(), h.Over, pool.Live())
			}
			if got := l.Shared.Counters.BytesDropped.Load(); got != 5 {
				t.Errorf("%d bytes dropped, want 5", got)
			}
		})
	}
}

// Abort from elsewhere, with a queue, with kept input, while draining and while lingering.
func TestAbortResetsInEachState(t *testing.T) {
	for name, prepare := range map[string]func(l *testkit.Loop, h *testkit.Handler, c *testkit.Conn){
		"open": func(*testkit.Loop, *testkit.Handler, *testkit.Conn) {},
		"queue": func(l *testkit.Loop, h *testkit.Handler, c *testkit.Conn) {
			c.Kernel = 1
			mustSend(t, h, "12345")
		},
		"kept input": func(_ *testkit.Loop, h *testkit.Handler, c *testkit.Conn) {
			c.PeerWrite([]byte("x"))
			h.PauseRecv()
			c.Serve(testkit.Input)
		},
		"draining": func(_ *testkit.Loop, h *testkit.Handler, c *testkit.Conn) {
			c.Kernel = 1
			mustSend(t, h, "12345")
			h.Disconnect()
		},
		"after FIN": func(_ *testkit.Loop, h *testkit.Handler, c *testkit.Conn) {
			c.Kernel = 1
			mustSend(t, h, "12345")
			c.PeerFIN()
		},
		"lingering": func(_ *testkit.Loop, h *testkit.Handler, _ *testkit.Conn) { h.Disconnect() },
	} {
		t.Run(name, func(t *testing.T) {
			h := &testkit.Handler{}
			l, c := connect(t, session.Limits{}, h)
			prepare(l, h, c)
			l.Run()
			if c.Closed {
				t.Fatal("closed before Abort")
			}
			h.Abort()
			if !errors.Is(h.Err(), session.ErrAborted) {
				t.Errorf("Err: %v", h.Err())
			}
			l.Run()
			wantClosed(t, c, true)
			if pool.Live() != 0 || h.Pending() != 0 || h.Over != 1 {
				t.Errorf("%d buffers, %d bytes wait, %d OnDisconnected", pool.Live(), h.Pending(), h.Over)
			}
		})
	}
}

// After Disconnect or Abort returned, OnRecv is not called again, also if the loop has input before it has the
// request.
func TestNoOnRecvAfterTheEndWasAskedFor(t *testing.T) {
	for name, end := range map[string]func(*testkit.Handler){
		"Disconnect": func(h *testkit.Handler) { h.Disconnect() },
		"Abort":      func(h *testkit.Handler) { h.Abort() },
	} {
		t.Run(name, func(t *testing.T) {
			h := &testkit.Handler{}
			l, c := connect(t, session.Limits{}, h)
			c.PeerWrite([]byte("late"))
			end(h)
			c.Serve(testkit.Input)
			c.PeerFIN()
			l.Run()
			wantLog(t, h, "connected", "disconnected")
			wantClosed(t, c, name == "Abort")
		})
	}
	t.Run("kept input", func(t *testing.T) {
		h := &testkit.Handler{}
		l, c := connect(t, session.Limits{}, h)
		c.PeerWrite([]byte("late"))
		h.PauseRecv()
		c.Serve(testkit.Input)
		h.Disconnect()
		h.ResumeRecv()
		c.PeerFIN()
		l.Run()
		wantLog(t, h, "connected", "disconnected")
		wantClosed(t, c, false)
	})
}

// Disconnecting a paused session reads and discards, or the peer could never finish.
func TestDisconnectWhilePaused(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{}, h)
	h.PauseRecv()
	l.Run()
	c.PeerWrite([]byte("unread"))
	h.Disconnect()
	c.PeerFIN()
	l.Run()
	wantLog(t, h, "connected", "disconnected")
	wantClosed(t, c, false)
}

// E1: a peer that does not finish is left when LingerTimeout ends, in order.
func TestLingerTimeoutEndsInGoodOrder(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{Linger: 2 * time.Second}, h)
	mustSend(t, h, "bye")
	h.Disconnect()
	l.Advance(1999 * time.Millisecond)
	if !c.FINSent || c.Closed {
		t.Fatalf("FIN %t, closed %t", c.FINSent, c.Closed)
	}
	l.Advance(time.Millisecond)
	wantClosed(t, c, false)
	if h.Err() != session.ErrDisconnected {
		t.Errorf("Err: %v", h.Err())
	}
}

// A linger that is off lasts until the peer finishes.
func TestLingerWithoutTimeoutAwaitsThePeer(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{Drain: time.Second}, h)
	h.Disconnect()
	l.Advance(time.Hour)
	if c.Closed {
		t.Fatal("closed before the peer")
	}
	c.PeerFIN()
	l.Run()
	wantClosed(t, c, false)
}

// E1: what is not out within DrainTimeout is dropped, and Err matches the first reason and ErrDrainTimeout.
func TestDrainTimeoutDropsTheRest(t *testing.T) {
	kicked := errors.New("kicked")
	for name, tt := range map[string]struct {
		end   func(h *testkit.Handler, c *testkit.Conn)
		first error
	}{
		"Disconnect":     {func(h *testkit.Handler, _ *testkit.Conn) { h.Disconnect() }, session.ErrDisconnected},
		"DisconnectWith": {func(h *testkit.Handler, _ *testkit.Conn) { h.DisconnectWith(kicked) }, kicked},
		"Shutdown": {func(_ *testkit.Handler, c *testkit.Conn) { c.Driver.End(session.ErrShutdown) },
			session.ErrShutdown},
		"peer's FIN": {func(_ *testkit.Handler, c *testkit.Conn) { c.PeerFIN() }, session.ErrPeerClosed},
	} {
		t.Run(name, func(t *testing.T) {
			h := &testkit.Handler{}
			l, c := connect(t, session.Limits{Drain: 10 * time.Second}, h)
			c.Kernel = 4
			mustSend(t, h, "12345678")
			l.Run()
			tt.end(h, c)
			l.Advance(9 * time.Second)
			c.PeerRead(1) // that is next to nothing
			l.Run()
			l.Advance(time.Second - 1)
			if c.Closed {
				t.Fatal("closed early")
			}
			l.Advance(time.Second/240 + 1)
			wantClosed(t, c, true)
			for _, want := range []error{tt.first, session.ErrDrainTimeout} {
				if !errors.Is(h.Err(), want) {
					t.Errorf("Err %v does not match %v", h.Err(), want)
				}
			}
			if n := l.Shared.Counters.Ended[session.CauseDrainTimeout].Load(); n != 1 {
				t.Errorf("counted %d drain timeouts", n)
			}
			wantWire(t, c, "12345")
			if dropped, unacked := l.Shared.Counters.BytesDropped.Load(), l.Shared.Counters.BytesUnacked.Load(); dropped != 3 || unacked != 4 {
				t.Errorf("%d bytes dropped, want 3; %d not acknowledged, want 4", dropped, unacked)
			}
		})
	}
}

// E4: the end that the engine asks for does not disturb a callback that is running. What was read before is answered.
func TestEndSparesTheCallback(t *testing.T) {
	for name, framing := range map[string]*session.Framing{"bytes": nil, "packets": session.NewFraming(frame.Varint{})} {
		t.Run(name, func(t *testing.T) {
			l := newLoop(t, session.Limits{Linger: time.Second})
			h := &testkit.Handler{Quiet: true}
			c, err := l.Bind(h, framing)
			if err != nil {
				t.Fatal(err)
			}
			c.Connected()
			calls := 0
			h.Recv = func(h *testkit.Handler, p []byte) {
				if calls++; calls == 1 {
					c.Driver.End(session.ErrShutdown)
				}
				wantErr(t, "Err in the callback", h.Err())
				wantErr(t, "Send in the callback", h.Send(p))
			}
			wire, want := "ab", 1
			if framing != nil {
				wire, want = "\x01a\x01b", 2 // both come in one read
			}
			c.PeerWrite([]byte(wire))
			l.Run()
			if calls != want {
				t.Errorf("%d OnRecv, want %d", calls, want)
			}
			wantWire(t, c, wire)
			wantErr(t, "Err", h.Err(), session.ErrShutdown)
			wantErr(t, "Send after the callback", h.Send([]byte("x")), session.ErrClosed)
			c.PeerFIN()
			l.Run()
			wantClosed(t, c, false)
		})
	}
}
