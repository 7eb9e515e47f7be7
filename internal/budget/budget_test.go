package budget_test

import (
	"slices"
	"testing"

	"github.com/servercore-go/servercore/internal/budget"
	"github.com/servercore-go/servercore/pool"
)

// queue is a member that holds memory.
type queue struct {
	budget  *budget.Budget
	account budget.Account
	name    string
	log     *[]string
}

func (q *queue) hold(memory int64, blocked bool) { q.budget.Update(q, &q.account, memory, blocked) }

func (q *queue) Shed(int64) {
	*q.log = append(*q.log, q.name)
	q.hold(0, true)
}

// members returns members of b with those names, and the log of those that were ended.
func members(b *budget.Budget, names ...string) (map[string]*queue, *[]string) {
	log := new([]string)
	all := make(map[string]*queue)
	for _, name := range names {
		all[name] = &queue{budget: b, name: name, log: log}
	}
	return all, log
}

func wantHeld(t *testing.T, b *budget.Budget, want int) {
	t.Helper()
	if n := b.Held(); n != want {
		t.Errorf("%d bytes are held, want %d", n, want)
	}
}

// Only stuck members are ended, the largest first, and no more than it takes to come to 3/4 of the limit.
func TestMakeRoomEndsTheLargestStuckMembers(t *testing.T) {
	b := budget.New(1000)
	m, log := members(b, "small", "large", "medium", "healthy", "larger")
	for name, memory := range map[string]int64{"small": 50, "large": 200, "medium": 100, "healthy": 400, "larger": 240} {
		m[name].hold(memory, true)
		m[name].account.SetStuck(name != "healthy")
	}
	if !b.Crowded() {
		t.Fatal("990 of 1000 bytes, and not crowded")
	}
	if !b.MakeRoom(0, b.Bound(true)) {
		t.Error("no room was made")
	}
	if want := []string{"larger"}; !slices.Equal(*log, want) {
		t.Errorf("ended %v, want %v", *log, want)
	}
	if b.MakeRoom(0, 300) {
		t.Error("room below what the healthy member holds")
	}
	if want := []string{"larger", "large", "medium", "small"}; !slices.Equal(*log, want) {
		t.Errorf("ended %v, want %v", *log, want)
	}
	wantHeld(t, b, 400)
}

// A pass that has found too little is not followed by another at once.
func TestNoPassFollowsAFailedOneAtOnce(t *testing.T) {
	b := budget.New(1000)
	m, log := members(b, "a")
	m["a"].hold(990, true)
	if b.MakeRoom(0, 500) {
		t.Error("room without stuck members")
	}
	m["a"].account.SetStuck(true)
	if b.MakeRoom(budget.StuckAfter/4-1, 500) || len(*log) > 0 {
		t.Errorf("a pass at once, which ended %v", *log)
	}
	if !b.MakeRoom(budget.StuckAfter/4, 500) {
		t.Error("no pass later")
	}
	wantHeld(t, b, 0)
}

// A charge that several queues share is made once, and given back with the last holder.
func TestSharedChargeIsMadeOnce(t *testing.T) {
	b := budget.New(1 << 20)
	buf := pool.GetSize(pool.Page)
	defer buf.Release()
	memory := buf.Memory() + budget.BufferOverhead
	m, _ := members(b, "a", "b")
	first, second := b.CommonCharge(buf), b.CommonCharge(buf)
	if first != second {
		t.Error("two charges for one buffer")
	}
	if !first.Make(1<<20) || !second.Make(1<<20) {
		t.Error("no room for a page")
	}
	first.Attach(&m["a"].account)
	second.Attach(&m["b"].account)
	first.Release()
	second.Release()
	wantHeld(t, b, memory)
	if n := m["a"].account.Held(); n != int64(memory) {
		t.Errorf("the account of one holds %d, want %d", n, memory)
	}
	first.Detach(&m["a"].account)
	wantHeld(t, b, memory)
	second.Detach(&m["b"].account)
	wantHeld(t, b, 0)
	if third := b.CommonCharge(buf); third.Bytes() != int64(memory) {
		t.Errorf("a later charge is for %d bytes", third.Bytes())
	} else {
		third.Release()
	}
}

// A reservation that would pass the bound changes nothing.
func TestReserveKeepsTheBound(t *testing.T) {
	b := budget.New(1600)
	m, _ := members(b, "a")
	for _, tt := range []struct {
		n       int64
		blocked bool
		want    bool
	}{{1400, true, true}, {1, true, false}, {300, false, true}, {1, false, false}} {
		if got := b.Reserve(&m["a"].account, tt.n, b.Bound(tt.blocked)); got != tt.want {
			t.Errorf("%+v: %t", tt, got)
		}
	}
	wantHeld(t, b, 1700)
	m["a"].hold(0, false)
	wantHeld(t, b, 0)
}

// A buffer that stands in many queues weighs as much as its end gives back on average.
func TestSharedMemoryWeighsItsPart(t *testing.T) {
	b := budget.New(100_000)
	buf := pool.GetSize(pool.Large)
	defer buf.Release()
	names := []string{"a", "b", "c", "d"}
	m, log := members(b, append(names, "own")...)
	c := b.CommonCharge(buf)
	if !c.Make(b.Bound(false)) {
		t.Fatal("no room")
	}
	for _, name := range names {
		c.Attach(&m[name].account)
		m[name].hold(m[name].account.Held()+100, true)
		m[name].account.SetStuck(true)
	}
	c.Release()
	m["own"].hold(30_000, true)
	m["own"].account.SetStuck(true)
	if !b.MakeRoom(0, b.Bound(true)) {
		t.Error("no room was made")
	}
	if len(*log) != 1 || (*log)[0] != "own" {
		t.Errorf("ended %v, want the one that holds 30,000 bytes alone", *log)
	}
	for _, name := range names {
		c.Detach(&m[name].account)
		m[name].hold(0, false)
	}
	wantHeld(t, b, 0)
}
