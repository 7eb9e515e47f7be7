package session

import (
	"fmt"
	"time"
)

// Deadlines are times on the clock of Transport.Now; 0 is none. Each has a function or a field whose name ends in At. The session asks for one
// call of Expire, at the earliest of them (armDeadline), and expire acts on those that have passed.

// retryAfter is the pause before a write that failed for want of kernel memory is tried again: no event tells when there is some.
const retryAfter = 10 * time.Millisecond

// timesSilence reports whether received bytes have to be timed.
func (s *Session) timesSilence() bool { return s.loop.Limits.Idle > 0 || s.loop.Limits.FirstByte > 0 }

// silenceAt returns the deadline for the peer's next byte, 0 if there is none now. A session that is not read, or whose peer still has
// bytes to take, is not idle (T4).
func (s *Session) silenceAt(size int) time.Duration {
	l := &s.loop.Limits
	switch {
	case s.halfOpen && s.phase == phaseOpen && size == 0 && l.HalfClose > 0:
		return s.lastActive + l.HalfClose
	case s.phase != phaseOpen || !s.reading || s.peerFIN || size > 0:
		return 0
	case !s.receivedAny && l.FirstByte > 0 && (l.Idle <= 0 || l.FirstByte < l.Idle):
		return s.lastActive + l.FirstByte
	case l.Idle > 0:
		return s.lastActive + l.Idle
	}
	return 0
}

// expire acts on the deadlines that have passed at now.
func (s *Session) expire(now time.Duration) {
	s.mu.Lock()
	size, blocked := s.queued(), s.blocked
	s.mu.Unlock()
	if s.retryWrite && blocked {
		s.unblock()
	}
	s.measure(now)
	passed := func(at time.Duration) bool { return at > 0 && now >= at }
	endAt, stallAt, softAt := s.endAt(), s.stallAt(), s.softLimitAt()
	switch {
	case passed(endAt):
		if s.enforceEnd(now) {
			return
		}
	case passed(stallAt):
		s.enforceWriteTimeout(stallAt)
	case passed(softAt):
		s.enforceSoftLimit(softAt)
	}
	if passed(s.stuckAt()) {
		s.checkStuck()
	}
	if passed(s.silenceAt(size)) {
		s.enforceSilence(now)
	}
	if passed(s.layerAt()) {
		s.enforceLayer(now)
	}
	s.runTimers(now)
}

// enforceEnd acts on the deadline of an end. It returns true if the session is closed by that.
func (s *Session) enforceEnd(now time.Duration) (over bool) {
	switch {
	case s.lingering, s.severed && (s.paused.Load() || s.tokensAt() > 0):
		s.finish(false) // long enough
		return true
	case s.severed: // the loop is late
		s.rare.Load().endAt = now + s.deliverWithin()
	default:
		s.abort(ErrDrainTimeout)
	}
	return false
}

// enforceWriteTimeout ends a session whose stallAt, at, has passed, unless the kernel takes something now.
func (s *Session) enforceWriteTimeout(at time.Duration) {
	s.unblock()
	s.tryWrite()
	if s.stallAt() == at {
		s.abort(ErrWriteStall)
	}
}

// enforceSilence ends a session whose peer has said nothing for too long, unless that is not the peer's fault: its bytes wait to be read (the
// process was stopped, the loop was busy), or it still takes what the kernel holds.
func (s *Session) enforceSilence(now time.Duration) {
	moves := s.peerMoves()
	if !s.halfOpen && s.conn.Unread() || moves {
		s.lastActive = now
		return
	}
	switch {
	case s.halfOpen:
		s.DisconnectWith(fmt.Errorf("%w: half-closed, and nothing was sent", ErrIdle))
	case s.receivedAny:
		s.DisconnectWith(ErrIdle)
	default:
		s.DisconnectWith(fmt.Errorf("%w: not one byte received", ErrIdle))
	}
}

// peerMoves reports whether other bytes of ours than at its last call wait for the peer to acknowledge them.
func (s *Session) peerMoves() bool {
	unsent := int32(min(s.conn.Unsent(), 1<<30))
	w := s.slow()
	if w == nil {
		if unsent == 0 { // as before, and as with most sessions
			return false
		}
		w = s.ensureSlow()
	}
	moves := unsent != w.lastUnsent
	w.lastUnsent = unsent
	return moves
}

// stallAt returns the deadline of a kernel that takes nothing.
func (s *Session) stallAt() time.Duration {
	if r := s.rare.Load(); r != nil {
		return r.progress.stallAt
	}
	return 0
}

// endAt returns the deadline of the end: of the drain, of the linger, or of a severed session.
func (s *Session) endAt() time.Duration {
	if r := s.rare.Load(); r != nil {
		return r.progress.endAt
	}
	return 0
}

// armDeadline asks for Expire at the earliest deadline.
func (s *Session) armDeadline(v view) {
	if s.rare.Load() == nil && !s.timesSilence() && !s.halfOpen {
		return // as with most sessions: what has deadlines is there
	}
	next := s.endAt()
	earliest := func(at time.Duration) {
		if at > 0 && (next == 0 || at < next) {
			next = at
		}
	}
	earliest(s.stallAt())
	earliest(s.softLimitAt())
	earliest(s.stuckAt())
	earliest(s.tokensAt())
	earliest(s.measureAt(v.size))
	if s.timesSilence() || s.halfOpen {
		earliest(s.silenceAt(v.size))
	}
	if l := s.layered(); l != nil && !l.armed {
		earliest(s.layerAt())
		l.armed = true // by the Arm below, for that time or an earlier one
	}
	earliest(v.nextTimer)
	if s.retryWrite {
		earliest(s.conn.Now() + retryAfter)
	}
	if next > 0 {
		s.conn.Arm(next)
	}
}
