package session

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/servercore-go/servercore/pool"
)

// Budget bounds the memory of what is queued in all sessions of an engine together.
//
// A session is charged for the memory of its segments, and for what describes the packets in them; a buffer that stands in several
// queues is charged once (shared). What a callback sends into the loop's scratch memory costs nothing: it is the loop's, and
// leaves at once as a rule.
//
// A session whose kernel is full may not lift the sum above 7/8 of the budget: its Sends are refused from there on. The rest is
// for the others, and a sixteenth more, and nothing lifts the sum above that, but for the 64 KiB of a callback's scratch memory that the
// kernel does not take. Whoever finds no room, or leaves less than an eighth of it, ends sessions that are stuck: those whose
// kernels are full, and whose peers have taken next to nothing for a while. Those that hold the most go first, until 3/4 of the
// budget are left.
type Budget struct {
	limit int64
	slow  int64 // up to which a session may send whose kernel is full
	hard  int64 // up to which any other may

	held   atomic.Int64 // all charges
	common atomic.Int64 // of them, those for shared buffers

	reaping sync.Mutex    // held over a pass; taken before any session's mu (I10)
	pass    []*Session    // those that the pass looks at
	found   []charge      // those of them that are stuck, a heap
	next    time.Duration // no pass before: the last one has found too little

	mu       sync.Mutex // guards the set; taken after a session's mu (I10)
	sessions []*Session // that hold memory and whose kernels are full

	lending sync.Mutex // guards lent and the holders of those in it; taken after a session's mu (I10)
	lent    map[*pool.Buffer]*shared
}

const (
	// stuckAfter is how long a peer may take next to nothing before its session is stuck.
	stuckAfter = 250 * time.Millisecond
	// stuckProgress is how many bytes it has to take in that time.
	stuckProgress = 64 << 10
	// passPause is how long after a pass that has not found enough the next one may be.
	passPause = stuckAfter / 4
)

// NewBudget returns a budget of that many bytes.
func NewBudget(limit int) *Budget {
	more := min(int64(limit)/16, math.MaxInt64-int64(limit))
	return &Budget{limit: int64(limit), slow: int64(limit) - int64(limit)/8, hard: int64(limit) + more}
}

// Held returns the bytes that are charged. Any goroutine. nil holds none.
func (b *Budget) Held() int {
	if b == nil {
		return 0
	}
	return int(b.held.Load())
}

// take charges n bytes, unless there would be more than most.
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

// sendBound returns up to what the session may lift the sum. The caller holds mu.
func (s *Session) sendBound(b *Budget) int64 {
	if s.blocked {
		return b.slow
	}
	return b.hard
}

// reserve charges n bytes of memory that are about to be queued, if the budget has room for them. The caller holds mu.
func (s *Session) reserve(n int) bool {
	b := s.loop.Limits.Budget
	if b == nil || n == 0 {
		return true
	}
	w := s.slowly()
	if !b.take(int64(n), s.sendBound(b)) {
		return false
	}
	w.charged.Add(int64(n))
	return true
}

// account brings the memory of the queue below its ceiling, and the charge in line with it. It follows every change of the queue,
// and of blocked; the caller has held mu over both. Nothing else but reserve changes a charge.
func (s *Session) account() {
	if s.blocked && s.q.held > ceiling(s.loop.Limits.SendLimit) { // no loop has the segments in hand then
		s.q.compact()
	}
	b := s.loop.Limits.Budget
	if b == nil {
		return
	}
	held := int64(s.q.held + s.framing().described())
	w := s.slow()
	if w == nil {
		if held == 0 {
			return
		}
		w = s.slowly()
	}
	if more := held - w.common.Load() - w.charged.Load(); more != 0 {
		w.charged.Add(more)
		b.held.Add(more)
	}
	if worth := held > 0 && s.blocked; worth != w.listed {
		b.list(s, w, worth)
	}
}

// list has the session in the set, or not.
func (b *Budget) list(s *Session, w *slow, in bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w.listed = in
	if in {
		w.place = int32(len(b.sessions))
		b.sessions = append(b.sessions, s)
		return
	}
	last := b.sessions[len(b.sessions)-1]
	b.sessions[w.place], last.slow().place = last, w.place
	b.sessions = pop(b.sessions)
}

// timeProgress notes since when the peer takes next to nothing. The caller is the loop, after its writes.
func (s *Session) timeProgress() {
	w := s.slow()
	if w == nil || s.loop.Limits.Budget == nil {
		return
	}
	switch {
	case !w.behind:
		w.since = 0
	case w.since == 0 || w.took >= stuckProgress:
		w.since, w.took = s.conn.Now(), 0
	default:
		return
	}
	w.stuck.Store(false)
}

// stuckBy returns when the session will be stuck, 0 if it is, or its kernel takes what it is offered.
func (s *Session) stuckBy() time.Duration {
	if w := s.slow(); w != nil && w.since > 0 && !w.stuck.Load() {
		return w.since + stuckAfter
	}
	return 0
}

// checkStuck marks a session that stuckBy is over of, unless the kernel takes enough now: the loop may be late with the news that
// there is room.
func (s *Session) checkStuck() {
	s.unblock()
	if v := s.look(false); len(v.iov) > 0 {
		s.write(v.iov)
	}
	if w := s.slow(); w.behind && w.took < stuckProgress {
		w.stuck.Store(true)
	}
}

// enforceBudget ends stuck sessions if they leave less room than others should have. No mu is held.
func (s *Session) enforceBudget() {
	if b := s.loop.Limits.Budget; b != nil && b.held.Load() > b.slow {
		b.reap(s.conn.Now(), b.slow)
	}
}
