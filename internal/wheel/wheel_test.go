package wheel

import (
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"
	"weak"
)

type entry struct {
	id  int
	pos Position
}

func (e *entry) WheelPosition() *Position { return &e.pos }

const tick = 10 * time.Millisecond

// ms returns n milliseconds.
func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// expire returns the ids visited, in ascending order.
func expire(w *Wheel[*entry], now time.Duration) []int {
	var ids []int
	w.Expire(now, func(e *entry) { ids = append(ids, e.id) })
	slices.Sort(ids)
	return ids
}

// An item is visited at the first tick that is not before its earliest deadline, and within the horizon.
func TestVisitTime(t *testing.T) {
	for _, test := range []struct {
		name    string
		expired int   // time of an Expire before
		arm     []int // deadlines of one item, in the order of their Arm
		silent  int   // latest time without a visit
		visited int   // time of the visit
	}{
		{"on a tick", 0, []int{20}, 19, 20},
		{"between ticks", 0, []int{21}, 29, 30},
		{"just before a tick", 0, []int{29}, 29, 30},
		{"later than armed", 0, []int{20, 50}, 19, 20},
		{"earlier than armed", 0, []int{50, 20}, 19, 20},
		{"back and forth", 0, []int{50, 20, 70, 30}, 19, 20},
		{"same tick", 0, []int{22, 25}, 29, 30},
		{"past", 100, []int{30}, 109, 110},
		{"tick that is over", 105, []int{100}, 109, 110},
		{"now, within a tick", 105, []int{105}, 109, 110},
		{"zero", 0, []int{0}, 9, 10},
		{"negative", 0, []int{-1000}, 9, 10},
		{"end of the horizon", 0, []int{80}, 79, 80},
		{"beyond the horizon", 0, []int{81}, 79, 80},
		{"far beyond", 100, []int{1_000_000_000}, 179, 180},
		{"beyond, then earlier", 0, []int{500, 60}, 59, 60},
		{"second rotation", 100, []int{160}, 159, 160},
		{"earlier across the seam", 70, []int{120, 90}, 89, 90},
		{"later across the seam", 70, []int{80, 120}, 79, 80},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := New[*entry](tick, 8)
			expire(w, ms(test.expired))
			e := &entry{id: 1}
			for _, at := range test.arm {
				w.Arm(e, ms(at))
			}
			if w.Len() != 1 {
				t.Errorf("Len is %d", w.Len())
			}
			if at, ok := w.Next(); at != ms(test.visited) || !ok {
				t.Errorf("Next %v, %v", at, ok)
			}
			if ids := expire(w, ms(test.silent)); ids != nil {
				t.Errorf("visited at %d", test.silent)
			}
			if ids := expire(w, ms(test.visited)); len(ids) != 1 {
				t.Errorf("visited %v at %d", ids, test.visited)
			}
			if at, ok := w.Next(); ok || w.Len() != 0 || e.pos != (Position{}) {
				t.Errorf("afterwards: Next %v, Len %d, %+v", at, w.Len(), e.pos)
			}
		})
	}
}

// After a pause longer than the horizon, one Expire visits each item once.
func TestLongPause(t *testing.T) {
	for _, slots := range []int{1, 2, 63, 64, 65, 1000} {
		w := New[*entry](tick, slots)
		want := make([]int, 3*slots)
		for i := range want {
			want[i] = i
			w.Arm(&entry{id: i}, time.Duration(i)*tick)
		}
		if ids := expire(w, time.Duration(100*slots)*tick); !slices.Equal(ids, want) {
			t.Errorf("%d slots: visited %v", slots, ids)
		}
		if ids := expire(w, time.Duration(200*slots)*tick); ids != nil {
			t.Errorf("%d slots: visited again %v", slots, ids)
		}
	}
}

// A time before that of an earlier Expire visits nothing and makes no later visit late.
func TestClockGoesBack(t *testing.T) {
	w := New[*entry](tick, 8)
	expire(w, ms(100))
	w.Arm(&entry{id: 1}, ms(120))
	if ids := expire(w, ms(50)); ids != nil {
		t.Errorf("visited %v", ids)
	}
	if ids := expire(w, ms(120)); len(ids) != 1 {
		t.Errorf("visited %v", ids)
	}
}

// An item that is armed by a visit is visited by a later Expire, at the next tick at the earliest, however many slots are due.
func TestArmInVisit(t *testing.T) {
	for _, at := range []int{0, 195, 200, 205, 210, 1000} {
		w := New[*entry](tick, 8)
		for id := range 20 {
			w.Arm(&entry{id: id}, ms(10*id))
		}
		visits := 0
		w.Expire(ms(205), func(e *entry) {
			visits++
			w.Arm(e, ms(at))
		})
		if visits != 20 || w.Len() != 20 {
			t.Errorf("at %d: %d visits, %d armed", at, visits, w.Len())
		}
		want := ms(210)
		if at == 1000 {
			want = ms(280)
		}
		if next, _ := w.Next(); next != want {
			t.Errorf("at %d: next at %v", at, next)
		}
		if ids := expire(w, want); len(ids) != 20 {
			t.Errorf("at %d: visited %v", at, ids)
		}
	}
}

// An item that is due and disarmed by the visit of another is not visited.
func TestDisarmInVisit(t *testing.T) {
	w := New[*entry](tick, 8)
	entries := make([]*entry, 30)
	for i := range entries {
		entries[i] = &entry{id: i}
		w.Arm(entries[i], ms(10+i%3*10))
	}
	// Each visit disarms its own item, which does nothing, and two others.
	visited := map[int]bool{}
	gone := map[int]bool{}
	w.Expire(ms(30), func(e *entry) {
		if visited[e.id] || gone[e.id] {
			t.Errorf("visit of %d: before %v, disarmed %v", e.id, visited[e.id], gone[e.id])
		}
		visited[e.id] = true
		w.Disarm(e)
		for _, other := range []int{(e.id + 1) % 30, (e.id + 3) % 30} {
			if !visited[other] {
				gone[other] = true
			}
			w.Disarm(entries[other])
		}
	})
	if len(visited)+len(gone) != 30 || w.Len() != 0 {
		t.Errorf("%d visited, %d disarmed, %d armed", len(visited), len(gone), w.Len())
	}
}

// A visit that arms an item whose own visit is still to come changes nothing.
func TestArmDueInVisit(t *testing.T) {
	w := New[*entry](tick, 8)
	a, b := &entry{id: 1}, &entry{id: 2}
	w.Arm(a, ms(10))
	w.Arm(b, ms(10))
	visits := 0
	w.Expire(ms(10), func(e *entry) {
		if visits++; visits > 1 {
			return
		}
		w.Arm(a, ms(50)) // one of them is e
		w.Arm(b, ms(50))
		if w.Len() != 2 {
			t.Errorf("Len is %d", w.Len())
		}
		if at, ok := w.Next(); at != ms(10) || !ok {
			t.Errorf("Next %v, %v", at, ok)
		}
	})
	if visits != 2 || w.Len() != 1 {
		t.Errorf("%d visits, %d armed", visits, w.Len())
	}
}

// After a visit that panics, the next Expire visits the remaining items.
func TestVisitPanics(t *testing.T) {
	w := New[*entry](tick, 8)
	for id := range 10 {
		w.Arm(&entry{id: id}, ms(10))
	}
	visits := 0
	func() {
		defer func() { _ = recover() }()
		w.Expire(ms(15), func(*entry) {
			if visits++; visits == 4 {
				panic("visit")
			}
		})
	}()
	if at, ok := w.Next(); at > ms(15) || !ok || w.Len() != 6 {
		t.Errorf("Next %v, %v, Len %d", at, ok, w.Len())
	}
	if ids := expire(w, ms(15)); len(ids) != 6 {
		t.Errorf("visited %v", ids)
	}
}

// Arm and Disarm panic for an item that is armed in another wheel.
func TestWrongWheel(t *testing.T) {
	w, other := New[*entry](tick, 8), New[*entry](tick, 1000)
	e := &entry{}
	other.Arm(e, 5*time.Second)
	w.Arm(&entry{}, ms(10))
	for name, op := range map[string]func(){
		"Arm":    func() { w.Arm(e, 0) },
		"Disarm": func() { w.Disarm(e) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s of an item that is armed in another wheel does not panic", name)
				}
			}()
			op()
		}()
	}
}

func TestNewPanics(t *testing.T) {
	for _, args := range []struct {
		tick  time.Duration
		slots int
	}{{0, 8}, {-1, 8}, {tick, 0}, {tick, -1}, {tick, math.MaxInt32}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("New(%v, %d) does not panic", args.tick, args.slots)
				}
			}()
			New[*entry](args.tick, args.slots)
		}()
	}
}

// A wheel keeps no reference to an item that was visited, disarmed, or moved to another slot.
func TestNothingIsKeptAlive(t *testing.T) {
	w := New[*entry](tick, 8)
	var gone []weak.Pointer[entry]
	func() {
		entries := make([]*entry, 20)
		for i := range entries {
			entries[i] = &entry{id: i}
			gone = append(gone, weak.Make(entries[i]))
			w.Arm(entries[i], ms(10+10*(i%2)))
		}
		w.Arm(entries[1], ms(10)) // moves
		for _, e := range entries[10:] {
			w.Disarm(e)
		}
		expire(w, ms(10))
		w.Expire(ms(20), func(e *entry) {
			for _, e := range entries {
				w.Disarm(e)
			}
		})
	}()
	runtime.GC()
	for i, p := range gone {
		if p.Value() != nil {
			t.Errorf("item %d is still referenced", i)
		}
	}
	runtime.KeepAlive(w)
}

// Slots and the list of due items drop their memory after many items were due at once.
func TestMemoryIsGivenBack(t *testing.T) {
	held := func(w *Wheel[*entry]) int {
		n := cap(w.due)
		for _, items := range w.slots {
			n += cap(items)
		}
		return n
	}
	const many = 100_000
	entries := make([]entry, many)
	w := New[*entry](tick, 8)
	for i := range entries {
		w.Arm(&entries[i], ms(10))
	}
	if held(w) < many {
		t.Fatalf("the wheel has a capacity of %d for %d items", held(w), many)
	}
	expire(w, ms(10))
	if n := held(w); n > 8*slotKept+dueKept {
		t.Errorf("the wheel has a capacity of %d after Expire", n)
	}
	for i := range entries {
		w.Arm(&entries[i], ms(20))
	}
	for i := range entries {
		w.Disarm(&entries[i])
	}
	if n := held(w); n > 8*slotKept+dueKept {
		t.Errorf("the wheel has a capacity of %d after Disarm", n)
	}
}

// Arm, Disarm, Next and Expire allocate nothing once the slots have grown.
func TestSteadyStateDoesNotAllocate(t *testing.T) {
	const items = 4000
	w := New[*entry](tick, 64)
	entries := make([]entry, items)
	for i := range entries {
		w.Arm(&entries[i], time.Duration(i%64)*tick)
	}
	now := time.Duration(0)
	visit := func(e *entry) { w.Arm(e, now+640*time.Millisecond) }
	turn := func() {
		now += tick
		w.Expire(now, visit)
		e := &entries[int(now/tick)%items]
		w.Disarm(e)
		w.Arm(e, now+300*time.Millisecond)
		w.Next()
	}
	for range 10 * 64 {
		turn()
	}
	if avg := testing.AllocsPerRun(1000, turn); avg != 0 {
		t.Errorf("%v allocations per turn", avg)
	}
	if w.Len() != items {
		t.Errorf("%d items of %d", w.Len(), items)
	}
}

// Deadlines that keep moving cost few wake-ups, however spread they are, and one that is met is still met at its tick.
func TestGatheredVisits(t *testing.T) {
	for _, tt := range []struct{ gather, most int }{{1, 2000}, {16, 2000/16 + 1}} {
		w := New[*entry](tick, 512)
		const items = 1000
		const timeout = 300 * tick
		r := rand.New(rand.NewPCG(1, 2))
		entries, last, ended := make([]*entry, items), make([]time.Duration, items), make([]time.Duration, items)
		for i := range entries {
			entries[i] = &entry{id: i}
			last[i] = timeout - time.Duration(r.Int64N(int64(50*tick)))
		}
		now := timeout
		w.Gather(tt.gather, func() time.Duration { return now })
		w.Expire(now, nil)
		for i, e := range entries {
			w.Arm(e, last[i]+timeout)
		}
		wakeUps := 0
		const quietFrom = 2000 // up to this tick each item is busy: it hears something once in 50 ticks
		for over := int64(0); w.Len() > 0; {
			at, _ := w.Next()
			if now = at; int64(now/tick)-300 <= quietFrom {
				wakeUps++
			}
			for ; over < min(int64(now/tick)-300, quietFrom); over++ {
				for i := int(over) % 50; i < items; i += 50 {
					last[i] = time.Duration(300+over) * tick
				}
			}
			w.Expire(now, func(e *entry) {
				if due := last[e.id] + timeout; due > now {
					w.Arm(e, due)
					return
				}
				ended[e.id] = now
			})
		}
		if wakeUps > tt.most || tt.gather == 1 && wakeUps < 500 {
			t.Errorf("gathered by %d: %d wake-ups in %d ticks, want at most %d", tt.gather, wakeUps, quietFrom, tt.most)
		}
		for i := range entries {
			if late := ended[i] - (last[i] + timeout); late < 0 || late >= tick {
				t.Fatalf("gathered by %d: a deadline is met %v late", tt.gather, late)
			}
		}
	}
}
