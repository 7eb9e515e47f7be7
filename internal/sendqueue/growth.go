package sendqueue

import (
	"math"
	"math/bits"

	"github.com/servercore-go/servercore/internal/budget"
	"github.com/servercore-go/servercore/pool"
)

// longQueue is the length, in bytes, from which a queue goes on in larger segments than pages: up to a quarter of it.
const longQueue = 32 << 10

// Ceiling returns how much memory a queue may hold that is bounded by limit bytes: a quarter more, and four pages. A limit of 0 or less is no
// bound.
func Ceiling(limit int) int {
	if limit <= 0 {
		return math.MaxInt
	}
	return min(limit, math.MaxInt/2) + limit/4 + 4*pool.Page
}

// Keeps reports whether the buffer of r would be kept rather than copied, in a queue that is bounded by limit bytes.
func (q *Queue) Keeps(r Ref, limit int) bool {
	if r.Buf == nil {
		return false
	}
	n := len(r.Buf.B)
	switch {
	case n == 0, n < r.MinKept && q.chain != nil:
		return false
	case limit <= 0:
		return true
	}
	memory := r.Buf.Memory()
	if r.Exclusive && memory > max(2*n, pool.Page) {
		return false
	}
	return q.Held()+memory+budget.BufferOverhead+segmentMemory <= Ceiling(limit)
}

// Cost returns the memory, in bytes, that the buffer of r takes when it is kept. Where it has a charge of its own, that is only what
// the segment takes.
func (r Ref) Cost() int {
	if r.Charge != nil {
		return segmentMemory
	}
	return r.Buf.Memory() + budget.BufferOverhead + segmentMemory
}

// end is what the size of the next segment depends on.
type end struct {
	last int  // the capacity of the last segment, 0 without one
	own  bool // it was filled by Push
	head bool // it is the only one
	free int  // its spare room
}

// end describes the end of the queue.
func (q *Queue) end() end {
	t := q.tail()
	if t == nil {
		return end{}
	}
	e := end{last: cap(t.buf.B), own: t.own, head: t == q.chain.head}
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
	case e.last > 0 && queued >= longQueue && room > pool.Page: // near the limit in halves, each of which is filled
		size = min(max(2*e.last, 2*pool.Page), pool.Large, 1<<(bits.Len(uint(queued))-3), max(room/16+queued/16, pool.Page), 1<<(bits.Len(uint(room))-1))
	default:
		size = pool.Page
	}
	return min(size, room)
}

// Growth returns how much memory n more pushed bytes will take. room is as for Push.
func (q *Queue) Growth(n, room int) (memory int) {
	e, queued := q.end(), q.size
	if m := q.lent(); m != nil && q.chain.head == nil {
		e.free = max(0, cap(m.memory)-len(m.b))
	}
	for k := min(n, e.free); ; k = min(n, e.free) {
		n, queued, room = n-k, queued+k, room-k
		if n == 0 {
			return memory
		}
		size := max(pool.Small, 1<<bits.Len(uint(e.grow(n, queued, room)-1))) // the pool's next
		e = end{size, true, e.last == 0, size}
		memory += size + segmentMemory + budget.BufferOverhead
	}
}
