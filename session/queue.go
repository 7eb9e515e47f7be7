package session

import (
	"math"
	"math/bits"
	"sync"

	"github.com/servercore-go/servercore/pool"
)

const (
	// maxSegments is the most one writev takes: IOV_MAX of Linux and the BSDs.
	maxSegments = 1024
	// writeBudget bounds the bytes of one gathered write: the loop, and whoever waits for its processor, have to wait
	// for it. It is a multiple of what a call into the kernel costs.
	writeBudget = 256 << 10
	// scratchSize is the memory lent to a running callback; it matches the 64 KiB a loop reads at once, so that
	// an echo of whatever arrived is one write without a pooled buffer.
	scratchSize = 64 << 10
	// longQueue is the length, in bytes, from which a queue goes on in larger segments than pages: up to a quarter of it.
	longQueue = 32 << 10
)

// A segment is one buffer of the queue. Segments are pooled apart from the buffers because a shared buffer may
// stand in many queues at once.
type segment struct {
	next *segment
	buf  *pool.Buffer
	off  int  // bytes that have left; of the head only
	cost int  // memory held with it, in bytes
	own  bool // filled by Send: its spare room may be used. False for SendBuffer's, which others may hold.

	shared *shared // the charge for a buffer that other queues hold too, nil if it is this session's own
	slow   *slow   // of the session, if shared is not nil
}

// The memory, in bytes, of a segment, and of what package pool adds to a buffer.
const (
	segmentMemory = 64
	bufferMemory  = 80
)

var segments = sync.Pool{New: func() any { return new(segment) }}

// queue is the gathered send queue: bytes in the order of their acceptance, in the scratch memory of a running
// callback first, then in segments. The session's mutex guards it.
//
// Each segment is filled to its end before the next begins. The first 32 KiB are in pages, so that a short queue
// wastes little at its ends; a longer one goes on in segments of up to 64 KiB, so that a long queue wastes little on
// what describes it. From a page on, no segment is larger than a quarter of what waits already, than a sixteenth of SendLimit, or
// than what may still be queued. So a queue of what Send has copied holds its bytes, the part of its first segment that has left,
// and no more than a quarter besides, or a page.
//
// A buffer that is not the queue's own, of SendBuffer or of a Broadcast, holds all of its memory until its last byte has left. It
// is copied instead of kept where that would lift the memory of the queue above its ceiling, or, if no other queue has it, where it
// has more than a page and more than twice its bytes. A queue whose kernel is full and that holds more than the ceiling all the same is
// copied as a whole (compact). So no queue that is bounded holds more than the ceiling for longer than its loop is busy.
type queue struct {
	head, tail *segment
	size       int      // bytes that have not left
	held       int      // memory of all segments
	lent       *Scratch // of the callback that runs, nil otherwise; filled only while head is nil (I5)
}

// ceiling returns how much memory a queue may hold that is bounded by limit bytes: a quarter more, and four pages.
func ceiling(limit int) int {
	if limit <= 0 {
		return math.MaxInt
	}
	return min(limit, math.MaxInt/2) + limit/4 + 4*pool.Page
}

// Scratch is memory of a goroutine that drives sessions, which it lends to the one it is at: what the running callback
// sends collects there first, and the next write is put together there.
//
// What OnRecv sends of the very bytes it was given, an echo or the payload of a frame, is not copied into it: nobody may
// write to those bytes until OnRecv returns, and the loop does not before the turn is over. So as long as what is sent
// is one piece of the input, b is that piece.
type Scratch struct {
	memory []byte // of length 0
	input  []byte // what the running OnRecv was given, nil in other callbacks
	echo   bool   // b is a part of input
	b      []byte
	off    int // bytes of b that have left

	iov [][]byte // the gathered write in the making

	watch // what runs on its goroutine
}

// NewScratch returns scratch memory: about 88 KiB.
func NewScratch() *Scratch {
	return &Scratch{memory: make([]byte, 0, scratchSize), iov: make([][]byte, 0, maxSegments)}
}

func (m *Scratch) rest() []byte {
	if m == nil {
		return nil
	}
	return m.b[m.off:]
}

// add appends p, or as much of it as there is room for, and returns how much.
func (m *Scratch) add(p []byte) int {
	if at, ok := m.position(p); ok && len(m.b) == 0 {
		m.b, m.echo = m.input[at:at+len(p)], true
		return len(p)
	} else if ok && m.echo && cap(m.input)-cap(m.b)+len(m.b) == at {
		m.b = m.b[:len(m.b)+len(p)]
		return len(p)
	}
	if m.echo { // no longer one piece
		if len(m.b) > cap(m.memory) {
			return 0
		}
		m.b, m.echo = append(m.memory, m.b...), false
	}
	n := min(len(p), cap(m.b)-len(m.b))
	m.b = append(m.b, p[:n]...)
	return n
}

// position returns where in the input p lies, if it does: two slices of one array have the same last element when
// stretched to their capacity.
func (m *Scratch) position(p []byte) (at int, ok bool) {
	if len(p) == 0 || len(m.input) == 0 || &p[:cap(p)][cap(p)-1] != &m.input[:cap(m.input)][cap(m.input)-1] {
		return 0, false
	}
	at = cap(m.input) - cap(p)
	return at, at >= 0 && at+len(p) <= len(m.input)
}

// push appends a copy of p. room is how much may be queued in all from now on, p included.
func (q *queue) push(p []byte, room int) {
	q.size += len(p)
	if m := q.lent; m != nil && q.head == nil {
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

// shareFrom is the length, in bytes, from which a message to many waits as a reference in each queue. A shorter one does so
// only where it is the first; behind others it is copied, and needs no segment, no slice in a write, and no more memory than
// it has bytes. Measured: docs/decisions/0008-rooms.md.
const shareFrom = 512

// given is a buffer that is not a queue's own: it may be kept instead of copied.
type given struct {
	buf    *pool.Buffer // stays the caller's; nil is none
	charge *shared      // for it, nil without a budget, or if it is for one session alone
	alone  bool         // nobody else has it
	least  int          // its least length, in bytes, for which a segment behind others is worth it
}

// add appends the bytes of g, and returns the segment if they are kept, with a reference of its own. room is as for push.
func (q *queue) add(g given, room, limit int) *segment {
	if !q.keeps(g, limit) {
		q.push(g.buf.B, room)
		return nil
	}
	q.size += len(g.buf.B)
	return q.extend(g.buf.Retain(), false)
}

// keeps reports whether g should be kept rather than copied.
func (q *queue) keeps(g given, limit int) bool {
	if g.buf == nil {
		return false
	}
	n := len(g.buf.B)
	switch {
	case n == 0, n < g.least && (q.head != nil || q.lent != nil):
		return false
	case limit <= 0:
		return true
	}
	memory := g.buf.Memory()
	if g.alone && memory > max(2*n, pool.Page) {
		return false
	}
	return q.held+memory+bufferMemory+segmentMemory <= ceiling(limit)
}

// end is what the size of the next segment depends on.
type end struct {
	last int  // the capacity of the last segment, 0 without one
	own  bool // it is one of Send's
	head bool // it is the only one
	free int  // its spare room
}

func (q *queue) end() end {
	t := q.tail
	if t == nil {
		return end{}
	}
	e := end{last: cap(t.buf.B), own: t.own, head: t == q.head}
	if t.own {
		e.free = cap(t.buf.B) - len(t.buf.B)
	}
	return e
}

// grow returns the size of the next segment: for n bytes, behind queued others, with room for that many in all.
func (e end) grow(n, queued, room int) (size int) {
	switch {
	case e.last == 0 && n <= pool.Small:
		size = pool.Small
	case e.last > 0 && !e.own:
		size = min(n, pool.Large)
	case e.last > 0 && !e.head && e.last < pool.Page: // it follows a shared one
		size = 2 * e.last
	case e.last > 0 && queued >= longQueue && room > pool.Page: // near SendLimit in halves, each of which is filled
		size = min(max(2*e.last, 2*pool.Page), pool.Large, 1<<(bits.Len(uint(queued))-3), max(room/16+queued/16, pool.Page), 1<<(bits.Len(uint(room))-1))
	default:
		size = pool.Page
	}
	return min(size, room)
}

// growth returns how much memory n more bytes will take. room is as for push.
func (q *queue) growth(n, room int) (memory int) {
	e, queued := q.end(), q.size
	if q.lent != nil && q.head == nil {
		e.free = max(0, cap(q.lent.memory)-len(q.lent.b))
	}
	for k := min(n, e.free); ; k = min(n, e.free) {
		n, queued, room = n-k, queued+k, room-k
		if n == 0 {
			return memory
		}
		size := max(pool.Small, 1<<bits.Len(uint(e.grow(n, queued, room)-1))) // the pool's next
		e = end{size, true, e.last == 0, size}
		memory += size + segmentMemory + bufferMemory
	}
}

// extend appends a segment that owns one reference of b. It does not count the bytes.
func (q *queue) extend(b *pool.Buffer, own bool) *segment {
	t := segments.Get().(*segment)
	memory := cap(b.B)
	if !own { // what Send fills is never moved
		memory = b.Memory()
	}
	t.buf, t.own, t.cost = b, own, memory+bufferMemory+segmentMemory
	q.held += t.cost
	if q.tail == nil {
		q.head = t
	} else {
		q.tail.next = t
	}
	q.tail = t
	return t
}

// gather appends to iov what leaves next: at most maxSegments slices of together writeBudget bytes.
func (q *queue) gather(iov [][]byte) [][]byte {
	budget := writeBudget
	take := func(rest []byte) {
		if rest = rest[:min(len(rest), budget)]; len(rest) > 0 {
			iov, budget = append(iov, rest), budget-len(rest)
		}
	}
	take(q.lent.rest())
	for t := q.head; t != nil && len(iov) < maxSegments && budget > 0; t = t.next {
		take(t.buf.B[t.off:])
	}
	return iov
}

// consume removes the first n bytes and gives up the buffers they emptied.
func (q *queue) consume(n int) {
	q.size -= n
	if rest := len(q.lent.rest()); rest > 0 {
		k := min(n, rest)
		q.lent.off += k
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

func (q *queue) pop() {
	t := q.head
	q.head = t.next
	if q.head == nil {
		q.tail = nil
	}
	q.held -= t.cost
	if t.shared != nil {
		t.slow.common.Add(-t.shared.bytes)
		t.shared.release()
	}
	t.buf.Release()
	t.next, t.buf, t.off, t.shared, t.slow = nil, nil, 0, nil, nil
	segments.Put(t)
}

// compact copies everything to segments of the queue's own. There must be no scratch memory, and nobody may have the segments in
// hand.
func (q *queue) compact() {
	old := queue{head: q.head, tail: q.tail, held: q.held}
	q.head, q.tail, q.held = nil, nil, 0
	for left := q.size; old.head != nil; old.pop() {
		rest := old.head.buf.B[old.head.off:]
		q.size -= len(rest) // push counts them again
		q.push(rest, left)
		left -= len(rest)
	}
}

// lend gives an empty queue scratch memory for the time of one callback. input is what OnRecv is given, if
// it stays as it is until the turn is over.
func (q *queue) lend(m *Scratch, input []byte) {
	if q.size == 0 {
		m.b, m.off, m.echo, m.input = m.memory, 0, false, input
		q.lent = m
	}
}

// spare reports whether n bytes more fit the scratch memory of the running callback.
func (q *queue) spare(n int) bool {
	return q.lent != nil && q.head == nil && len(q.lent.b)+n <= cap(q.lent.memory)
}

// reclaim takes the scratch memory back. What the kernel did not take of it moves to the front of the segments.
func (q *queue) reclaim() {
	rest := q.lent.rest()
	q.lent = nil
	if len(rest) == 0 {
		return
	}
	after, last := q.head, q.tail
	q.head, q.tail = nil, nil
	q.size -= len(rest) // push counts them again
	q.push(rest, len(rest))
	if after != nil { // no byte of it has left: the scratch comes first
		q.tail.next, q.tail = after, last
	}
}

// drop empties the queue and returns how many bytes will not leave.
func (q *queue) drop() int {
	n := q.size
	for q.head != nil {
		q.pop()
	}
	*q = queue{}
	return n
}
