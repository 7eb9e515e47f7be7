package session

import (
	"errors"
	"math"
	"time"
)

// sever notes that the connection takes nothing more: a write or shutdown(2) has failed, or the kernel reports an error. Send fails from now
// on, and the queue is lost. What the peer has sent before is still delivered (E2c, I11): the stash, and unread bytes that the kernel has
// received by now. PauseAbove does not count any more. A session that is paused by hand, or waits for tokens of its RecvRate, has
// LingerTimeout for it.
func (s *Session) sever(err error, unread int) {
	r := s.ensureRare()
	r.unread = int32(min(unread, math.MaxInt32))
	if t := r.tap(); t != nil {
		t.Broken(err)
	}
	if s.severed {
		return
	}
	s.severed = true
	r.stallAt, r.endAt = 0, 0
	if d := s.deliverWithin(); d > 0 && s.phase == phaseOpen {
		r.endAt = s.conn.Now() + d
	}
	s.mu.Lock()
	s.open, s.blocked = false, false
	known := errors.Is(s.reason(), ErrPeerReset) && errors.Is(s.reason(), err)
	if inOrder := s.onlyWordIsOut() && r.layered.peerDone; !known && !inOrder {
		s.recordReason(PeerReset(err))
	}
	dropped, messages := s.dropQueue(), s.takeMessages()
	s.checkLowWater(0, nil)
	s.mu.Unlock()
	s.retryWrite = false
	s.countDropped(dropped)
	s.loop.Counters.MessagesOut.Add(messages)
}

// deliverWithin returns how long a severed session may be paused, 0 for ever.
func (s *Session) deliverWithin() time.Duration {
	if d := s.loop.Limits.Linger; d > 0 {
		return d
	}
	return max(s.loop.Limits.Drain, 0)
}

// deliveredAll reports whether a severed session has delivered all that was received.
func (s *Session) deliveredAll() bool {
	return s.peerFIN || !s.keepsInput() && s.rare.Load().unread <= 0
}
