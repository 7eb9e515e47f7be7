package session_test

import (
	"errors"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

func halfOpen(t *testing.T, limits session.Limits) (*testkit.Loop, *testkit.HalfOpen, *testkit.Conn) {
	t.Helper()
	h := &testkit.HalfOpen{}
	l := testkit.NewLoop(limits)
	c, err := l.Bind(h, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Connected()
	t.Cleanup(func() {
		l.Abort()
		for _, fault := range l.Faults() {
			t.Error(fault)
		}
	})
	return l, h, c
}

// The peer finishes, the application goes on, and the session ends when the application finishes too.
func TestHalfCloserGoesOnAfterTheFIN(t *testing.T) {
	for _, end := range []struct {
		name string
		do   func(*session.Session)
		is   error
	}{
		{"CloseWrite", (*session.Session).CloseWrite, session.ErrPeerClosed},
		{"Disconnect", (*session.Session).Disconnect, session.ErrDisconnected},
	} {
		t.Run(end.name, func(t *testing.T) {
			l, h, c := halfOpen(t, session.Limits{Idle: time.Minute})
			h.HalfClosed = func(h *testkit.Handler) { mustSend(t, h, "one ") }
			c.PeerWrite([]byte("request"))
			c.PeerFIN()
			l.Advance(time.Hour) // a peer that has finished is not idle
			mustSend(t, &h.Handler, "two ")
			l.Run()
			if h.Err() != nil || c.Closed {
				t.Fatalf("closed %t: %v", c.Closed, h.Err())
			}
			mustSend(t, &h.Handler, "three")
			end.do(&h.Session)
			if err := h.Send([]byte("late")); !errors.Is(err, session.ErrClosed) {
				t.Errorf("Send after the end: %v", err)
			}
			l.Run()
			wantClosed(t, c, false)
			wantWire(t, c, "one two three")
			if !errors.Is(h.Err(), end.is) {
				t.Errorf("Err: %v, want %v", h.Err(), end.is)
			}
			wantLog(t, &h.Handler, "connected", "recv request", "half-closed", "sent 4", "sent 4", "sent 5", "disconnected")
		})
	}
}

// OnHalfClose comes after the input that was held back.
func TestOnHalfCloseFollowsKeptInput(t *testing.T) {
	l, h, c := halfOpen(t, session.Limits{})
	h.Recv = func(h *testkit.Handler, _ []byte) { h.PauseRecv() }
	c.Chunk = 3
	c.PeerWrite([]byte("abcdef"))
	c.PeerFIN()
	l.Run()
	wantLog(t, &h.Handler, "connected", "recv abc")
	h.ResumeRecv()
	l.Run()
	h.ResumeRecv()
	l.Run()
	wantLog(t, &h.Handler, "connected", "recv abc", "recv def", "half-closed")
}

// A reset after the peer's FIN ends a half-open session.
func TestResetEndsAHalfOpenSession(t *testing.T) {
	l, h, c := halfOpen(t, session.Limits{})
	c.PeerFIN()
	l.Run()
	c.PeerReset(errors.New("reset"))
	l.Run()
	if !c.Closed || !errors.Is(h.Err(), session.ErrPeerReset) {
		t.Errorf("closed %t: %v", c.Closed, h.Err())
	}
}

// CloseWrite sends everything, then FIN, and OnRecv goes on until the peer finishes too.
func TestCloseWriteSendsAllThenFIN(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{Linger: time.Second, Idle: time.Hour}, h)
	c.Kernel = 4
	mustSend(t, h, "request")
	h.CloseWrite()
	h.CloseWrite()
	if err := h.Send([]byte("late")); !errors.Is(err, session.ErrClosed) {
		t.Errorf("Send after CloseWrite: %v", err)
	}
	l.Run()
	if c.FINSent {
		t.Fatal("FIN before the last byte")
	}
	c.PeerRead(4)
	l.Run()
	if !c.FINSent || h.Err() != nil {
		t.Fatalf("FIN sent %t, Err %v", c.FINSent, h.Err())
	}
	l.Advance(time.Minute) // this is no linger
	c.PeerWrite([]byte("answer"))
	l.Run()
	c.PeerFIN()
	l.Run()
	if c.Closed {
		t.Fatal("closed with bytes on their way")
	}
	c.PeerRead(c.Held())
	l.Advance(time.Second)
	wantClosed(t, c, false)
	wantWire(t, c, "request")
	wantLog(t, h, "connected", "sent 4", "sent 3", "recv answer", "disconnected")
	if !errors.Is(h.Err(), session.ErrPeerClosed) {
		t.Errorf("Err: %v", h.Err())
	}
}

// Disconnect after CloseWrite lingers without another FIN, for LingerTimeout.
func TestDisconnectAfterCloseWriteLingers(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{Linger: time.Second}, h)
	h.CloseWrite()
	l.Run()
	h.Disconnect()
	c.PeerWrite([]byte("discarded"))
	l.Run()
	l.Advance(time.Second - 1)
	if c.Closed {
		t.Fatal("closed without a linger")
	}
	l.Advance(1)
	wantClosed(t, c, false)
	wantLog(t, h, "connected", "disconnected")
}

// Before Bind CloseWrite does nothing.
func TestCloseWriteBeforeBindDoesNothing(t *testing.T) {
	h := &testkit.Handler{}
	h.CloseWrite()
	l, c := connect(t, session.Limits{}, h)
	mustSend(t, h, "x")
	l.Run()
	wantWire(t, c, "x")
}
