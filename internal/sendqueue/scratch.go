package sendqueue

// scratchSize is the memory lent to a running callback. It matches the 64 KiB that a loop reads at once, so that an echo of whatever arrived
// is one write without a pooled buffer.
const scratchSize = 64 << 10

// Scratch is the memory of a goroutine that drives sessions. It is lent to the queue of the session at work: what the running callback sends
// collects there first, and the next write is put together there.
//
// It holds b, which is one of two things:
//
//	a copy    b is the beginning of memory
//	an echo   b is a piece of input, the very bytes that OnRecv was given
//
// What OnRecv sends of its own input, an echo or the payload of a frame, is not copied as long as it is one piece. Nobody may write to
// those bytes until OnRecv returns, and the loop does not write to them before the turn is over. As soon as something else is sent, the echo
// becomes a copy.
type Scratch struct {
	memory []byte // of length 0
	input  []byte // what the running OnRecv was given, nil in other callbacks
	b      []byte // what was sent
	echo   bool   // b is a piece of input
	off    int    // bytes of b that have left

	chain  chain    // of the queue that it is lent to
	slices [][]byte // the gathered write in the making
}

// MakeScratch returns scratch memory of about 88 KiB.
func MakeScratch() Scratch {
	return Scratch{memory: make([]byte, 0, scratchSize), slices: make([][]byte, 0, maxSegments)}
}

// rest returns what has not left. m may be nil.
func (m *Scratch) rest() []byte {
	if m == nil {
		return nil
	}
	return m.b[m.off:]
}

// add appends p, or as much of it as there is room for, and returns how much.
func (m *Scratch) add(p []byte) int {
	if m.addEcho(p) {
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

// addEcho appends p without a copy, if p is a piece of the input and follows the piece that b is.
func (m *Scratch) addEcho(p []byte) bool {
	begin, ok := offsetIn(m.input, p)
	switch {
	case !ok:
		return false
	case len(m.b) == 0:
		m.b, m.echo = m.input[begin:begin+len(p)], true
		return true
	case !m.echo:
		return false
	}
	if end := cap(m.input) - cap(m.b) + len(m.b); end != begin {
		return false
	}
	m.b = m.b[:len(m.b)+len(p)]
	return true
}

// offsetIn returns where p begins in whole, if p is a piece of it.
//
// Go compares slices by no operator, but the addresses of two elements. A piece of a slice keeps the end of its capacity: whole[i:j] and
// whole end at the same byte when both are stretched to their capacity, and the piece begins cap(whole)-cap(piece) bytes behind whole's
// beginning. A piece cut with a third index, whole[i:j:k], has another end and is not found; it is copied, which is right too.
func offsetIn(whole, p []byte) (begin int, ok bool) {
	if len(p) == 0 || len(whole) == 0 || lastByte(p) != lastByte(whole) {
		return 0, false
	}
	begin = cap(whole) - cap(p)
	return begin, begin >= 0 && begin+len(p) <= len(whole)
}

// lastByte returns the address of the last byte of p's capacity.
func lastByte(p []byte) *byte { return &p[:cap(p)][cap(p)-1] }

// UseScratch lends m to an empty queue for the time of one callback. input is what OnRecv is given, if it stays as it is until the turn is
// over, and nil otherwise.
func (q *Queue) UseScratch(m *Scratch, input []byte) {
	if q.size == 0 {
		m.b, m.off, m.echo, m.input = m.memory, 0, false, input
		q.lend(m)
	}
}

// lend lends m to an empty queue.
func (q *Queue) lend(m *Scratch) {
	m.chain = chain{scratch: m}
	q.chain = &m.chain
}

// FitsScratch reports whether n more bytes fit the scratch memory of the running callback. They need no memory of the queue's own then.
func (q *Queue) FitsScratch(n int) bool {
	m := q.lent()
	return m != nil && q.chain.head == nil && len(m.b)+n <= cap(m.memory)
}

// Reclaim takes the scratch memory back. What the kernel did not take of it moves to the front of the segments.
func (q *Queue) Reclaim() {
	m := q.lent()
	if m == nil {
		return
	}
	rest, c := m.rest(), q.chain
	c.scratch = nil
	if len(rest) == 0 {
		q.keep(c)
		return
	}
	after := *c
	q.chain, *c = nil, chain{}
	q.size -= len(rest) // Push counts them again
	q.Push(rest, len(rest))
	c = q.chain
	c.mark, c.toMark = after.mark, after.toMark
	if after.head != nil { // no byte of it has left: the scratch comes first (Q1)
		c.tail.next, c.tail = after.head, after.tail
		c.held += after.held
	}
}

// ForgetSlices clears what Gather has returned, when it is not written now.
func (m *Scratch) ForgetSlices() { clear(m.slices[:cap(m.slices)]) }
