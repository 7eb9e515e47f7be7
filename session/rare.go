package session

import (
	"sync/atomic"
	"time"

	"github.com/servercore-go/servercore/internal/budget"
	"github.com/servercore-go/servercore/pool"
)

// rare is what few sessions need. It is allocated for those that use it, so that an idle session fits 192 bytes.
type rare struct {
	// Under mu.
	reason     error  // why the session ends, see Session.reason
	endReason  *error // of Driver.End: why it is to end, once no callback runs; nil for no end
	tasks      *tasks // nil for a session without Post, AfterFunc and AtEnd
	closeWrite bool   // CloseWrite was called
	stashFIN   bool   // the loop's own: the peer's FIN, which waits behind the input that was kept

	dropped atomic.Uint32 // bytes accepted by Send that will not leave; written by the loop

	// The loop's own.
	unread    int32 // of a severed session: bytes that the kernel still has for it
	delivered int32 // bytes of stash that OnRecv has had

	framed  *framed  // fixed before OnConnected, nil for plain bytes
	layered *layered // likewise, nil without a layer
	extras  *extras  // likewise, nil without any of them
	slow    atomic.Pointer[slow]

	// Under mu and that of the group they lead to (I9).
	memberships []*membership

	// The loop's own.
	stash *pool.Buffer // input that came in while reading was being stopped
	progress
}

// extras are what even few of these have. Fixed before OnConnected.
type extras struct {
	rated *rated // nil without a rate
	tap   Tap    // nil without
}

// ensureExtras returns them, and makes them if there are none. Before OnConnected.
func (s *Session) ensureExtras() *extras {
	r := s.ensureRare()
	if r.extras == nil {
		r.extras = new(extras)
	}
	return r.extras
}

// rated returns what LimitRecv has set, nil for a session without a rate.
func (r *rare) rated() *rated {
	if r.extras == nil {
		return nil
	}
	return r.extras.rated
}

// tap returns what UseTap has set, nil without.
func (r *rare) tap() Tap {
	if r.extras == nil {
		return nil
	}
	return r.extras.tap
}

// ensureRare returns the rare part, and makes it if there is none. Any goroutine.
func (s *Session) ensureRare() *rare {
	if r := s.rare.Load(); r != nil {
		return r
	}
	s.rare.CompareAndSwap(nil, new(rare))
	return s.rare.Load()
}

// tasks is what a session has to run besides its callbacks. The session's mu guards it.
type tasks struct {
	posts     []func() // accepted by Post and not yet run
	timers    timers   // of AfterFunc, not yet run
	timersSet uint64   // how many were ever set
	atEnd     *endFunc // of AtEnd, the last first
}

// tasks returns them, nil if there never were any. The caller holds mu.
func (s *Session) tasks() *tasks {
	if r := s.rare.Load(); r != nil {
		return r.tasks
	}
	return nil
}

// ensureTasks returns them, and makes them if there are none. The caller holds mu.
func (s *Session) ensureTasks() *tasks {
	r := s.ensureRare()
	if r.tasks == nil {
		r.tasks = new(tasks)
	}
	return r.tasks
}

// slow is what a session needs besides whose peer has been slow, or whose handler fast, or that has carried 4 GiB.
type slow struct {
	carries [totals]uint32 // of the totals, the upper halves; under mu

	aboveHigh      bool // the queue has risen above HighWater, and not fallen below LowWater since; under mu
	toldUnwritable bool // OnWritable(false) was the last word; the loop's own
	behind         bool // the kernel has been full, and the queue not empty since; the loop's own
	dropped        int  // bytes that the budget has dropped and the loop not yet counted; under mu
	account        budget.Account

	// The loop's own.
	lastUnsent  int32         // see peerMoves
	taken       int           // bytes that the kernel has taken since slowSince
	slowSince   time.Duration // since when it takes next to nothing, 0 if the session is not behind
	aboveSoftAt time.Duration // since when the queue is above SoftLimit, 0 if it is not
}

// slow returns the slow part, nil if there is none. Any goroutine.
func (s *Session) slow() *slow {
	if r := s.rare.Load(); r != nil {
		return r.slow.Load()
	}
	return nil
}

// ensureSlow returns the slow part, and makes it if there is none. Any goroutine.
func (s *Session) ensureSlow() *slow {
	r := s.ensureRare()
	if w := r.slow.Load(); w != nil {
		return w
	}
	r.slow.CompareAndSwap(nil, new(slow))
	return r.slow.Load()
}
