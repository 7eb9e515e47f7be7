// Package wheel keeps hundreds of thousands of deadlines for an event loop. Most of them are idle timeouts, which move to a later time
// with every message and are rarely reached.
//
// It is a hashed timing wheel that moves its items lazily. Time is divided into ticks, and each tick of the near future has a slot. An
// item is armed for the earliest of its deadlines. Moving that deadline to a later time costs nothing, because the item stays in its
// slot: when it is visited, it finds that time is left and arms itself again. So an item that is busy all day is touched once per
// timeout, not once per message.
//
// A wheel promises one thing: a visit is never late. An item is visited at the first tick that is not before the time asked for, or
// earlier. The item decides what a visit means.
package wheel

import (
	"fmt"
	"math"
	"math/bits"
	"time"
)

// Position is the position of an item in its wheel. It is a field of the item and belongs to the wheel. Its zero value means that the
// item is not armed. An armed item must not be copied.
type Position struct {
	slot  int32 // number of the slot plus one, or dueSlot, or 0 if not armed
	index int32 // index in that slot
}

// dueSlot is the slot of items that Expire has taken out of the wheel and not visited yet.
const dueSlot = -1

// Item is what a wheel holds, usually a pointer. WheelPosition must return the same address for the same item, always.
type Item interface {
	comparable
	WheelPosition() *Position
}

// The largest capacity, in items, that an empty slot and the empty list of due items keep. With pointers as items, a slot keeps 2 KiB
// at most.
const (
	slotKept = 256
	dueKept  = 4096
)

// A Wheel holds items by the time of their next visit. It is not safe for concurrent use: the wheel and the positions of its items
// belong to one goroutine. An item belongs to one wheel while it is armed.
//
// All times are readings of one monotonic clock of the caller, since any moment. They are not negative.
type Wheel[T Item] struct {
	tick  time.Duration
	slots [][]T

	// One bit per slot, set if the slot is not empty.
	occupied []uint64

	// The ticks up to and including done have passed. The slots hold the ticks from done+1 to done+len(slots): tick n is in slot
	// n%len(slots).
	done int64

	// Items taken out of their slots and not visited yet. Empty unless Expire is running, or a visit has panicked.
	due []T

	count int // armed items: those in slots and in due

	gather int64 // see Gather
	clock  func() time.Duration
}

// New returns an empty wheel. The tick is the precision of the visits. tick times slots is the horizon: an item is visited at least
// that often. A slot costs one bit and one slice header. New panics if an argument is less than one, or if slots does not fit into
// 31 bits.
func New[T Item](tick time.Duration, slots int) *Wheel[T] {
	if tick < 1 || slots < 1 || slots >= math.MaxInt32 {
		panic(fmt.Sprintf("wheel: %d slots of %v", slots, tick))
	}
	return &Wheel[T]{
		tick:     tick,
		slots:    make([][]T, slots),
		occupied: make([]uint64, (slots+63)/64),
	}
}

// Gather has visits that are far away come together: an item whose visit is more than two times so many ticks ahead is visited earlier, at a tick
// whose number is a multiple of ticks. When it arms itself again then, what is left is near, and exact. So a visit that only finds that the
// deadline has moved is shared with others, and a deadline that is met takes one visit more. clock tells the time: the latest Expire may be long ago.
// Arm reads it only for an item that is far from that and is to be visited earlier than before. One tick or less is off, the default. Gather is called
// before Arm.
//
// The timer wheel of Linux (kernel/time/timer.c) rounds what is far away too, but to a later time, by an eighth.
func (w *Wheel[T]) Gather(ticks int, clock func() time.Duration) {
	w.gather, w.clock = int64(ticks), clock
}

// Arm schedules a visit at the first tick that is not before at. If the item is already armed for that tick or an earlier one, nothing
// changes. A time in the past, or within a tick that has passed, means the next tick. A time beyond the horizon means its last tick. With Gather
// the visit may be earlier.
// The horizon starts at the latest Expire, so a loop that calls Expire in each turn has fewer visits than a loop that calls it only
// when Next says so.
func (w *Wheel[T]) Arm(item T, at time.Duration) {
	n := int64(at / w.tick)
	if at%w.tick > 0 {
		n++
	}
	n = min(max(n, w.done+1), w.done+int64(len(w.slots)))
	pos := item.WheelPosition()
	if g := w.gather; g > 1 && n-w.done > 2*g {
		if early := n - n%g; pos.slot > 0 && w.tickOf(int(pos.slot-1)) <= early || n-int64(w.clock()/w.tick) > 2*g {
			n = early
		}
	}
	switch {
	case pos.slot == dueSlot:
		w.verify(item, pos)
		return
	case pos.slot != 0:
		w.verify(item, pos)
		if w.tickOf(int(pos.slot-1)) <= n {
			return
		}
		w.takeOut(pos)
	}
	slot := int(n % int64(len(w.slots)))
	*pos = Position{slot: int32(slot + 1), index: int32(len(w.slots[slot]))}
	w.slots[slot] = append(w.slots[slot], item)
	w.occupied[slot/64] |= 1 << (slot % 64)
	w.count++
}

// tickOf returns the tick whose items the slot holds.
func (w *Wheel[T]) tickOf(slot int) int64 {
	first := w.done + 1
	ahead := slot - int(first%int64(len(w.slots)))
	if ahead < 0 {
		ahead += len(w.slots)
	}
	return first + int64(ahead)
}

// Disarm cancels the visit of an item. It does nothing if the item is not armed. When it returns, the wheel holds no reference to the
// item. Its cost does not depend on the number of items.
func (w *Wheel[T]) Disarm(item T) {
	pos := item.WheelPosition()
	if pos.slot == 0 {
		return
	}
	w.verify(item, pos)
	w.takeOut(pos)
}

// takeOut removes the item at a position, moves the last item of the slot into the gap, and sets the position to zero.
func (w *Wheel[T]) takeOut(pos *Position) {
	list := w.listOf(pos)
	items := *list
	last := len(items) - 1
	if i := int(pos.index); i != last {
		items[i] = items[last]
		items[i].WheelPosition().index = pos.index
	}
	var none T
	items[last] = none
	*list = items[:last]
	if last == 0 && pos.slot != dueSlot {
		w.vacate(int(pos.slot - 1))
	}
	*pos = Position{}
	w.count--
}

func (w *Wheel[T]) listOf(pos *Position) *[]T {
	if pos.slot == dueSlot {
		return &w.due
	}
	return &w.slots[pos.slot-1]
}

// verify panics if the item is not where its position says: it was armed in another wheel, or copied. To go on would remove another
// item in its place and lose a deadline without a trace.
func (w *Wheel[T]) verify(item T, pos *Position) {
	if int(pos.slot) <= len(w.slots) {
		if items := *w.listOf(pos); int(pos.index) < len(items) && items[pos.index] == item {
			return
		}
	}
	panic("wheel: the item is not where its position says: it was copied, or armed in another wheel")
}

// vacate marks a slot as empty. Its items have been cleared.
func (w *Wheel[T]) vacate(slot int) {
	w.occupied[slot/64] &^= 1 << (slot % 64)
	if cap(w.slots[slot]) > slotKept {
		w.slots[slot] = nil
	} else {
		w.slots[slot] = w.slots[slot][:0]
	}
}

// Next returns the time at which Expire will visit an item; ok is false if no item is armed. A later Arm or Disarm may change that
// time. At worst Next looks at one bit per slot, 64 at a time.
func (w *Wheel[T]) Next() (at time.Duration, ok bool) {
	if len(w.due) > 0 { // called by a visit, or after one that panicked
		return time.Duration(w.done) * w.tick, true
	}
	n, ok := w.occupiedFrom(w.done + 1)
	return time.Duration(n) * w.tick, ok
}

// occupiedFrom returns the first tick not before n whose slot holds items. The slots of the ticks from done+1 to n-1 must be empty.
func (w *Wheel[T]) occupiedFrom(n int64) (tick int64, ok bool) {
	if w.count == len(w.due) {
		return 0, false
	}
	start := int(n % int64(len(w.slots)))
	i := start / 64
	word := w.occupied[i] &^ (1<<(start%64) - 1)
	for word == 0 {
		if i++; i == len(w.occupied) {
			i = 0
		}
		word = w.occupied[i]
	}
	ahead := i*64 + bits.TrailingZeros64(word) - start
	if ahead < 0 {
		ahead += len(w.slots)
	}
	return n + int64(ahead), true
}

// Expire removes every item whose tick is not after now and calls visit for it, once, in no particular order. The item is no longer
// armed when its visit begins.
//
// A visit may arm and disarm any item, also its own. An item that it arms is visited by a later call, at the next tick at the earliest.
// An item that it disarms is not visited, even if it was due. A visit may call Next and Len, which count the items that are due and not
// visited yet. It must not call Expire. If a visit panics, the next call of Expire visits the remaining items.
//
// A time before that of an earlier call does nothing. A call that finds nothing due costs as much as Next, however much time has
// passed.
func (w *Wheel[T]) Expire(now time.Duration, visit func(T)) {
	if current := int64(now / w.tick); current > w.done {
		w.collect(current)
	}
	var none T
	for len(w.due) > 0 {
		last := len(w.due) - 1
		item := w.due[last]
		w.due[last] = none
		w.due = w.due[:last]
		w.count--
		*item.WheelPosition() = Position{}
		visit(item)
	}
	if cap(w.due) > dueKept {
		w.due = nil
	}
}

// collect moves the items of all ticks up to current to the list of due items, and makes current the last tick that has passed. From
// then on visits may arm items again: none of those can be due in this call of Expire.
func (w *Wheel[T]) collect(current int64) {
	n, ok := w.occupiedFrom(w.done + 1)
	for ok && n <= current {
		slot := int(n % int64(len(w.slots)))
		items := w.slots[slot]
		for _, item := range items {
			*item.WheelPosition() = Position{slot: dueSlot, index: int32(len(w.due))}
			w.due = append(w.due, item)
		}
		clear(items)
		w.slots[slot] = items[:0]
		w.vacate(slot)
		n, ok = w.occupiedFrom(n + 1)
	}
	w.done = current
}

// Len returns the number of armed items.
func (w *Wheel[T]) Len() int { return w.count }
