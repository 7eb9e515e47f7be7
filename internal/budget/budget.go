// Package budget bounds the memory of many send queues together, and ends the members that hold it and do not move.
//
// # Charges
//
// A queue is charged for the memory of its segments: its [Account] has the sum. A buffer that stands in several queues is charged once,
// by a [Charge] that the queues share.
//
// # Bounds
//
//	limit + 1/16   nothing lifts the sum above it, but for the scratch memory of a callback that the kernel does not take
//	7/8 of limit   a member whose kernel is full may not lift the sum above it; members are reaped from here on
//	3/4 of limit   reaping stops here
//
// The caller that finds no room, or leaves less than an eighth of it, reaps: it ends stuck members, those whose kernels are full and whose
// peers have taken next to nothing for a while. The members that hold the most go first.
//
// # Locks
//
// The lock of a reaping pass comes first, then a member's own, then those of the set and of shared charges. So MakeRoom is called with no
// member's lock held, and everything else may be called under one.
package budget

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/servercore-go/servercore/pool"
)

// BufferOverhead is the memory, in bytes, that package pool needs for a buffer besides its bytes.
const BufferOverhead = 80

// Budget bounds the memory of all its members together. Its methods may be called from any goroutine.
type Budget struct {
	limit        int64
	blockedLimit int64
	hardLimit    int64

	held   atomic.Int64 // all charges
	shared atomic.Int64 // of them, those for shared buffers

	reaping sync.Mutex    // held during a pass; taken before any member's lock
	pass    []entry       // the members that the pass looks at
	found   []candidate   // those of them that are stuck, a heap
	next    time.Duration // no pass before: the last one has found too little

	mu      sync.Mutex // guards the set; taken after a member's lock
	blocked []entry    // the members that hold memory and whose kernels are full

	charging sync.Mutex // guards charges and the holders of those in it; taken after a member's lock
	charges  map[*pool.Buffer]*Charge
}

// Member is the owner of a queue.
type Member interface {
	// Shed ends the member at once and drops its queue, if it is still stuck and still holds more than half of held. Any goroutine. The
	// caller holds no lock of any member.
	Shed(held int64)
}

// entry is a member in the set, with its account.
type entry struct {
	member  Member
	account *Account
}

// Account is what one queue holds of a budget. The zero value holds nothing. Its owner's lock guards every change of the sums.
type Account struct {
	own    atomic.Int64  // charged for this queue alone
	shared atomic.Int64  // memory of shared buffers in the queue, which have charges of their own
	flags  atomic.Uint32 // isStuck, isListed
	index  int32         // in Budget.blocked, under Budget.mu
}

const (
	isStuck  = 1 << iota // the peer takes next to nothing
	isListed             // in Budget.blocked; changes under the owner's lock
)

// Held returns the memory of the queue, in bytes, with that of shared buffers.
func (a *Account) Held() int64 { return a.own.Load() + a.shared.Load() }

// SetStuck notes whether the peer takes next to nothing. Any goroutine.
func (a *Account) SetStuck(stuck bool) { a.setFlag(isStuck, stuck) }

// Stuck reports what SetStuck has noted last. Any goroutine.
func (a *Account) Stuck() bool { return a.flags.Load()&isStuck != 0 }

func (a *Account) setFlag(flag uint32, on bool) {
	if on {
		a.flags.Or(flag)
	} else {
		a.flags.And(^flag)
	}
}

// New returns a budget of limit bytes.
func New(limit int) *Budget {
	more := min(int64(limit)/16, math.MaxInt64-int64(limit))
	return &Budget{limit: int64(limit), blockedLimit: int64(limit) - int64(limit)/8, hardLimit: int64(limit) + more}
}

// Held returns the bytes that are charged. A nil budget holds none.
func (b *Budget) Held() int {
	if b == nil {
		return 0
	}
	return int(b.held.Load())
}

// Bound returns the sum, in bytes, up to which a member may charge. blocked tells whether its kernel is full.
func (b *Budget) Bound(blocked bool) int64 {
	if blocked {
		return b.blockedLimit
	}
	return b.hardLimit
}

// Crowded reports whether members whose kernels are full could not charge any more: it is time for MakeRoom.
func (b *Budget) Crowded() bool { return !b.Fits(b.blockedLimit) }

// Fits reports whether the sum is within most.
func (b *Budget) Fits(most int64) bool { return b.held.Load() <= most }

// take charges n bytes, unless the sum would exceed most.
func (b *Budget) take(n, most int64) bool {
	for {
		held := b.held.Load()
		if held > most-n {
			return false
		}
		if b.held.CompareAndSwap(held, held+n) {
			return true
		}
	}
}

// Reserve charges n bytes that are about to be queued, unless the sum would exceed most.
func (b *Budget) Reserve(a *Account, n, most int64) bool {
	if !b.take(n, most) {
		return false
	}
	a.own.Add(n)
	return true
}

// Update brings the charge of a queue in line with the memory it holds, and notes whether the kernel of its owner is full. Nothing else but
// Reserve changes the charge.
func (b *Budget) Update(m Member, a *Account, memory int64, blocked bool) {
	if more := memory - a.Held(); more != 0 {
		a.own.Add(more)
		b.held.Add(more)
	}
	if in := memory > 0 && blocked; in != (a.flags.Load()&isListed != 0) {
		b.list(m, a, in)
	}
}

// list adds a member to the set, or removes it.
func (b *Budget) list(m Member, a *Account, in bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a.setFlag(isListed, in)
	if in {
		a.index = int32(len(b.blocked))
		b.blocked = append(b.blocked, entry{m, a})
		return
	}
	n := len(b.blocked) - 1
	last := b.blocked[n]
	b.blocked[a.index], last.account.index = last, a.index
	b.blocked[n] = entry{}
	b.blocked = b.blocked[:n]
	if c := cap(b.blocked); n == 0 {
		b.blocked = nil
	} else if c > 16 && n <= c/4 { // give memory back when three quarters of it are spare
		b.blocked = append(make([]entry, 0, c/2), b.blocked...)
	}
}
