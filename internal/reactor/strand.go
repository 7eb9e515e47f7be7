package reactor

import (
	"sync/atomic"
	"time"
)

// strand is the order in which workers serve one connection. The handler's methods, and all of Conn but next, place, index and waiting,
// belong to the worker that serves it, as they belong to the loop otherwise. The loop passes on the events of the
// connection, keeps its deadline, and closes the descriptor: registrations, wheel and lists are the loop's alone.
//
// Nothing is lost on the way to the workers: a goroutine that has news sets its bit together with dueQueued, in one step, and puts the
// strand in line if dueQueued was not set. A worker takes all bits in one step, and gives dueQueued up only if no bit came
// meanwhile; otherwise the strand goes to the end of the line. So it is in line or served exactly while dueQueued is set, once,
// and what one worker has done is seen by the next (R6).
//
// Nor on the way to the loop: the worker publishes its request, then sets mailed; the loop clears mailed, then looks.
type strand[C any] struct {
	executor[C]
	conn    *Conn[C]
	workers *Workers[C]
	due     atomic.Uint32
	next    *strand[C] // in line, under workers.mu

	// The worker's.
	after func()        // what follows OnOpen
	armed time.Duration // the deadline the loop was asked for, 0 for none

	closed bool // the descriptor was given up; the loop's

	// Requests to the loop.
	mailed   atomic.Bool
	deadline atomic.Int64  // 0: none
	ending   atomic.Uint32 // what of the end is due
}

// What is due for a strand.
const (
	dueOpen uint32 = 1 << iota // OnOpen
	dueRead                    // as in event
	dueWrite
	dueHangup
	dueUrgent
	dueWake     // OnWake
	dueResume   // OnResume
	dueDeadline // OnDeadline
	dueQueued   // in line, or served

	dueAll = dueRead | dueWrite | dueWake | dueResume | dueDeadline
)

// Parts of an end.
const (
	closing   uint32 = 1 << iota // the descriptor is to be closed
	byReset                      // with a reset
	releasing                    // the connection is to be released
)

// Offload has workers serve a connection that is not open yet.
func (l *Loop[C]) Offload(c *Conn[C], w *Workers[C]) {
	s := &strand[C]{conn: c, workers: w}
	s.executor = executor[C]{loop: l, strand: s}
	c.executor = &s.executor
}

// signal has a worker serve the connection. Any goroutine.
func (s *strand[C]) signal(what uint32) {
	if s.due.Or(what|dueQueued)&dueQueued == 0 {
		s.workers.push(s)
	}
}

// enqueueEvent has a worker note an event, and serve the connection.
func (s *strand[C]) enqueueEvent(e event) {
	var what uint32
	for _, bit := range []struct {
		on   bool
		what uint32
	}{{e.readable, dueRead}, {e.writable, dueWrite}, {e.hangup, dueHangup}, {e.urgent, dueUrgent}} {
		if bit.on {
			what |= bit.what
		}
	}
	s.signal(what)
}

// serve does what is due. The caller is the one worker at this connection.
func (s *strand[C]) serve(memory *scratch) {
	s.scratch = memory
	if s.loop.onServe != nil {
		s.loop.onServe(memory.owner)
	}
	c, handler, what := s.conn, s.loop.handler, s.due.Swap(dueQueued)
	has := func(bit uint32) bool { return what&bit != 0 }
	e := event{readable: has(dueRead), writable: has(dueWrite), hangup: has(dueHangup), urgent: has(dueUrgent)}
	c.note(e) // before anything that may take the goroutine down
	if has(dueOpen) {
		after := s.after
		s.after = nil
		c.open(after)
	}
	if has(dueWake) {
		handler.OnWake(c)
	}
	if has(dueResume) {
		handler.OnResume(c)
	}
	if has(dueDeadline) {
		s.armed = 0
		handler.OnDeadline(c, s.loop.Now())
	}
	c.look()
	s.scratch = nil
	if !s.due.CompareAndSwap(dueQueued, 0) {
		s.workers.push(s)
	}
}

// cutShort follows a serve that ended its goroutine: whatever it was to do is done again.
func (s *strand[C]) cutShort() {
	s.scratch = nil
	s.conn.readable = true
	s.due.Or(dueAll)
}

// arm asks the loop for a deadline at that time or earlier.
func (s *strand[C]) arm(at time.Duration) {
	if s.armed == 0 || at < s.armed {
		s.armed = at
		s.deadline.Store(int64(at))
		s.mail()
	}
}

// end asks the loop for what of the end only it may do.
func (s *strand[C]) end(what uint32) {
	s.ending.Or(what)
	s.mail()
}

func (s *strand[C]) mail() {
	if !s.mailed.Swap(true) {
		s.loop.post(s.conn, s.conn)
	}
}

// serveRequests does what the worker has asked the loop for. Loop only.
func (s *strand[C]) serveRequests() {
	s.mailed.Store(false)
	c, what := s.conn, s.ending.Swap(0)
	if at := s.deadline.Swap(0); at > 0 && !s.closed {
		s.loop.arm(c, time.Duration(at))
	}
	if what&closing != 0 {
		s.closed = true
		c.giveUp(what&byReset != 0)
	}
	if what&releasing != 0 {
		c.release()
	}
}
