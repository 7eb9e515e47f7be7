package wheel

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model is what a wheel must do, kept as a map from each armed item to its visit. It knows nothing of slots.
type model struct {
	wheel   *Wheel[*entry]
	slots   int
	gather  int64
	entries []*entry
	armed   map[*entry]visitTime
	now     time.Duration
	expired time.Duration // latest time given to Expire

	anyEntry *rapid.Generator[*entry]
	anySpan  *rapid.Generator[int64] // nanoseconds from now to a deadline, or to the next Expire
}

// visitTime is when an item is visited.
type visitTime struct {
	tick  int64         // the tick of the visit
	asked time.Duration // earliest deadline asked for, or the time of asking if that is later
}

func newModel(t *rapid.T) *model {
	slots := rapid.SampledFrom([]int{1, 2, 3, 7, 64, 65, 130}).Draw(t, "slots")
	horizon := time.Duration(slots) * tick
	m := &model{
		wheel:   New[*entry](tick, slots),
		slots:   slots,
		gather:  rapid.SampledFrom([]int64{0, 1, 2, 5, 16}).Draw(t, "gather"),
		entries: make([]*entry, rapid.IntRange(1, 40).Draw(t, "items")),
		armed:   map[*entry]visitTime{},
		now:     time.Duration(rapid.IntRange(0, 1000).Draw(t, "start")) * time.Millisecond,
		anySpan: rapid.OneOf(
			rapid.Int64Range(-int64(tick), 3*int64(tick)),
			rapid.Int64Range(-int64(horizon), 3*int64(horizon)),
		),
	}
	m.wheel.Gather(int(m.gather), func() time.Duration { return m.now })
	for i := range m.entries {
		m.entries[i] = &entry{id: i}
	}
	m.anyEntry = rapid.SampledFrom(m.entries)
	return m
}

// visitOf returns when an item that was not armed is visited, if it is armed for at.
func (m *model) visitOf(at time.Duration) visitTime {
	over := int64(m.expired / tick)
	n := int64(math.Ceil(float64(at) / float64(tick)))
	n = min(max(n, over+1), over+int64(m.slots))
	if m.gather > 1 && n > int64(max(m.now, m.expired)/tick)+2*m.gather {
		n = n / m.gather * m.gather
	}
	return visitTime{tick: n, asked: max(at, m.expired)}
}

func (m *model) arm(t *rapid.T) {
	e := m.anyEntry.Draw(t, "arm")
	at := m.now + time.Duration(m.anySpan.Draw(t, "in"))
	m.wheel.Arm(e, at)

	v := m.visitOf(at)
	if old, ok := m.armed[e]; ok {
		v = visitTime{tick: min(v.tick, old.tick), asked: min(v.asked, old.asked)}
	}
	m.armed[e] = v
}

func (m *model) disarm(t *rapid.T) {
	e := m.anyEntry.Draw(t, "disarm")
	m.wheel.Disarm(e)
	delete(m.armed, e)
}

// expire moves the clock, sometimes to exactly the time that Next returns, and checks which items are visited.
func (m *model) expire(t *rapid.T) {
	m.now = max(0, m.now+time.Duration(m.anySpan.Draw(t, "later")))
	if rapid.Bool().Draw(t, "at next") {
		if at, ok := m.wheel.Next(); ok {
			m.now = at
		}
	}
	m.expired = max(m.expired, m.now)

	due := map[*entry]bool{}
	for e, v := range m.armed {
		if v.tick <= int64(m.expired/tick) {
			due[e] = true
		}
	}
	m.wheel.Expire(m.now, func(e *entry) {
		if !due[e] {
			t.Fatalf("item %d is visited, but it is not due, or disarmed, or was visited before", e.id)
		}
		delete(due, e)
		delete(m.armed, e)
		m.armAndDisarmInVisit(t, e, due)
		if m.wheel.Len() != len(m.armed) {
			t.Fatalf("Len is %d in a visit, want %d", m.wheel.Len(), len(m.armed))
		}
	})
	for e := range due {
		t.Fatalf("item %d is not visited", e.id)
	}
	for e, v := range m.armed { // the promise of the package, without any arithmetic of ticks
		if m.now >= v.asked+tick {
			t.Fatalf("item %d was armed for %v and still waits at %v", e.id, v.asked, m.now)
		}
	}
}

// armAndDisarmInVisit calls the wheel from the visit of e, as a visit may: for e itself or for another item. due has the items whose
// visits are still to come.
func (m *model) armAndDisarmInVisit(t *rapid.T, e *entry, due map[*entry]bool) {
	switch rapid.IntRange(0, 5).Draw(t, "visit") {
	case 0:
		at := m.now + time.Duration(m.anySpan.Draw(t, "again in"))
		m.wheel.Arm(e, at)
		m.armed[e] = m.visitOf(at)
	case 1:
		other := m.anyEntry.Draw(t, "disarm other")
		m.wheel.Disarm(other)
		delete(due, other)
		delete(m.armed, other)
	case 2:
		other := m.anyEntry.Draw(t, "arm other")
		if due[other] {
			m.wheel.Arm(other, m.now+time.Duration(m.anySpan.Draw(t, "due in")))
			return // its visit is still to come, so this changes nothing
		}
		if _, ok := m.armed[other]; !ok {
			m.wheel.Arm(other, m.now)
			m.armed[other] = m.visitOf(m.expired)
		}
	}
}

// check compares Len, Next and the positions of all items with the model.
func (m *model) check(t *rapid.T) {
	if m.wheel.Len() != len(m.armed) {
		t.Fatalf("Len is %d, want %d", m.wheel.Len(), len(m.armed))
	}
	first := int64(math.MaxInt64)
	for _, v := range m.armed {
		first = min(first, v.tick)
	}
	at, ok := m.wheel.Next()
	if ok != (len(m.armed) > 0) || ok && at != time.Duration(first)*tick {
		t.Fatalf("Next is %v, %v, want tick %d of %d items", at, ok, first, len(m.armed))
	}
	for _, e := range m.entries {
		if _, ok := m.armed[e]; ok != (e.pos.slot != 0) {
			t.Fatalf("item %d: armed %v, position %+v", e.id, ok, e.pos)
		}
	}
}

// A wheel does what the model does, for random sequences of calls.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t)
		t.Repeat(map[string]func(*rapid.T){
			"arm":    m.arm,
			"disarm": m.disarm,
			"expire": m.expire,
			"":       m.check,
		})
	})
}
