package session_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/pool"
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
func TestBeforeTheConnection(t *testing.T) {
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

// Between Bind and OnConnected others may know the session already.
func TestCallsBeforeOnConnected(t *testing.T) {
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

// OnRecv gets the peer's bytes in order, and its data is not needed any more when it returns.
func TestReceive(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{}, h)
	want := make([]byte, 200_000)
	for i := range want {
		want[i] = byte(i * i / 7)
	}
	c.PeerWrite(want)
	l.Run()
	if !bytes.Equal(h.Received, want) {
		t.Error("OnRecv got something else")
	}
	k := &l.Shared.Counters
	if k.BytesIn.Load() != 200_000 || k.MessagesIn.Load() != 4 {
		t.Errorf("counted %d bytes in %d messages", k.BytesIn.Load(), k.MessagesIn.Load())
	}
}

// S7: not read above PauseAbove, read again below half of it.
func TestPauseAbove(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{PauseAbove: 1000, SendLimit: 10_000}, h)
	c.Kernel = 100
	mustSend(t, h, strings.Repeat("x", 100))
	l.Run() // the kernel is full
	mustSend(t, h, strings.Repeat("x", 1000))
	l.Run()
	if !c.Reads {
		t.Fatal("stopped at the mark, not above it")
	}
	mustSend(t, h, "x")
	l.Run()
	if c.Reads {
		t.Fatal("read above the mark")
	}
	c.PeerWrite([]byte("in"))
	mustSend(t, h, strings.Repeat("x", 500))
	l.Run()
	for h.Pending() >= 500 {
		if c.Reads || len(h.Received) > 0 || c.Held() == 0 {
			t.Fatalf("read with %d bytes waiting", h.Pending())
		}
		c.PeerRead(100)
		l.Run()
	}
	if !c.Reads || string(h.Received) != "in" {
		t.Errorf("not read with %d bytes waiting", h.Pending())
	}
	if !slices.Equal(c.Switched, []bool{false, true}) || l.Shared.Counters.Pauses.Load() != 1 {
		t.Errorf("switched %v, %d pauses", c.Switched, l.Shared.Counters.Pauses.Load())
	}
}

// S7: a server that answers what it receives never meets SendLimit, whatever its peer does.
func TestEchoNeverMeetsSendLimit(t *testing.T) {
	for _, limits := range []session.Limits{
		{SendLimit: 2, PauseAbove: 1}, {SendLimit: 1000, PauseAbove: 999}, {SendLimit: 70_000, PauseAbove: 10_000},
		{SendLimit: 1 << 20, PauseAbove: 1 << 18},
	} {
		t.Run(fmt.Sprintf("limit %d, pause %d", limits.SendLimit, limits.PauseAbove), func(t *testing.T) {
			h := &testkit.Handler{Recv: func(h *testkit.Handler, p []byte) {
				if err := h.Send(p); err != nil {
					t.Fatalf("%v with %d of %d bytes waiting", err, h.Pending(), limits.SendLimit)
				}
			}}
			l, c := connect(t, limits, h)
			c.Kernel = max(limits.SendLimit/3, 1)
			want := bytes.Repeat([]byte("0123456789abcdef,"), min(limits.SendLimit/2, 20_000))
			c.PeerWrite(want)
			c.PeerFIN()
			for l.Run(); c.Held() > 0; l.Run() {
				c.PeerRead(c.Held())
			}
			l.Advance(time.Second) // until it is seen that the peer has all of it
			if !bytes.Equal(c.Wire, want) {
				t.Errorf("%d bytes came back, want %d", len(c.Wire), len(want))
			}
			wantClosed(t, c, false)
		})
	}
}

// PauseRecv from another goroutine: what the loop had read already is kept and delivered later, in order.
func TestPauseRecvKeepsInput(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{}, h)
	c.Chunk = 3
	c.PeerWrite([]byte("abcdef"))
	h.PauseRecv()
	c.Serve(testkit.Input) // before the loop turns to the session
	if c.Reads || len(h.Received) > 0 {
		t.Fatalf("reads %t, received %q", c.Reads, h.Received)
	}
	l.Run()
	mustSend(t, h, "still sends")
	l.Run()
	wantLog(t, h, "connected", "sent 11")
	h.ResumeRecv()
	l.Run()
	wantLog(t, h, "connected", "sent 11", "recv abc", "recv def")
	if !c.Reads || pool.Live() != 0 {
		t.Errorf("reads %t, %d buffers", c.Reads, pool.Live())
	}
}

// PauseRecv inside OnRecv: it was the last one.
func TestPauseRecvInCallback(t *testing.T) {
	h := &testkit.Handler{Recv: func(h *testkit.Handler, _ []byte) { h.PauseRecv() }}
	l, c := connect(t, session.Limits{}, h)
	c.Chunk = 2
	c.PeerWrite([]byte("aabbcc"))
	l.Run()
	wantLog(t, h, "connected", "recv aa")
	h.PauseRecv() // twice is once
	h.ResumeRecv()
	l.Run()
	wantLog(t, h, "connected", "recv aa", "recv bb")
	h.ResumeRecv()
	h.ResumeRecv()
	l.Run()
	wantLog(t, h, "connected", "recv aa", "recv bb", "recv cc")
}

// A pause and a resume between two turns leave the reading alone.
func TestPauseAndResumeAtOnce(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{}, h)
	h.PauseRecv()
	h.ResumeRecv()
	l.Run()
	if len(c.Switched) != 0 || c.Wakes() != 1 {
		t.Errorf("switched %v, woken %d times", c.Switched, c.Wakes())
	}
}

// S7: a paused session with no input left notices the peer's reset at once.
func TestPausedSessionNoticesReset(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{}, h)
	h.PauseRecv()
	l.Run()
	c.PeerReset(errors.New("reset"))
	l.Run()
	wantLog(t, h, "connected", "disconnected")
	wantClosed(t, c, false)
}

// S7, E2: the FIN behind kept input is acted on after that input.
func TestFINBehindKeptInput(t *testing.T) {
	h := &testkit.Handler{Recv: func(h *testkit.Handler, _ []byte) { mustSend(t, h, "answer") }}
	l, c := connect(t, session.Limits{}, h)
	c.PeerWrite([]byte("question"))
	h.PauseRecv()
	c.Serve(testkit.Input)
	c.PeerFIN()
	l.Run()
	if c.Wants() != 0 || h.Err() != nil {
		t.Fatalf("wants %b, Err %v", c.Wants(), h.Err())
	}
	mustSend(t, h, "before ")
	l.Run()
	h.ResumeRecv()
	l.Run()
	wantLog(t, h, "connected", "sent 7", "recv question", "sent 6", "disconnected")
	wantWire(t, c, "before answer")
	wantClosed(t, c, false)
}

// A FIN that came in behind kept input is not forgotten when the session is disconnected before: nobody will
// tell of it again.
func TestDisconnectWithFINBehindKeptInput(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{}, h) // lingers for ever
	c.PeerWrite([]byte("question"))
	h.PauseRecv()
	c.Serve(testkit.Input)
	c.PeerFIN()
	l.Run()
	h.Disconnect()
	l.Run()
	wantLog(t, h, "connected", "disconnected")
	wantClosed(t, c, false)
}

// E2: after the peer's FIN what is queued is sent, and more may be sent until the queue is empty.
func TestFINWithQueue(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{}, h)
	c.Kernel = 4
	mustSend(t, h, "12345678")
	l.Run()
	c.PeerFIN()
	l.Run()
	if c.Closed || !errors.Is(h.Err(), session.ErrPeerClosed) {
		t.Fatalf("closed %t, Err %v", c.Closed, h.Err())
	}
	mustSend(t, h, "9")
	c.PeerRead(4)
	h.Sent = func(h *testkit.Handler, _ int) {
		if h.Pending() == 0 {
			h.Sent = nil
			mustSend(t, h, "last") // the queue is empty, but nobody has decided yet
		}
	}
	for l.Run(); c.Held() > 0; l.Run() {
		if c.Closed {
			t.Fatalf("closed with %d bytes on their way", c.Held())
		}
		c.PeerRead(4)
	}
	l.Advance(time.Second) // until it is seen that the peer has all of it
	wantWire(t, c, "123456789last")
	wantClosed(t, c, false)
	wantSent(t, h, 13, 13)
}

// Posted functions run once, in order, outside of callbacks, before OnDisconnected.
func TestPost(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{}, h)
	post := func(name string, f func()) {
		t.Helper()
		if err := h.Post(h.Posted(name, f)); err != nil {
			t.Errorf("Post: %v", err)
		}
	}
	post("1", func() { post("3", nil) })
	post("2", nil)
	if c.Wakes() != 1 {
		t.Errorf("%d wakes", c.Wakes())
	}
	l.Run()
	wantLog(t, h, "connected", "post 1", "post 2", "post 3")

	h.Log = nil
	h.Recv = func(h *testkit.Handler, _ []byte) {
		post("recv", func() { mustSend(t, h, "x") })
	}
	h.Sent = func(h *testkit.Handler, _ int) {
		h.Sent = nil
		post("sent", nil)
	}
	h.Disconnected = func(h *testkit.Handler) {
		if err := h.Post(func() { t.Error("ran after the end") }); !errors.Is(err, session.ErrClosed) {
			t.Errorf("Post in OnDisconnected: %v", err)
		}
	}
	c.PeerWrite([]byte("a"))
	l.Run()
	wantLog(t, h, "recv a", "post recv", "sent 1", "post sent")

	h.Log = nil
	want := []string{"post before the end", "post behind Abort", "disconnected"}
	post("before the end", func() {
		if h.Post(h.Posted("later", nil)) == nil { // allowed to accept, but then it runs
			want = slices.Insert(want, 2, "post later")
		}
	})
	h.Abort()
	post("behind Abort", func() {
		if err := h.Send([]byte("x")); !errors.Is(err, session.ErrClosed) {
			t.Errorf("Send behind Abort: %v", err)
		}
	})
	l.Run()
	wantClosed(t, c, true)
	wantLog(t, h, want...)
	if err := h.Post(func() { t.Error("ran after the end") }); !errors.Is(err, session.ErrClosed) {
		t.Errorf("Post after the end: %v", err)
	}
	l.Run()
}

// A Post in each callback is not forgotten, also when nothing else happens to the session.
func TestPostInEachCallback(t *testing.T) {
	post := func(h *testkit.Handler) {
		if err := h.Post(h.Posted("f", nil)); err != nil {
			t.Errorf("Post: %v", err)
		}
	}
	h := &testkit.Handler{
		Connected: post,
		Recv:      func(h *testkit.Handler, _ []byte) { post(h) },
		Sent:      func(h *testkit.Handler, _ int) { post(h) },
	}
	l, c := connect(t, session.Limits{}, h)
	l.Run()
	wantLog(t, h, "connected", "post f")
	c.PeerWrite([]byte("x"))
	l.Run()
	wantLog(t, h, "connected", "post f", "recv x", "post f")
	mustSend(t, h, "y")
	l.Run()
	wantLog(t, h, "connected", "post f", "recv x", "post f", "sent 1", "post f")
}

func TestPostOfNilPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	_ = new(session.Session).Post(nil)
}

// A connection that cannot be stopped or finished is broken.
func TestTransportTrouble(t *testing.T) {
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

// News that come late or twice do no harm.
func TestStaleNews(t *testing.T) {
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
