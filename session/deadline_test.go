package session_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

// S6: a write that makes no progress for WriteTimeout ends the session with a reset; progress starts it anew.
func TestWriteStallResets(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{Write: 10 * time.Second}, h)
	c.Kernel = 4
	l.Advance(time.Hour) // idle is not stalled
	mustSend(t, h, "1234567890")
	l.Run()
	for range 3 {
		l.Advance(9 * time.Second)
		c.PeerRead(1)
		l.Run()
	}
	if c.Closed {
		t.Fatalf("closed in spite of progress: %v", h.Err())
	}
	l.Advance(10*time.Second - 1)
	if c.Closed {
		t.Fatal("closed early")
	}
	l.Advance(1)
	wantClosed(t, c, true)
	if !errors.Is(h.Err(), session.ErrWriteStall) || !errors.Is(h.Err(), os.ErrDeadlineExceeded) {
		t.Errorf("Err: %v", h.Err())
	}
	wantWire(t, c, "1234567")
	wantSent(t, h, 7, 7)
}

// A loop that was held up does not take its own delay for the peer's.
func TestNoStallWhenTheLoopWasLate(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{Write: 10 * time.Second}, h)
	c.Kernel = 4
	mustSend(t, h, "12345678")
	l.Run()
	l.Skip(time.Minute)
	c.PeerRead(4)
	c.Serve(testkit.Expire) // before the news that there is room
	l.Run()
	wantWire(t, c, "12345678")
	wantLog(t, h, "connected", "sent 4", "sent 4")
	if h.Err() != nil {
		t.Errorf("Err: %v", h.Err())
	}
}

// A draining session stalls as well.
func TestWriteStallWhileDraining(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{Write: time.Second, Drain: 10 * time.Second}, h)
	c.Kernel = 1
	mustSend(t, h, "12")
	h.Disconnect()
	l.Advance(time.Second)
	wantClosed(t, c, true)
	if !errors.Is(h.Err(), session.ErrDisconnected) || !errors.Is(h.Err(), session.ErrWriteStall) {
		t.Errorf("Err: %v", h.Err())
	}
}

// A kernel short of memory is asked again soon. If it stays so, that is a write stall.
func TestKernelShortOfMemoryIsAskedAgain(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{Write: time.Second}, h)
	attempts := 0
	c.Plan = func(offered int) (int, error) {
		if attempts++; attempts < 5 {
			return 0, session.ErrNoMemory
		}
		return offered, nil
	}
	mustSend(t, h, "x")
	l.Advance(100 * time.Millisecond)
	wantWire(t, c, "x")
	if attempts != 5 {
		t.Errorf("%d attempts", attempts)
	}

	attempts = -1 << 30
	mustSend(t, h, "y")
	l.Advance(time.Second)
	wantClosed(t, c, true)
	if !errors.Is(h.Err(), session.ErrWriteStall) {
		t.Errorf("Err: %v", h.Err())
	}
	if n := attempts + 1<<30; n < 10 || n > 200 {
		t.Errorf("%d attempts in a second", n)
	}
}

// T4: a peer that sends nothing for IdleTimeout is idle. Only received bytes count.
func TestSilentPeerIsIdle(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{Idle: time.Minute, Linger: time.Second}, h)
	c.PeerWrite([]byte("x"))
	l.Advance(59 * time.Second)
	c.PeerWrite([]byte("y"))
	l.Advance(59 * time.Second)
	if h.Err() != nil {
		t.Fatalf("Err: %v", h.Err())
	}
	c.UnsentFunc = func() int { return 0 }
	mustSend(t, h, "what we send does not count")
	l.Advance(time.Second)
	if !errors.Is(h.Err(), session.ErrIdle) || !errors.Is(h.Err(), os.ErrDeadlineExceeded) {
		t.Fatalf("Err: %v", h.Err())
	}
	if !c.FINSent {
		t.Error("no FIN: an idle session ends in order")
	}
	l.Advance(time.Second)
	wantClosed(t, c, false)
}

// T4: a peer that sends no byte within FirstByteTimeout is idle. After the first byte only IdleTimeout counts.
func TestFirstByteTimeoutEndsASilentSession(t *testing.T) {
	for _, idle := range []time.Duration{0, time.Minute} {
		limits := session.Limits{FirstByte: 5 * time.Second, Idle: idle, Linger: time.Second}
		mute, late := &testkit.Handler{}, &testkit.Handler{}
		l := newLoop(t, limits)
		l.Advance(time.Hour)
		mc, lc := l.Connect(mute), l.Connect(late)
		l.Advance(4 * time.Second)
		lc.PeerWrite([]byte("x"))
		l.Advance(time.Second)
		if !errors.Is(mute.Err(), session.ErrIdle) || !strings.Contains(mute.Err().Error(), "not one byte") {
			t.Errorf("Err: %v", mute.Err())
		}
		l.Advance(58 * time.Second)
		wantClosed(t, mc, false)
		if late.Err() != nil {
			t.Errorf("Err: %v", late.Err())
		}
		l.Advance(time.Second)
		if (late.Err() != nil) != (idle > 0) || lc.FINSent != (idle > 0) {
			t.Errorf("idle %v: Err %v", idle, late.Err())
		}
	}
}

// An IdleTimeout below FirstByteTimeout counts alone.
func TestIdleBelowFirstByte(t *testing.T) {
	h := &testkit.Handler{}
	l, _ := connect(t, session.Limits{FirstByte: time.Minute, Idle: time.Second}, h)
	l.Advance(time.Second)
	if !errors.Is(h.Err(), session.ErrIdle) {
		t.Errorf("Err: %v", h.Err())
	}
}

// T4: bytes that wait unread (the process was stopped) are not silence.
func TestUnreadInputIsNotIdle(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{Idle: time.Minute}, h)
	l.Skip(time.Hour)
	c.PeerWrite([]byte("x"))
	c.Serve(testkit.Expire)
	l.Run()
	wantLog(t, h, "connected", "recv x")
	if h.Err() != nil {
		t.Errorf("Err: %v", h.Err())
	}
	l.Advance(time.Minute)
	if !errors.Is(h.Err(), session.ErrIdle) {
		t.Errorf("then: Err %v", h.Err())
	}
}

// T4: a peer that slowly but steadily takes a large reply is not idle, wherever the reply waits.
func TestSlowReaderIsNotIdle(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{Idle: time.Minute}, h)
	c.Kernel = 50
	mustSend(t, h, strings.Repeat("x", 100))
	for range 100 {
		l.Advance(40 * time.Second)
		if h.Err() != nil {
			t.Fatalf("Err %v with %d bytes queued, %d in the kernel", h.Err(), h.Pending(), c.Held())
		}
		c.PeerRead(1)
	}
	l.Advance(3 * time.Minute)
	if !errors.Is(h.Err(), session.ErrIdle) {
		t.Errorf("then: Err %v", h.Err())
	}
}

// T4: a peer that takes nothing any more of what the kernel holds is idle.
func TestUnmovedKernelBufferIsIdle(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{Idle: time.Minute}, h)
	c.Kernel = 100
	mustSend(t, h, "never read")
	l.Advance(3 * time.Minute)
	if !errors.Is(h.Err(), session.ErrIdle) || c.Held() != 10 {
		t.Errorf("Err %v with %d bytes in the kernel", h.Err(), c.Held())
	}
}

// A session that is not read, by hand or for PauseAbove, is not idle.
func TestPausedSessionIsNotIdle(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{Idle: time.Minute, FirstByte: time.Second, PauseAbove: 10}, h)
	h.PauseRecv()
	l.Advance(time.Hour)
	c.PeerWrite([]byte("x"))
	h.ResumeRecv()
	l.Run()
	c.Kernel = 1
	mustSend(t, h, strings.Repeat("x", 20))
	l.Advance(time.Hour)
	if h.Err() != nil || string(h.Received) != "x" {
		t.Errorf("Err %v, received %q", h.Err(), h.Received)
	}
}

// Deadlines that are off never pass, and cost nothing.
func TestDeadlinesOff(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{Idle: -1, FirstByte: -1, Write: -1, Drain: -1, Linger: -1}, h)
	c.Kernel = 1
	mustSend(t, h, "12")
	l.Advance(1000 * time.Hour)
	h.Disconnect()
	l.Advance(1000 * time.Hour)
	if c.Closed || c.Armed != 0 {
		t.Errorf("closed %t, armed %v", c.Closed, c.Armed)
	}
}

// Deadlines hold on a loop with its own goroutine and the clock of package time too.
func TestDeadlinesInRealTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := testkit.NewLoop(session.Limits{Idle: time.Minute, Linger: 2 * time.Second, Write: 10 * time.Second})
		l.Start()
		began := time.Now()
		ended := make(chan *testkit.Handler, 2)
		end := func(h *testkit.Handler) { ended <- h }
		silent, stalled := &testkit.Handler{Disconnected: end}, &testkit.Handler{Disconnected: end}
		l.Do(func() {
			l.Connect(silent)
			l.Connect(stalled).Kernel = 1
		})
		mustSend(t, stalled, "12")
		if h := <-ended; h != stalled || !errors.Is(h.Err(), session.ErrWriteStall) {
			t.Errorf("the first end: %v", h.Err())
		}
		if d := time.Since(began); d != 10*time.Second {
			t.Errorf("after %v", d)
		}
		if h := <-ended; h != silent || !errors.Is(h.Err(), session.ErrIdle) {
			t.Errorf("the second end: %v", h.Err())
		}
		if d := time.Since(began); d != 62*time.Second {
			t.Errorf("after %v", d)
		}
		l.Stop()
		if f := l.Faults(); f != nil || len(l.Live()) != 0 {
			t.Errorf("%d sessions live, %q", len(l.Live()), f)
		}
	})
}
