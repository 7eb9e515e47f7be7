package session

import (
	"fmt"
	"time"
)

// Writability is implemented by a Handler that wants to know when to wait with sending and when to go on. It is optional. The session looks for
// it once, in Bind.
type Writability interface {
	// OnWritable is called with false after a Send has lifted the bytes queued above Options.HighWater, and then with true when they have
	// fallen below Options.LowWater: in turns, false first. Each rise above HighWater is told, also if the kernel has taken all of it
	// by then. So an application that stops to send when it finds Pending above HighWater is told to go on. Bytes are counted as for
	// SendLimit, with what frames add, or as Pending counts them if that is more: a packet of which the kernel has taken a part still
	// has all of its payload pending.
	//
	// It is a callback like the others: on the loop, never inside another one, and what it sends leaves when it returns. SendLimit
	// bounds what may be sent; apart from that, a Send in spite of false is as good as any.
	//
	// It is called only while Send accepts. So false may be the last word: after Disconnect, Abort or the end of the session for whatever
	// reason, nothing tells to go on, and OnDisconnected ends the wait. After the peer's FIN, Send accepts until the queue has run
	// empty: a queue that falls below LowWater is told, one that is empty then is not.
	OnWritable(writable bool)
}

// backlog returns the bytes that HighWater and LowWater count: those that wait, or those that are Pending if that is more. The caller holds mu.
func (s *Session) backlog() int {
	if s.rare.Load() == nil {
		return s.q.Size()
	}
	return max(s.waiting(), s.pending())
}

// checkHighWater notes which marks the queue has passed by n more bytes, and returns whether the loop has to be told. The caller holds mu.
func (s *Session) checkHighWater(n int) (visit bool) {
	l, size := &s.loop.Limits, s.waiting()
	n += size - s.queued() // what describes packets may have grown too
	passed := func(mark int) bool { return mark > 0 && size > mark && size-n <= mark }
	visit = passed(l.PauseAbove) || passed(l.SoftLimit)
	if s.tellsWritable && s.backlog() > l.HighWater {
		if w := s.ensureSlow(); !w.aboveHigh {
			w.aboveHigh, visit = true, true
		}
	}
	return visit
}

// checkLowWater follows a write that took n bytes and ended with err: it brings the accounts up to date, and forgets what is held against the
// peer if the queue is low. The caller is the loop and holds mu.
func (s *Session) checkLowWater(n int, err error) {
	s.updateBudget()
	w := s.slow()
	if w == nil {
		return
	}
	w.taken += n
	w.behind = s.queued() > 0 && err != ErrNoMemory && (w.behind || err == ErrWouldBlock)
	if s.waiting() <= s.loop.Limits.SoftLimit {
		w.aboveSoftAt = 0
	}
}

// tellWritable calls OnWritable if there is something to tell, and returns true then.
func (s *Session) tellWritable() bool {
	w := s.slow()
	if w == nil {
		return false
	}
	s.mu.Lock()
	tell := false
	switch {
	case !s.open:
	case !w.toldUnwritable && w.aboveHigh:
		w.toldUnwritable, tell = true, true
	case w.toldUnwritable && s.backlog() < s.loop.Limits.LowWater:
		w.toldUnwritable, w.aboveHigh, tell = false, false, true
	}
	s.mu.Unlock()
	if tell {
		s.wakeup.hold()
		s.lendScratch()
		s.callWritable(!w.toldUnwritable)
	}
	return tell
}

// errSoftLimit is the reason of a session whose queue stayed above Options.SoftLimit.
var errSoftLimit = fmt.Errorf("%w (above the soft limit for too long)", ErrSendLimit)

// timeSoftLimit starts the clock when size bytes are above the soft limit, and forgets it when they are not.
func (s *Session) timeSoftLimit(size int) {
	l := &s.loop.Limits
	if l.SoftLimit <= 0 || l.SoftFor <= 0 {
		return
	}
	if size > l.SoftLimit {
		if w := s.ensureSlow(); w.aboveSoftAt == 0 {
			w.aboveSoftAt = s.conn.Now()
		}
	} else if w := s.slow(); w != nil {
		w.aboveSoftAt = 0
	}
}

// softLimitAt returns when the queue will have been above the soft limit for too long, 0 if it is not above it.
func (s *Session) softLimitAt() time.Duration {
	if w := s.slow(); w != nil && w.aboveSoftAt > 0 {
		return w.aboveSoftAt + s.loop.Limits.SoftFor
	}
	return 0
}

// enforceSoftLimit ends a session whose softLimitAt, at, has passed, unless the kernel takes enough now.
func (s *Session) enforceSoftLimit(at time.Duration) {
	s.unblock()
	for n := 0; n < turnWrites && s.softLimitAt() == at; n++ {
		if !s.tryWrite() {
			break
		}
	}
	if s.softLimitAt() == at {
		s.abort(errSoftLimit)
	}
}
