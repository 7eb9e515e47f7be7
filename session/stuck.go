package session

import (
	"time"

	"github.com/servercore-go/servercore/internal/budget"
)

// A session is stuck when its kernel is full and its peer has taken next to nothing for a while. The loop times that here; a budget ends stuck
// sessions when it needs their memory.

// timeProgress notes since when the peer takes next to nothing. The caller is the loop, after its writes.
func (s *Session) timeProgress() {
	w := s.slow()
	if w == nil || s.loop.Limits.Budget == nil {
		return
	}
	switch {
	case !w.behind:
		w.slowSince = 0
	case w.slowSince == 0 || w.taken >= budget.StuckProgress:
		w.slowSince, w.taken = s.conn.Now(), 0
	default:
		return
	}
	w.account.SetStuck(false)
}

// stuckAt returns when the session will be stuck. It is 0 if the session is stuck, or its kernel takes what it is offered.
func (s *Session) stuckAt() time.Duration {
	if w := s.slow(); w != nil && w.slowSince > 0 && !w.account.Stuck() {
		return w.slowSince + budget.StuckAfter
	}
	return 0
}

// checkStuck marks a session whose stuckAt has passed, unless the kernel takes enough now.
func (s *Session) checkStuck() {
	s.unblock()
	s.tryWrite()
	if w := s.slow(); w.behind && w.taken < budget.StuckProgress {
		w.account.SetStuck(true)
	}
}
