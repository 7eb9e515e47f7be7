package session

import (
	"fmt"
	"time"
)

// retryAfter is the pause before a write that failed for want of kernel memory is tried again; no event tells
// when there is some.
const retryAfter = 10 * time.Millisecond

// watching reports whether received bytes have to be timed.
func (s *Session) watching() bool { return s.loop.Limits.Idle > 0 || s.loop.Limits.FirstByte > 0 }

// silentBy returns the deadline for the peer's next byte, 0 if there is none now. A session that is not read,
// or that still has bytes to take, is not idle (T4).
func (s *Session) silentBy(size int) time.Duration {
	l := &s.loop.Limits
	switch {
	case s.halfOpen && s.phase == phaseOpen && size == 0 && l.HalfClose > 0:
		return s.heardAt + l.HalfClose
	case s.phase != phaseOpen || !s.reading || s.peerFIN || size > 0:
		return 0
	case !s.heard && l.FirstByte > 0 && (l.Idle <= 0 || l.FirstByte < l.Idle):
		return s.heardAt + l.FirstByte
	case l.Idle > 0:
		return s.heardAt + l.Idle
	}
	return 0
}

// expire looks which deadline has passed at now and acts on it.
func (s *Session) expire(now time.Duration) {
	s.mu.Lock()
	size, blocked := s.q.size, s.blocked
	s.mu.Unlock()
	if s.retry && blocked {
		s.unblock()
	}
	s.measure(now)
	endBy, stallBy, softBy := s.endBy(), s.stallBy(), s.softBy()
	switch {
	case endBy > 0 && now >= endBy:
		if s.overdue(now) {
			return
		}
	case stallBy > 0 && now >= stallBy:
		// The loop may be late (a busy callback, a stopped process) with the news that the kernel takes bytes.
		s.unblock()
		if v := s.look(false); len(v.iov) > 0 {
			s.write(v.iov)
		}
		if s.stallBy() == stallBy {
			s.kill(ErrWriteStall)
		}
	case softBy > 0 && now >= softBy:
		s.tooLong(softBy)
	}
	if by := s.stuckBy(); by > 0 && now >= by {
		s.checkStuck()
	}
	if by := s.silentBy(size); by > 0 && now >= by {
		s.silent(now)
	}
	s.runTimers(now)
}

// overdue acts on the deadline of an end. It returns true if that was the end.
func (s *Session) overdue(now time.Duration) (over bool) {
	switch {
	case s.lingering, s.severed && (s.paused.Load() || s.moreBy() > 0):
		s.finish(false) // long enough
		return true
	case s.severed: // the loop is late
		s.rare.Load().endBy = now + s.receiveWithin()
	default:
		s.kill(ErrDrainTimeout)
	}
	return false
}

// silent ends a session whose peer has said nothing for too long, unless that is not the peer's fault: bytes of
// his wait to be read (the process was stopped, the loop was busy), or he is still taking what the kernel holds.
func (s *Session) silent(now time.Duration) {
	unsent := int32(min(s.conn.Unsent(), 1<<30))
	if !s.halfOpen && s.conn.Unread() || unsent != s.lastUnsent {
		s.lastUnsent = unsent
		s.heardAt = now
		return
	}
	switch {
	case s.halfOpen:
		s.DisconnectWith(fmt.Errorf("%w: half-closed, and nothing was sent", ErrIdle))
	case s.heard:
		s.DisconnectWith(ErrIdle)
	default:
		s.DisconnectWith(fmt.Errorf("%w: not one byte received", ErrIdle))
	}
}

func (s *Session) stallBy() time.Duration {
	if r := s.rare.Load(); r != nil {
		return r.progress.stallBy
	}
	return 0
}

func (s *Session) endBy() time.Duration {
	if r := s.rare.Load(); r != nil {
		return r.progress.endBy
	}
	return 0
}

// rearm asks to be looked at when the next deadline passes.
func (s *Session) rearm(v view) {
	if s.rare.Load() == nil && !s.watching() && !s.halfOpen {
		return // as most sessions are: what has deadlines is there
	}
	next := s.endBy()
	sooner := func(at time.Duration) {
		if at > 0 && (next == 0 || at < next) {
			next = at
		}
	}
	sooner(s.stallBy())
	sooner(s.softBy())
	sooner(s.stuckBy())
	sooner(s.moreBy())
	sooner(s.sampleBy(v.size))
	if s.watching() || s.halfOpen {
		sooner(s.silentBy(v.size))
	}
	sooner(v.timer)
	if s.retry {
		sooner(s.conn.Now() + retryAfter)
	}
	if next > 0 {
		s.conn.Arm(next)
	}
}

// said returns what a panic said, or of what type it is if it panics when it is asked, and nil for nil.
func said(value any) (text any) {
	if value == nil {
		return nil
	}
	defer func() {
		if recover() != nil {
			text = fmt.Sprintf("%T", value)
		}
	}()
	return fmt.Sprint(value)
}

// panicked is the reason of a session whose content failed in the named callback.
func panicked(callback string, value any) error {
	if value == nil {
		return fmt.Errorf("%w: runtime.Goexit in %s", ErrPanic, callback)
	}
	return fmt.Errorf("%w: %s: %v", ErrPanic, callback, value)
}
