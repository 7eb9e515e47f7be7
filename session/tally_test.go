package session_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

// A tally tells what one session has carried, step by step, also of what is not flushed yet.
func TestTallyOfASession(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{}, h)
	opened := l.Now()
	want := func(what string, want session.Tally) {
		t.Helper()
		want.Opened = opened
		if got := c.Driver.Tally(); got != want {
			t.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
		}
	}
	want("at the beginning", session.Tally{Active: opened})

	l.Shared.Recent.Store(int64(opened + 5*time.Second))
	c.PeerWrite([]byte("hello"))
	l.Run()
	step := func(at time.Duration) time.Duration { return at.Truncate(1 << 26) } // of 67 ms
	active := step(opened + 5*time.Second)
	want("received", session.Tally{Active: active, BytesIn: 5, MessagesIn: 1})

	c.Kernel = 3
	mustSend(t, h, "1234")
	mustSend(t, h, "5678")
	want("sent, and not flushed", session.Tally{Active: active, BytesIn: 5, MessagesIn: 1, MessagesOut: 2, Pending: 8})
	l.Shared.Recent.Store(int64(opened + 9*time.Second))
	l.Run()
	active = step(opened + 9*time.Second)
	want("the kernel is full", session.Tally{Active: active, BytesIn: 5, MessagesIn: 1, BytesOut: 3, MessagesOut: 2, Pending: 5, Slow: true})

	c.PeerRead(3)
	c.Kernel = 4
	l.Run()
	want("the peer has read", session.Tally{Active: active, BytesIn: 5, MessagesIn: 1, BytesOut: 7, MessagesOut: 2, Pending: 1, Slow: true})

	h.PauseRecv()
	want("paused", session.Tally{Active: active, BytesIn: 5, MessagesIn: 1, BytesOut: 7, MessagesOut: 2, Pending: 1, Slow: true, Paused: true})
	h.ResumeRecv()
	l.Run()

	h.Disconnect()
	l.Run()
	c.PeerWrite([]byte("too late"))
	l.Run()
	want("discarded", session.Tally{Active: active, BytesIn: 13, MessagesIn: 1, BytesOut: 7, MessagesOut: 2, Pending: 1, Slow: true, Ending: true})

	h.Abort()
	l.Run()
	want("aborted", session.Tally{Active: active, BytesIn: 13, MessagesIn: 1, BytesOut: 7, BytesDropped: 1, MessagesOut: 2, Ending: true})
}

// While nobody keeps Recent up to date, the time of each read and write is taken from the clock.
func TestActiveByTheClock(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{}, h)
	step := func(at time.Duration) time.Duration { return at.Truncate(1 << 26) }
	l.Shared.Recent.Store(-1)
	l.Advance(20 * time.Second)
	c.PeerWrite([]byte("hello"))
	l.Run()
	if got, want := c.Driver.Tally().Active, step(l.Now()); got != want {
		t.Errorf("received: active at %v, want %v", got, want)
	}
	l.Advance(20 * time.Second)
	mustSend(t, h, "hello")
	l.Run()
	if got, want := c.Driver.Tally().Active, step(l.Now()); got != want {
		t.Errorf("sent: active at %v, want %v", got, want)
	}
}

// A part of a loop has counters and a name of its own, and shares the rest.
func TestPartOfALoop(t *testing.T) {
	l := newLoop(t, session.Limits{SendLimit: 1000})
	part := l.Shared.Part("tcp://a")
	whole := l.Shared
	h := &testkit.Handler{}
	l.Shared = part
	c := l.Connect(h)
	l.Shared = whole
	c.PeerWrite([]byte("abc"))
	l.Run()
	if n := part.Counters.BytesIn.Load(); n != 3 || whole.Counters.BytesIn.Load() != 0 {
		t.Errorf("the part counts %d bytes, the whole %d", n, whole.Counters.BytesIn.Load())
	}
	if name := c.Driver.Tally().Listener; name != "tcp://a" || part.Common != whole.Common {
		t.Errorf("name %q", name)
	}
	if err := h.Send(make([]byte, 1001)); !errors.Is(err, session.ErrSendLimit) {
		t.Errorf("the limit of the part: %v", err)
	}
}

// A Broadcast wakes a loop once, though its members are in several parts of it.
func TestBroadcastWakesPartsOnce(t *testing.T) {
	l := newLoop(t, session.Limits{})
	whole := l.Shared
	var g session.Group
	for _, shared := range []*session.Loop{whole, whole.Part("a"), whole.Part("b"), whole} {
		h := &testkit.Handler{}
		l.Shared = shared
		l.Connect(h)
		g.Join(h)
	}
	l.Shared = whole
	l.Run()
	// With one chain of connections for the loop, the mailbox goes from empty to full once, whatever the loop does meanwhile.
	chains := 0
	for h := range g.All() {
		session.Wrap(h, func(t session.Transport) session.Transport { return &chainCounter{t, &chains} })
	}
	if n := g.Broadcast([]byte("hi")); n != 4 || chains != 1 {
		t.Errorf("%d members of 4, in %d chains, want 1", n, chains)
	}
}

// chainCounter counts how often several connections are woken together.
type chainCounter struct {
	session.Transport
	chains *int
}

func (c *chainCounter) WakeAll(all []session.Transport) {
	*c.chains++
	inner := make([]session.Transport, len(all))
	for i, t := range all {
		inner[i] = t.(*chainCounter).Transport
	}
	c.Transport.WakeAll(inner)
}

// One Send of 256 is timed in each session, from when it was accepted until the kernel has its last byte, to a microsecond.
func TestQueueDelay(t *testing.T) {
	h := &testkit.Handler{Quiet: true}
	l, c := connect(t, session.Limits{}, h)
	for i := range 3 * 256 {
		mustSend(t, h, "0123456789")
		l.Skip(3 * time.Millisecond)
		l.Run()
		if n := l.Shared.QueueDelay.Count(); n > uint64(i/256+1) || n < uint64((i+1)/256) {
			t.Fatalf("%d samples after %d Sends", n, i+1)
		}
	}
	if n, longest := l.Shared.QueueDelay.Count(), l.Shared.QueueDelay.Longest(); n != 3 || longest != 3*time.Millisecond {
		t.Errorf("%d samples, the longest of %v, want 3 of 3ms", n, longest)
	}

	// Now the kernel takes a byte for each second: what is behind the sample does not count.
	room := 0
	c.Plan = func(int) (int, error) {
		if room == 0 {
			return 0, session.ErrWouldBlock
		}
		room--
		return 1, nil
	}
	for range 256 {
		mustSend(t, h, "0123456789")
	}
	l.Run()
	at := l.Now()
	for sent := 0; l.Shared.QueueDelay.Count() == 3; sent++ {
		if sent == 2560 {
			t.Fatal("the sample has not left with everything")
		}
		l.Skip(time.Second)
		room = 1
		c.Serve(testkit.Writable)
	}
	if waited := l.Now() - at; l.Shared.QueueDelay.Longest() != waited || int(waited/time.Second)%10 != 0 {
		t.Errorf("the sample took %v, and %v is recorded; it ends with a Send of 10 bytes", waited, l.Shared.QueueDelay.Longest())
	}
}

// What is dropped is no sample, and the next Send that is due is one.
func TestQueueDelayOfWhatIsDropped(t *testing.T) {
	h := &testkit.Handler{Quiet: true}
	l, c := connect(t, session.Limits{}, h)
	c.Plan = func(int) (int, error) { return 0, session.ErrWouldBlock }
	for range 256 {
		mustSend(t, h, "x")
	}
	l.Run()
	h.Abort()
	l.Run()
	if n := l.Shared.QueueDelay.Count(); n != 0 || c.Driver.Tally().BytesDropped != 256 {
		t.Errorf("%d samples, %d dropped", n, c.Driver.Tally().BytesDropped)
	}
}

// Above a layer that seals, the sample ends when its last sealed byte is taken, not when it is sealed.
func TestQueueDelayAboveALayer(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		h := &testkit.Handler{Quiet: true}
		l, p := connectLayered(t, k, session.Limits{}, h)
		l.Run()
		p.c.MaxWrite = 1
		p.c.Look = func([][]byte) { l.Skip(time.Second) }
		samples := 0
		for range 256 {
			took := p.c.Took
			mustSend(t, h, "0123456789")
			l.Run()
			took = p.c.Took - took
			if n := int(l.Shared.QueueDelay.Count()); n > samples {
				samples = n
				if longest := l.Shared.QueueDelay.Longest(); took < 10 || longest != time.Duration(took)*time.Second {
					t.Errorf("a sample of %v, for a message that left in %d writes of a second each", longest, took)
				}
			}
		}
		if samples != 1 {
			t.Errorf("%d samples of 256 Sends", samples)
		}
	})
}

// A tally may be read while the session works, from any goroutine.
func TestTallyFromElsewhere(t *testing.T) {
	l := newLoop(t, session.Limits{})
	h := &testkit.Handler{Quiet: true, Recv: func(h *testkit.Handler, data []byte) { _ = h.Send(data) }}
	c := l.Connect(h)
	c.Take = func([]byte) {}
	l.Start()
	const messages, size = 300, 100
	for i := range messages {
		l.Do(func() { c.PeerWrite(bytes.Repeat([]byte{1}, size)) })
		if tally := c.Driver.Tally(); tally.BytesIn > uint64(size*(i+1)) || tally.BytesOut > tally.BytesIn {
			t.Fatalf("after %d messages: %+v", i+1, tally)
		}
	}
	l.Stop()
	l.Run()
	if tally := c.Driver.Tally(); tally.BytesIn != messages*size || tally.BytesOut != messages*size || tally.MessagesOut != tally.MessagesIn {
		t.Errorf("%+v", tally)
	}
}

// Totals go on beyond what 32 bits hold.
func TestTotalsCarry(t *testing.T) {
	h := &testkit.Handler{Quiet: true, Recv: func(h *testkit.Handler, data []byte) { _ = h.Send(data) }}
	l, c := connect(t, session.Limits{}, h)
	const before = 5<<32 - 1
	session.SetTotals(h, before)
	c.PeerWrite([]byte("abc"))
	l.Run()
	want := session.Tally{BytesIn: before + 3, BytesOut: before + 3, MessagesIn: before + 1, MessagesOut: before + 1}
	got := c.Driver.Tally()
	if got.BytesIn != want.BytesIn || got.BytesOut != want.BytesOut || got.MessagesIn != want.MessagesIn || got.MessagesOut != want.MessagesOut {
		t.Errorf("%+v, want %+v", got, want)
	}
}
