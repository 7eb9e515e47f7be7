package sendqueue

import (
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
}

// segmentMemory is the memory, in bytes, that a segment needs besides its buffer.
const segmentMemory = 64

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
	head, tail *segment
	size       int
	held       int
	scratch    *Scratch // of the callback that runs, nil otherwise; filled only while head is nil (Q1)
}

// Size returns how many bytes have not left.
func (q *Queue) Size() int { return q.size }

// Held returns the memory of all segments, in bytes.
func (q *Queue) Held() int { return q.held }

// Push appends a copy of p. room is how many bytes may be queued in all from now on, p included.
func (q *Queue) Push(p []byte, room int) {
	q.size += len(p)
	if m := q.scratch; m != nil && q.head == nil {
		n := m.add(p)
		p, room = p[n:], room-n
	}
	for len(p) > 0 {
		t := q.tail
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
	q.tail.charge, q.tail.account = c, a
}

// extend appends a segment that owns one reference of b (Q2). It does not count the bytes.
func (q *Queue) extend(b *pool.Buffer, own bool) *segment {
	t := segmentPool.Get().(*segment)
	memory := cap(b.B)
	if !own { // what Push fills is never moved
		memory = b.Memory()
	}
	t.buf, t.own, t.cost = b, own, memory+budget.BufferOverhead+segmentMemory
	q.held += t.cost
	if q.tail == nil {
		q.head = t
	} else {
		q.tail.next = t
	}
	q.tail = t
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
	take(q.scratch.rest())
	for t := q.head; t != nil && len(slices) < maxSegments && left > 0; t = t.next {
		take(t.buf.B[t.off:])
	}
	return slices
}

// Consume removes the first n bytes and gives up the buffers they emptied.
func (q *Queue) Consume(n int) {
	q.size -= n
	if rest := len(q.scratch.rest()); rest > 0 {
		k := min(n, rest)
		q.scratch.off += k
		n -= k
	}
	for t := q.head; t != nil; t = q.head {
		rest := len(t.buf.B) - t.off
		if n < rest {
			t.off += n
			return
		}
		n -= rest
		q.pop()
	}
}

// pop removes the first segment and gives up its buffer.
func (q *Queue) pop() {
	t := q.head
	q.head = t.next
	if q.head == nil {
		q.tail = nil
	}
	q.held -= t.cost
	if t.charge != nil {
		t.charge.Detach(t.account)
	}
	t.buf.Release()
	t.next, t.buf, t.off, t.charge, t.account = nil, nil, 0, nil, nil
	segmentPool.Put(t)
}

// Compact copies everything to segments of the queue's own. There must be no scratch memory, and nobody may hold the slices of Gather.
func (q *Queue) Compact() {
	old := Queue{head: q.head, tail: q.tail, held: q.held}
	q.head, q.tail, q.held = nil, nil, 0
	for left := q.size; old.head != nil; old.pop() {
		rest := old.head.buf.B[old.head.off:]
		q.size -= len(rest) // Push counts them again
		q.Push(rest, left)
		left -= len(rest)
	}
}

// Drop empties the queue and returns how many bytes will not leave.
func (q *Queue) Drop() int {
	n := q.size
	for q.head != nil {
		q.pop()
	}
	*q = Queue{}
	return n
}

// Segments calls f for each segment with its buffer, what it is counted for besides the buffer's memory, and whether the buffer has a charge
// in common with other queues. It is for checks of the accounts.
func (q *Queue) Segments(f func(buf *pool.Buffer, overhead int, shared bool)) {
	for t := q.head; t != nil; t = t.next {
		f(t.buf, segmentMemory, t.charge != nil)
	}
}
