package bench

import (
	"crypto/tls"
	"errors"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

const (
	longestWait  = 20 * time.Millisecond // so that a worker sees within that time that the run has ended
	eventsAtOnce = 256
	readsAtOnce  = 8         // per connection, before the others have their turn
	readBuffer   = 256 << 10 // shared by the connections of a worker
	writeBuffer  = 128 << 10
	dialsAtOnce  = 64 // per worker: listen queues are short
)

// An event is a ready descriptor, identified by the key with which it was added.
type event struct {
	key              uint64
	readable, closed bool // closed: the peer has closed, or the connection failed; a read tells
	writable         bool
}

// A load decides what a worker's connections do. All calls come from the worker.
type load interface {
	// ready does what comes before the load, and is called until it is true; the load waits for all workers.
	ready(w *worker, now int64) bool
	// tick does what is due, and returns when it wants to be called again at the latest.
	tick(w *worker, now int64) int64
	// opened: the connection is established.
	opened(w *worker, c *conn, now int64)
	// message: message seq came whole and right.
	message(w *worker, c *conn, seq uint64, now int64)
	// received: the bytes at hand were looked at; v.next may have moved.
	received(w *worker, c *conn, now int64)
	// limit is the number of messages that can have come on c.
	limit(c *conn) uint64
	// writable: the kernel takes bytes again.
	writable(w *worker, c *conn)
	// control: a control frame of WebSocket has to be sent, between two messages.
	control(w *worker, c *conn, frame []byte)
	// closing: the descriptor is about to be closed.
	closing(w *worker, c *conn)
	// ended: the connection is gone, or could not be made; the conn still holds its cursors.
	ended(w *worker, c *conn, now int64)
	// scan is called every tenth of the timeout, for what takes too long.
	scan(w *worker, now int64)
	// idle reports whether nothing is outstanding: the run may end.
	idle(w *worker, now int64) bool
}

// A worker is a reactor on its own thread: one goroutine that serves a part of the run's connections.
type worker struct {
	run     *run
	n       int // its number
	load    load
	targets []*target // those of the run
	poll    *poller
	rec     *recorder

	conns   []conn
	live    []int32 // connections the load sends on, in turn
	more    []int32 // connections whose last read left something
	dialled int     // conns that were dialled so far
	dialing int     // connects under way
	resting int     // connects that are tried again
	begun   bool    // the load has begun
	over    bool    // the run has ended: what is outstanding was waited for
	settled bool

	nextScan, nextRedial int64

	events  []event
	in, out []byte
}

func newWorker(r *run, n, conns int) (*worker, error) {
	poll, err := newPoller(eventsAtOnce)
	if err != nil {
		return nil, err
	}
	w := &worker{
		run: r, n: n, poll: poll, rec: newRecorder(r.chunks, int64(r.interval)),
		conns: make([]conn, conns), live: make([]int32, 0, conns),
		events: make([]event, eventsAtOnce), in: make([]byte, readBuffer), out: make([]byte, writeBuffer),
	}
	for _, t := range r.targets {
		t = t.clone()
		if r.plan.TLSResume {
			t.tls = t.tls.Clone()
			t.tls.ClientSessionCache = tls.NewLRUClientSessionCache(1) // one server; a worker does not wait for another one's lock
		}
		w.targets = append(w.targets, t)
	}
	for i := range w.conns {
		c := &w.conns[i]
		c.index, c.fd = int32(i), -1
		number := n + i*r.plan.Threads
		if others := len(w.targets) - 1; others > 0 && number > 0 { // subscribers, dealt to the addresses in turn
			c.target = 1 + int32((number-1)%others)
		}
		c.restart(uint32(number))
	}
	return w, nil
}

// serve is the worker's goroutine. It returns after the end of the run, when all replies have come or the wait for them is over.
func (w *worker) serve() {
	// A thread of its own keeps the caches warm, and its timers can be made exact.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	sharpenTimers()
	for {
		now := w.run.now()
		until, over := w.turn(now)
		if over {
			break
		}
		if len(w.more) > 0 {
			until = now
		}
		n, err := w.poll.wait(w.events, min(time.Duration(until-now), longestWait))
		if err != nil {
			w.run.fail(err)
			break
		}
		for _, ev := range w.events[:n] {
			w.handle(ev)
		}
		w.readMore()
	}
	w.finish()
}

// clock returns the time. What is recorded from here on goes to the interval of that time.
func (w *worker) clock() int64 {
	now := w.run.now()
	if now >= w.rec.edge {
		w.rec.roll(now, w.run.end.Load())
	}
	return now
}

// turn does the work that does not depend on events, and returns the time of the next turn.
func (w *worker) turn(now int64) (until int64, over bool) {
	r := w.run
	start, end := r.start.Load(), r.end.Load()
	if now >= end {
		if now >= end+r.grace.Load() || w.load.idle(w, now) {
			return 0, true
		}
	} else if start != 0 && now >= start && !w.begun {
		w.begun = true
		w.rec.begin(r.from.Load())
	}
	w.rec.roll(now, end)
	if now >= w.nextScan {
		w.nextScan = now + int64(r.plan.Timeout)/10
		w.scanDials(now)
		w.load.scan(w, now)
	}
	until = min(w.load.tick(w, now), w.nextScan)
	w.redial(now)
	if w.resting > 0 {
		until = min(until, now+retryAfter)
	}
	if !w.settled {
		if w.load.ready(w, now) {
			w.settled = true
			r.settle()
		}
		until = min(until, now+int64(2*time.Millisecond))
	}
	return until, false
}

// handle handles one event.
func (w *worker) handle(ev event) {
	c := &w.conns[uint32(ev.key)]
	if c.gen != uint32(ev.key>>32) || c.state == closed {
		return
	}
	if c.state == connecting {
		if !ev.writable && !ev.closed {
			return
		}
		w.connected(c)
		if c.state == closed || c.state == connecting {
			return
		}
	}
	if c.state == shaking {
		if !w.handshake(c, ev.closed) {
			return
		}
		ev.readable = true // bytes may have come with the end of the handshake
	}
	if c.tls != nil {
		c.tls.event(ev.closed)
		if ev.writable {
			c.tls.flush() // a read tells its error
		}
	}
	if c.state == upgrading {
		w.upgrade(c, ev)
		return
	}
	if ev.writable {
		w.load.writable(w, c)
	}
	if (ev.readable || ev.closed) && c.state == open {
		w.read(c, ev.closed)
	}
}

// flush sends planned messages, as far as depth and the kernel allow.
func (w *worker) flush(c *conn, now int64) {
	r := w.run
	size, depth := r.pattern.wire(), uint64(r.plan.Depth)
	for c.state == open {
		if c.ws != nil && c.left == 0 && len(c.ws.out) > 0 && !w.sendBetween(c, now) {
			return
		}
		n := 0
		first, left := c.sent, c.left
		if left > 0 {
			n = r.pattern.fill(w.out, c.v.id, c.sent-1, size-left)
			left -= n
		}
		for left == 0 && n < len(w.out) && c.sent < c.planned && c.inFlight() < depth {
			c.slot(c.sent).sent = now
			k := r.pattern.fill(w.out[n:], c.v.id, c.sent, 0)
			c.sent++
			left = size - k
			n += k
		}
		if n == 0 {
			return
		}
		k, errno := c.write(w.out[:n])
		if errno != 0 {
			k = 0
		}
		if k < n {
			w.unsend(c, first, n-k, left)
		} else {
			c.left = left
		}
		w.left(c.sent-first, now)
		switch errno {
		case 0, unix.EINTR:
		case unix.EAGAIN:
			return // an event tells when to go on
		default:
			w.end(c, classify(errno), errno.Error(), now)
			return
		}
	}
}

// left counts n messages that have left, wholly or in part.
func (w *worker) left(n uint64, now int64) {
	w.rec.now.sent += n
	if w.run.measured(now) {
		w.rec.now.offered += n
	}
}

// unsend sets the cursors back after a write that took rest bytes less than it was given. left is the number of bytes of the last message
// that were not in the buffer.
func (w *worker) unsend(c *conn, first uint64, rest, left int) {
	size := w.run.pattern.wire()
	total := rest + left // bytes up to the end of message sent-1 that have not left
	for total >= size && c.sent > first {
		total -= size
		c.sent--
	}
	c.left = total
}

// error counts n errors of one kind.
func (w *worker) error(k Kind, n uint64, c *conn, detail string, now int64) {
	w.rec.now.errors[k] += n
	w.run.sample(k, w.n+int(c.index)*w.run.plan.Threads, detail, now)
}

// end closes a connection that has ended, and counts the reason.
func (w *worker) end(c *conn, why Kind, detail string, now int64) {
	w.error(why, 1, c, detail, now)
	w.hangUp(c)
	w.load.ended(w, c, now)
}

// lastOne ends a run that has lost all its connections.
func (w *worker) lastOne() {
	r := w.run
	left := int64(0)
	switch {
	case w.over || r.start.Load() == 0 || r.plan.Mode == Churn || r.plan.Mode == Ramp:
		return
	case r.plan.Mode == Fanout:
		left = 1 // the publisher
	}
	if r.open.Load() <= left {
		r.finishEarly("no connection is left")
	}
}

const (
	closeTogether = 512             // connections of a worker are closed; then it waits until the server has closed the last of them, too
	closeWait     = 5 * time.Second // at the longest; a server that takes longer is not waited for again
)

// lastWord ends what is sent on a connection, and throws away what still comes. It reports whether the peer has ended it as well by then.
func lastWord(fd int, buf []byte, within time.Duration) bool {
	if unix.Shutdown(fd, unix.SHUT_WR) != nil {
		return true // it has failed
	}
	for until := time.Now().Add(within); ; {
		n, errno := read(fd, buf)
		switch {
		case n == 0, errno != 0 && errno != unix.EAGAIN && errno != unix.EINTR:
			return true
		case n > 0:
			continue
		}
		left := time.Until(until)
		if left <= 0 {
			return false
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left/time.Millisecond)+1)
	}
}

// hangUp closes the descriptor.
func (w *worker) hangUp(c *conn) {
	if c.state == closed {
		return
	}
	if c.state == open {
		w.run.open.Add(-1)
	} else {
		w.dialing--
	}
	w.load.closing(w, c)
	if c.ws != nil && c.state == open {
		w.sendClose(c)
	}
	if c.tls != nil {
		c.tls.end(c.state == open || c.state == upgrading)
	}
	unix.Close(c.fd)
	c.state, c.fd, c.tls, c.ws, c.begun = closed, -1, nil, nil, 0
	c.gen++
}

// finish closes all connections, so that the server keeps pace: a million that are closed in one moment are more packets than any queue
// holds, and some are not sent again.
func (w *worker) finish() {
	now := w.run.now()
	w.rec.roll(now, w.run.end.Load())
	w.over = true
	patient := true // the server closes what we have closed
	for i := range w.conns {
		c := &w.conns[i]
		if c.state == open {
			if patient && (i+1)%closeTogether == 0 && c.tls == nil && c.ws == nil {
				patient = lastWord(c.fd, w.in, closeWait)
			}
			w.hangUp(c)
			w.load.ended(w, c, now)
		}
		w.hangUp(c)
	}
	w.rec.finish()
	if err := w.poll.close(); err != nil {
		w.run.fail(errors.Join(errors.New("bench: poller"), err))
	}
}
