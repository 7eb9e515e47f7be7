package session_test

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

// L5: the first reason stands.
func TestFirstReasonStands(t *testing.T) {
	kicked := errors.New("kicked")
	ways := []struct {
		reason error
		do     func(h *testkit.Handler, c *testkit.Conn)
	}{
		{session.ErrDisconnected, func(h *testkit.Handler, _ *testkit.Conn) { h.Disconnect() }},
		{session.ErrDisconnected, func(h *testkit.Handler, _ *testkit.Conn) { h.DisconnectWith(nil) }},
		{kicked, func(h *testkit.Handler, _ *testkit.Conn) { h.DisconnectWith(fmt.Errorf("spam: %w", kicked)) }},
		{session.ErrAborted, func(h *testkit.Handler, _ *testkit.Conn) { h.Abort() }},
		{session.ErrShutdown, func(_ *testkit.Handler, c *testkit.Conn) {
			c.Driver.End(session.ErrShutdown)
			c.Serve(testkit.Turn)
		}},
		{session.ErrPeerClosed, func(_ *testkit.Handler, c *testkit.Conn) { c.Serve(testkit.FIN) }},
		{session.ErrPeerReset, func(_ *testkit.Handler, c *testkit.Conn) {
			c.PeerReset(errors.New("reset"))
			c.Serve(testkit.Reset)
		}},
	}
	for k := range 2 * len(ways) * len(ways) {
		waits, first, second := k%2 == 1, ways[k/2/len(ways)], ways[k/2%len(ways)]
		t.Run(fmt.Sprintf("%d, then %d, bytes wait %t", k/2/len(ways), k/2%len(ways), waits), func(t *testing.T) {
			h := &testkit.Handler{}
			l, c := connect(t, session.Limits{Drain: time.Second, Linger: time.Second}, h)
			if waits { // the session outlives its first reason
				c.Kernel = 4
				mustSend(t, h, "12345678")
				l.Run()
			}
			first.do(h, c)
			if !errors.Is(h.Err(), first.reason) {
				t.Fatalf("Err %v, want %v", h.Err(), first.reason)
			}
			if !c.Closed {
				second.do(h, c)
			}
			l.Advance(time.Hour)
			if !errors.Is(h.Err(), first.reason) || !errors.Is(c.Driver.Reason(), first.reason) {
				t.Errorf("Err became %v, Reason %v, was %v", h.Err(), c.Driver.Reason(), first.reason)
			}
			if !c.Ended || h.Over != 1 {
				t.Errorf("done %t, %d OnDisconnected", c.Ended, h.Over)
			}
		})
	}
}

// A reason whose methods panic counts as a failure of the handler.
func TestReasonThatPanicsIsAFailure(t *testing.T) {
	for name, reason := range map[string]error{"Unwrap": (*net.OpError)(nil), "Error": (*silentError)(nil), "Error, over and over": hopeless{}} {
		t.Run(name, func(t *testing.T) {
			h := &testkit.Handler{}
			l, c := connect(t, session.Limits{Linger: time.Second}, h)
			h.DisconnectWith(reason)
			l.Advance(time.Hour)
			if err := h.Err(); !errors.Is(err, session.ErrPanic) || h.Over != 1 || !c.Ended {
				t.Errorf("Err %v, %d OnDisconnected, ended %t", err, h.Over, c.Ended)
			}
		})
	}
}

type silentError struct{ text string }

func (e *silentError) Error() string { return e.text }

// hopeless panics with itself: asking for that panic's text panics too.
type hopeless struct{}

func (h hopeless) Error() string { panic(h) }

// I3: no lock is held while the text of a panic's value is asked for.
func TestPanicValueMayAskItsSession(t *testing.T) {
	h := &testkit.Handler{Recv: func(h *testkit.Handler, _ []byte) { panic(curious{h}) }}
	l, c := connect(t, session.Limits{}, h)
	c.PeerWrite([]byte("x"))
	l.Run()
	if err := h.Err(); !errors.Is(err, session.ErrPanic) || !strings.Contains(err.Error(), "0 bytes wait") {
		t.Errorf("Err %v", err)
	}
}

// L4: a panic value whose own methods panic ends its session only.
func TestPanicValueThatPanicsEndsItsSessionOnly(t *testing.T) {
	h := &testkit.Handler{Recv: func(*testkit.Handler, []byte) { panic(hopeless{}) }}
	l, c := connect(t, session.Limits{}, h)
	c.PeerWrite([]byte("x"))
	l.Run()
	if err := h.Err(); !errors.Is(err, session.ErrPanic) || h.Over != 1 {
		t.Errorf("Err %v, %d OnDisconnected", err, h.Over)
	}
}

type curious struct{ h *testkit.Handler }

func (c curious) Error() string { return fmt.Sprintf("%d bytes wait, %v", c.h.Pending(), c.h.Err()) }

// What fails while a session ends is added to the reason it ends for; a second request to end is not.
func TestErrAddsFailuresOnly(t *testing.T) {
	reset := errors.New("reset")
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{}, h)
	c.Kernel = 1
	mustSend(t, h, "12")
	h.Disconnect()
	l.Run()
	c.PeerReset(reset)
	l.Run()
	for _, want := range []error{session.ErrDisconnected, session.ErrPeerReset, reset} {
		if !errors.Is(h.Err(), want) {
			t.Errorf("Err %v does not match %v", h.Err(), want)
		}
	}
	if c.Driver.Reason() != session.ErrDisconnected {
		t.Errorf("Reason is %v, want the first alone", c.Driver.Reason())
	}

	h = &testkit.Handler{Disconnected: func(*testkit.Handler) { panic("on purpose") }}
	c = l.Connect(h)
	c.Kernel = 1
	mustSend(t, h, "12")
	h.Disconnect()
	l.Run()
	c.PeerReset(reset)
	l.Run()
	if !errors.Is(h.Err(), session.ErrPanic) || !errors.Is(h.Err(), reset) || c.Driver.Reason() != session.ErrDisconnected {
		t.Errorf("disconnected, then reset, then a panic: %v, the reason is %v", h.Err(), c.Driver.Reason())
	}

	h = &testkit.Handler{}
	c = l.Connect(h)
	c.Kernel = 1
	mustSend(t, h, "12")
	h.DisconnectWith(fmt.Errorf("upstream: %w", reset)) // what broke another connection is not what breaks this one
	l.Run()
	c.PeerReset(reset)
	l.Run()
	if !errors.Is(h.Err(), session.ErrPeerReset) {
		t.Errorf("ended for another's reset, then reset: %v", h.Err())
	}

	h = &testkit.Handler{}
	c = l.Connect(h)
	h.Post(func() {}) // it is looked at twice
	c.PeerReset(reset)
	c.Serve(testkit.Reset)
	l.Run()
	if strings.Contains(h.Err().Error(), "then") {
		t.Errorf("a reset is told twice: %v", h.Err())
	}

	h = &testkit.Handler{}
	c = l.Connect(h)
	h.Abort()
	h.Disconnect()
	l.Run()
	if h.Err() != session.ErrAborted {
		t.Errorf("Abort, then Disconnect: %v", h.Err())
	}
	wantClosed(t, c, true)
}

// Err is nil until the session begins to end.
func TestErrOfOpenSession(t *testing.T) {
	h := &testkit.Handler{Disconnected: func(h *testkit.Handler) {
		if h.Err() == nil {
			t.Error("no reason in OnDisconnected")
		}
	}}
	l, c := connect(t, session.Limits{PauseAbove: 1}, h)
	c.Kernel = 2
	c.PeerWrite([]byte("x"))
	mustSend(t, h, "12345")
	l.Run()
	if h.Err() != nil || c.Driver.Reason() != nil || !slices.Equal(h.Log, []string{"connected", "recv x", "sent 2"}) {
		t.Errorf("Err %v, callbacks %q", h.Err(), h.Log)
	}
}
