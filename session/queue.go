package session

import (
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
	// longQueue is the length, in bytes, from which a queue goes on in larger segments than pages, each twice the last.
	longQueue = 32 << 10
)

// A segment is one buffer of the queue. Segments are pooled apart from the buffers because a shared buffer may
// stand in many queues at once.
type segment struct {
	next *segment
	buf  *pool.Buffer
	own  bool // filled by Send: its spare room may be used. False for SendBuffer's, which others may hold.
}

var segments = sync.Pool{New: func() any { return new(segment) }}

// queue is the gathered send queue: bytes in the order of their acceptance, in the scratch memory of a running
// callback first, then in segments. The session's mutex guards it.
//
// Each segment is filled to its end before the next begins. The first 32 KiB are in pages, so that a short queue
// wastes little at its ends; a longer one goes on in segments of up to 64 KiB, so that a long queue wastes little on
// what describes it; and no segment is larger than what may still be queued. So a queue holds no more memory than
// SendLimit, or one page if that is more, apart from the part of its first segment that has left. Where shared buffers stand
// in it, what follows one of them begins small and doubles, for another may cut it short: at most about three times SendLimit
// then, with what is left free in the shared ones (short ones of SendBuffer apart).
type queue struct {
	head, tail *segment
	off        int      // bytes of head that have left
	size       int      // bytes that have not left
	lent       *Scratch // of the callback that runs, nil otherwise; filled only while head is nil (I5)
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
			t = q.extend(pool.GetSize(q.grow(len(p), room)), true)
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

// share appends the bytes of b, which stays the caller's. room is as for push.
func (q *queue) share(b *pool.Buffer, room int) {
	n := len(b.B)
	if n == 0 || n < shareFrom && (q.head != nil || q.lent != nil) {
		q.push(b.B, room)
		return
	}
	q.extend(b.Retain(), false)
	q.size += n
}

// grow returns the size of the next segment, for n bytes that wait.
func (q *queue) grow(n, room int) int {
	switch t, queued := q.tail, q.size-n; {
	case t == nil && n <= pool.Small:
		return pool.Small
	case t != nil && !t.own:
		return min(n, pool.Large)
	case t != nil && t != q.head && cap(t.buf.B) < pool.Page: // it follows a shared one
		return 2 * cap(t.buf.B)
	case t != nil && queued >= longQueue && room >= pool.Large:
		return min(2*cap(t.buf.B), pool.Large)
	default:
		return pool.Page
	}
}

// extend appends a segment that owns one reference of b. It does not count the bytes.
func (q *queue) extend(b *pool.Buffer, own bool) *segment {
	t := segments.Get().(*segment)
	t.buf, t.own = b, own
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
	off := q.off
	for t := q.head; t != nil && len(iov) < maxSegments && budget > 0; t = t.next {
		take(t.buf.B[off:])
		off = 0
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
		rest := len(t.buf.B) - q.off
		if n < rest {
			q.off += n
			return
		}
		n -= rest
		q.off = 0
		q.pop()
	}
}

func (q *queue) pop() {
	t := q.head
	q.head = t.next
	if q.head == nil {
		q.tail = nil
	}
	t.buf.Release()
	t.next, t.buf = nil, nil
	segments.Put(t)
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

// stored returns the bytes in segments.
func (q *queue) stored() int { return q.size - len(q.lent.rest()) }

// reclaim takes the scratch memory back. What the kernel did not take of it moves to the front of the segments.
func (q *queue) reclaim() {
	rest := q.lent.rest()
	q.lent = nil
	if len(rest) == 0 {
		return
	}
	after, last, off := q.head, q.tail, q.off
	q.head, q.tail, q.off = nil, nil, 0
	q.size -= len(rest) // push counts them again
	q.push(rest, len(rest))
	if after != nil { // off is 0 here: the scratch comes first, so no byte behind it has left
		q.tail.next, q.tail, q.off = after, last, off
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
