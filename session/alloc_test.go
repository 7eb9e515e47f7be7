//go:build !race

package session_test

import (
	"bytes"
	"errors"
	"testing"
	"time"
	"unsafe"

	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/internal/budget"
	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

// The byte path allocates nothing in steady state. Not under the race detector, where sync.Pool forgets at random.

type echo struct{ session.Session }

func (e *echo) OnRecv(p []byte) { _ = e.Send(p) }

type sink struct{ session.Session }

func wantAllocs(t *testing.T, most float64, f func()) {
	t.Helper()
	for range 100 {
		f() // the pools fill
	}
	if n := testing.AllocsPerRun(1000, f); n > most {
		t.Errorf("%v allocations, want at most %v", n, most)
	}
}

func quiet(c *testkit.Conn) *testkit.Conn {
	c.Take = func([]byte) {}
	return c
}

var everyLimit = session.Limits{SendLimit: 1 << 20, PauseAbove: 1 << 18, Idle: 1e9, FirstByte: 1e9, Write: 1e9, Drain: 1e9}

func TestReceiveDoesNotAllocate(t *testing.T) {
	l := newLoop(t, everyLimit)
	d := quiet(l.Connect(&sink{})).Driver
	p := make([]byte, 1000)
	before := l.Shared.Counters.MessagesIn.Load()
	l.Inside(func() { wantAllocs(t, 0, func() { d.Receive(p) }) })
	if n := l.Shared.Counters.MessagesIn.Load() - before; n < 1000 {
		t.Errorf("only %d messages came in", n)
	}
}

func TestEchoDoesNotAllocate(t *testing.T) {
	for _, size := range []int{1, 1000, 64 << 10} {
		l := newLoop(t, everyLimit)
		c := quiet(l.Connect(&echo{}))
		p := make([]byte, size)
		l.Inside(func() { wantAllocs(t, 0, func() { c.Driver.Receive(p) }) })
		if in, out := l.Shared.Counters.BytesIn.Load(), l.Shared.Counters.BytesOut.Load(); in != out || c.TookN < 1000 {
			t.Errorf("%d bytes in, %d out, %d writes", in, out, c.TookN)
		}
	}
}

// An echo of packets, whole and in pieces, allocates nothing either.
func TestFramedEchoDoesNotAllocate(t *testing.T) {
	l := newLoop(t, everyLimit)
	c, err := l.Bind(&echo{}, session.NewFraming(frame.ServerCore{}))
	if err != nil {
		t.Fatal(err)
	}
	c.Connected()
	quiet(c)
	whole := bytes.Repeat([]byte("\x08\x00abcdef"), 100)
	l.Inside(func() {
		wantAllocs(t, 0, func() { c.Driver.Receive(whole) })
		wantAllocs(t, 0, func() {
			c.Driver.Receive(whole[:13])
			c.Driver.Receive(whole[13:16])
		})
	})
}

// burst answers with more than the scratch memory holds, and with buffers of its own in between.
type burst struct {
	session.Session
	failed error
}

func (h *burst) OnRecv(p []byte) {
	for range 10 {
		b := pool.Get()
		b.B = append(b.B, "buffer"...)
		h.failed = errors.Join(h.failed, h.Send(p), h.SendBuffer(b))
	}
}

func TestGatheredFlushDoesNotAllocate(t *testing.T) {
	l := newLoop(t, everyLimit)
	h := &burst{}
	c := quiet(l.Connect(h))
	segments := 0
	c.Look = func(bufs [][]byte) { segments = len(bufs) }
	p := make([]byte, 10_000)
	l.Inside(func() { wantAllocs(t, 0, func() { c.Driver.Receive(p) }) })
	if h.failed != nil || h.Pending() != 0 || segments < 20 {
		t.Errorf("error %v, %d bytes wait, %d segments in a write", h.failed, h.Pending(), segments)
	}
}

func TestSendFromElsewhereAllocatesAtMostOnce(t *testing.T) {
	l := newLoop(t, everyLimit)
	h := &sink{}
	c := quiet(l.Connect(h))
	p := make([]byte, 100)
	wantAllocs(t, 1, func() {
		if err := h.Send(p); err != nil {
			t.Fatal(err)
		}
		c.Serve(testkit.Turn)
	})
	if c.TookN < 1000 {
		t.Errorf("%d writes", c.TookN)
	}
}

func TestBroadcastDoesNotAllocate(t *testing.T) {
	for _, size := range []int{64, 1000, 5000} {
		for _, depth := range []int{1, 5} {
			var g session.Group
			loops := [...]*session.Loop{session.NewLoop(everyLimit), session.NewLoop(everyLimit)}
			var members []*session.Driver
			conn := bare{scratch: session.NewScratch()}
			for i := range 100 {
				d, err := session.Bind(&sink{}, conn, loops[i%2], nil, nil, nil)
				if err != nil {
					t.Fatal(err)
				}
				d.Connected()
				g.Join(d.Session())
				members = append(members, d)
			}
			p, reached := make([]byte, size), 0
			// Now and then a pool is emptied by a garbage collection; that is less than one allocation per run.
			wantAllocs(t, 0, func() {
				for range depth {
					reached += g.Broadcast(p, members[0].Session())
				}
				for _, d := range members {
					d.Turn()
				}
			})
			if reached < 1000*depth*99 {
				t.Errorf("only %d deliveries", reached)
			}
			for _, d := range members {
				d.Kill(session.ErrShutdown)
				d.Turn()
			}
			if g.Len() != 0 {
				t.Errorf("%d members after the end of all", g.Len())
			}
		}
	}
}

// Marks, a budget and a rate do not allocate, once a session has met them.
func TestSlowPeersDoNotAllocate(t *testing.T) {
	limits := everyLimit
	limits.Budget, limits.HighWater, limits.LowWater, limits.SoftLimit, limits.SoftFor = budget.New(1<<20), 2000, 1000, 1500, time.Minute
	l := newLoop(t, limits)
	h := &testkit.Handler{Quiet: true, Recv: func(h *testkit.Handler, p []byte) { _ = h.Send(p) }}
	c, err := l.Bind(h, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Driver.LimitRecv(&session.Rate{BytesPerSecond: session.MaxRate, BurstBytes: session.MaxRate})
	c.Connected()
	quiet(c)
	turns := 0
	h.Writable = func(*testkit.Handler, bool) { turns++ }
	p := make([]byte, 3000)
	l.Inside(func() { wantAllocs(t, 0, func() { c.Driver.Receive(p) }) })
	wantAllocs(t, 1, func() { // from elsewhere: the mailbox of the test's loop
		if err := h.Send(p); err != nil || limits.Budget.Held() < len(p) {
			t.Errorf("%v, %d held", err, limits.Budget.Held())
		}
		c.Serve(testkit.Turn)
	})
	if turns < 2000 || h.Err() != nil {
		t.Errorf("%d calls of OnWritable, Err %v", turns, h.Err())
	}
}

// What few sessions need is kept apart, so that an idle session stays small.
func TestSessionFitsItsSizeClass(t *testing.T) {
	if n := unsafe.Sizeof(session.Session{}); n > 184 {
		t.Errorf("%d bytes, want at most 184: with the one pointer of a small handler it fits 192", n)
	}
}
