package session_test

import (
	"runtime"
	"slices"
	"testing"

	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

// Functions of AtEnd run once, in the order of the calls, after what was posted and before OnDisconnected, when the session is in no group.
func TestAtEndRunsBeforeOnDisconnected(t *testing.T) {
	for name, end := range map[string]func(*testkit.Conn){
		"Disconnect": func(c *testkit.Conn) { c.Session().Disconnect(); c.PeerFIN() },
		"Abort":      func(c *testkit.Conn) { c.Session().Abort() },
		"reset":      func(c *testkit.Conn) { c.PeerReset(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			var order []string
			var room session.Group
			h := &testkit.Handler{Quiet: true}
			h.Disconnected = func(*testkit.Handler) { order = append(order, "OnDisconnected") }
			l, c := connect(t, session.Limits{}, h)
			room.Join(h)
			for _, what := range []string{"first", "second"} {
				if !h.AtEnd(func() {
					order = append(order, what)
					if n := room.Len(); n != 0 {
						t.Errorf("still in the room, with %d members", n)
					}
					if h.AtEnd(func() { t.Error("it ran, although AtEnd came after the end") }) {
						t.Error("AtEnd after the end has accepted")
					}
				}) {
					t.Error("AtEnd of an open session has refused")
				}
			}
			l.Run()
			if len(order) != 0 {
				t.Fatalf("before the end: %q", order)
			}
			if err := h.Post(func() { h.Abort() }); err != nil {
				t.Fatal(err)
			}
			end(c)
			l.Run()
			if want := []string{"first", "second", "OnDisconnected"}; !slices.Equal(order, want) {
				t.Errorf("%q, want %q", order, want)
			}
		})
	}
}

// L2: a function that fails keeps none of the others, and not OnDisconnected, from running.
func TestAtEndFailures(t *testing.T) {
	var order []string
	h := &testkit.Handler{Quiet: true}
	h.Disconnected = func(*testkit.Handler) { order = append(order, "OnDisconnected") }
	l, _ := connect(t, session.Limits{}, h)
	h.AtEnd(func() { panic("one") })
	h.AtEnd(func() { order = append(order, "two") })
	h.Abort()
	l.Run()
	if want := []string{"two", "OnDisconnected"}; !slices.Equal(order, want) {
		t.Errorf("%q, want %q", order, want)
	}
	runtime.KeepAlive(h)
}

// AtEnd of a session without a connection refuses. Of returns the session whatever hides its methods.
func TestAtEndUnboundAndOf(t *testing.T) {
	type hiding struct {
		session.Session
		Send, AtEnd int
	}
	h := &hiding{}
	if session.Of(h) != &h.Session || session.Of(nil) != nil {
		t.Error("Of returns another session")
	}
	if session.Of(h).AtEnd(func() { t.Error("it ran") }) {
		t.Error("AtEnd before Bind has accepted")
	}
}
