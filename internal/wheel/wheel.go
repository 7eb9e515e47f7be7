// Package wheel keeps deadlines by the hundred thousand for a loop that looks
// at them rarely: most are put off many times for every time they are due.
//
// It is a hashed timing wheel that moves its items lazily. Time is cut into
// ticks, and the ticks of the near future have a slot each. An item is armed
// for the earliest of its deadlines. Putting that off costs nothing, because
// nothing is moved: the item is visited at the time it was armed for, finds
// that it has time left, and arms itself anew. So an item that is busy all day
// is touched once per timeout, not once per message.
//
// A wheel therefore promises one thing: never later. An item is visited at the
// first tick not before the time asked for, or sooner; what a visit means is
// for the item to decide.
package wheel

import (
	"fmt"
	"math"
	"math/bits"
	"time"
)

// Position is where an item sits in its wheel. It lives inside the item and
// belongs to the wheel; the zero value says that the item is not armed. An
// item that is armed must not be copied.
type Position struct {
	// The number of the slot plus one, or dueSlot, or zero.
	slot int32
	// The place in that slot.
	index int32
}

// dueSlot stands for the list of items that Expire has still to visit.
const dueSlot = -1

// Item is what a wheel holds, usually a pointer. WheelPosition returns the
// same address whenever it is called on the same item.
type Item interface {
	comparable
	WheelPosition() *Position
}

// slotKept is how many places an empty slot may keep for the next time, and
// dueKept how many the list of due items. With pointers as items, that is at
// most 2 KiB a slot.
const (
	slotKept = 256
	dueKept  = 4096
)

// A Wheel holds items by the time of their next visit. It is not safe for
// concurrent use: it belongs to one loop, and so do the positions of its
// items. An item belongs to one wheel as long as it is armed.
//
// All times are readings of one monotonic clock of the caller's, counted from
// any moment; they are not negative.
type Wheel[T Item] struct {
	tick  time.Duration
	slots [][]T

	// One bit per slot, set if the slot is not empty.
	occupied []uint64

	// The ticks up to and including done are over. The slots hold the ticks
	// from done+1 to done+len(slots), tick n in slot n%len(slots).
	done int64

	// Taken out of their slots, not visited yet. Empty unless Expire is
	// running, or a visit panicked.
	due []T

	count int // items in slots and due
}

// New returns an empty wheel. A tick is the precision of the visits; tick
// times slots is the horizon, the longest time that an item is left alone.
// One bit and one slice header are held per slot. New panics if either
// argument is less than one, or slots does not fit 31 bits.
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

// Arm asks for a visit at the first tick that is not before at. If the item is
// armed for that tick or an earlier one already, nothing changes. A time that
// is past, or in a tick that is over, means the next tick; a time beyond the
// horizon means its last tick. The horizon counts from the latest Expire, so a
// loop that calls Expire on each turn has fewer visits than one that calls it
// only when Next says so.
func (w *Wheel[T]) Arm(item T, at time.Duration) {
	n := int64(at / w.tick)
	if at%w.tick > 0 {
		n++
	}
	n = min(max(n, w.done+1), w.done+int64(len(w.slots)))

	pos := item.WheelPosition()
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

// Disarm cancels the visit of an item; there may be none. The wheel does not
// refer to the item any more when Disarm returns. The cost does not depend on
// how many items there are.
func (w *Wheel[T]) Disarm(item T) {
	pos := item.WheelPosition()
	if pos.slot == 0 {
		return
	}
	w.verify(item, pos)
	w.takeOut(pos)
}

// takeOut vacates a position, fills the gap with the last item of the slot,
// and sets the position to zero.
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

// verify panics if the item does not sit where its position says. That is the
// case if it was armed in another wheel or copied, and removing somebody else
// in its place would lose a deadline silently.
func (w *Wheel[T]) verify(item T, pos *Position) {
	if int(pos.slot) <= len(w.slots) {
		if items := *w.listOf(pos); int(pos.index) < len(items) && items[pos.index] == item {
			return
		}
	}
	panic("wheel: item is not where its position says")
}

// vacate notes that a slot has become empty. The places have been cleared.
func (w *Wheel[T]) vacate(slot int) {
	w.occupied[slot/64] &^= 1 << (slot % 64)
	if cap(w.slots[slot]) > slotKept {
		w.slots[slot] = nil
	} else {
		w.slots[slot] = w.slots[slot][:0]
	}
}

// Next returns when Expire will have something to do; ok is false if nothing
// is armed. Disarm may take that time back and Arm may bring it forward. The
// cost is a look at one bit per slot at worst, 64 at a time.
func (w *Wheel[T]) Next() (at time.Duration, ok bool) {
	if len(w.due) > 0 { // a visit has panicked, or calls us
		return time.Duration(w.done) * w.tick, true
	}
	n, ok := w.occupiedFrom(w.done + 1)
	return time.Duration(n) * w.tick, ok
}

// occupiedFrom returns the first tick not before n whose slot holds items. The
// slots of the ticks from done+1 to n-1 have to be empty.
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

// Expire takes out every item whose tick is not after now and calls visit for
// it, once, in no particular order. The item is not armed any more when its
// visit begins.
//
// A visit may arm and disarm any item, its own included. What it arms is
// visited by a later call, at the next tick at the earliest; what it disarms
// is not visited, even if it was due. It may call Next and Len, which count
// what is due and not visited yet. It must not call Expire. If a visit
// panics, the next call of Expire goes on with the others.
//
// A time before that of an earlier call does nothing. A call that finds
// nothing due costs as much as Next, however much time has passed.
func (w *Wheel[T]) Expire(now time.Duration, visit func(T)) {
	if today := int64(now / w.tick); today > w.done {
		w.collect(today)
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

// collect moves the items of all ticks up to today to the list of due items
// and makes today the last tick that is over. From then on the slots have
// room for what the visits arm, and nothing of that can be due in this call.
func (w *Wheel[T]) collect(today int64) {
	n, ok := w.occupiedFrom(w.done + 1)
	for ok && n <= today {
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
	w.done = today
}

// Len returns how many items are armed.
func (w *Wheel[T]) Len() int { return w.count }
