package sendqueue

import (
	"math"
	"sync"

	"github.com/servercore-go/servercore/internal/budget"
	"github.com/servercore-go/servercore/pool"
)

const (
	// maxSegments is the most slices that one writev takes: IOV_MAX of Linux and the BSDs.
	maxSegments = 1024
	// WriteBudget bounds the bytes of one gathered write: the loop, and everything else on its processor, waits for it. It is a
	// multiple of what a call into the kernel costs.
	WriteBudget = 256 << 10
)

// A segment is one buffer of the queue. Segments are pooled apart from the buffers because a shared buffer may stand in many queues at
// once.
type segment struct {
	next *segment
	buf  *pool.Buffer
	off  int  // bytes that have left; not 0 in the head only
	cost int  // memory held with it, in bytes
	own  bool // filled by Push: its spare room may be used. False for a buffer that others may hold.

	charge  *budget.Charge  // for a buffer that other queues hold too, nil if it is this queue's own
	account *budget.Account // of the queue's owner, if charge is not nil

	chain chain // of the queue, if this is its first segment
}

// segmentMemory is the memory, in bytes, that a segment needs besides its buffer: what the allocator takes for one.
const segmentMemory = 96

// A chain is what a queue needs while it is not empty. It is in the first segment, or in scratch memory that is lent, so that an empty queue is
// two words and nothing has to be allocated for one that fills.
type chain struct {
	head, tail *segment
	held       int
	scratch    *Scratch // of the callback that runs, nil otherwise; filled only while head is nil (Q1)

	mark   uint32 // what Mark was given
	toMark uint32 // bytes up to the mark, and one; 0 without a mark
}

var segmentPool = sync.Pool{New: func() any { return new(segment) }}

// Queue is a send queue. The zero value is empty and ready for use.
//
// Each segment is filled to its end before the next begins. The first 32 KiB are in pages, so that a short queue wastes little at its ends.
// A longer queue goes on in segments of up to 64 KiB, so that it wastes little on what describes it. From a page on, no segment is larger
// than a quarter of what waits already, than a sixteenth of the limit, or than what may still be queued. So a queue of copied bytes holds its
// bytes, the part of its first segment that has left, and no more than a quarter besides, or a page.
//
// A buffer that is not the queue's own holds all of its memory until its last byte has left. It is copied instead of kept where that would
// lift the memory of the queue above its ceiling, or, if no other queue has it, where it has more than a page and more than twice its bytes.
// A queue whose kernel is full and that holds more than the ceiling all the same is copied as a whole (Compact).
type Queue struct {
	chain *chain // nil while there is neither a segment nor scratch memory
	size  int
}

// Size returns how many bytes have not left.
func (q *Queue) Size() int { return q.size }

// Held returns the memory of all segments, in bytes.
func (q *Queue) Held() int {
	if q.chain == nil {
		return 0
	}
	return q.chain.held
}

// head returns the first segment, nil if there is none.
func (q *Queue) head() *segment {
	if q.chain == nil {
		return nil
	}
	return q.chain.head
}

// tail returns the last segment, nil if there is none.
func (q *Queue) tail() *segment {
	if q.chain == nil {
		return nil
	}
	return q.chain.tail
}

// lent returns the scratch memory, nil if none is lent.
func (q *Queue) lent() *Scratch {
	if q.chain == nil {
		return nil
	}
	return q.chain.scratch
}

// Push appends a copy of p. room is how many bytes may be queued in all from now on, p included.
func (q *Queue) Push(p []byte, room int) {
	q.size += len(p)
	if m := q.lent(); m != nil && q.chain.head == nil {
		n := m.add(p)
		p, room = p[n:], room-n
	}
	for len(p) > 0 {
		t := q.tail()
		if t == nil || !t.own || len(t.buf.B) == cap(t.buf.B) {
			t = q.extend(pool.GetSize(q.end().grow(len(p), q.size-len(p), room)), true)
		}
		n := min(len(p), cap(t.buf.B)-len(t.buf.B))
		t.buf.B = append(t.buf.B, p[:n]...)
		p, room = p[n:], room-n
	}
}

// Ref is a buffer that is not a queue's own: it may be kept instead of copied.
type Ref struct {
	Buf       *pool.Buffer   // stays the caller's; nil is none
	Charge    *budget.Charge // for it; nil without a budget, or if it is for one queue alone
	Exclusive bool           // nobody else holds it
	MinKept   int            // a shorter one, in bytes, is not worth a segment behind others
}

// Add appends the bytes of r. It returns true if the buffer is kept, with a reference of the queue's own, and false if the bytes were copied.
// room is as for Push, limit as for Keeps.
func (q *Queue) Add(r Ref, room, limit int) (kept bool) {
	if !q.Keeps(r, limit) {
		q.Push(r.Buf.B, room)
		return false
	}
	q.size += len(r.Buf.B)
	q.extend(r.Buf.Retain(), false)
	return true
}

// AttachCharge makes the queue a holder of the charge for the buffer that Add has just kept. a is the account of the queue's owner.
func (q *Queue) AttachCharge(c *budget.Charge, a *budget.Account) {
	c.Attach(a)
	t := q.chain.tail
	t.charge, t.account = c, a
}

// extend appends a segment that owns one reference of b (Q2). It does not count the bytes.
func (q *Queue) extend(b *pool.Buffer, own bool) *segment {
	t := segmentPool.Get().(*segment)
	memory := cap(b.B)
	if !own { // what Push fills is never moved
		memory = b.Memory()
	}
	t.buf, t.own, t.cost = b, own, memory+budget.BufferOverhead+segmentMemory
	c := q.chain
	if c == nil {
		c = &t.chain
		q.chain = c
	}
	c.held += t.cost
	if c.tail == nil {
		c.head = t
	} else {
		c.tail.next = t
	}
	c.tail = t
	return t
}

// Gather returns what leaves next, in the slices of m: at most 1,024 slices of together most bytes. They are valid until Consume. nil or an
// empty result means that nothing is queued.
func (q *Queue) Gather(m *Scratch, most int) [][]byte {
	slices, left := m.slices[:0], most
	take := func(rest []byte) {
		if rest = rest[:min(len(rest), left)]; len(rest) > 0 {
			slices, left = append(slices, rest), left-len(rest)
		}
	}
	take(q.lent().rest())
	for t := q.head(); t != nil && len(slices) < maxSegments && left > 0; t = t.next {
		take(t.buf.B[t.off:])
	}
	return slices
}

// maxToMark is the most bytes in front of a mark that are counted. A longer queue is not marked.
const maxToMark = math.MaxInt32 - 1

// Mark marks the end of the queue with a number, which Consume returns when the last byte in front of it has left. A queue that is empty, or longer
// than 2 GiB, is not marked. A queue has one mark: the caller asks Marked before.
func (q *Queue) Mark(number uint32) {
	if q.size > 0 && q.size <= maxToMark {
		q.chain.mark, q.chain.toMark = number, uint32(q.size)+1
	}
}

// Marked reports whether there is a mark that has not left.
func (q *Queue) Marked() bool { return q.chain != nil && q.chain.toMark > 0 }

// passMark notes that n bytes leave, and returns the mark if it leaves with them.
func (c *chain) passMark(n int) (mark uint32, passed bool) {
	c.toMark -= min(uint32(min(n, maxToMark)), c.toMark-1)
	if c.toMark > 1 {
		return 0, false
	}
	c.toMark = 0
	return c.mark, true
}

// Consume removes the first n bytes and gives up the buffers they emptied. It returns the number of a mark that leaves with them.
func (q *Queue) Consume(n int) (mark uint32, passed bool) {
	if q.Marked() {
		mark, passed = q.chain.passMark(n)
	}
	q.size -= n
	if m := q.lent(); len(m.rest()) > 0 {
		k := min(n, len(m.rest()))
		m.off += k
		n -= k
	}
	for t := q.head(); t != nil; t = q.head() {
		rest := len(t.buf.B) - t.off
		if n < rest {
			t.off += n
			return mark, passed
		}
		n -= rest
		q.pop()
	}
	return mark, passed
}

// pop removes the first segment and gives up its buffer.
func (q *Queue) pop() {
	c := q.chain
	t := c.head
	c.head = t.next
	if c.head == nil {
		c.tail = nil
	}
	c.held -= t.cost
	if c == &t.chain {
		q.keep(c)
	}
	if t.charge != nil {
		t.charge.Detach(t.account)
	}
	t.buf.Release()
	t.next, t.buf, t.off, t.charge, t.account = nil, nil, 0, nil, nil
	segmentPool.Put(t)
}

// keep moves the chain from c, which is given up, to the first segment.
func (q *Queue) keep(c *chain) {
	if c.head == nil {
		q.chain = nil
	} else {
		q.chain = &c.head.chain
		*q.chain = *c
	}
	*c = chain{}
}

// Compact copies everything to segments of the queue's own. There must be no scratch memory, and nobody may hold the slices of Gather.
func (q *Queue) Compact() {
	old, marked := Queue{chain: q.chain}, q.Marked()
	var mark, toMark uint32
	if marked {
		mark, toMark = q.chain.mark, q.chain.toMark
	}
	q.chain = nil
	for left := q.size; old.chain != nil; old.pop() {
		t := old.chain.head
		rest := t.buf.B[t.off:]
		q.size -= len(rest) // Push counts them again
		q.Push(rest, left)
		left -= len(rest)
	}
	if marked {
		q.chain.mark, q.chain.toMark = mark, toMark
	}
}

// Drop empties the queue and returns how many bytes will not leave.
func (q *Queue) Drop() int {
	n := q.size
	for q.head() != nil {
		q.pop()
	}
	if q.chain != nil {
		*q.chain = chain{}
	}
	*q = Queue{}
	return n
}

// Segments calls f for each segment with its buffer, what it is counted for besides the buffer's memory, and whether the buffer has a charge
// in common with other queues. It is for checks of the accounts.
func (q *Queue) Segments(f func(buf *pool.Buffer, overhead int, shared bool)) {
	for t := q.head(); t != nil; t = t.next {
		f(t.buf, segmentMemory, t.charge != nil)
	}
}
