package session

import (
	"time"

	"github.com/servercore-go/servercore/internal/sendqueue"
)

const (
	// turnWrites bounds the gathered writes of one turn: a handler that sends in OnSend on a fast link must not keep the loop.
	turnWrites = 4
	// turnPosts bounds the rounds of posted functions of one turn: a function that posts itself must not keep the loop.
	turnPosts = 4
)

// settle is the safe point after callbacks and events. It goes round in three steps until there is nothing to do now:
//
//	look      takes stock under mu: what was asked for, and what the kernel can be offered
//	serve     runs posted functions, or else makes one gathered write and calls OnSend
//	conclude  ends, drains, tells OnWritable, delivers kept input or steers the reading, arms the next deadline
//
// A step that has run the handler is followed by another round, not by recursion.
func (s *Session) settle() {
	writes, posts := turnWrites, turnPosts
	for {
		s.wakeup.release()
		if s.phase == phaseClosed {
			s.finish(false)
			return
		}
		v := s.look(posts > 0)
		if s.servePosts(v, &posts) || s.serveWrite(v, &writes) || s.conclude(v) {
			continue
		}
		break
	}
	s.wakeup.release()
}

// view is what a look has found.
type view struct {
	aborted, ending bool
	posted          bool          // functions wait to be run
	closeWrite      bool          // CloseWrite was called
	nextTimer       time.Duration // when the next AfterFunc is due, 0 if there is none
	size            int           // bytes that are not out; the layer's own count as one
	waiting         int           // the same as limits count them
	iov             [][]byte      // what the kernel should be offered, empty if nothing

	// With a layer.
	wire *layered // iov is the wire's, or will be when it was sealed; nil if it is the queue's
	own  bool     // the layer has bytes of its own, which come first
	rest int      // bytes that are left of the message under way
}

// look takes stock of what was asked for. It gathers what can be sent, unless functions are to be run first.
func (s *Session) look(postsFirst bool) (v view) {
	r, scratch := s.rare.Load(), s.conn.Scratch()
	var l *layered
	if r != nil && r.layered != nil {
		l = r.layered
		v.own = !s.severed && l.pending()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noteInput()
	if r != nil && r.endReason != nil {
		if s.open, s.ending = false, true; s.reason() == nil {
			s.recordReason(*r.endReason)
		}
		r.endReason = nil
	}
	v.aborted, v.ending, v.size, v.waiting = s.aborted, s.ending, s.queued(), s.waiting()
	if v.own {
		v.size++
	}
	if r != nil {
		v.closeWrite = r.closeWrite
		if t := r.tasks; t != nil {
			v.nextTimer, v.posted = t.timers.next(), len(t.posts) > 0
		}
	}
	if v.posted && postsFirst {
		return v
	}
	if v.size > 0 && !s.blocked && !s.aborted {
		if l != nil {
			s.gatherLayered(l, &v)
		} else {
			v.iov = s.q.Gather(&scratch.send, sendqueue.WriteBudget)
		}
		return v
	}
	v.own = false
	s.q.Reclaim()
	s.updateBudget()
	if s.peerFIN && v.size == 0 && !s.halfOpen {
		s.open = false // decided under the lock: no Send slips in between the last byte and the end
	}
	return v
}

// servePosts runs what was posted and returns true. When this turn has no rounds left, it asks for another turn and returns false.
func (s *Session) servePosts(v view, left *int) (ran bool) {
	if !v.posted {
		return false
	}
	if *left == 0 {
		s.conn.Again()
		return false
	}
	*left--
	s.wakeup.hold()
	s.runPosts()
	return true
}

// serveWrite makes one gathered write, if there is anything to write, and returns true. When this turn has no writes left, it asks for another
// turn and returns false.
func (s *Session) serveWrite(v view, left *int) (wrote bool) {
	if len(v.iov) == 0 && !v.own {
		return false
	}
	if *left == 0 {
		s.reclaimScratch()
		s.conn.Again()
		return false
	}
	*left--
	s.writeOut(v)
	return true
}

// conclude carries out what was asked for and what follows from the state. It returns true if it has run the handler or the layer.
func (s *Session) conclude(v view) (ran bool) {
	s.timeProgress()
	s.enforceBudget()
	switch {
	case v.aborted:
		s.finish(true)
		return false
	case s.severed && (v.ending || s.deliveredAll()):
		s.finish(false)
		return false
	}
	if v.ending && s.phase == phaseOpen {
		if v.size == 0 && s.needsNoDrain() {
			s.finish(false)
			return false
		}
		if s.startDrain() {
			return true
		}
	}
	switch {
	case v.size > 0:
	case s.phase == phaseDraining:
		if s.sayLastWord() {
			return true
		}
		if s.advanceDrain() {
			return false
		}
	case s.phase == phaseOpen && v.closeWrite && !s.finSent:
		if s.sayLastWord() {
			return true
		}
		s.sendFIN()
	}
	if s.tellsWritable && s.tellWritable() {
		return true
	}
	s.timeSoftLimit(v.waiting)
	delivered := s.steerReading(v.waiting)
	s.armDeadline(v)
	return delivered
}
