package session_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

// slowOnes connects n sessions whose kernels take one byte.
func slowOnes(l *testkit.Loop, n int) (handlers []*testkit.Handler, conns []*testkit.Conn) {
	for range n {
		h := &testkit.Handler{Quiet: true}
		c := l.Connect(h)
		c.Kernel = 1
		handlers, conns = append(handlers, h), append(conns, c)
	}
	return handlers, conns
}

func wantHeld(t *testing.T, b *session.Budget, handlers []*testkit.Handler) {
	t.Helper()
	sum := 0
	for _, h := range handlers {
		sum += h.Pending()
	}
	if b.Held() != sum {
		t.Errorf("%d bytes charged, %d wait", b.Held(), sum)
	}
}

// Who passes the budget has the fattest ended, and only as many as it takes; the memory of those that are blocked is free at
// once.
func TestBudgetEndsTheFattest(t *testing.T) {
	b := session.NewBudget(80_000)
	l := newLoop(t, session.Limits{Budget: b})
	hs, cs := slowOnes(l, 5)
	for i, n := range []int{20_000, 10_000, 30_000, 1000, 15_000} {
		mustSend(t, hs[i], strings.Repeat("x", n))
	}
	l.Run()
	wantHeld(t, b, hs)
	live := pool.Live()
	mustSend(t, hs[3], strings.Repeat("x", 5_000))
	if pool.Live() >= live {
		t.Errorf("%d buffers before, %d after", live, pool.Live())
	}
	wantHeld(t, b, hs)
	l.Run()
	for i := range hs {
		if want := i == 2; cs[i].Closed != want || cs[i].WasReset != want {
			t.Errorf("session %d: closed %t, Err %v", i, cs[i].Closed, hs[i].Err())
		}
	}
	if err := hs[2].Err(); !errors.Is(err, session.ErrSendBudget) || !errors.Is(err, session.ErrSendLimit) ||
		!strings.Contains(err.Error(), "budget") {
		t.Errorf("Err: %v", err)
	}
	wantHeld(t, b, hs)
	k := &l.Shared.Counters
	if n := k.BytesDropped.Load(); n != 29_999 || k.Ended[session.CauseSendBudget].Load() != 1 {
		t.Errorf("%d bytes dropped, %d ended", n, k.Ended[session.CauseSendBudget].Load())
	}
}

// A session that its loop may have in hand is doomed, and keeps its bytes until the loop comes to it; nobody else is ended
// for them.
func TestBudgetCountsTheDoomedApart(t *testing.T) {
	b := session.NewBudget(80_000)
	l := newLoop(t, session.Limits{Budget: b})
	hs, cs := slowOnes(l, 3)
	for i, n := range []int{40_000, 35_000, 4_999} { // no visit yet: nobody is blocked
		mustSend(t, hs[i], strings.Repeat("x", n))
	}
	mustSend(t, hs[2], "xx")
	mustSend(t, hs[2], strings.Repeat("x", 1000))
	wantHeld(t, b, hs)
	if hs[0].Err() == nil || hs[1].Err() != nil || hs[2].Err() != nil {
		t.Errorf("%v, %v, %v: want the first ended alone", hs[0].Err(), hs[1].Err(), hs[2].Err())
	}
	// Those that are doomed count for the bound all the same.
	if err := hs[2].Send(make([]byte, 4_000)); !errors.Is(err, session.ErrSendBudget) {
		t.Errorf("Send beyond a sixteenth: %v", err)
	}
	if err := hs[2].Send(nil); err != nil {
		t.Errorf("Send of nothing: %v", err)
	}
	l.Run()
	mustSend(t, hs[2], strings.Repeat("x", 4_000))
	wantHeld(t, b, hs)
	if !cs[0].Closed || cs[1].Closed || cs[2].Closed {
		t.Errorf("closed: %t, %t, %t", cs[0].Closed, cs[1].Closed, cs[2].Closed)
	}
}

// What callbacks send and the kernel takes costs the budget nothing, also when there is none left.
func TestBudgetLeavesBystandersAlone(t *testing.T) {
	b := session.NewBudget(40_000)
	l := newLoop(t, session.Limits{Budget: b, EndSlow: true})
	hs, _ := slowOnes(l, 2)
	mustSend(t, hs[0], strings.Repeat("x", 30_000))
	mustSend(t, hs[1], strings.Repeat("x", 12_000)) // unblocked and short: nobody can be ended for it
	bystander := &testkit.Handler{Quiet: true, Recv: func(h *testkit.Handler, p []byte) {
		held := b.Held()
		if err := h.Send(p); err != nil || b.Held() != held {
			t.Errorf("echo: %v, %d held, before %d", err, b.Held(), held)
		}
	}}
	c := l.Connect(bystander)
	c.PeerWrite(make([]byte, 50_000))
	c.Serve(testkit.Input)
	if bystander.SentSum != 50_000 || bystander.Err() != nil {
		t.Errorf("%d bytes echoed, Err %v", bystander.SentSum, bystander.Err())
	}
	if err := bystander.Send(make([]byte, 1000)); !errors.Is(err, session.ErrSendBudget) {
		t.Errorf("a Send from elsewhere that the budget has no room for: %v", err)
	}
	if bystander.Err() != nil || hs[0].Err() != nil || hs[1].Err() != nil {
		t.Error("somebody was ended for a Send that was refused")
	}
	l.Run() // both are blocked now, and the fattest can be ended
	if hs[0].Err() == nil || hs[1].Err() != nil || b.Held() != hs[1].Pending() {
		t.Errorf("%v, %v, %d held", hs[0].Err(), hs[1].Err(), b.Held())
	}
}

// Broadcasts and packets go by the same accounts, and so do SendBuffer and every way to end.
func TestBudgetAccounts(t *testing.T) {
	b := session.NewBudget(1 << 20)
	l := newLoop(t, session.Limits{Budget: b})
	var g session.Group
	hs, cs := slowOnes(l, 4)
	f := &testkit.Handler{Quiet: true, Framed: true}
	c, err := l.Bind(f, session.NewFraming(frame.ServerCore{}))
	if err != nil {
		t.Fatal(err)
	}
	c.Kernel = 1
	c.Connected()
	for _, h := range hs {
		g.Join(h)
	}
	if n := g.Broadcast(make([]byte, 40_000)); n != 4 {
		t.Errorf("%d reached", n)
	}
	wantHeld(t, b, hs)
	l.Run()
	if err := hs[0].SendBuffer(buffer("more")); err != nil {
		t.Error(err)
	}
	wantHeld(t, b, hs)
	before := b.Held()
	mustSend(t, f, "packet")
	if b.Held() != before+8 {
		t.Errorf("a packet of 8 bytes is charged with %d", b.Held()-before)
	}
	l.Run()
	if b.Held() != before+7 {
		t.Errorf("7 bytes that wait are charged with %d", b.Held()-before)
	}
	f.Abort()
	hs[0].Abort()
	hs[1].Disconnect()
	cs[2].PeerReset(errors.New("reset"))
	l.Run()
	if n := b.Held(); n != 2*39_999 {
		t.Errorf("%d bytes charged, want those of the one that drains and the one that is open", n)
	}
	l.Abort()
	if b.Held() != 0 {
		t.Errorf("%d bytes charged when no session is left", b.Held())
	}
}

// A Broadcast skips whom the budget has no room for, and EndSlow does not end them.
func TestBudgetAndBroadcast(t *testing.T) {
	b := session.NewBudget(10_000)
	l := newLoop(t, session.Limits{Budget: b})
	g := session.Group{EndSlow: true}
	hs, _ := slowOnes(l, 4)
	for _, h := range hs {
		g.Join(h)
	}
	if n := g.Broadcast(make([]byte, 4000)); n != 2 || g.Skipped() != 2 || b.Held() != 8000 {
		t.Errorf("%d reached, %d skipped, %d held", n, g.Skipped(), b.Held())
	}
	for _, h := range hs {
		if h.Err() != nil {
			t.Errorf("ended: %v", h.Err())
		}
	}
}

// Senders on goroutines of their own, several loops, sessions that come and go: the accounts are exact at the end, and never
// beyond the bound.
func TestBudgetStress(t *testing.T) {
	const budget, slots, senders = 1 << 20, 24, 4
	rounds := 30_000
	if raced || testing.Short() {
		rounds = 6_000
	}
	b := session.NewBudget(budget)
	limits := session.Limits{Budget: b, SendLimit: 256 << 10, PauseAbove: 64 << 10, HighWater: 8 << 10, LowWater: 4 << 10}
	loops := []*testkit.Loop{newLoop(t, limits), newLoop(t, limits), newLoop(t, limits)}
	var g session.Group
	var place [slots]atomic.Pointer[testkit.Conn]
	var ended atomic.Int64
	connect := func(slot int) {
		h := &testkit.Handler{Quiet: true}
		h.Connected = func(h *testkit.Handler) { g.Join(h) }
		h.Disconnected = func(h *testkit.Handler) {
			if errors.Is(h.Err(), session.ErrSendBudget) {
				ended.Add(1)
			}
		}
		c, err := loops[slot%len(loops)].Bind(h, nil)
		if err != nil {
			t.Error(err)
			return
		}
		c.Kernel = 1 + 2000*(slot%4)
		c.Take = func([]byte) {}
		c.Connected()
		place[slot].Store(c)
	}
	for i, l := range loops {
		l.Start()
		l.Do(func() {
			for slot := i; slot < slots; slot += len(loops) {
				connect(slot)
			}
		})
	}
	var sending, world sync.WaitGroup
	for sender := range senders {
		sending.Go(func() {
			r := rand.New(rand.NewPCG(uint64(sender), 11))
			p := make([]byte, 8000)
			for range rounds {
				s := place[r.IntN(slots)].Load().Session()
				switch n := r.IntN(1000); {
				case n < 700:
					_ = s.Send(p[:r.IntN(len(p))])
				case n < 850:
					_ = s.SendBuffer(buffer(string(p[:r.IntN(len(p))])))
				case n < 900:
					g.Broadcast(p[:r.IntN(2000)])
				case n < 905:
					s.Disconnect()
				case n < 910:
					s.Abort()
				}
				if n := b.Held(); n > budget+budget/16+len(loops)*64<<10 { // and what is sent while a callback runs
					t.Errorf("%d bytes held of %d", n, budget)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	for i, l := range loops {
		world.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 12))
			for {
				select {
				case <-done:
					return
				default:
				}
				l.Do(func() {
					for slot := i; slot < slots; slot += len(loops) {
						c := place[slot].Load()
						if c.Ended {
							connect(slot)
						} else if c.PeerRead(r.IntN(300)); c.FINSent {
							c.PeerFIN()
						}
					}
				})
				runtime.Gosched()
			}
		})
	}
	sending.Wait()
	close(done)
	world.Wait()
	for _, l := range loops {
		l.Stop()
	}
	for _, l := range loops {
		l.Run()
	}
	sum := 0
	for _, l := range loops {
		for _, c := range l.Live() {
			sum += c.Session().Pending()
		}
	}
	if b.Held() != sum {
		t.Errorf("%d bytes charged, %d wait", b.Held(), sum)
	}
	if ended.Load() == 0 {
		t.Error("nobody was ended for the budget: no stress")
	}
	for _, l := range loops {
		l.Abort()
	}
	if b.Held() != 0 {
		t.Errorf("%d bytes charged when no session is left", b.Held())
	}
	t.Logf("%d sessions ended for the budget", ended.Load())
}

// A budget that nothing can pass refuses nothing.
func TestBudgetWithoutEnd(t *testing.T) {
	b := session.NewBudget(math.MaxInt)
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{Budget: b}, h)
	c.Kernel = 1
	mustSend(t, h, "12345")
	l.Run()
	if b.Held() == 0 {
		t.Error("nothing is charged")
	}
	h.Abort()
	l.Run()
	if b.Held() != 0 {
		t.Errorf("%d bytes are charged at the end", b.Held())
	}
}
