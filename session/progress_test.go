package session_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

// E2b: a draining peer that takes 240 B/s or more is waited for; one that takes less, or nothing, is not. What it takes of the kernel's
// buffer counts as what it takes of the queue.
func TestDrainFollowsThePeer(t *testing.T) {
	const drain = 10 * time.Second
	for name, tt := range map[string]struct {
		kernel, queued int
		every          time.Duration // it takes `bytes` so often
		bytes          int
		ends           time.Duration // after the end began, 0: when it has everything
	}{
		"nothing":                     {kernel: 1000, queued: 100_000, every: time.Hour, ends: drain},
		"nothing, all in the kernel":  {kernel: 1 << 20, queued: 100_000, every: time.Hour, ends: drain},
		"1 KiB/s":                     {kernel: 1000, queued: 1 << 20, every: time.Second, bytes: 1000},
		"1 KiB/s, all in the kernel":  {kernel: 2 << 20, queued: 1 << 20, every: time.Second, bytes: 1024},
		"240 B/s":                     {kernel: 1000, queued: 100_000, every: time.Second, bytes: 240},
		"120 B/s lives twice as long": {kernel: 1 << 20, queued: 100_000, every: time.Second, bytes: 120, ends: 2*drain - time.Second},
		"much, then nothing":          {kernel: 1 << 20, queued: 1 << 20, every: 9 * time.Second, bytes: 1 << 19, ends: 19 * time.Second},
		"a burst does not save time for much later":  {kernel: 1 << 20, queued: 1 << 20, every: 25 * time.Second, bytes: 1 << 20, ends: drain},
		"bytes one by one are next to nothing":       {kernel: 10, queued: 1000, every: time.Second, bytes: 1, ends: 10*time.Second + 42*time.Millisecond},
		"a little more than the deadline in a burst": {kernel: 1 << 20, queued: 1 << 20, every: 9900 * time.Millisecond, bytes: 300_000},
	} {
		for how, end := range map[string]func(h *testkit.Handler, c *testkit.Conn){
			"Disconnect": func(h *testkit.Handler, _ *testkit.Conn) { h.Disconnect() },
			"peer's FIN": func(_ *testkit.Handler, c *testkit.Conn) { c.PeerFIN() },
			"Shutdown":   func(_ *testkit.Handler, c *testkit.Conn) { c.Driver.End(session.ErrShutdown) },
			"CloseWrite and the peer's FIN": func(h *testkit.Handler, c *testkit.Conn) {
				h.CloseWrite()
				c.PeerFIN()
			},
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				h := &testkit.Handler{Quiet: true}
				l, c := connect(t, session.Limits{Drain: drain, Linger: time.Second, Write: time.Hour}, h)
				c.Kernel = tt.kernel
				mustSend(t, h, strings.Repeat("x", tt.queued))
				end(h, c)
				l.Run()
				once := strings.HasPrefix(name, "much")
				var at time.Duration
				for step := 10 * time.Millisecond; !c.Closed && at < 3*time.Hour; at += step {
					l.Advance(step)
					if tt.bytes > 0 && (at+step)%tt.every == 0 && !(once && at > tt.every) {
						c.PeerRead(tt.bytes)
						l.Run()
					}
				}
				if tt.ends == 0 {
					wantClosed(t, c, false)
					if c.Took != tt.queued || c.Unacked > 0 || errors.Is(h.Err(), session.ErrDrainTimeout) {
						t.Errorf("the kernel took %d of %d, %d were on their way; Err %v", c.Took, tt.queued, c.Unacked, h.Err())
					}
					return
				}
				wantClosed(t, c, true)
				if most := tt.ends + drain/32 + 20*time.Millisecond; at < tt.ends || at > most {
					t.Errorf("ended after %v, want %v to %v", at, tt.ends, most)
				}
				if !errors.Is(h.Err(), session.ErrDrainTimeout) {
					t.Errorf("Err %v", h.Err())
				}
				if n := l.Shared.Counters.BytesUnacked.Load(); n != uint64(max(c.Unacked-finned(c), 0)) || n == 0 {
					t.Errorf("%d bytes are counted as not acknowledged, the kernel held %d", n, c.Unacked)
				}
			})
		}
	}
}

// finned returns 1 if our FIN was sent, which the kernel counts as a byte.
func finned(c *testkit.Conn) int {
	if c.FINSent {
		return 1
	}
	return 0
}

// E1: the linger begins when the peer has acknowledged everything. What the peer sends meanwhile changes nothing.
func TestLingerBeginsWhenAllIsAcknowledged(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{Drain: 10 * time.Second, Linger: 2 * time.Second}, h)
	c.Kernel = 1 << 20
	mustSend(t, h, strings.Repeat("x", 100_000))
	h.Disconnect()
	for range 100 { // 100 s, at 1,000 B/s
		l.Advance(time.Second)
		c.PeerWrite([]byte("talk"))
		c.PeerRead(1000)
		l.Run()
		if c.Closed {
			t.Fatalf("closed with %d bytes on their way; Err %v", c.Unacked, h.Err())
		}
	}
	l.Advance(313 * time.Millisecond) // it is seen
	for range 19 {
		l.Advance(100 * time.Millisecond)
		c.PeerWrite([]byte("talk"))
		l.Run()
	}
	if c.Closed {
		t.Fatal("closed before the linger was over")
	}
	l.Advance(100 * time.Millisecond)
	wantClosed(t, c, false)
	if h.Err() != session.ErrDisconnected || len(h.Received) > 0 {
		t.Errorf("Err %v, OnRecv got %q", h.Err(), h.Received)
	}
}

// E1: a draining peer that only talks is bounded by DrainTimeout.
func TestDrainOfAPeerThatOnlyTalksIsBounded(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{Drain: 10 * time.Second, Linger: 2 * time.Second}, h)
	c.Kernel = 1 << 20
	mustSend(t, h, "unread")
	h.Disconnect()
	for range 99 {
		l.Advance(100 * time.Millisecond)
		c.PeerWrite([]byte("talk"))
		l.Run()
	}
	if c.Closed {
		t.Fatal("closed early")
	}
	l.Advance(100 * time.Millisecond)
	wantClosed(t, c, true)
	if !errors.Is(h.Err(), session.ErrDrainTimeout) || !errors.Is(h.Err(), session.ErrDisconnected) {
		t.Errorf("Err %v", h.Err())
	}
}

// S6: a kernel that takes nothing because the peer takes little is no stall, as long as that is 240 B/s.
func TestStallFollowsThePeer(t *testing.T) {
	for rate, stalls := range map[int]bool{0: true, 100: true, 240: false, 1000: false} {
		t.Run(fmt.Sprintf("%d B/s", rate), func(t *testing.T) {
			h := &testkit.Handler{Quiet: true}
			l, c := connect(t, session.Limits{Write: 10 * time.Second}, h)
			held := 200_000
			c.UnsentFunc = func() int { return held }
			c.Plan = func(int) (int, error) { return 0, session.ErrWouldBlock } // it wants a third of its buffer free before it takes more
			mustSend(t, h, "x")
			l.Run()
			for range 100 {
				l.Advance(time.Second)
				held -= rate
			}
			if c.Closed != stalls || errors.Is(h.Err(), session.ErrWriteStall) != stalls {
				t.Errorf("closed %t, Err %v", c.Closed, h.Err())
			}
		})
	}
}

// E2d: a half-closed session that is not fed ends after HalfClose; what is sent to it, and what its peer takes, puts that off.
func TestHalfCloseTimeoutEndsTheSession(t *testing.T) {
	l, h, c := halfOpen(t, session.Limits{HalfClose: time.Minute, Idle: time.Second, Drain: time.Second})
	c.PeerFIN()
	l.Run()
	for range 10 {
		l.Advance(59 * time.Second)
		mustSend(t, &h.Handler, "fed")
		l.Run()
	}
	c.Kernel = 1000
	mustSend(t, &h.Handler, strings.Repeat("x", 500))
	for range 10 {
		l.Advance(59 * time.Second)
		c.PeerRead(10)
		if c.Closed {
			t.Fatalf("closed while the peer takes what the kernel has: %v", h.Err())
		}
	}
	c.PeerRead(500)
	l.Advance(time.Minute - 1)
	if h.Err() != nil {
		t.Fatalf("early: %v", h.Err())
	}
	l.Advance(2 * time.Minute) // what the peer took is seen at the first deadline, and counts from there
	wantClosed(t, c, false)
	if !errors.Is(h.Err(), session.ErrIdle) || !strings.Contains(h.Err().Error(), "half-closed") {
		t.Errorf("Err %v", h.Err())
	}
	if !bytes.HasSuffix(c.Wire, []byte("x")) {
		t.Errorf("the wire ends in %q", c.Wire[len(c.Wire)-3:])
	}
}

// E2c: after a failed write Send fails, the queue is lost, and what was received is delivered, kept input first.
func TestFailedWriteDeliversWhatWasReceived(t *testing.T) {
	broken := errors.New("broken pipe")
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{PauseAbove: 1, Linger: time.Second}, h)
	h.Recv = func(h *testkit.Handler, _ []byte) {
		if err := h.Send([]byte("answer")); h.Err() != nil && !errors.Is(err, session.ErrClosed) {
			t.Errorf("Send after the failure: %v", err)
		}
	}
	c.Kernel = 1
	c.PeerWrite([]byte("one"))
	c.Serve(testkit.Input) // the answer waits, and the session is not read
	c.PeerWrite([]byte("two"))
	c.Chunk = 2
	c.PeerRead(1)
	c.Plan = func(int) (int, error) { return 0, broken }
	l.Run()
	wantLog(t, h, "connected", "recv one", "sent 1", "recv tw", "recv o", "disconnected")
	wantClosed(t, c, false)
	if !errors.Is(h.Err(), broken) || !errors.Is(h.Err(), session.ErrPeerReset) || strings.Contains(h.Err().Error(), "then") {
		t.Errorf("Err %v", h.Err())
	}
	if n := l.Shared.Counters.BytesDropped.Load(); n != 5 {
		t.Errorf("%d bytes dropped, want 5", n)
	}
}

// E2c: only what was received before counts: a peer that cannot be written to and says more does not hold the session.
func TestFailedWriteEndsWithWhatWasReceived(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{}, h)
	c.PeerWrite([]byte("before"))
	c.Plan = func(int) (int, error) { return 0, errors.New("broken pipe") }
	c.Chunk = 6
	mustSend(t, h, "x")
	c.Serve(testkit.Turn)
	c.PeerWrite([]byte("after"))
	l.Run()
	wantLog(t, h, "connected", "recv before", "disconnected")
	wantClosed(t, c, false)
}

// E2c: a shutdown(2) that fails is a write that fails.
func TestFailedFINDeliversWhatWasReceived(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{}, h)
	c.Trouble = errors.New("not connected")
	c.PeerWrite([]byte("before"))
	h.CloseWrite()
	c.Serve(testkit.Turn)
	if c.Closed {
		t.Fatal("closed with input unread")
	}
	l.Run()
	wantLog(t, h, "connected", "recv before", "disconnected")
	if !errors.Is(h.Err(), session.ErrPeerReset) || !errors.Is(h.Err(), c.Trouble) {
		t.Errorf("Err %v", h.Err())
	}
}

// E2c: what the application decides stands: after Disconnect nothing is delivered, and a failed connection is closed at once.
func TestDisconnectAfterAFailedWrite(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{Linger: time.Hour, Drain: time.Hour}, h)
	c.Plan = func(int) (int, error) { return 0, errors.New("broken pipe") }
	c.PeerWrite([]byte("before"))
	mustSend(t, h, "x")
	c.Serve(testkit.Turn)
	h.Disconnect()
	l.Run()
	wantLog(t, h, "connected", "disconnected")
	wantClosed(t, c, false)
	if errors.Is(h.Err(), session.ErrDisconnected) {
		t.Errorf("Err %v, want the first reason alone", h.Err())
	}
}

// S7: a session that is paused by hand keeps what was received for LingerTimeout after its connection has failed, not longer.
func TestFailedConnectionOfAPausedSession(t *testing.T) {
	for _, resumes := range []bool{true, false} {
		h := &testkit.Handler{}
		l, c := connect(t, session.Limits{Linger: 2 * time.Second, Drain: time.Hour}, h)
		h.PauseRecv()
		c.PeerWrite([]byte("kept"))
		c.Serve(testkit.Input)
		c.PeerWrite([]byte(" and unread"))
		c.PeerReset(errors.New("reset"))
		l.Advance(2*time.Second - 1)
		if err := h.Send([]byte("x")); !errors.Is(err, session.ErrClosed) || !errors.Is(h.Err(), session.ErrPeerReset) || c.Closed {
			t.Fatalf("Send: %v, Err %v, closed %t", err, h.Err(), c.Closed)
		}
		if resumes {
			h.ResumeRecv()
			l.Run()
			wantLog(t, h, "connected", "recv kept", "recv  and unread", "disconnected")
			continue
		}
		l.Advance(1)
		wantLog(t, h, "connected", "disconnected")
		wantClosed(t, c, false)
	}
}

// E2c: a deadline that is over when the write that it tries fails takes nothing from what was received.
func TestFailedWriteAtADeadline(t *testing.T) {
	for name, limits := range map[string]session.Limits{
		"soft limit":   {SoftLimit: 4, SoftFor: time.Second},
		"WriteTimeout": {Write: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			h := &testkit.Handler{}
			l, c := connect(t, limits, h)
			c.Kernel = 1
			mustSend(t, h, "1234567890")
			l.Run()
			c.PeerWrite([]byte("before"))
			l.Skip(time.Second)
			c.Plan = func(int) (int, error) { return 0, errors.New("broken pipe") }
			c.Serve(testkit.Expire)
			l.Run()
			wantLog(t, h, "connected", "sent 1", "recv before", "disconnected")
			if !errors.Is(h.Err(), session.ErrPeerReset) {
				t.Errorf("Err %v", h.Err())
			}
		})
	}
}
