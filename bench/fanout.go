package bench

import (
	"fmt"
	"time"
)

// fanLoad is one worker's part of a fanout run.
type fanLoad struct {
	f         *fan
	subs      int     // open subscribers
	joined    int     // of those
	remaining []int32 // ring by sequence number: deliveries that are missing here
	done      uint64  // messages before this one have none missing
	base      uint64  // the first message that is counted: those before introduced the subscribers
	counting  bool
	dialled   bool
	nextProbe int64
	nextLook  int64 // before the load: when to look at all connections again
	patience  int64 // when to give up waiting for further subscribers to join
	known     int64 // subscribers that had joined when patience was set
}

func isPublisher(w *worker, c *conn) bool { return w.n == 0 && c.index == 0 }

func (l *fanLoad) opened(w *worker, c *conn, _ int64) {
	if isPublisher(w, c) {
		l.f.mu.Lock()
		l.f.conn = c
		l.f.mu.Unlock()
		return
	}
	l.subs++
	c.v = verifier{joining: true, hunting: true} // stream 0, from whatever message comes first
}

func (l *fanLoad) limit(*conn) uint64 { return l.f.published.Load() }

// ready waits until every subscriber has got one message, because the server may not know a subscriber yet when it is connected.
func (l *fanLoad) ready(w *worker, now int64) bool {
	f := l.f
	w.dialMore(len(w.conns), now)
	if w.dialled < len(w.conns) || w.dialing+w.resting > 0 {
		return false
	}
	if !l.dialled {
		l.dialled = true
		l.patience = now + int64(w.run.plan.Timeout)
		f.open.Add(int64(l.subs))
		l.countPlaces(w)
		f.dialled.Add(1)
	}
	if int(f.dialled.Load()) < len(f.done) {
		return false
	}
	if now < l.nextLook { // a look goes over all connections: of a million, one for each batch of events would be most of the work
		return false
	}
	defer func() {
		after := w.run.now()
		l.nextLook = after + 8*(after-now)
	}()
	f.done[w.n].Store(l.lowest(w))
	joined, all := f.joined.Load(), f.open.Load()
	if joined > l.known { // a message to a million takes its time
		l.known, l.patience = joined, now+int64(w.run.plan.Timeout)
	}
	if joined < all {
		switch {
		case now > l.patience:
			w.run.fail(fmt.Errorf("%w: %d of %d subscribers got nothing of what the publisher sent for %v%s; it must send what one client sends to every other client",
				ErrNotBroadcast, all-joined, all, w.run.plan.Timeout, f.missingText(w.run)))
		case w.n == 0 && now >= l.nextProbe && f.caughtUp():
			l.nextProbe = now + int64(20*time.Millisecond)
			f.mu.Lock()
			f.publishLocked(w, f.published.Load()+1)
			f.mu.Unlock()
		}
		return false
	}
	return l.idle(w, now)
}

// lowest returns the smallest number of messages that a joined subscriber of this worker has got.
func (l *fanLoad) lowest(w *worker) uint64 {
	got := l.f.published.Load()
	for i := range w.conns {
		if c := &w.conns[i]; c.state == open && c.quit && !isPublisher(w, c) { // see received about quit
			got = min(got, c.v.next)
		}
	}
	return got
}

// idle reports whether every subscriber of this worker has got everything. Nothing is published after the end: the publishing worker
// reads the clock under mu, and this worker takes mu after the end.
func (l *fanLoad) idle(w *worker, now int64) bool {
	l.f.mu.Lock()
	published := l.f.published.Load()
	behind := l.f.conn != nil && l.f.pace.waits(w, now, published)
	l.f.mu.Unlock()
	if behind {
		return false
	}
	if l.counting && l.done < published {
		return false // without a look at all connections
	}
	for i := range w.conns {
		c := &w.conns[i]
		if c.state == open && !isPublisher(w, c) && c.v.next < published {
			return false
		}
	}
	return true
}

func (l *fanLoad) tick(w *worker, now int64) int64 {
	switch {
	case !w.begun:
		return w.run.startOrForever()
	case !l.counting:
		l.count(w)
		l.f.advance(w, now)
	case w.n == 0 && l.f.pace != nil:
		l.f.advance(w, now)
	}
	if w.n == 0 {
		return l.f.nextDue(w)
	}
	return forever
}

// count begins to count deliveries. ready has made sure that all messages before have been delivered.
func (l *fanLoad) count(w *worker) {
	l.counting = true
	l.base = l.f.published.Load()
	l.done = l.base
	l.remaining = make([]int32, len(l.f.sentAt))
	for i := range l.remaining {
		l.remaining[i] = int32(l.subs)
	}
	for i := range w.conns {
		w.conns[i].credited = l.base
	}
	l.f.done[w.n].Store(l.base)
	if w.n == 0 {
		l.f.mu.Lock()
		l.f.rounds = l.base
		l.f.pace.begin(l.base)
		l.f.mu.Unlock()
	}
	l.f.begun.Add(1)
}

func (l *fanLoad) message(w *worker, c *conn, seq uint64, now int64) {
	if isPublisher(w, c) || seq < l.base || !l.counting {
		return
	}
	came := w.run.measured(now)
	if came {
		w.rec.now.messages++
		w.rec.now.bytes += uint64(w.run.pattern.size)
		if c.target > 0 {
			w.rec.place(c.target).deliveries++
		}
	}
	if seq < c.credited {
		w.error(Late, 1, c, "the delivery came after the timeout", now)
		if l.f.published.Load()-seq > uint64(len(l.f.sentAt)) {
			return // its time of sending has been overwritten
		}
	}
	if sent := l.f.at(seq).Load(); w.run.measured(sent) {
		w.rec.time(deliveryTime, now-sent)
		if c.target > 0 {
			w.rec.place(c.target).time(now - sent)
		}
		if !came {
			w.rec.now.afterEnd++
		}
	}
}

func (l *fanLoad) received(w *worker, c *conn, now int64) {
	if isPublisher(w, c) {
		return
	}
	if !l.counting {
		if !c.quit && !c.v.joining { // quit marks those that have joined
			c.quit = true
			l.joined++
			l.f.joined.Add(1)
			l.f.places[c.target].joined.Add(1)
		}
		return
	}
	l.credit(c, c.v.next)
	l.progress(w, now)
}

// credit takes the messages of c before upto out of those that are missing.
func (l *fanLoad) credit(c *conn, upto uint64) {
	for ; c.credited < upto; c.credited++ {
		l.remaining[c.credited&uint64(len(l.remaining)-1)]--
	}
}

// progress checks whether all subscribers of this worker have got further messages.
func (l *fanLoad) progress(w *worker, now int64) {
	before, published := l.done, l.f.published.Load()
	for l.done < published {
		missing := &l.remaining[l.done&uint64(len(l.remaining)-1)]
		if *missing > 0 {
			break
		}
		*missing = int32(l.subs)
		l.done++
	}
	if l.done != before {
		l.f.done[w.n].Store(l.done)
		l.f.advance(w, now)
	}
}

func (l *fanLoad) writable(w *worker, c *conn) {
	if isPublisher(w, c) {
		l.f.advance(w, w.run.now())
	} else if c.ws != nil && len(c.ws.out) > 0 {
		w.sendBetween(c, w.run.now())
	}
}

func (l *fanLoad) control(w *worker, c *conn, frame []byte) {
	if !isPublisher(w, c) {
		c.ws.out = append(c.ws.out, frame...)
		w.sendBetween(c, w.run.now())
		return
	}
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	l.f.control = append(l.f.control, frame...)
	l.f.publishLocked(w, l.f.published.Load())
}

// closing takes the publisher's connection away from the other workers before it is closed.
func (l *fanLoad) closing(w *worker, c *conn) {
	if isPublisher(w, c) {
		l.f.mu.Lock()
		l.f.conn = nil
		c.left = len(l.f.pending) // so that no close frame is sent within a message
		l.f.mu.Unlock()
	}
}

func (l *fanLoad) ended(w *worker, c *conn, now int64) {
	if isPublisher(w, c) {
		if !w.over {
			w.run.finishEarly("the publisher's connection has ended")
		}
		l.f.pace.giveUp(w, l.f, now)
		return
	}
	if !l.counting {
		return
	}
	published := l.f.published.Load()
	overdue, rest := c.credited-min(c.v.next, c.credited), published-min(c.credited, published)
	if w.over {
		overdue, rest = overdue+rest, 0
	}
	if overdue > 0 {
		w.error(Timeout, overdue, c, "no delivery", now)
		if c.target > 0 {
			w.rec.place(c.target).overdue += overdue
		}
	}
	w.rec.now.cut += rest
	if !w.over { // the others go on without it
		l.credit(c, l.done+uint64(len(l.remaining)))
		l.subs--
		l.progress(w, now)
		w.lastOne()
	}
}

// scan lets the publisher go on when a delivery is overdue.
func (l *fanLoad) scan(w *worker, now int64) {
	if !l.counting {
		return
	}
	timeout, published := int64(w.run.plan.Timeout), l.f.published.Load()
	for i := range w.conns {
		c := &w.conns[i]
		if c.state != open || isPublisher(w, c) {
			continue
		}
		for c.credited < published && now-l.f.leaving(c.credited).Load() > timeout {
			l.credit(c, c.credited+1)
		}
	}
	l.progress(w, now)
}
