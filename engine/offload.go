package engine

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/servercore-go/servercore/session"
)

// Offload has the callbacks of the sessions run on workers, at most that many at once, instead of on the event loops: they
// may wait, for a database or a file, and neither the loops nor sessions without this option notice. Everything else is as
// the contract says: the callbacks of one session run in order, never two at once, and what they send leaves when they
// return. "The session's loop" then means "in the session's order". The factory still runs on the loop and must not wait.
//
// When every worker is at work, sessions that have something to do wait in line, each at most once, and are not
// read: TCP holds their peers. Nothing else grows. A worker makes up to four reads for a session, none after one that brought
// 16 KiB or more, then it serves the next in line. Callbacks must not wait for each other: if all workers wait for what only another one would bring about, nothing
// happens any more.
//
// Goroutines change for every message, so who never waits is better off on a loop. A worker has a goroutine and 150 KiB of
// memory while it is at work, and nothing otherwise; a session takes about 100 bytes more. One Option given to
// several listeners means one set of workers for all of them. workers is 1 to 100,000.
func Offload(workers int) Option {
	w := newCrew(workers)
	return func(o *origin) error {
		if workers < 1 || workers > maxWorkers {
			return fmt.Errorf("Offload: %d workers, want 1 to %d", workers, maxWorkers)
		}
		o.crew = w
		return nil
	}
}

const maxWorkers = 100_000

// A seat is where a connection is served: on its loop, or by workers.
type seat struct {
	loop       *loop
	*workspace         // of the goroutine that is at work on the connection
	strand     *strand // nil: on the loop
}

// workspace is the memory that a goroutine which serves connections lends to the one it is at.
type workspace struct {
	scratch *session.Scratch
	gather  gather // for writes
	input   []byte // what was read last
}

func newWorkspace() *workspace {
	return &workspace{scratch: session.NewScratch(), input: make([]byte, readSize)}
}

// strand is the order in which workers serve one connection. The session, and all of conn but next, place, index and waiting,
// belong to the worker that serves it, as they belong to the loop otherwise. The loop passes on what it hears of the
// connection, keeps its deadline, and closes the descriptor: registrations, wheel and lists are the loop's alone.
//
// Nothing is lost on the way to the workers: whoever has news sets its bit together with queued, in one step, and puts the
// strand in line if queued was not set. A worker takes all bits in one step, and gives queued up only if no bit came
// meanwhile; otherwise the strand goes to the end of the line. So it is in line or served exactly while queued is set, once,
// and what one worker has done is seen by the next.
//
// Nor on the way to the loop: the worker publishes its wish, then sets mailed; the loop clears mailed, then looks.
type strand struct {
	seat
	conn *conn
	crew *crew
	news atomic.Uint32
	next *strand // in line, under crew.mu

	// The worker's.
	attempt *attempt      // of Dial, until OnConnected has run
	armed   time.Duration // the visit the loop was asked for, 0 for none

	given bool // the descriptor was given up; the loop's

	// Wishes to the loop.
	mailed   atomic.Bool
	deadline atomic.Int64  // 0: none
	ending   atomic.Uint32 // what of the end is due
}

// News of a strand's.
const (
	opened   uint32 = 1 << iota // OnConnected is due
	readable                    // as in news
	writable
	hangup
	urgent
	turn   // after Wake
	resume // after Again
	expire // a deadline may have passed
	queued // in line, or served

	everything = readable | writable | turn | resume | expire
)

// Parts of an end.
const (
	closing uint32 = 1 << iota // the descriptor is to be closed
	byReset                    // with a reset
	leaving                    // the session is done
)

// seatFor gives a new connection its place.
func (l *loop) seatFor(c *conn, o *origin) {
	if o.crew == nil {
		c.seat = &l.seat
		return
	}
	s := &strand{conn: c, crew: o.crew}
	s.seat = seat{loop: l, strand: s}
	c.seat = &s.seat
}

// signal has a worker serve the connection. Any goroutine.
func (s *strand) signal(what uint32) {
	if s.news.Or(what|queued)&queued == 0 {
		s.crew.push(s)
	}
}

// hear passes on an event.
func (s *strand) hear(n news) {
	var what uint32
	for _, bit := range []struct {
		on   bool
		what uint32
	}{{n.readable, readable}, {n.writable, writable}, {n.hangup, hangup}, {n.urgent, urgent}} {
		if bit.on {
			what |= bit.what
		}
	}
	s.signal(what)
}

// serve does what is due. The caller is the one worker at this connection.
func (s *strand) serve(w *workspace) {
	s.workspace = w
	w.scratch.Watched(s.loop.engine.options.StallWarning > 0) // the one before may have been another engine's
	c, what := s.conn, s.news.Swap(queued)
	has := func(bit uint32) bool { return what&bit != 0 }
	n := news{readable: has(readable), writable: has(writable), hangup: has(hangup), urgent: has(urgent)}
	c.note(n) // before anything that may take the goroutine down
	if has(opened) {
		c.driver.Connected()
		s.connected()
	}
	if has(turn) {
		c.driver.Turn()
	}
	if has(resume) {
		c.driver.Resume()
	}
	if has(expire) {
		s.armed = 0
		c.driver.Expire(c.Now())
	}
	c.look()
	s.workspace = nil
	if !s.news.CompareAndSwap(queued, 0) {
		s.crew.push(s)
	}
}

// connected follows OnConnected, also if that took its goroutine down.
func (s *strand) connected() {
	a := s.attempt
	s.attempt = nil
	a.settle()
	s.conn.readable = true
}

// lost follows a serve that was cut short: whatever it was to do is done again.
func (s *strand) lost() {
	s.workspace = nil
	if s.attempt != nil {
		s.connected()
	}
	s.conn.readable = true
	s.news.Or(everything)
}

// arm asks the loop for a visit at that time or earlier.
func (s *strand) arm(at time.Duration) {
	if s.armed == 0 || at < s.armed {
		s.armed = at
		s.deadline.Store(int64(at))
		s.mail()
	}
}

// end asks the loop for what of the end only it may do.
func (s *strand) end(what uint32) {
	s.ending.Or(what)
	s.mail()
}

func (s *strand) mail() {
	if !s.mailed.Swap(true) {
		s.loop.post(s.conn, s.conn)
	}
}

// attend carries the wishes out. Loop only.
func (s *strand) attend() {
	s.mailed.Store(false)
	c, what := s.conn, s.ending.Swap(0)
	if at := s.deadline.Swap(0); at > 0 && !s.given {
		s.loop.arm(c, time.Duration(at))
	}
	if what&closing != 0 {
		s.given = true
		c.giveUp(what&byReset != 0)
	}
	if what&leaving != 0 {
		c.leave()
	}
}

// crew is the workers of an Offload, and the line of strands that wait for one. There is a worker for each strand that
// is due, up to the limit; one that finds nobody in line ends. So there is nothing to start or to stop.
type crew struct {
	limit int
	work  func() // crew.serve, made once

	mu          sync.Mutex
	first, last *strand // in line
	running     int
}

func newCrew(limit int) *crew {
	w := &crew{limit: limit}
	w.work = w.serve
	return w
}

// push puts a strand in line.
func (w *crew) push(s *strand) {
	s.loop.engine.offloaded.waiting.Add(1)
	w.mu.Lock()
	if w.last == nil {
		w.first = s
	} else {
		w.last.next = s
	}
	w.last = s
	hire := w.running < w.limit
	if hire {
		w.running++
	}
	w.mu.Unlock()
	if hire {
		go w.work()
	}
}

// pop takes the first of the line. Without one, the worker who asks is no more.
func (w *crew) pop() *strand {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.first
	if s == nil {
		w.running--
		return nil
	}
	if w.first = s.next; w.first == nil {
		w.last = nil
	}
	s.next = nil
	return s
}

var workspaces = sync.Pool{New: func() any { return newWorkspace() }}

// serve is a worker. Content may take its goroutine down, by runtime.Goexit: then another carries on.
func (w *crew) serve() {
	var s *strand
	defer func() {
		if s != nil {
			s.loop.engine.offloaded.working.Add(-1)
			atWork.Add(-1)
			s.lost()
			w.push(s)
			go w.work() // in this one's place
		}
	}()
	memory := workspaces.Get().(*workspace)
	for s = w.pop(); s != nil; s = w.pop() {
		o := &s.loop.engine.offloaded
		o.waiting.Add(-1)
		o.working.Add(1)
		atWork.Add(1)
		s.serve(memory)
		o.working.Add(-1)
		atWork.Add(-1)
	}
	workspaces.Put(memory)
}
