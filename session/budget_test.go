package session_test

import (
	"errors"
	"maps"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/internal/budget"
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

// wantHeld compares what is charged with what the queues hold, each buffer once.
func wantHeld(t *testing.T, b *budget.Budget, handlers []*testkit.Handler) {
	t.Helper()
	sum := 0
	common := make(map[*pool.Buffer]int)
	for _, h := range handlers {
		own, shared, ok := h.Memory()
		if !ok {
			t.Error("a queue counts other memory than it holds")
		}
		sum += own
		maps.Copy(common, shared)
	}
	for _, n := range common {
		sum += n
	}
	if b.Held() != sum {
		t.Errorf("%d bytes charged, %d are held", b.Held(), sum)
	}
}

func wantErr(t *testing.T, what string, err error, want ...error) {
	t.Helper()
	for _, e := range want {
		if !errors.Is(err, e) {
			t.Errorf("%s: %v, want %v", what, err, e)
		}
	}
	if len(want) == 0 && err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// Who finds too little room has the fattest of those that are stuck ended, and only as many as it takes; their memory is free at
// once.
func TestBudgetEndsTheFattest(t *testing.T) {
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

// A Send that needs more room than there is has it made, and is accepted: also where the budget is not passed yet.
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

// Nobody is ended whose peer has had no time to take what it was offered: those the loop has yet to come to, those that are full
// for the moment, and those whose loop is late with the news that they are not. Sends are refused instead: for a kernel that is
// full from 7/8 of the budget on, for the others above 17/16.
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
	if n := refused(); n != 16 { // nobody has been visited
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
	l.Skip(budget.StuckAfter + 1) // nobody has looked
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

// The example of old: one Broadcast of 64 KiB to 32 idle members and a budget of 1 MiB. All get it, in any number of rounds, and
// the buffer is charged once.
func TestBudgetAndBroadcast(t *testing.T) {
	b := budget.New(1 << 20)
	limits := session.Limits{Budget: b, SendLimit: 1 << 20, EndSlow: true}
	loops := []*testkit.Loop{newLoop(t, limits), newLoop(t, limits)}
	g := session.Group{EndSlow: true}
	hs, cs := roomOf(loops[0], &g, 16)
	more, others := roomOf(loops[1], &g, 16)
	hs = append(hs, more...)
	for _, c := range append(cs, others...) {
		c.Take = func([]byte) {}
	}
	for range 200 {
		wantReached(t, &g, 32, strings.Repeat("x", 64<<10))
		if n := b.Held(); n < 64<<10 || n > 70_000 {
			t.Fatalf("%d bytes held", n)
		}
		wantHeld(t, b, hs)
		loops[0].Run()
		loops[1].Run()
		if b.Held() != 0 {
			t.Fatalf("%d bytes held when all have left", b.Held())
		}
	}
	if g.Skipped() != 0 {
		t.Errorf("%d skipped", g.Skipped())
	}
}

// With slow members among them, the healthy ones get every Broadcast; the slow ones miss some, and are ended when they have been
// stuck for long enough, by as many as it takes.
func TestBudgetAndSlowMembers(t *testing.T) {
	const limit, rounds = 1 << 20, 300
	b := budget.New(limit)
	l := newLoop(t, session.Limits{Budget: b, SendLimit: 1 << 20})
	var g session.Group
	slow, cs := roomOf(l, &g, 8)
	for _, c := range cs {
		c.Kernel = 300_000
	}
	healthy, hc := roomOf(l, &g, 24)
	for _, c := range hc {
		c.Take = func([]byte) {}
	}
	for range rounds {
		g.Broadcast(make([]byte, 64<<10))
		if b.Held() > limit+limit/16 {
			t.Fatalf("%d bytes held", b.Held())
		}
		l.Advance(time.Millisecond)
		l.Run()
	}
	for _, h := range healthy {
		if wantErr(t, "a healthy one", h.Err()); h.SentSum != rounds*64<<10 {
			t.Fatalf("a healthy one was sent %d bytes of %d", h.SentSum, rounds*64<<10)
		}
	}
	ended := 0
	for _, h := range slow {
		if h.Err() != nil {
			ended++
			wantErr(t, "a slow one", h.Err(), session.ErrSendBudget)
		}
	}
	if ended == 0 || g.Skipped() == 0 {
		t.Errorf("%d slow ones ended, %d messages skipped", ended, g.Skipped())
	}
	wantHeld(t, b, append(healthy, slow...))
	t.Logf("%d of 8 slow ones ended, %d messages skipped", ended, g.Skipped())
}

// Of those that are stuck, those go whose end gives most back: not those that share what they hold.
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

// Who is stuck: a peer that takes nothing, or a byte now and then. Not one that takes 64 KiB in 100 ms, nor one for which the kernel
// has no memory.
func TestBudgetKnowsWhoIsStuck(t *testing.T) {
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

// A session that is stuck and then goes on is not any more.
func TestBudgetForgetsWhoIsStuck(t *testing.T) {
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

// What callbacks send and the kernel takes costs the budget nothing, also when there is none left.
func TestBudgetLeavesBystandersAlone(t *testing.T) {
	b := budget.New(400_000)
	l := newLoop(t, session.Limits{Budget: b, EndSlow: true})
	hs, _ := slowOnes(l, 2)
	mustSend(t, hs[0], strings.Repeat("x", 300_000))
	mustSend(t, hs[1], strings.Repeat("x", 80_000)) // nobody has been visited: nobody can be ended for it
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
	wantErr(t, "a Send from elsewhere that the budget has no room for", bystander.Send(make([]byte, 30_000)), session.ErrSendBudget)
	for _, h := range append(hs, bystander) {
		wantErr(t, "after a Send that was refused", h.Err())
	}
	wantErr(t, "a Send of nothing", bystander.Send(nil))
	l.Advance(budget.StuckAfter) // both are stuck now, and the fattest is ended
	l.Run()
	wantErr(t, "the fattest", hs[0].Err(), session.ErrSendBudget)
	wantErr(t, "the other", hs[1].Err())
	wantHeld(t, b, hs)
	mustSend(t, bystander, strings.Repeat("x", 30_000))
}

// Broadcasts and packets go by the same accounts, and so do SendBuffer and every way to end.
func TestBudgetAccounts(t *testing.T) {
	b := budget.New(1 << 20)
	l := newLoop(t, session.Limits{Budget: b, SendLimit: 1 << 20})
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
	all := append(hs, f)
	check := func(what string, least, most int) {
		t.Helper()
		wantHeld(t, b, all)
		if n := b.Held(); n < least || n > most {
			t.Errorf("%s: %d bytes held, want %d to %d", what, n, least, most)
		}
	}
	wantReached(t, &g, 4, strings.Repeat("x", 40_000))
	check("a Broadcast", 64<<10, 67_000)
	l.Run()
	check("it waits", 64<<10, 67_000)
	if err := hs[0].SendBuffer(buffer("more")); err != nil {
		t.Error(err)
	}
	check("a buffer of 512 bytes with 4", 64<<10+512, 68_000)
	mustSend(t, f, "packet")
	check("a packet", 64<<10+1024, 69_000)
	l.Run()
	shared := buffer(strings.Repeat("x", 60_000))
	for range 3 {
		for _, h := range hs {
			if err := h.SendBuffer(shared.Retain()); err != nil {
				t.Error(err)
			}
		}
	}
	shared.Release()
	check("a buffer sent to many", 128<<10+1024, 137_000)
	f.Abort()
	hs[0].Abort()
	hs[1].Disconnect()
	cs[2].PeerReset(errors.New("reset"))
	l.Run()
	check("the one that drains and the one that is open", 128<<10, 135_000)
	l.Abort()
	check("the end", 0, 0)
}

// Sessions of two engines: what they share is charged in each budget.
func TestTwoBudgets(t *testing.T) {
	b := []*budget.Budget{budget.New(1 << 20), budget.New(100_000), nil}
	var g session.Group
	var loops []*testkit.Loop
	var hs [][]*testkit.Handler
	for _, b := range b {
		l := newLoop(t, session.Limits{Budget: b})
		h, _ := roomOf(l, &g, 3)
		loops, hs = append(loops, l), append(hs, h)
	}
	p := strings.Repeat("x", 60_000)
	wantReached(t, &g, 9, p)
	wantReached(t, &g, 6, p)
	shared := buffer(p)
	for _, h := range slices.Concat(hs...) {
		if err := h.SendBuffer(shared.Retain()); err != nil && !errors.Is(err, session.ErrSendBudget) {
			t.Error(err)
		}
	}
	shared.Release()
	wantHeld(t, b[0], hs[0])
	wantHeld(t, b[1], hs[1])
	if n := b[0].Held(); n < 3*64<<10 || n > 210_000 || b[1].Held() > 70_000 {
		t.Errorf("%d and %d bytes held", n, b[1].Held())
	}
	for i, l := range loops {
		l.Run()
		if b[i].Held() != 0 {
			t.Errorf("%d bytes held at the end", b[i].Held())
		}
	}
}

// Senders on goroutines of their own, several loops, sessions that come and go: the accounts are exact at the end, and never
// beyond the bound.
func TestBudgetStress(t *testing.T) {
	const limit, slots, senders = 1 << 20, 24, 4
	rounds := 60_000
	if raced || testing.Short() {
		rounds = 20_000
	}
	b := budget.New(limit)
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
	begun := time.Now()
	var sending, world sync.WaitGroup
	for sender := range senders {
		sending.Go(func() {
			r := rand.New(rand.NewPCG(uint64(sender), 11))
			p := make([]byte, 8000)
			for round := 0; round < rounds || ended.Load() == 0 && time.Since(begun) < time.Minute; round++ { // only after a while is a session stuck
				slot := r.IntN(slots)
				s := place[slot].Load().Session()
				n := r.IntN(1000)
				if slot%4 == 0 {
					n = min(n, 899) // those whose peers read nothing are not ended but for the budget
				}
				switch {
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
				if n := b.Held(); n > limit+limit/16+len(loops)*64<<10 { // and what is sent while a callback runs
					t.Errorf("%d bytes held of %d", n, limit)
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
							continue
						}
						if slot%4 > 0 {
							c.PeerRead(r.IntN(300))
						}
						if c.FINSent {
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
	var live []*testkit.Handler
	for _, l := range loops {
		for _, c := range l.Live() {
			live = append(live, c.Driver.Handler().(*testkit.Handler))
		}
	}
	wantHeld(t, b, live)
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
	b := budget.New(math.MaxInt)
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

// nosy is a transport whose Wake looks at a group: nobody may hold the group's lock over it.
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

// A Broadcast that makes room ends sessions without the group's lock, which is others' to wait for.
func TestReapHoldsNoGroup(t *testing.T) {
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
