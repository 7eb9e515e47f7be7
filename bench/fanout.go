package bench

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// A fan is the publisher of a fanout run, and the state that the workers share. The publisher is connection 0 of worker 0 and sends
// stream 0. All other connections are subscribers and must get that stream.
//
// The publisher may be a window of messages ahead of the slowest subscriber. In a closed loop the window is one message, so that a round
// ends before the next begins. The worker that gets the last delivery of a message sends the next one itself, so that no worker waits
// until another wakes up.
type fan struct {
	window uint64 // messages

	published atomic.Uint64  // messages that have left, or are about to
	sentAt    []atomic.Int64 // ring by sequence number
	done      []paddedUint64 // per worker: messages that all its subscribers that have joined have got
	dialled   atomic.Int32   // workers that have tried all their connections
	begun     atomic.Int32   // workers that count deliveries
	open      atomic.Int64   // subscribers
	joined    atomic.Int64   // subscribers that got a first message

	mu      sync.Mutex
	conn    *conn // the publisher, nil when it is gone
	rounds  uint64
	buffer  []byte
	pending []byte // of buffer, or of control, not taken by the kernel yet
	control []byte // control frames of WebSocket, to be sent between two messages
}

type paddedUint64 struct {
	atomic.Uint64
	_ [56]byte // a cache line of its own
}

// newFan returns the fan of a plan whose messages are sent as wire bytes each.
func newFan(p *Plan, wire int) *fan {
	window := 1
	if p.Stream {
		window = max(1, p.Window/p.Size)
	}
	ring := 2
	for ring < window {
		ring *= 2
	}
	f := &fan{window: uint64(window), sentAt: make([]atomic.Int64, ring), done: make([]paddedUint64, p.Threads)}
	f.buffer = make([]byte, max(wire, min(64<<10, window*wire)))
	return f
}

func (f *fan) at(seq uint64) *atomic.Int64 { return &f.sentAt[seq&uint64(len(f.sentAt)-1)] }

// publishLocked sends messages up to number upto, as far as the kernel takes them. f.mu is held.
func (f *fan) publishLocked(w *worker, upto uint64) {
	p := w.run.pattern
	for f.conn != nil {
		if len(f.pending) > 0 {
			n, errno := f.conn.write(f.pending)
			if errno != 0 {
				return // full: an event comes; broken: the read of its worker finds out why
			}
			f.pending = f.pending[n:]
			continue
		}
		if len(f.control) > 0 {
			f.pending, f.control = f.control, nil
			continue
		}
		n, seq, now := 0, f.published.Load(), w.run.now()
		for ; seq < upto && n+p.wire() <= len(f.buffer); seq++ {
			n += p.fill(f.buffer[n:], 0, seq, 0)
			f.at(seq).Store(now)
		}
		if n == 0 {
			return
		}
		w.left(seq-f.published.Load(), now)
		f.published.Store(seq) // before the bytes leave: subscribers ask it what can have come
		f.pending = f.buffer[:n]
	}
}

// advance sends as many messages as the window allows.
func (f *fan) advance(w *worker, now int64) {
	if int(f.begun.Load()) < len(f.done) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	slowest := f.done[0].Load()
	for i := range f.done[1:] {
		slowest = min(slowest, f.done[1+i].Load())
	}
	for ; f.rounds < slowest; f.rounds++ {
		if w.run.measured(now) {
			w.rec.now.cycles++
		}
		if sent := f.at(f.rounds).Load(); w.run.measured(sent) {
			w.rec.time(roundTime, now-sent)
		}
	}
	upto := f.published.Load()          // what is pending goes on even after the end
	if w.run.now() < w.run.end.Load() { // asked under mu, and anew: see idle
		upto = slowest + f.window
	}
	f.publishLocked(w, upto)
}

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
			w.run.fail(fmt.Errorf("%w: %d of %d subscribers got nothing of what the publisher sent for %v; it must send what one client sends to every other client",
				ErrNotBroadcast, all-joined, all, w.run.plan.Timeout))
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

// caughtUp reports whether all joined subscribers have got every message. The next message waits for that. With 10,000 subscribers a
// delivery takes longer than the time between two messages, and a server that is busy with messages would not learn of the other
// subscribers.
func (f *fan) caughtUp() bool {
	published := f.published.Load()
	for i := range f.done {
		if f.done[i].Load() < published {
			return false
		}
	}
	return true
}

// idle reports whether every subscriber of this worker has got everything. Nothing is published after the end: the publishing worker
// reads the clock under mu, and this worker takes mu after the end.
func (l *fanLoad) idle(w *worker, _ int64) bool {
	l.f.mu.Lock()
	published := l.f.published.Load()
	l.f.mu.Unlock()
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
	}
	if seq < c.credited {
		w.error(Late, 1, c, "the delivery came after the timeout", now)
		if l.f.published.Load()-seq > uint64(len(l.f.sentAt)) {
			return // its time of sending has been overwritten
		}
	}
	if sent := l.f.at(seq).Load(); w.run.measured(sent) {
		w.rec.time(deliveryTime, now-sent)
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
		for c.credited < published && now-l.f.at(c.credited).Load() > timeout {
			l.credit(c, c.credited+1)
		}
	}
	l.progress(w, now)
}
