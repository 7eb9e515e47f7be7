package session

import (
	"fmt"
	"sync/atomic"
	"time"
)

// Writability is what a handler has that wants to know when to go on sending and when to wait. It is optional, and looked for
// once, when the connection is there.
type Writability interface {
	// OnWritable is called with false after a Send has lifted the bytes queued above Options.HighWater, and then with
	// true when they have fallen below Options.LowWater: in turns, false first. Each time the queue rises above the one
	// mark is told, also if the kernel has taken all of it by then: who stops to send when he finds Pending above
	// HighWater is told to go on. Bytes are counted as for SendLimit, what frames add included.
	//
	// It is a callback like the others: on the loop, never inside another one, what it sends leaves when it returns.
	// What may be sent is bounded by SendLimit all the same; a Send in spite of false is as good as any.
	//
	// It is called only while Send accepts. So the last word may be false: after Disconnect, Abort or the end of the
	// session for whatever reason nobody is told to go on, and OnDisconnected is what ends the wait. After the peer's
	// FIN, Send accepts until the queue has run empty: a queue that falls below LowWater is told, one that is empty then
	// is not.
	OnWritable(writable bool)
}

// slow is what a session has besides whose peer has been slow, or whose content fast.
type slow struct {
	// Under mu.
	high    bool  // the queue has risen above HighWater, and not fallen below LowWater since
	listed  bool  // in Budget.sessions
	place   int32 // there, under Budget.mu
	dropped int   // what the budget has dropped and the loop not yet counted

	charged atomic.Int64 // to the budget, for this session alone; changes under mu
	common  atomic.Int64 // memory of shared buffers in the queue, which have charges of their own; likewise
	stuck   atomic.Bool  // the peer takes next to nothing; set by the loop

	// The loop's own.
	told   bool          // OnWritable(false) was the last word
	behind bool          // the kernel has been full, and the queue not empty since
	took   int           // bytes it has taken since since
	since  time.Duration // since when it takes next to nothing, 0 if it is not behind
	above  time.Duration // since when the queue is above SoftLimit, 0 if it is not
}

// slow returns the slow part, nil if there is none. Any goroutine.
func (s *Session) slow() *slow {
	if r := s.rare.Load(); r != nil {
		return r.slow.Load()
	}
	return nil
}

// slowly returns the slow part, making it if need be. Any goroutine.
func (s *Session) slowly() *slow {
	r := s.rarely()
	if w := r.slow.Load(); w != nil {
		return w
	}
	r.slow.CompareAndSwap(nil, new(slow))
	return r.slow.Load()
}

// rose notes which marks the queue has passed by n more bytes, and returns whether the loop has to know. The caller holds
// mu.
func (s *Session) rose(n int) (visit bool) {
	l, size := &s.loop.Limits, s.waiting()
	n += size - s.q.size // what describes packets may have grown too
	passed := func(mark int) bool { return mark > 0 && size > mark && size-n <= mark }
	visit = passed(l.PauseAbove) || passed(l.SoftLimit)
	if s.marked && size > l.HighWater {
		if w := s.slowly(); !w.high {
			w.high, visit = true, true
		}
	}
	return visit
}

// waiting returns the bytes that wait, as limits and marks count them: those of packets as they travel, and what describes them
// if that takes more memory than an eighth of theirs. The caller holds mu.
func (s *Session) waiting() int {
	if f := s.framing(); f != nil {
		return s.q.size + f.excess(s.q.size)
	}
	return s.q.size
}

// fell follows a write that took n bytes: what the peer owed by them is forgotten. The caller is the loop and holds mu.
func (s *Session) fell(n int, err error) {
	s.account()
	w := s.slow()
	if w == nil {
		return
	}
	w.took += n
	w.behind = s.q.size > 0 && err != ErrNoMemory && (w.behind || err == ErrWouldBlock)
	if s.waiting() <= s.loop.Limits.SoftLimit {
		w.above = 0
	}
}

// tellMark calls OnWritable if there is something to tell, and returns true then.
func (s *Session) tellMark() bool {
	w := s.slow()
	if w == nil {
		return false
	}
	s.mu.Lock()
	tell := false
	switch {
	case !s.open:
	case !w.told && w.high:
		w.told, tell = true, true
	case w.told && s.waiting() < s.loop.Limits.LowWater:
		w.told, w.high, tell = false, false, true
	}
	s.mu.Unlock()
	if tell {
		s.hold()
		s.lend()
		s.callWritable(!w.told)
	}
	return tell
}

// errSoftLimit is the reason of a session whose queue stayed above Options.SoftLimit.
var errSoftLimit = fmt.Errorf("%w (above the soft limit for too long)", ErrSendLimit)

// timeSoft starts the clock when size bytes are above the soft limit, and forgets it when they are not.
func (s *Session) timeSoft(size int) {
	l := &s.loop.Limits
	if l.SoftLimit <= 0 || l.SoftFor <= 0 {
		return
	}
	if size > l.SoftLimit {
		if w := s.slowly(); w.above == 0 {
			w.above = s.conn.Now()
		}
	} else if w := s.slow(); w != nil {
		w.above = 0
	}
}

// softBy returns when the queue will have been above the soft limit for too long, 0 if it is not.
func (s *Session) softBy() time.Duration {
	if w := s.slow(); w != nil && w.above > 0 {
		return w.above + s.loop.Limits.SoftFor
	}
	return 0
}

// tooLong ends a session that softBy is over of, unless the kernel takes enough now: the loop may be late with the news that
// there is room.
func (s *Session) tooLong(by time.Duration) {
	s.unblock()
	for n := 0; n < turnWrites && s.softBy() == by; n++ {
		v := s.look(false)
		if len(v.iov) == 0 {
			break
		}
		s.write(v.iov)
	}
	if s.softBy() == by {
		s.kill(errSoftLimit)
	}
}
