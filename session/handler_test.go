package session_test

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

// L1, L2: OnConnected first, OnDisconnected last and once, nothing nested.
func TestCallbackOrder(t *testing.T) {
	h := &testkit.Handler{
		Connected: func(h *testkit.Handler) { mustSend(t, h, "hello") },
		Recv:      func(h *testkit.Handler, p []byte) { mustSend(t, h, string(p)) },
	}
	l, c := connect(t, session.Limits{}, h)
	c.PeerWrite([]byte("abc"))
	l.Run()
	if err := h.Post(h.Posted("f", nil)); err != nil {
		t.Fatal(err)
	}
	l.Run()
	c.PeerFIN()
	l.Run()
	wantLog(t, h, "connected", "sent 5", "recv abc", "sent 3", "post f", "disconnected")
	wantWire(t, c, "helloabc")
	wantClosed(t, c, false)
	if !errors.Is(h.Err(), session.ErrPeerClosed) {
		t.Errorf("Err: %v", h.Err())
	}
}

// The other way to receive callbacks; nil functions do nothing.
func TestEventsCallTheirFunctions(t *testing.T) {
	var log []string
	note := func(format string, args ...any) { log = append(log, fmt.Sprintf(format, args...)) }
	events := session.Events{
		OnConnected:    func(s *session.Session, a net.Addr) { note("connected %t", a.String() == s.RemoteAddr().String()) },
		OnRecv:         func(s *session.Session, p []byte) { note("recv %s %v", p, s.Send(p)) },
		OnSend:         func(_ *session.Session, n int) { note("sent %d", n) },
		OnDisconnected: func(s *session.Session, a net.Addr) { note("disconnected %t", a.String() == s.RemoteAddr().String()) },
	}
	want := []string{"connected true", "recv abc <nil>", "sent 3", "disconnected true"}
	for _, e := range []session.Events{events, {}} {
		log = nil
		factory := e.Factory()
		e.OnRecv = nil // the factory keeps the functions as they were
		if factory() == factory() {
			t.Error("one handler for two connections")
		}
		l := newLoop(t, session.Limits{})
		c := l.Connect(factory())
		c.PeerWrite([]byte("abc"))
		l.Run()
		c.PeerFIN()
		l.Run()
		wantClosed(t, c, false)
		if !slices.Equal(log, want) {
			t.Errorf("got %q, want %q", log, want)
		}
		want = nil
	}
}

// Embedding supplies no-op callbacks.
func TestEmbeddingSuffices(t *testing.T) {
	h := &struct{ session.Session }{}
	l := newLoop(t, session.Limits{})
	c := l.Connect(h)
	c.PeerWrite([]byte("x"))
	if err := h.Send([]byte("y")); err != nil {
		t.Fatal(err)
	}
	l.Run()
	c.PeerFIN()
	l.Run()
	wantWire(t, c, "y")
	wantClosed(t, c, false)
}

// The ways a handler can fail.
var failures = map[string]func(){
	"panic":      func() { panic("boom") },
	"nil panic":  func() { panic(nil) },
	"error":      func() { panic(errors.New("boom")) },
	"Goexit":     runtime.Goexit,
	"late panic": func() { defer func() { panic("boom") }() },
}

// L4: a handler that fails in any callback ends its session only, with a reset and OnDisconnected. The failure is logged once.
func TestFailureInACallbackEndsThatSessionOnly(t *testing.T) {
	callbacks := map[string]func(h *testkit.Handler, fail func()){
		"OnConnected":    func(h *testkit.Handler, fail func()) { h.Connected = func(*testkit.Handler) { fail() } },
		"OnRecv":         func(h *testkit.Handler, fail func()) { h.Recv = func(*testkit.Handler, []byte) { fail() } },
		"OnSend":         func(h *testkit.Handler, fail func()) { h.Sent = func(*testkit.Handler, int) { fail() } },
		"OnDisconnected": func(h *testkit.Handler, fail func()) { h.Disconnected = func(*testkit.Handler) { fail() } },
		"Post": func(h *testkit.Handler, fail func()) {
			h.Recv = func(*testkit.Handler, []byte) {
				if err := h.Post(h.Posted("failing", fail)); err != nil {
					panic(err)
				}
			}
		},
	}
	for callback, install := range callbacks {
		for kind, fail := range failures {
			t.Run(callback+" "+kind, func(t *testing.T) {
				l := newLoop(t, session.Limits{})
				l.Isolate = true
				other := &testkit.Handler{}
				oc := l.Connect(other)
				h := &testkit.Handler{}
				failed := 0
				install(h, func() {
					failed++
					if callback != "OnDisconnected" {
						mustSend(t, h, "unsent")
					}
					fail()
				})
				c := l.Connect(h)
				_ = h.Send([]byte("1"))
				l.Run()
				c.PeerWrite([]byte("2"))
				oc.PeerWrite([]byte("3"))
				l.Run()
				if callback == "OnDisconnected" {
					h.Disconnect()
					c.PeerFIN()
					l.Run()
				}
				wantClosed(t, c, callback != "OnDisconnected")
				if strings.Contains(string(c.Wire), "unsent") {
					t.Error("what the failed callback sent has left")
				}
				name := callback
				if kind == "Goexit" {
					name += ": Goexit"
				}
				if failed != 1 || !slices.Equal(c.Failures, []string{name}) {
					t.Errorf("failed %d times, reported as %q", failed, c.Failures)
				}
				if h.Begun != 1 || h.Over != 1 || h.Log[len(h.Log)-1] != "disconnected" {
					t.Errorf("callbacks %q", h.Log)
				}
				if !strings.Contains(h.Err().Error(), callback) {
					t.Errorf("Err does not name the callback: %v", h.Err())
				}
				if !errors.Is(h.Err(), session.ErrPanic) {
					t.Errorf("Err: %v, want %v", h.Err(), session.ErrPanic)
				}
				if callback == "OnDisconnected" && !errors.Is(h.Err(), session.ErrDisconnected) { // it came first
					t.Errorf("Err: %v, want %v too", h.Err(), session.ErrDisconnected)
				}
				if n := l.Shared.Counters.Ended[session.CausePanic].Load(); n != 1 {
					t.Errorf("%d ends by panic counted, want 1", n)
				}
				mustSend(t, other, "alive")
				l.Run()
				wantLog(t, other, "connected", "recv 3", "sent 5")
				if err := h.Send(nil); !errors.Is(err, session.ErrClosed) {
					t.Errorf("Send: %v", err)
				}
			})
		}
	}
}

// A session may fail twice: in a callback and then in OnDisconnected.
func TestFailureAfterFailure(t *testing.T) {
	for kind, fail := range failures {
		t.Run(kind, func(t *testing.T) {
			l := newLoop(t, session.Limits{})
			l.Isolate = true
			h := &testkit.Handler{
				Recv:         func(*testkit.Handler, []byte) { fail() },
				Disconnected: func(*testkit.Handler) { fail() },
			}
			c := l.Connect(h)
			ran := 0
			for range 3 {
				if err := h.Post(func() { ran++; fail() }); err != nil {
					t.Fatal(err)
				}
			}
			c.PeerWrite([]byte("x"))
			l.Run()
			wantClosed(t, c, true)
			if ran != 3 || h.Over != 1 || len(c.Failures) != 5 {
				t.Errorf("%d posts ran, %d OnDisconnected, failures %q", ran, h.Over, c.Failures)
			}
		})
	}
}

// The counters name the cause of each end.
func TestEndedCounters(t *testing.T) {
	l := newLoop(t, session.Limits{})
	ways := map[session.Cause]func(*testkit.Handler, *testkit.Conn){
		session.CausePanic: func(h *testkit.Handler, _ *testkit.Conn) { _ = h.Post(func() { panic("boom") }) },
		session.CauseShutdown: func(_ *testkit.Handler, c *testkit.Conn) {
			c.Driver.End(session.ErrShutdown)
			l.Run()
			c.PeerFIN()
		},
		session.CauseAborted: func(h *testkit.Handler, _ *testkit.Conn) { h.Abort() },
		session.CauseDisconnected: func(h *testkit.Handler, c *testkit.Conn) {
			h.Disconnect()
			c.PeerFIN()
		},
		session.CausePeerReset:  func(_ *testkit.Handler, c *testkit.Conn) { c.PeerReset(errors.New("reset")) },
		session.CausePeerClosed: func(_ *testkit.Handler, c *testkit.Conn) { c.PeerFIN() },
		session.CauseOther: func(h *testkit.Handler, c *testkit.Conn) {
			h.DisconnectWith(errors.New("kicked"))
			c.PeerFIN()
		},
	}
	for cause, end := range ways {
		h := &testkit.Handler{}
		c := l.Connect(h)
		end(h, c)
		l.Run()
		if n := l.Shared.Counters.Ended[cause].Load(); !c.Ended || n != 1 {
			t.Errorf("cause %d: done %t, counted %d times, Err %v", cause, c.Ended, n, h.Err())
		}
	}
}
