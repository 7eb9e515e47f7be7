package session_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/budget"
	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

// A Send that finds too little room ends stuck sessions: those that hold the most, and only as many as it takes. Their memory is free at once.
func TestBudgetEndsTheLargestFirst(t *testing.T) {
	b := budget.New(800_000)
	l := newLoop(t, session.Limits{Budget: b})
	hs, cs := slowOnes(l, 5)
	for i, n := range []int{200_000, 100_000, 300_000, 10_000} {
		mustSend(t, hs[i], strings.Repeat("x", n))
	}
	l.Run()
	wantHeld(t, b, hs)
	l.Advance(budget.StuckAfter)
	l.Run()
	for i := range 4 {
		wantErr(t, "enough is left", hs[i].Err())
		if !hs[i].Stuck() {
			t.Errorf("session %d is not stuck", i)
		}
	}
	before := b.Held()
	mustSend(t, hs[4], strings.Repeat("x", 90_000))
	if b.Held() >= before {
		t.Errorf("%d bytes before, %d after", before, b.Held())
	}
	wantHeld(t, b, hs)
	l.Run()
	for i := range hs {
		if want := i == 2; cs[i].Closed != want || cs[i].WasReset != want {
			t.Errorf("session %d: closed %t, Err %v", i, cs[i].Closed, hs[i].Err())
		}
	}
	wantErr(t, "reason", hs[2].Err(), session.ErrSendBudget, session.ErrSendLimit)
	wantHeld(t, b, hs)
	k := &l.Shared.Counters
	if n := k.BytesDropped.Load(); n != 299_999 || k.Ended[session.CauseSendBudget].Load() != 1 {
		t.Errorf("%d bytes dropped, %d ended", n, k.Ended[session.CauseSendBudget].Load())
	}
}

// A Send that needs more room than there is ends stuck sessions and is accepted, also where the budget is not passed yet.
func TestBudgetMakesRoom(t *testing.T) {
	b := budget.New(1 << 20)
	l := newLoop(t, session.Limits{Budget: b})
	hs, _ := slowOnes(l, 5)
	for _, h := range hs[:4] {
		mustSend(t, h, strings.Repeat("x", 200_000))
	}
	l.Advance(budget.StuckAfter)
	l.Run()
	mustSend(t, hs[4], strings.Repeat("x", 500_000))
	var g session.Group
	h := &testkit.Handler{Quiet: true}
	l.Connect(h)
	g.Join(h)
	wantReached(t, &g, 1, strings.Repeat("x", 400_000))
	ended := 0
	for _, h := range hs {
		if h.Err() != nil {
			ended++
		}
	}
	if ended == 0 || ended == 5 {
		t.Errorf("%d ended", ended)
	}
	wantHeld(t, b, append(hs, h))
	if err := hs[4].Send(make([]byte, 2<<20)); !errors.Is(err, session.ErrSendBudget) { // for which there never is room
		t.Errorf("Send of twice the budget: %v", err)
	}
	for _, h := range hs {
		if h.Err() == nil {
			ended++
		}
	}
	if ended != 5 {
		t.Error("somebody was ended for a Send that has no room anyway")
	}
}

// No session is ended whose peer has had no time to take what it was offered: because the loop has yet to come to it, because its kernel is
// full for the moment, or because its loop is late with the news that it is not. Sends are refused instead: with a full kernel from 7/8 of the
// budget on, otherwise above 17/16.
func TestBudgetSparesTheHealthy(t *testing.T) {
	const limit = 1 << 20
	b := budget.New(limit)
	l := newLoop(t, session.Limits{Budget: b})
	var g session.Group
	hs, cs := roomOf(l, &g, 32)
	p := strings.Repeat("x", 64<<10)
	refused := func() (rounds int) {
		t.Helper()
		for g.Broadcast([]byte(p)) > 0 {
			if rounds++; b.Held() > limit+limit/16 {
				t.Fatalf("%d bytes held", b.Held())
			}
			wantHeld(t, b, hs)
		}
		return rounds
	}
	if n := refused(); n != 16 { // no loop has visited a session
		t.Errorf("%d rounds, want 16 of 64 KiB", n)
	}
	l.Run()
	for _, c := range cs {
		c.Kernel = c.Held() + 100_000
	}
	wantHeld(t, b, hs)
	wantReached(t, &g, 32, p)
	wantReached(t, &g, 32, p)
	l.Run()
	if n := refused(); n != 12 { // with 31,072 bytes of the second one in the queues: all are full
		t.Errorf("%d rounds more, want 12", n)
	}
	l.Skip(budget.StuckAfter + 1) // no loop has looked
	for _, c := range cs {
		c.Kernel = 0
	}
	refused()
	l.Run()
	for _, h := range hs {
		wantErr(t, "a healthy one", h.Err())
	}
	if g.Len() != 32 || b.Held() != 0 {
		t.Errorf("%d members, %d bytes held", g.Len(), b.Held())
	}
}

// Of the stuck sessions, those are ended whose end gives the most back: not those that share what they hold.
func TestBudgetKnowsWhatAnEndGivesBack(t *testing.T) {
	b := budget.New(1 << 20)
	l := newLoop(t, session.Limits{Budget: b})
	var g session.Group
	sharing, cs := roomOf(l, &g, 20)
	for _, c := range cs {
		c.Kernel = 1
	}
	for range 8 {
		wantReached(t, &g, 20, strings.Repeat("x", 64<<10)) // 512 KiB in all
	}
	alone, _ := slowOnes(l, 2)
	mustSend(t, alone[0], strings.Repeat("x", 300_000))
	l.Advance(budget.StuckAfter)
	l.Run()
	mustSend(t, alone[1], strings.Repeat("x", 150_000))
	wantErr(t, "the one that holds 300,000 bytes alone", alone[0].Err(), session.ErrSendBudget)
	for _, h := range sharing {
		wantErr(t, "one of 20 that share 512 KiB", h.Err())
	}
	wantHeld(t, b, append(sharing, alone...))
}

// A peer that takes nothing is stuck, and one that takes a byte now and then. A peer that takes 64 KiB in 100 ms is not, nor one for which the
// kernel has no memory.
func TestBudgetTellsStuckFromSlow(t *testing.T) {
	for _, tt := range []struct {
		name  string
		each  int // bytes read every 10 ms
		plan  func(int) (int, error)
		stuck bool
	}{
		{name: "nothing", stuck: true},
		{name: "a byte now and then", each: 1, stuck: true},
		{name: "100 KB/s", each: 1000, stuck: true},
		{name: "1 MB/s", each: 10_000},
		{name: "no memory in the kernel", plan: func(int) (int, error) { return 0, session.ErrNoMemory }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := budget.New(1 << 20)
			l := newLoop(t, session.Limits{Budget: b})
			h := &testkit.Handler{Quiet: true}
			c := l.Connect(h)
			c.Kernel, c.Plan = 5000, tt.plan
			mustSend(t, h, strings.Repeat("x", 800_000))
			for range 30 {
				l.Advance(10 * time.Millisecond)
				c.PeerRead(tt.each)
				l.Run()
			}
			other := &testkit.Handler{Quiet: true}
			l.Connect(other)
			mustSend(t, other, strings.Repeat("x", 200_000))
			if h.Stuck() != tt.stuck && h.Err() == nil || errors.Is(h.Err(), session.ErrSendBudget) != tt.stuck {
				t.Errorf("stuck: %t, Err %v, want it stuck: %t", h.Stuck(), h.Err(), tt.stuck)
			}
			if !tt.stuck { // then it takes nothing any more
				c.Plan = nil
				l.Run()
				l.Advance(2 * budget.StuckAfter)
				l.Run()
				if !h.Stuck() {
					t.Error("it takes nothing for long, and is not stuck")
				}
			}
		})
	}
}

// A stuck session whose peer goes on is not stuck any more.
func TestBudgetForgetsStuckSessionsThatMove(t *testing.T) {
	b := budget.New(1 << 20)
	l := newLoop(t, session.Limits{Budget: b})
	hs, cs := slowOnes(l, 1)
	mustSend(t, hs[0], strings.Repeat("x", 300_000))
	l.Advance(budget.StuckAfter)
	l.Run()
	if !hs[0].Stuck() {
		t.Error("not stuck")
	}
	cs[0].Kernel = 65_537
	cs[0].PeerRead(1)
	l.Run()
	if hs[0].Stuck() {
		t.Error("stuck, and 64 KiB were taken")
	}
	cs[0].Kernel = 0
	cs[0].PeerRead(65_537)
	l.Run()
	mustSend(t, hs[0], strings.Repeat("x", 300_000))
	l.Advance(2 * budget.StuckAfter)
	if hs[0].Stuck() || hs[0].Pending() != 0 || b.Held() != 0 {
		t.Errorf("stuck %t, %d wait, %d are held", hs[0].Stuck(), hs[0].Pending(), b.Held())
	}
}

// nosy is a transport whose Wake looks at a group: the group's lock must be free then.
type nosy struct {
	session.Transport
	group *session.Group
	woken *int
}

func (n nosy) Wake() {
	n.group.Len()
	*n.woken++
	n.Transport.Wake()
}

func (n nosy) WakeAll(all []session.Transport) {
	n.group.Len()
	inner := make([]session.Transport, len(all))
	for i, t := range all {
		inner[i] = t.(nosy).Transport
	}
	n.Transport.WakeAll(inner)
}

// A Broadcast that makes room ends sessions without the group's lock, so that others need not wait for it.
func TestBudgetPassHoldsNoGroupLock(t *testing.T) {
	b := budget.New(1 << 20)
	l := newLoop(t, session.Limits{Budget: b})
	var g session.Group
	hs, cs := roomOf(l, &g, 2)
	cs[0].Kernel = 1
	woken := 0
	session.Wrap(hs[0], func(inner session.Transport) session.Transport { return nosy{inner, &g, &woken} })
	session.Wrap(hs[1], func(inner session.Transport) session.Transport { return nosy{inner, &g, &woken} })
	mustSend(t, hs[0], strings.Repeat("x", 700_000))
	l.Run()
	l.Advance(budget.StuckAfter)
	l.Run()
	if !hs[0].Stuck() {
		t.Fatal("not stuck")
	}
	woken = 0
	wantReached(t, &g, 1, strings.Repeat("x", 600_000)) // there is room for it when the other has gone
	wantErr(t, "the stuck one", hs[0].Err(), session.ErrSendBudget)
	if woken != 1 || hs[1].Err() != nil {
		t.Errorf("%d wakes, Err %v", woken, hs[1].Err())
	}
}

// A pass does not stop when there is just enough room. It goes on until 3/4 of the budget are held, so that the next pass is not due at once.
func TestBudgetPassGoesOn(t *testing.T) {
	const limit, each, slow = 1 << 20, 32 << 10, 26
	b := budget.New(limit)
	l := newLoop(t, session.Limits{Budget: b})
	hs, _ := slowOnes(l, slow)
	for _, h := range hs {
		mustSend(t, h, strings.Repeat("x", each))
	}
	l.Run()
	l.Advance(budget.StuckAfter)
	l.Run()
	if n := b.Held(); n <= limit*3/4 || n > limit*7/8 {
		t.Fatalf("%d bytes are held before, want between 3/4 and 7/8 of %d", n, limit)
	}
	// One more, of which the kernel takes a byte, lifts it above 7/8.
	more := &testkit.Handler{Quiet: true}
	c := l.Connect(more)
	c.Kernel = 1
	mustSend(t, more, strings.Repeat("x", 3*each))
	l.Run()
	if n := b.Held(); n > limit*3/4 {
		t.Errorf("a pass has left %d bytes, want 3/4 of %d at most", n, limit)
	}
	ended := 0
	for _, h := range hs {
		if h.Err() != nil {
			ended++
		}
	}
	if ended == 0 || ended > slow/2 {
		t.Errorf("%d of %d were ended", ended, slow)
	}
}
