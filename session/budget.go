package session

import "github.com/servercore-go/servercore/internal/sendqueue"

// updateBudget brings the memory of the queue below its ceiling, and the charge in line with it (I10). It follows every change of the queue and of
// blocked. The caller has held mu over both.
func (s *Session) updateBudget() {
	if s.blocked && s.q.Held() > sendqueue.Ceiling(s.loop.Limits.SendLimit) { // no loop has the segments in hand then
		s.q.Compact()
	}
	b := s.loop.Limits.Budget
	if b == nil {
		return
	}
	held := int64(s.q.Held() + s.framed().held() + s.layered().held())
	w := s.slow()
	if w == nil {
		if held == 0 {
			return
		}
		w = s.ensureSlow()
	}
	b.Update((*budgetMember)(s), &w.account, held, s.blocked)
}

// enforceBudget ends stuck sessions if they leave less room than others should have. No mu is held.
func (s *Session) enforceBudget() {
	if b := s.loop.Limits.Budget; b != nil && b.Crowded() {
		b.MakeRoom(s.conn.Now(), b.Bound(true))
	}
}

// budgetMember is a session as its budget sees it.
type budgetMember Session

// Shed implements budget.Member. The queue goes at once. The loop does not have its segments in hand: it gathers only what it can write, and
// sets blocked when it has written.
func (m *budgetMember) Shed(held int64) {
	s := (*Session)(m)
	if s.dropStuck(held) {
		s.schedule()
	}
}

// dropStuck ends a session that is stuck and still holds more than half of held, and returns whether it did.
func (s *Session) dropStuck(held int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.slow()
	if !s.blocked || s.aborted || !w.account.Stuck() || w.account.Held() <= held/2 {
		return false
	}
	s.open, s.aborted = false, true
	s.decideEnd(ErrSendBudget)
	w.dropped += s.emptyQueue()
	s.updateBudget()
	return true
}
