package session_test

import (
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
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

// One Broadcast of 64 KiB to 32 idle members with a budget of 1 MiB reaches all of them, in any number of rounds, and the buffer is charged
// once.
func TestBudgetChargesABroadcastOnce(t *testing.T) {
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

// With slow members among them, the healthy ones get every Broadcast. The slow ones miss some. When they have been stuck for long enough,
// as many are ended as it takes.
func TestBudgetLetsBroadcastsReachHealthyMembers(t *testing.T) {
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

// What callbacks send and the kernel takes costs the budget nothing, also when none of it is left.
func TestBudgetCostsCallbacksNothing(t *testing.T) {
	b := budget.New(400_000)
	l := newLoop(t, session.Limits{Budget: b, EndSlow: true})
	hs, _ := slowOnes(l, 2)
	mustSend(t, hs[0], strings.Repeat("x", 300_000))
	mustSend(t, hs[1], strings.Repeat("x", 80_000)) // no loop has visited a session, so none can be ended for it
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
	l.Advance(budget.StuckAfter) // both are stuck now, and the one that holds the most is ended
	l.Run()
	wantErr(t, "the one that holds the most", hs[0].Err(), session.ErrSendBudget)
	wantErr(t, "the other", hs[1].Err())
	wantHeld(t, b, hs)
	mustSend(t, bystander, strings.Repeat("x", 30_000))
}

// Broadcasts, packets, SendBuffer and every way to end keep the accounts exact.
func TestBudgetAccountsAreExact(t *testing.T) {
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

// A buffer that sessions of two engines share is charged in each budget.
func TestBudgetsOfTwoEnginesChargeEach(t *testing.T) {
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

// A budget that nothing can pass refuses nothing.
func TestBudgetWithoutBoundRefusesNothing(t *testing.T) {
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
