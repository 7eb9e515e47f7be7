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

// OnRecv gets the peer's bytes in order. The loop may reuse the memory when OnRecv has returned.
func TestOnRecvBringsBytesInOrder(t *testing.T) {
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
func TestPauseAboveStopsReading(t *testing.T) {
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

// After PauseRecv inside OnRecv, OnRecv is not called again.
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

// A pause and a resume between two turns do not touch the connection.
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
func TestFINFollowsKeptInput(t *testing.T) {
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

// A FIN that came in behind kept input is not forgotten when the session is disconnected before: it will not be told again.
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
func TestQueueIsSentAfterThePeersFIN(t *testing.T) {
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
			mustSend(t, h, "last") // the queue is empty, but the end is not decided yet
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
