package bench

import "time"

// forever is a time that never comes.
const forever = int64(1) << 62

// exchange is the common part of all loads that get the bytes they send back on the same connection.
type exchange struct{}

func (exchange) ready(w *worker, now int64) bool {
	w.dialMore(len(w.conns), now)
	return w.dialled == len(w.conns) && w.dialing+w.resting == 0
}

func (exchange) limit(c *conn) uint64               { return c.sent }
func (exchange) closing(*worker, *conn)             {}
func (exchange) opened(w *worker, c *conn, _ int64) { w.live = append(w.live, c.index) }

func (exchange) writable(w *worker, c *conn) {
	if c.left > 0 || c.sent < c.planned || c.ws != nil && len(c.ws.out) > 0 {
		w.flush(c, w.run.now())
	}
}

func (exchange) control(w *worker, c *conn, frame []byte) {
	c.ws.out = append(c.ws.out, frame...)
	w.flush(c, w.run.now())
}

func (exchange) message(w *worker, c *conn, seq uint64, now int64) {
	s := c.slot(seq)
	if seq < c.credited {
		w.error(Late, 1, c, "the reply came after the timeout", now)
	}
	came := w.run.measured(now)
	if came {
		w.rec.now.messages++
		w.rec.now.bytes += uint64(w.run.pattern.size)
	}
	if w.run.measured(s.planned) {
		w.rec.time(replyTime, now-s.sent)
		if !came {
			w.rec.now.afterEnd++
		}
	}
}

// ended counts the messages of c that had no reply.
func (exchange) ended(w *worker, c *conn, now int64) {
	w.drop(c)
	overdue, rest := c.credited-c.v.next, c.planned-c.credited
	if w.over || c.quit {
		overdue, rest = overdue+rest, 0
	}
	if overdue > 0 {
		w.error(Timeout, overdue, c, "no reply", now)
	}
	w.rec.now.cut += rest
	w.lastOne()
}

// drop removes c from the connections that the load sends on.
func (w *worker) drop(c *conn) {
	for i, index := range w.live {
		if index == c.index {
			w.live = append(w.live[:i], w.live[i+1:]...)
			return
		}
	}
}

// scan no longer counts overdue messages as in flight, so that the load goes on. It closes a connection if twice as many messages are
// overdue as may be in flight.
func (exchange) scan(w *worker, now int64) {
	timeout, depth := int64(w.run.plan.Timeout), uint64(w.run.plan.Depth)
	for i := range w.conns {
		c := &w.conns[i]
		if c.state != open {
			continue
		}
		before := c.credited
		for c.credited < c.sent && now-c.slot(c.credited).sent > timeout {
			c.credited++
		}
		if c.credited-c.v.next >= 2*depth {
			c.quit = true
			w.hangUp(c)
			w.load.ended(w, c, now)
		} else if c.credited != before {
			w.load.received(w, c, now)
		}
	}
}

func (exchange) idle(w *worker, _ int64) bool {
	for i := range w.conns {
		c := &w.conns[i]
		if c.state == connecting || c.state == shaking || c.state == upgrading || c.state == open && c.v.next < c.planned {
			return false
		}
	}
	return true
}

// closedLoop keeps depth messages in flight on each connection: echo.
type closedLoop struct {
	exchange
	begun bool
}

func (l *closedLoop) tick(w *worker, now int64) int64 {
	if w.begun && !l.begun {
		l.begun = true
		for _, i := range append([]int32(nil), w.live...) {
			l.received(w, &w.conns[i], w.run.now())
		}
	}
	if !w.begun {
		return w.run.startOrForever()
	}
	return forever
}

// received sends a message for each that is no longer in flight, all of them in one write.
func (l *closedLoop) received(w *worker, c *conn, now int64) {
	c.credited = max(c.credited, c.v.next)
	if !l.begun || now >= w.run.end.Load() {
		return
	}
	for depth := uint64(w.run.plan.Depth); c.planned-c.credited < depth; {
		c.plan(now)
	}
	w.flush(c, now)
}

// openLoop sends at planned times, whether or not replies have come: rate, idle, ramp. The connections take turns. A message waits on its
// connection while depth messages are in flight there.
type openLoop struct {
	exchange
	pace   *pacer // nil for no messages
	next   int    // in worker.live
	active int    // connections that send; those after them in worker.conns are silent

	dials *pacer // ramp: when connections are due; nil: all of them before the load
	due   int    // connections that were due so far
	every float64

	echoAll bool // idle: each connection exchanges one message before the load
	echoed  int  // connections that have done so, or have ended
}

// unechoedAtOnce is how many connections of a worker may be without their first reply. The server has accepted all others, so that they do
// not fill its listen queue.
const unechoedAtOnce = 512

func (l *openLoop) opened(w *worker, c *conn, now int64) {
	if int(c.index) < l.active {
		l.exchange.opened(w, c, now)
	}
	if l.echoAll {
		c.first = true
		c.plan(now)
		w.flush(c, now)
	}
}

func (l *openLoop) ready(w *worker, now int64) bool {
	switch {
	case l.dials != nil:
		return true
	case !l.echoAll:
		return l.exchange.ready(w, now)
	}
	w.dialMore(min(len(w.conns), l.echoed+unechoedAtOnce), now)
	return l.echoed == len(w.conns)
}

// echo notes that the message before the load of c has its reply, or none will come.
func (l *openLoop) echo(c *conn) {
	c.first = false
	l.echoed++
	if int(c.index) >= l.active {
		c.slots = nil // nothing more is sent
	}
}

func (l *openLoop) tick(w *worker, now int64) int64 {
	if !w.begun {
		return w.run.startOrForever()
	}
	start, end := w.run.start.Load(), w.run.end.Load()
	until := forever
	if l.dials != nil {
		until = l.dial(w, now, start)
	}
	for range 1024 { // then serve events
		if !l.waits(w, now) {
			if l.pace != nil && now < end {
				until = min(until, start+l.pace.peek())
			}
			return until
		}
		due := start + l.pace.peek()
		if l.dials != nil {
			l.pace.gap = l.every / float64(max(len(w.live), 1))
		}
		l.pace.advance()
		if len(w.live) == 0 && l.dials != nil {
			continue // ramp: the first connection is still connecting
		}
		if w.run.measured(due) {
			w.rec.now.planned++
		}
		if len(w.live) > 0 {
			l.send(w, due)
		} else {
			w.rec.now.cut++ // there is no connection left to send it on
		}
	}
	return now
}

// lookedUpLate is how late a worker may notice the end of the measured part and still plan the messages that were due before. A worker
// that is later could not keep up itself, and a warning says so.
const lookedUpLate = int64(100 * time.Millisecond)

// waits reports whether a message is due that is not planned yet.
func (l *openLoop) waits(w *worker, now int64) bool {
	if l.pace == nil || !w.begun {
		return false
	}
	due, end := w.run.start.Load()+l.pace.peek(), w.run.end.Load()
	return due <= now && due < end && (now < end || due >= end-lookedUpLate)
}

func (l *openLoop) idle(w *worker, now int64) bool {
	return !l.waits(w, now) && l.exchange.idle(w, now)
}

func (l *openLoop) send(w *worker, due int64) {
	l.next++
	if l.next >= len(w.live) {
		l.next = 0
	}
	c := &w.conns[w.live[l.next]]
	free := c.planned == c.sent && c.inFlight() < uint64(w.run.plan.Depth)
	c.plan(due)
	now := w.run.now()
	if free && w.run.measured(due) {
		w.rec.time(pacingLag, now-due)
	}
	w.flush(c, now)
}

// dial starts the connects that are due.
func (l *openLoop) dial(w *worker, now, start int64) int64 {
	for l.due < len(w.conns) && start+l.dials.peek() <= now {
		l.dials.advance()
		l.due++
	}
	w.dialMore(l.due, now)
	if w.dialled == len(w.conns) {
		return forever
	}
	return start + l.dials.peek()
}

func (l *openLoop) message(w *worker, c *conn, seq uint64, now int64) {
	if c.first {
		w.rec.now.echoed++
	}
	l.exchange.message(w, c, seq, now)
	if planned := c.slot(seq).planned; w.run.measured(planned) {
		w.rec.time(plannedTime, now-planned)
	}
}

// received sends what has waited for a place in flight.
func (l *openLoop) received(w *worker, c *conn, now int64) {
	c.credited = max(c.credited, c.v.next)
	if c.first && c.v.next > 0 {
		l.echo(c)
	}
	if c.sent < c.planned {
		w.flush(c, now)
	}
}

// ended records the age of messages without a reply as their latency. To leave them out would make the server look better than it is.
func (l *openLoop) ended(w *worker, c *conn, now int64) {
	for seq := c.v.next; seq < c.planned; seq++ {
		if planned := c.slot(seq).planned; w.run.measured(planned) {
			w.rec.time(plannedTime, now-planned)
		}
	}
	l.exchange.ended(w, c, now)
	if l.echoAll && (c.first || c.v.next == 0) {
		l.echo(c)
	}
}

// scan closes connections whose message before the load has no reply in time. The load would wait for them.
func (l *openLoop) scan(w *worker, now int64) {
	for i := range w.conns {
		if c := &w.conns[i]; l.echoAll && c.first && c.state == open && now-c.slot(0).sent > int64(w.run.plan.Timeout) {
			c.quit = true
			w.hangUp(c)
			w.load.ended(w, c, now)
		}
	}
	l.exchange.scan(w, now)
}

// churnLoop connects, exchanges messages, closes, and connects again: churn.
type churnLoop struct {
	exchange
	next uint32 // stream id: one for each connection ever made
}

func (l *churnLoop) ready(*worker, int64) bool { return true }

func (l *churnLoop) tick(w *worker, now int64) int64 {
	if w.begun {
		w.dialMore(len(w.conns), now)
		return forever
	}
	return w.run.startOrForever()
}

func (l *churnLoop) opened(w *worker, c *conn, now int64) { l.received(w, c, now) }

func (l *churnLoop) received(w *worker, c *conn, now int64) {
	c.credited = max(c.credited, c.v.next)
	messages := uint64(w.run.plan.Messages)
	if c.v.next >= messages {
		l.cycle(w, c, now)
		return
	}
	for depth := uint64(w.run.plan.Depth); c.planned < messages && c.planned-c.credited < depth; {
		c.plan(now)
	}
	w.flush(c, now)
}

// cycle closes a connection after its last message.
func (l *churnLoop) cycle(w *worker, c *conn, now int64) {
	if w.run.measured(now) {
		w.rec.now.cycles++
	}
	if w.run.measured(c.begun) {
		w.rec.time(cycleTime, now-c.begun)
	}
	if w.run.plan.Linger0 {
		resetOnClose(c.fd)
	}
	w.hangUp(c)
	l.again(w, c, now, false)
}

func (l *churnLoop) ended(w *worker, c *conn, now int64) {
	l.exchange.ended(w, c, now)
	l.again(w, c, now, !c.quit)
}

// again makes the next connection in the place of c, after a pause if there was an error.
func (l *churnLoop) again(w *worker, c *conn, now int64, rest bool) {
	l.next++
	c.restart(l.next*uint32(w.run.plan.Threads) + uint32(w.n))
	switch {
	case w.over || now >= w.run.end.Load():
	case rest:
		w.pause(c, now)
	default:
		w.dial(c)
	}
}
