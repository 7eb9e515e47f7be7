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

func connectRated(t testing.TB, limits session.Limits, r session.Rate, f *session.Framing, h *testkit.Handler) (*testkit.Loop, *testkit.Conn) {
	t.Helper()
	l := newLoop(t, limits)
	c, err := l.Bind(h, f)
	if err != nil {
		t.Fatal(err)
	}
	c.Driver.LimitRecv(&r)
	c.Connected()
	return l, c
}

// run moves the clock in steps of a tick, as an engine's wheel does, and has the peer send as much as it can.
func run(l *testkit.Loop, c *testkit.Conn, d time.Duration, p []byte) {
	const tick = 20 * time.Millisecond
	for until := l.Now() + d; l.Now() < until; {
		if c.Backlog() < len(p) {
			c.PeerWrite(p)
		}
		l.Skip(tick)
		l.Run()
	}
}

// What is received in the long run is the rate, to 1 %, whatever the rate, the sizes of reads and the resolution of
// deadlines; and at no time more than the rate and the burst.
func TestRecvRateIsExact(t *testing.T) {
	for _, r := range []session.Rate{
		{BytesPerSecond: 100, BurstBytes: 100},
		{BytesPerSecond: 10_007, BurstBytes: 501},
		{BytesPerSecond: 1_000_000, BurstBytes: 50_000},
		{BytesPerSecond: 4_000_000, BurstBytes: 1},
		{PacketsPerSecond: 7, BurstPackets: 1},
		{PacketsPerSecond: 333, BurstPackets: 333},
		{BytesPerSecond: 1000, BurstBytes: 1000, PacketsPerSecond: 1 << 20, BurstPackets: 1 << 20},
	} {
		for _, chunk := range []int{10, 1000, 0} {
			if chunk > 0 && r.BytesPerSecond > 100*chunk*50 || chunk == 0 && r.PacketsPerSecond == 333 {
				continue // the peer is the slower one
			}
			bytes, packets := 0, 0
			h := &testkit.Handler{Quiet: true}
			l, c := connectRated(t, session.Limits{}, r, nil, h)
			c.Chunk = chunk
			h.Recv = func(_ *testkit.Handler, p []byte) {
				bytes += len(p)
				packets++
				if elapsed := (l.Now() - time.Second).Seconds(); r.BytesPerSecond > 0 &&
					float64(bytes) > float64(r.BurstBytes)+elapsed*float64(r.BytesPerSecond) ||
					r.PacketsPerSecond > 0 && float64(packets) > float64(r.BurstPackets)+elapsed*float64(r.PacketsPerSecond) {
					t.Fatalf("%+v: %d bytes in %d packets after %.2f s", r, bytes, packets, elapsed)
				}
			}
			const seconds = 20
			data := make([]byte, 256<<10)
			run(l, c, time.Second, data)
			bytes, packets = 0, 0
			h.Recv = func(_ *testkit.Handler, p []byte) { bytes, packets = bytes+len(p), packets+1 }
			run(l, c, seconds*time.Second, data)
			got, want := bytes, seconds*r.BytesPerSecond
			if r.BytesPerSecond == 0 {
				got, want = packets, seconds*r.PacketsPerSecond
			}
			if got < want*99/100 || got > want*101/100 {
				t.Errorf("%+v, reads of %d: %d in %d s, want %d", r, chunk, got, seconds, want)
			}
			c.Driver.Kill(session.ErrAborted)
			l.Run()
		}
	}
}

// Packets are never cut. One that overdraws the bucket is paid for afterwards.
func TestRecvRateOfPackets(t *testing.T) {
	for _, r := range []session.Rate{{BytesPerSecond: 1000, BurstBytes: 50}, {PacketsPerSecond: 10, BurstPackets: 1}} {
		packets := 0
		h := &testkit.Handler{Quiet: true, Framed: true, Recv: func(_ *testkit.Handler, p []byte) {
			if packets++; len(p) != 98 {
				t.Fatalf("a packet of %d bytes", len(p))
			}
		}}
		l, c := connectRated(t, session.Limits{}, r, session.NewFraming(frame.ServerCore{}), h)
		data := []byte(strings.Repeat("\x64\x00"+strings.Repeat("x", 98), 1000))
		run(l, c, time.Second, data)
		before := packets
		run(l, c, 50*time.Second, data)
		if n := packets - before; n < 495 || n > 505 {
			t.Errorf("%+v: %d packets in 50 s, want 500", r, n)
		}
		c.Driver.Kill(session.ErrAborted)
		l.Run()
	}
}

// A session that waits for tokens sends, notices a reset, acts on the FIN behind what it holds back, and is not idle.
func TestRecvRateWhileItWaits(t *testing.T) {
	r := session.Rate{BytesPerSecond: 100, BurstBytes: 100}
	limits := session.Limits{Idle: 2 * time.Second, Linger: time.Second}
	t.Run("sends", func(t *testing.T) {
		h := &testkit.Handler{}
		l, c := connectRated(t, limits, r, nil, h)
		c.PeerWrite(make([]byte, 500))
		l.Run()
		mustSend(t, h, "answer")
		l.Run()
		wantWire(t, c, "answer")
		if len(h.Received) != 100 || c.Reads {
			t.Errorf("%d bytes received, reads %t", len(h.Received), c.Reads)
		}
	})
	t.Run("reset", func(t *testing.T) {
		h := &testkit.Handler{}
		l, c := connectRated(t, limits, r, nil, h)
		c.PeerWrite(make([]byte, 500))
		l.Run()
		c.PeerReset(errors.New("reset"))
		l.Run()
		if !errors.Is(h.Err(), session.ErrPeerReset) || len(h.Received) != 100 {
			t.Errorf("Err %v, %d bytes received", h.Err(), len(h.Received))
		}
	})
	t.Run("FIN", func(t *testing.T) {
		h := &testkit.Handler{}
		l, c := connectRated(t, limits, r, nil, h)
		c.PeerWrite(make([]byte, 500))
		c.PeerFIN()
		l.Advance(3900 * time.Millisecond)
		if h.Err() != nil || len(h.Received) >= 500 {
			t.Fatalf("early: %d bytes, Err %v", len(h.Received), h.Err())
		}
		l.Advance(200 * time.Millisecond)
		if !errors.Is(h.Err(), session.ErrPeerClosed) || len(h.Received) != 500 {
			t.Errorf("%d bytes, Err %v", len(h.Received), h.Err())
		}
	})
	t.Run("idle", func(t *testing.T) {
		h := &testkit.Handler{}
		l, c := connectRated(t, limits, session.Rate{PacketsPerSecond: 1, BurstPackets: 1}, nil, h)
		c.Chunk = 1
		for range 5 {
			c.PeerWrite([]byte("1"))
		}
		l.Advance(4 * time.Second)
		if h.Err() != nil || len(h.Received) != 5 {
			t.Errorf("%d received, Err %v", len(h.Received), h.Err())
		}
		l.Advance(2900 * time.Millisecond) // one of which it waits for a token
		if h.Err() != nil {
			t.Errorf("the wait was counted: %v", h.Err())
		}
		l.Advance(200 * time.Millisecond)
		if !errors.Is(h.Err(), session.ErrIdle) {
			t.Errorf("Err %v", h.Err())
		}
	})
	t.Run("Disconnect", func(t *testing.T) {
		h := &testkit.Handler{}
		l, c := connectRated(t, limits, r, nil, h)
		c.PeerWrite(make([]byte, 500))
		l.Run()
		h.Disconnect()
		c.PeerFIN()
		l.Run()
		wantClosed(t, c, false)
	})
	t.Run("PauseRecv", func(t *testing.T) {
		h := &testkit.Handler{}
		l, c := connectRated(t, limits, r, nil, h)
		c.PeerWrite(make([]byte, 500))
		l.Run()
		h.PauseRecv()
		l.Advance(time.Hour)
		if len(h.Received) != 100 || c.Armed != 0 {
			t.Errorf("%d bytes received, armed for %v", len(h.Received), c.Armed)
		}
		h.ResumeRecv()
		l.Run()
		if len(h.Received) != 200 {
			t.Errorf("%d bytes received after an hour, want the burst more", len(h.Received))
		}
	})
}

// With End a peer over its rate ends the session, and a peer within it does not.
func TestRecvRateWithEndEndsTheSession(t *testing.T) {
	r := session.Rate{BytesPerSecond: 100, BurstBytes: 100, End: true}
	for _, framed := range []bool{false, true} {
		h := &testkit.Handler{Framed: true}
		var f *session.Framing
		if framed {
			f = session.NewFraming(frame.ServerCore{})
		}
		l, c := connectRated(t, session.Limits{}, r, f, h)
		for range 20 {
			c.PeerWrite([]byte(strings.Repeat("\x0a\x00abcdefgh", 10)))
			l.Run()
			if h.Err() != nil || !c.Reads {
				t.Fatalf("framed %t: ended within the rate: %v", framed, h.Err())
			}
			l.Skip(time.Second)
		}
		c.PeerWrite([]byte(strings.Repeat("\x0a\x00abcdefgh", 11)))
		l.Run()
		wantClosed(t, c, true)
		if !errors.Is(h.Err(), session.ErrRecvRate) || l.Shared.Counters.Ended[session.CauseRecvRate].Load() != 1 {
			t.Errorf("framed %t: Err %v", framed, h.Err())
		}
	}
}

// T4: time in which a session is not read is not its peer's silence.
func TestIdleDoesNotCountAPause(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{Idle: time.Minute, Linger: time.Second}, h)
	h.PauseRecv()
	l.Advance(time.Hour)
	h.ResumeRecv()
	l.Advance(59 * time.Second)
	if h.Err() != nil {
		t.Fatalf("Err: %v", h.Err())
	}
	l.Advance(2 * time.Second)
	if !errors.Is(h.Err(), session.ErrIdle) {
		t.Errorf("Err: %v", h.Err())
	}
	wantClosed(t, c, false)
}

// A rate is exact also if the session is looked at at odd times.
func TestRecvRateFractions(t *testing.T) {
	const rate, seconds, step = 1000, 20, 7 * time.Millisecond
	received := 0
	h := &testkit.Handler{Quiet: true, Recv: func(_ *testkit.Handler, p []byte) { received += len(p) }}
	l, c := connectRated(t, session.Limits{}, session.Rate{BytesPerSecond: rate, BurstBytes: 1}, nil, h)
	for until := l.Now() + seconds*time.Second; l.Now() < until; {
		c.PeerWrite(make([]byte, 100))
		l.Skip(step)
		l.Run()
	}
	if received < seconds*rate*99/100 || received > seconds*rate*101/100 {
		t.Errorf("%d bytes in %d s, want %d", received, seconds, seconds*rate)
	}
	c.Driver.Kill(session.ErrAborted)
	l.Run()
}

// Each bucket begins with its own burst.
func TestRecvRateFirstBurst(t *testing.T) {
	for _, tt := range []struct {
		rate session.Rate
		want int // bytes, each of which comes in a packet of its own
	}{
		{session.Rate{BytesPerSecond: 1000, BurstBytes: 1000, PacketsPerSecond: 1, BurstPackets: 3}, 3},
		{session.Rate{BytesPerSecond: 1, BurstBytes: 3, PacketsPerSecond: 1000, BurstPackets: 1000}, 3},
	} {
		received := 0
		h := &testkit.Handler{Quiet: true, Recv: func(_ *testkit.Handler, p []byte) { received += len(p) }}
		l, c := connectRated(t, session.Limits{}, tt.rate, nil, h)
		c.Chunk = 1
		c.PeerWrite(make([]byte, 100))
		l.Run()
		if received != tt.want {
			t.Errorf("%+v: %d bytes at once, want %d", tt.rate, received, tt.want)
		}
		c.Driver.Kill(session.ErrAborted)
		l.Run()
	}
}

// A silence, however long, fills the buckets up to their bursts and not above.
func TestRecvRateBurstAfterSilence(t *testing.T) {
	received := 0
	h := &testkit.Handler{Quiet: true, Recv: func(_ *testkit.Handler, p []byte) { received += len(p) }}
	l, c := connectRated(t, session.Limits{}, session.Rate{BytesPerSecond: 100, BurstBytes: 50, PacketsPerSecond: 1 << 20, BurstPackets: 1 << 20}, nil, h)
	for _, silence := range []time.Duration{0, time.Second, time.Hour, 24 * time.Hour} {
		l.Skip(silence)
		received = 0
		c.PeerWrite(make([]byte, 10)) // less than there is: no session waits
		l.Run()
		c.PeerWrite(make([]byte, 1000))
		l.Run()
		if received < 50 || received > 60 { // one that waited may have a tenth of a second more
			t.Errorf("%d bytes at once after %v, want 50 to 60", received, silence)
		}
		for received < 1010 {
			l.Skip(20 * time.Millisecond)
			l.Run()
		}
	}
	c.Driver.Kill(session.ErrAborted)
	l.Run()
}
