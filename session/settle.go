package session

import "time"

// hold keeps other goroutines from waking the loop for a session it is at work on (S3).
func (s *Session) hold() {
	if !s.scheduled.Swap(true) {
		s.mine = true
	}
}

// release lets them again. Whatever was asked for before is seen by the look that follows, whatever is asked
// for after it wakes the loop (I4).
func (s *Session) release() {
	if s.mine {
		s.mine = false
		s.scheduled.Store(false)
	}
}

// turnWrites bounds the gathered writes of one turn: a handler that sends in OnSend on a fast link must not keep
// the loop.
const turnWrites = 4

// turnPosts does the same for functions that post functions.
const turnPosts = 4

// settle is the safe point after callbacks and events: it sends what is queued, then carries out what anybody
// asked for. Callbacks made here (OnSend, OnRecv of kept input) are followed by another round, not by recursion.
func (s *Session) settle() {
	for writes, posts := 0, 0; ; {
		s.release()
		if s.phase == phaseClosed {
			s.finish(false)
			return
		}
		v := s.look(posts < turnPosts)
		if v.posted {
			if posts < turnPosts {
				posts++
				s.hold()
				s.runPosts()
				continue
			}
			s.conn.Again()
		}
		if len(v.iov) > 0 {
			if writes < turnWrites {
				writes++
				s.write(v.iov)
				continue
			}
			s.reclaim()
			s.conn.Again()
		}
		if !s.conclude(v) {
			break
		}
	}
	s.release()
}

// view is what a look under mu has found.
type view struct {
	aborted, ending bool
	posted          bool          // functions wait to be run
	finish          bool          // CloseWrite was called
	timer           time.Duration // when the next AfterFunc is due, 0 if there is none
	size            int           // bytes queued
	waiting         int           // the same as limits count them
	iov             [][]byte      // what the kernel should be offered, nil if nothing
}

// look takes stock of what was asked for and, unless functions are to be run first, gathers what can be sent.
func (s *Session) look(posts bool) (v view) {
	r, scratch := s.rare.Load(), s.conn.Scratch()
	s.mu.Lock()
	defer s.mu.Unlock()
	if r != nil && r.end != nil {
		if s.open, s.ending = false, true; r.reason == nil {
			s.record(r.end)
		}
		r.end = nil
	}
	v.aborted, v.ending, v.size, v.waiting = s.aborted, s.ending, s.q.size, s.waiting()
	if r != nil {
		v.finish, v.timer = r.finish, r.timers.next()
	}
	if v.posted = r != nil && len(r.posts) > 0; v.posted && posts {
		return v
	}
	if v.size > 0 && !s.blocked && !s.aborted {
		v.iov = s.q.gather(scratch.iov[:0])
		return v
	}
	s.q.reclaim()
	s.account()
	if s.peerFIN && v.size == 0 && !s.halfOpen {
		s.open = false // decided under the lock: no Send slips in between the last byte and the end
	}
	return v
}

// reclaim takes back the scratch memory when what is in it has to wait.
func (s *Session) reclaim() {
	s.mu.Lock()
	s.q.reclaim()
	s.account()
	s.mu.Unlock()
	iov := s.conn.Scratch().iov
	clear(iov[:cap(iov)])
}

// write makes one gathered write, and calls OnSend if the kernel took any of it. What the kernel did not take of
// the scratch memory moves into segments; OnSend gets the scratch anew.
func (s *Session) write(iov [][]byte) {
	n, err := s.conn.Write(iov)
	if len(iov) == 1 {
		iov[0] = nil
	} else {
		clear(iov)
	}
	told, tell := n, n > 0
	f, scratch := s.framing(), s.conn.Scratch()
	s.mu.Lock()
	if s.q.consume(n); f != nil {
		var packets int
		packets, told = f.sent(n)
		tell = packets > 0
	}
	s.q.reclaim()
	messages := s.messages
	s.messages = 0
	s.blocked = err == ErrWouldBlock || err == ErrNoMemory
	s.fell(n, err)
	if n > 0 && !s.aborted {
		s.q.lend(scratch, nil)
	}
	s.mu.Unlock()
	if n > 0 {
		s.fed(n)
	}
	if err != nil {
		s.notWritten(err)
	}
	c := &s.loop.Counters
	c.MessagesOut.Add(int(messages))
	if n > 0 {
		c.Writes.Add(1)
		c.BytesOut.Add(n)
		s.hold()
	}
	if tell {
		s.callSend(told)
	}
}

// fed notes that the kernel has taken n bytes, for the deadlines that depend on it.
func (s *Session) fed(n int) {
	if s.halfOpen {
		s.heardAt = s.conn.Now()
	}
	if r := s.rare.Load(); r != nil {
		r.stallBy = 0
		r.wrote += n
	}
}

// notWritten notes why the kernel did not take everything.
func (s *Session) notWritten(err error) {
	if err != ErrWouldBlock && err != ErrNoMemory {
		s.sever(err, s.conn.Received())
		return
	}
	s.loop.Counters.WouldBlock.Add(1)
	s.retry = err == ErrNoMemory
	if r := s.rarely(); r.stallBy == 0 && s.loop.Limits.Write > 0 {
		r.begin()
		r.stallBy = s.conn.Now() + s.loop.Limits.Write
	}
}

func (s *Session) unblock() {
	s.mu.Lock()
	s.blocked, s.retry = false, false
	s.mu.Unlock()
}

// conclude carries out what was asked for and what follows from the state. It returns true if it called
// content, so that another round must look.
func (s *Session) conclude(v view) bool {
	s.timeProgress()
	s.enforceBudget()
	switch {
	case v.aborted:
		s.finish(true)
		return false
	case s.severed && (v.ending || s.drained()):
		s.finish(false)
		return false
	}
	if v.ending && s.phase == phaseOpen {
		s.drain()
	}
	switch {
	case v.size > 0:
	case s.phase == phaseDraining:
		if s.windUp() {
			return false
		}
	case s.phase == phaseOpen && v.finish && !s.finSent:
		s.sendFIN()
	}
	if s.marked && s.tellMark() {
		return true
	}
	s.timeSoft(v.waiting)
	delivered := s.steer(v.waiting)
	s.rearm(v)
	return delivered
}
