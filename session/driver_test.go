package session_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

func TestBindRefusesUnfitHandlers(t *testing.T) {
	l := newLoop(t, session.Limits{})
	if _, err := l.Bind(nil, nil); !errors.Is(err, session.ErrHandler) {
		t.Errorf("nil: %v", err)
	}
	h := &testkit.Handler{}
	c := l.Connect(h)
	if _, err := l.Bind(h, nil); !errors.Is(err, session.ErrHandler) {
		t.Errorf("a handler in use: %v", err)
	}
	h.Abort()
	l.Run()
	wantClosed(t, c, true)
	if _, err := l.Bind(h, nil); !errors.Is(err, session.ErrHandler) {
		t.Errorf("a handler that had a connection: %v", err)
	}
}

// Before the connection every method is safe and does nothing.
func TestMethodsBeforeBindDoNothing(t *testing.T) {
	h := &testkit.Handler{}
	h.Disconnect()
	h.DisconnectWith(errors.New("early"))
	h.Abort()
	h.ResumeRecv()
	if err := h.Send([]byte("early")); !errors.Is(err, session.ErrClosed) {
		t.Errorf("Send: %v", err)
	}
	if err := h.Post(func() {}); !errors.Is(err, session.ErrClosed) {
		t.Errorf("Post: %v", err)
	}
	if h.ID() != 0 || h.Pending() != 0 || h.Err() != nil || h.RemoteAddr() != nil || h.LocalAddr() != nil {
		t.Errorf("id %d, pending %d, err %v, addresses %v %v", h.ID(), h.Pending(), h.Err(), h.RemoteAddr(), h.LocalAddr())
	}
	l, c := connect(t, session.Limits{}, h)
	c.PeerWrite([]byte("x"))
	mustSend(t, h, "y")
	l.Run()
	wantLog(t, h, "connected", "recv x", "sent 1")
	if h.ID() == 0 || h.RemoteAddr() == nil || h.LocalAddr() == nil || h.LocalAddr() == h.RemoteAddr() {
		t.Errorf("id %d, addresses %v %v", h.ID(), h.RemoteAddr(), h.LocalAddr())
	}
	id, remote := h.ID(), h.RemoteAddr()
	h.Abort()
	l.Run()
	if h.ID() != id || h.RemoteAddr() != remote {
		t.Error("id or address did not outlive the session")
	}
	other := &testkit.Handler{}
	l.Connect(other)
	if other.ID() == id {
		t.Error("an id was used twice")
	}
	if c.Driver.Handler() != session.Handler(h) || c.Driver.Session() != &h.Session || !c.Driver.Ended() {
		t.Error("the driver is of another session")
	}
}

// Between Bind and OnConnected other goroutines may use the session already.
func TestCallsBeforeOnConnectedTakeEffect(t *testing.T) {
	for name, tt := range map[string]struct {
		do    func(h *testkit.Handler)
		log   []string
		reset bool
	}{
		"Send":       {func(h *testkit.Handler) { mustSend(t, h, "x") }, []string{"connected", "sent 1"}, false},
		"Disconnect": {func(h *testkit.Handler) { h.Disconnect() }, []string{"connected", "disconnected"}, false},
		"Abort":      {func(h *testkit.Handler) { h.Abort() }, []string{"connected", "disconnected"}, true},
		"Post": {func(h *testkit.Handler) { _ = h.Post(h.Posted("f", nil)) }, []string{"connected", "post f"},
			false},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLoop(t, session.Limits{})
			h := &testkit.Handler{}
			c, err := l.Bind(h, nil)
			if err != nil {
				t.Fatal(err)
			}
			tt.do(h)
			if len(h.Log) > 0 || c.Wakes() > 0 {
				t.Errorf("callbacks %q and %d wakes before OnConnected", h.Log, c.Wakes())
			}
			c.Connected()
			if strings.HasPrefix(name, "D") {
				c.PeerFIN()
			}
			l.Run()
			wantLog(t, h, tt.log...)
			if slices.Contains(tt.log, "disconnected") {
				wantClosed(t, c, tt.reset)
			}
		})
	}
}

// A connection whose reading cannot be stopped, or that cannot be finished, is broken.
func TestTransportThatFailsEndsTheSession(t *testing.T) {
	trouble := errors.New("no descriptor left")
	for name, do := range map[string]func(*testkit.Handler){
		"Reading":    func(h *testkit.Handler) { h.PauseRecv() },
		"CloseWrite": func(h *testkit.Handler) { h.Disconnect() },
	} {
		h := &testkit.Handler{}
		l, c := connect(t, session.Limits{}, h)
		c.Trouble = trouble
		do(h)
		l.Run()
		wantClosed(t, c, false)
		if !errors.Is(h.Err(), session.ErrPeerReset) || !errors.Is(h.Err(), trouble) {
			t.Errorf("%s: Err %v", name, h.Err())
		}
	}
}

// Events that come late or twice do no harm.
func TestStaleEventsDoNoHarm(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{}, h)
	for _, v := range []testkit.Visit{testkit.Writable, testkit.Expire, testkit.Turn, testkit.Resume} {
		c.Serve(v)
	}
	mustSend(t, h, "x")
	l.Run()
	h.Disconnect()
	c.PeerFIN()
	l.Run()
	wantClosed(t, c, false)
	for _, v := range []testkit.Visit{testkit.Writable, testkit.Expire, testkit.Turn, testkit.Resume, testkit.FIN} {
		c.Serve(v)
	}
	c.PeerWrite([]byte("late"))
	c.Serve(testkit.Input)
	c.Serve(testkit.Reset)
	wantLog(t, h, "connected", "sent 1", "disconnected")
}
