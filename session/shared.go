package session

import (
	"sync"
	"sync/atomic"

	"github.com/servercore-go/servercore/pool"
)

// shared is the charge for a buffer that stands in several queues of one budget: made for the first of them, given back with the
// last. Each queue holds it, and so does who is about to put it into more.
type shared struct {
	budget  *Budget
	bytes   int64
	lent    *pool.Buffer // in budget.lent under this, nil if only one Broadcast knows of it
	holders atomic.Int32

	mu      sync.Mutex // over the charging
	charged atomic.Bool
}

var sharedCharges = sync.Pool{New: func() any { return new(shared) }}

// share returns a charge for buf, held once and not made yet.
func (b *Budget) share(buf *pool.Buffer) *shared {
	h := sharedCharges.Get().(*shared)
	h.budget, h.bytes = b, int64(buf.Memory()+bufferMemory)
	h.holders.Store(1)
	h.charged.Store(false)
	return h
}

// lend is share for a buffer that its owner hands to session after session: there is one charge for all of them.
func (b *Budget) lend(buf *pool.Buffer) *shared {
	b.lending.Lock()
	defer b.lending.Unlock()
	if h := b.lent[buf]; h != nil {
		return h.hold()
	}
	h := b.share(buf)
	h.lent = buf
	if b.lent == nil {
		b.lent = make(map[*pool.Buffer]*shared)
	}
	b.lent[buf] = h
	return h
}

// hold adds a holder; the caller is one.
func (h *shared) hold() *shared {
	h.holders.Add(1)
	return h
}

// make makes the charge, if it is not made, and returns whether there is room for it below most.
func (h *shared) make(most int64) bool {
	if h.charged.Load() {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.charged.Load() {
		return true
	}
	if !h.budget.take(h.bytes, most) {
		return false
	}
	h.budget.common.Add(h.bytes)
	h.charged.Store(true)
	return true
}

// release ends one holding.
func (h *shared) release() {
	b := h.budget
	if h.lent != nil { // nobody may find it while it goes
		b.lending.Lock()
		defer b.lending.Unlock()
	}
	if h.holders.Add(-1) > 0 {
		return
	}
	if h.lent != nil {
		delete(b.lent, h.lent)
		h.lent = nil
	}
	if h.charged.Load() {
		b.held.Add(-h.bytes)
		b.common.Add(-h.bytes)
	}
	h.budget = nil
	sharedCharges.Put(h)
}
