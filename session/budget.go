package session

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"sync/atomic"
)

// Budget bounds the bytes that are queued in all sessions of an engine together. Whoever queues the byte that passes it ends
// the sessions that hold the most, until what is left is 7/8 of it. Sends by which it would be passed by more than a
// sixteenth are refused meanwhile, so that this is the bound whatever happens, but for what a callback has sent into the
// loop's scratch memory (64 KiB) when the kernel does not take it.
//
// A session is charged for the bytes in its segments. Those in a loop's scratch memory are the loop's: what a callback
// sends and the kernel takes at once costs the budget nothing. The set has the sessions worth ending: those whose peers do
// not take what there is, and those with long queues.
type Budget struct {
	limit, hard int64

	held   atomic.Int64 // the charges of all sessions
	doomed atomic.Int64 // of them, those of sessions that are being ended for it

	reaping sync.Mutex // held over a pass; taken before any session's mu (I10)
	listed  []charge   // of the pass that runs

	mu       sync.Mutex // guards the set; taken after a session's mu (I10)
	sessions []*Session
}

// charge is a session as a pass has found it.
type charge struct {
	session *Session
	bytes   int64
}

// NewBudget returns a budget of that many bytes.
func NewBudget(limit int) *Budget {
	more := min(int64(limit)/16, math.MaxInt64-int64(limit))
	return &Budget{limit: int64(limit), hard: int64(limit) + more}
}

// Held returns the bytes that are charged. Any goroutine. nil holds none.
func (b *Budget) Held() int {
	if b == nil {
		return 0
	}
	return int(b.held.Load())
}

// living returns what is held by sessions that are not being ended for it.
func (b *Budget) living() int64 { return b.held.Load() - b.doomed.Load() }

// take charges n bytes, unless that would be too many.
func (b *Budget) take(n int64) bool {
	for {
		held := b.held.Load()
		if held+n > b.hard {
			return false
		}
		if b.held.CompareAndSwap(held, held+n) {
			return true
		}
	}
}

// afford ends sessions if the budget is passed. It is called wherever a charge may have grown, with no session's mu held.
func (s *Session) afford() {
	if b := s.loop.Limits.Budget; b != nil && b.living() > b.limit {
		b.reap()
	}
}

// reap ends the sessions that hold the most, the fattest first. One that has got rid of half of it meanwhile is spared. Who
// comes while a pass runs waits for it: it has to be over before more is queued.
func (b *Budget) reap() {
	b.reaping.Lock()
	defer b.reaping.Unlock()
	if b.living() <= b.limit {
		return
	}
	b.mu.Lock()
	for _, s := range b.sessions {
		b.listed = append(b.listed, charge{s, s.slow().charged.Load()})
	}
	b.mu.Unlock()
	slices.SortFunc(b.listed, func(x, y charge) int { return cmp.Compare(y.bytes, x.bytes) })
	for _, c := range b.listed {
		if b.living() <= b.limit-b.limit/8 {
			break
		}
		if c.session.shed(b, c.bytes/2) {
			c.session.schedule()
		}
	}
	clear(b.listed)
	b.listed = b.listed[:0]
}

// shed ends a session that is charged with more than that, and returns whether the loop has to know. The queue of a session
// that is blocked goes at once: its loop has no hand on it, as it gathers only what it can write, and blocked is set when
// it has written. Another's is given up when its loop comes to it, and is doomed until then.
func (s *Session) shed(b *Budget, least int64) (visit bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.slow()
	if w.charged.Load() <= least || w.doomed {
		return false
	}
	s.open, s.aborted = false, true
	s.because(ErrSendBudget)
	if s.blocked {
		w.dropped += s.empty()
	} else {
		w.doomed = true
		b.doomed.Add(w.charged.Load())
	}
	s.account()
	return true
}

// reserve charges n bytes that are about to be queued, if the budget has room for them. The caller holds mu.
func (s *Session) reserve(n int) bool {
	b := s.loop.Limits.Budget
	if b == nil || n == 0 || s.q.spare(n) {
		return true
	}
	w := s.slowly()
	if !b.take(int64(n)) {
		return false
	}
	w.charged.Add(int64(n))
	return true
}

// account brings the charge in line with the queue. It follows every change of the queue, and of blocked; the caller has
// held mu over both. Nothing else but reserve changes a charge.
func (s *Session) account() {
	b := s.loop.Limits.Budget
	if b == nil {
		return
	}
	stored := int64(s.q.stored())
	w := s.slow()
	if w == nil {
		if stored == 0 {
			return
		}
		w = s.slowly()
	}
	if more := stored - w.charged.Load(); more != 0 {
		w.charged.Store(stored)
		b.held.Add(more)
		if w.doomed {
			b.doomed.Add(more)
		}
	}
	if worth := stored > 0 && !w.doomed && (s.blocked || stored > longQueue); worth != w.listed {
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
