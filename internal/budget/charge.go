package budget

import (
	"sync"
	"sync/atomic"

	"github.com/servercore-go/servercore/pool"
)

// Charge is the charge for a buffer that stands in several queues of one budget. It is made for the first of them and given back with the
// last. Each queue is a holder, and so is the caller that is about to put the buffer into more. Charges are pooled: only a holder may use one.
type Charge struct {
	budget  *Budget
	bytes   int64
	buf     *pool.Buffer // the key in budget.charges, nil if only one Broadcast knows of the charge
	holders atomic.Int32

	mu   sync.Mutex // held while the charge is made
	made atomic.Bool
}

var chargePool = sync.Pool{New: func() any { return new(Charge) }}

// NewCharge returns a charge for buf that is not made yet. The caller is its one holder.
func (b *Budget) NewCharge(buf *pool.Buffer) *Charge {
	c := chargePool.Get().(*Charge)
	c.budget, c.bytes = b, int64(buf.Memory()+BufferOverhead)
	c.holders.Store(1)
	c.made.Store(false)
	return c
}

// CommonCharge returns the one charge for buf, for an owner that hands the buffer to member after member. The caller becomes a holder.
func (b *Budget) CommonCharge(buf *pool.Buffer) *Charge {
	b.charging.Lock()
	defer b.charging.Unlock()
	if c := b.charges[buf]; c != nil {
		c.holders.Add(1)
		return c
	}
	c := b.NewCharge(buf)
	c.buf = buf
	if b.charges == nil {
		b.charges = make(map[*pool.Buffer]*Charge)
	}
	b.charges[buf] = c
	return c
}

// Budget returns the budget of the charge.
func (c *Charge) Budget() *Budget { return c.budget }

// Bytes returns the memory of the buffer.
func (c *Charge) Bytes() int64 { return c.bytes }

// Make makes the charge, if it is not made, and returns whether it is: it is not where the sum would exceed most.
func (c *Charge) Make(most int64) bool {
	if c.made.Load() {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.made.Load() {
		return true
	}
	if !c.budget.take(c.bytes, most) {
		return false
	}
	c.budget.shared.Add(c.bytes)
	c.made.Store(true)
	return true
}

// Attach makes the queue of a a holder. The caller is one.
func (c *Charge) Attach(a *Account) {
	c.holders.Add(1)
	a.shared.Add(c.bytes)
}

// Detach ends the holding of the queue of a.
func (c *Charge) Detach(a *Account) {
	a.shared.Add(-c.bytes)
	c.Release()
}

// Release ends the holding of the caller.
func (c *Charge) Release() {
	b := c.budget
	if c.buf != nil { // CommonCharge must not find it while it goes
		b.charging.Lock()
		defer b.charging.Unlock()
	}
	if c.holders.Add(-1) > 0 {
		return
	}
	if c.buf != nil {
		delete(b.charges, c.buf)
		c.buf = nil
	}
	if c.made.Load() {
		b.held.Add(-c.bytes)
		b.shared.Add(-c.bytes)
	}
	c.budget = nil
	chargePool.Put(c)
}
