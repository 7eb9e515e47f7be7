package session_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

// A queue that is above the soft limit for SoftFor without a break ends the session, whatever leaves meanwhile. At or below the limit the
// time is forgotten.
func TestSoftLimitEndsTheSession(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{SoftLimit: 4, SoftFor: 3 * time.Second}, h)
	c.Kernel = 1
	mustSend(t, h, "12345") // 4 wait: at the limit
	l.Advance(time.Hour)
	mustSend(t, h, "6") // to a session that is blocked
	l.Advance(2 * time.Second)
	c.PeerRead(1)
	l.Run() // 4 wait
	mustSend(t, h, "7")
	l.Advance(3*time.Second - 1)
	if h.Err() != nil {
		t.Fatalf("ended early: %v", h.Err())
	}
	mustSend(t, h, "8")
	c.PeerRead(1) // one leaves, but it stays above
	l.Advance(1)
	wantClosed(t, c, true)
	if err := h.Err(); !errors.Is(err, session.ErrSendLimit) || !strings.Contains(err.Error(), "soft limit") {
		t.Errorf("Err: %v", err)
	}
	if n := l.Shared.Counters.Ended[session.CauseSendLimit].Load(); n != 1 {
		t.Errorf("%d counted", n)
	}
}

// A break counts also if a callback sends again at once.
func TestSoftLimitForgetsWhatOnSendFillsAgain(t *testing.T) {
	h := &testkit.Handler{Quiet: true}
	h.Sent = func(h *testkit.Handler, _ int) {
		if h.Pending() == 2 {
			mustSend(t, h, "abcd")
		}
	}
	l, c := connect(t, session.Limits{SoftLimit: 4, SoftFor: 3 * time.Second}, h)
	c.Kernel = 4
	mustSend(t, h, "1234567890")
	for range 5 {
		l.Advance(2 * time.Second)
		c.PeerRead(4)
		l.Run()
	}
	if h.Err() != nil {
		t.Errorf("ended in spite of breaks: %v", h.Err())
	}
}

// A loop that was held up does not take its own delay for the peer's.
func TestSoftLimitWhenTheLoopWasLate(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{SoftLimit: 4, SoftFor: time.Second}, h)
	c.Kernel = 4
	mustSend(t, h, "1234567890")
	l.Run()
	l.Skip(time.Minute)
	c.PeerRead(4)
	c.Serve(testkit.Expire) // before the news that there is room
	l.Run()
	if h.Err() != nil || h.Pending() != 2 {
		t.Errorf("%d wait, Err %v", h.Pending(), h.Err())
	}
}

// OnWritable comes in turns, with hysteresis, and what it sends leaves when it returns.
func TestOnWritableComesInTurns(t *testing.T) {
	h := &testkit.Handler{Writable: func(h *testkit.Handler, writable bool) {
		if writable {
			mustSend(t, h, "x")
		}
	}}
	l, c := connect(t, session.Limits{HighWater: 4, LowWater: 2}, h)
	c.Kernel = 1
	mustSend(t, h, "1234")
	l.Run()
	mustSend(t, h, "5") // 4 wait
	wantLog(t, h, "connected", "sent 1")
	wakes := c.Wakes()
	mustSend(t, h, "6") // to a session that is blocked
	mustSend(t, h, "7")
	if c.Wakes() != wakes+1 {
		t.Errorf("%d wake-ups for the mark that was passed", c.Wakes()-wakes)
	}
	l.Run()
	wantLog(t, h, "connected", "sent 1", "writable false")
	for range 4 { // 2 wait
		c.PeerRead(1)
		l.Run()
	}
	mustSend(t, h, "8")
	l.Run()
	h.Log = nil
	c.PeerRead(1)
	l.Run()
	c.PeerRead(1)
	l.Run()
	wantLog(t, h, "sent 1", "sent 1", "writable true")
	if c.Wants() != 0 || h.Pending() != 2 {
		t.Errorf("%d wait, wants %b", h.Pending(), c.Wants())
	}
	c.Kernel = 0
	c.PeerRead(1)
	l.Run()
	wantWire(t, c, "12345678x")
}

// A queue that the kernel takes at once has passed the mark all the same: an application that stopped is told to go on.
func TestWaterMarkPassedInACallback(t *testing.T) {
	h := &testkit.Handler{Recv: func(h *testkit.Handler, _ []byte) { mustSend(t, h, "12345") }}
	l, c := connect(t, session.Limits{HighWater: 4, LowWater: 2}, h)
	for range 2 {
		h.Log = nil
		c.PeerWrite([]byte("a"))
		l.Run()
		wantLog(t, h, "recv a", "sent 5", "writable false", "writable true")
	}
}

// OnWritable is not called any more when Send no longer accepts.
func TestOnWritableIsNotCalledAfterTheEnd(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(h *testkit.Handler)
		room int
		want []string
	}{
		{"Disconnect", func(h *testkit.Handler) { h.Disconnect() }, 4, []string{"sent 4"}},
		{"Abort", func(h *testkit.Handler) { h.Abort() }, 4, []string{"disconnected"}},
		{"FIN, and bytes wait", func(*testkit.Handler) {}, 4, []string{"sent 4", "writable true"}},
		{"FIN, and none waits", func(*testkit.Handler) {}, 5, []string{"sent 5", "disconnected"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := &testkit.Handler{}
			l, c := connect(t, session.Limits{HighWater: 4, LowWater: 2}, h)
			c.Kernel = 1
			mustSend(t, h, "123456")
			l.Run()
			c.PeerFIN()
			l.Run()
			h.Log = nil
			test.end(h)
			c.Kernel = test.room
			c.UnsentFunc = func() int { return 0 } // the peer has it, and the session ends when nothing waits
			c.PeerRead(1)
			l.Run()
			wantLog(t, h, test.want...)
		})
	}
}

// A panic in OnWritable ends the session, and the log names the callback.
func TestOnWritableThatPanicsEndsTheSession(t *testing.T) {
	h := &testkit.Handler{Writable: func(*testkit.Handler, bool) { panic("simulated") }}
	l, c := connect(t, session.Limits{HighWater: 4, LowWater: 2}, h)
	mustSend(t, h, "12345")
	l.Run()
	wantClosed(t, c, true)
	if !errors.Is(h.Err(), session.ErrPanic) || len(c.Failures) != 1 || c.Failures[0] != "OnWritable" {
		t.Errorf("Err %v, failures %q", h.Err(), c.Failures)
	}
}

// With a framer the marks count what travels, as SendLimit does, if that is more than the payload.
func TestWaterMarksOfPackets(t *testing.T) {
	h := &testkit.Handler{Framed: true}
	l, c := connectFramed(t, session.Limits{HighWater: 7, LowWater: 1}, frame.ServerCore{}, h)
	c.Kernel = 1
	mustSend(t, h, "123456") // 8 bytes
	l.Run()
	wantLog(t, h, "connected", "writable false")
}

// A producer that stops when it finds Pending above HighWater, and goes on when OnWritable says so, never stands still: not when the
// kernel has taken a part of a packet, all of whose payload is pending, nor when one packet is above the mark by itself.
func TestProducerOfPacketsThatFollowsPending(t *testing.T) {
	const high, total = 20, 400
	for size := 1; size <= 2*high; size++ {
		for room := 1; room <= 2*high; room++ {
			h, sent := &testkit.Handler{Framed: true}, 0
			fill := func() {
				for sent < total && h.Pending() <= high {
					n := min(size, total-sent)
					mustSend(t, h, strings.Repeat("x", n))
					sent += n
				}
			}
			h.Writable = func(_ *testkit.Handler, writable bool) {
				if writable {
					fill()
				}
			}
			l, c := connectFramed(t, session.Limits{HighWater: high, LowWater: high / 2}, frame.ServerCore{}, h)
			c.Kernel = room
			fill()
			for l.Run(); h.Pending() > 0; l.Run() {
				c.PeerRead(room)
			}
			if sent != total {
				t.Errorf("packets of %d bytes, of which the kernel takes %d at a time: it stands still after %d of %d", size, room, sent, total)
			}
		}
	}
}

// Events with OnWritable get it, and no others.
func TestEventsOnWritable(t *testing.T) {
	var told []bool
	e := session.Events{OnWritable: func(s *session.Session, writable bool) {
		told = append(told, writable)
	}}
	l := newLoop(t, session.Limits{HighWater: 4, LowWater: 2})
	h := e.Factory()()
	c := l.Connect(h)
	if err := c.Session().Send([]byte("12345")); err != nil {
		t.Fatal(err)
	}
	l.Run()
	if len(told) != 2 || told[0] || !told[1] {
		t.Errorf("told %v", told)
	}
	e.OnWritable = nil
	if _, is := e.Factory()().(session.Writability); is {
		t.Error("events without OnWritable are told")
	}
}
