package engine

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// progress is how far a turn has come.
type progress struct {
	newcomers []newcomer
	opened    int      // how many of them were opened
	opening   *conn    // the last of them, until what follows OnConnected is done
	attempt   *attempt // its, if it was dialled
	again     []*conn
	resumed   int
	mail      *conn
	due       []*conn
}

// turnTime is how long a turn serves accepted connections, those that have much to read or to write, and deadlines, each of the three.
// From the mailbox it takes turnMail sessions, some two milliseconds of short writes, or fewer: until turnBytes are written, or
// mailTime is over, which is looked at every mailLooks sessions. Then come the events of other connections: they do not wait for a burst
// of accepts, for connections that bring much, for a thousand that time out together, for a room of 100,000 that was told something,
// nor for one of 256 that was told a megabyte. Measured: docs/decisions/0015-turns.md.
const (
	turnTime  = 500 * time.Microsecond
	turnMail  = 256
	turnBytes = 1 << 20
	mailTime  = 4 * time.Millisecond
	mailLooks = 8
)

// turn serves whoever asked for it. Each list is cut out of its shared place first, then worked off.
func (l *loop) turn() {
	if len(l.knocked) > 0 {
		l.woken.Store(true) // this turn: nobody has to wake the loop for its own newcomers
		l.answer()
	}
	l.woken.Store(false)
	if len(l.arrivals) > 0 && l.engine.stopping() {
		l.dismiss()
	}
	p := &l.progress

	l.begin()
	now := l.engine.now()
	for until := now + turnTime; l.guests() && now < until; now = l.engine.now() {
		n := p.newcomers[p.opened]
		p.opened++
		l.opening.Add(-1)
		l.engine.landed()
		c := &conn{fd: int32(n.fd)}
		if n.origin.entry != nil && n.origin.entry.trusted != nil {
			l.expect(c, n)
			continue
		}
		l.introduce(c, n)
	}

	for until := now + turnTime; l.others() && now < until; now = l.engine.now() {
		c := p.again[p.resumed]
		p.resumed++
		c.waiting = false
		c.resume()
	}

	if p.mail == nil {
		p.mail = reverse(l.mailbox.Swap(nil))
	}
	l.serveMail()

	now = l.engine.now()
	if len(p.due) == 0 {
		l.wheel.Expire(now, func(c *conn) { p.due = append(p.due, c) })
	}
	for until := now + turnTime; len(p.due) > 0 && now < until; now = l.engine.now() {
		c := p.due[len(p.due)-1]
		p.due[len(p.due)-1] = nil
		p.due = p.due[:len(p.due)-1]
		c.expire(now)
	}

	rest := p.opened < len(p.newcomers) || l.others() || p.mail != nil || len(p.due) > 0 // a long turn, and another is to come
	if rest || len(l.knocked) > 0 || l.mailbox.Load() != nil {
		l.wake()
	}
	l.timerAt = 0
	if at, ok := l.wheel.Next(); ok {
		l.setTimer(at)
	}
	if rest {
		runtime.Gosched() // see breathe
	}
}

// serveMail gives sessions from the mailbox their turns, until this turn has served enough.
func (l *loop) serveMail() {
	p := &l.progress
	out := &l.shared.Counters.BytesOut
	until, most := l.engine.now()+mailTime, out.Load()+turnBytes
	for n := 1; p.mail != nil && n <= turnMail; n++ {
		c := p.mail
		p.mail, c.next = c.next, nil
		c.turn()
		if out.Load() >= most || n%mailLooks == 0 && l.engine.now() >= until {
			return
		}
	}
}

// breathEvery is how many events a loop serves before it lets other goroutines have its processor: a third of a
// millisecond of short messages. A breath costs as much as a fiftieth of one.
const breathEvery = 32

// breathe follows an event. A loop that never comes to rest leaves others no time if there is but one processor, or none
// is free: Go would take it away after 10 ms only.
func (l *loop) breathe() {
	if l.served++; l.served >= breathEvery {
		l.served = 0
		runtime.Gosched()
	}
}

// welcome takes a newcomer. Any goroutine.
func (l *loop) welcome(n newcomer) {
	l.opening.Add(1)
	l.welcomeMu.Lock()
	l.newcomers = append(l.newcomers, n)
	l.welcomeMu.Unlock()
	l.wake()
}

// guests reports whether newcomers wait to be opened, the first of them at progress.opened in progress.newcomers. If it does not,
// whoever comes next wakes the loop. It answers every ping so far.
func (l *loop) guests() bool {
	p := &l.progress
	l.welcomeMu.Lock()
	defer l.welcomeMu.Unlock()
	if p.opened == len(p.newcomers) {
		clear(p.newcomers)
		p.newcomers, l.newcomers, p.opened = l.newcomers, p.newcomers[:0], 0
	}
	if l.pong != nil { // in every turn, however many newcomers are left for the next
		close(l.pong)
		l.pong = nil
	}
	return p.opened < len(p.newcomers)
}

// introduce opens a newcomer.
func (l *loop) introduce(c *conn, n newcomer) {
	if n.source != nil {
		l.sources[c] = n.source
	}
	l.progress.opening, l.progress.attempt = c, n.attempt
	l.seatFor(c, n.origin)
	c.open(n)
	l.begin()
}

// releaseSource tells the Guard that has counted a connection that it has ended.
func (l *loop) releaseSource(c *conn) {
	if s := l.sources[c]; s != nil {
		delete(l.sources, c)
		s.Release(time.Now())
	}
}

// begin does what follows a newcomer's OnConnected, also if that took its goroutine down: a client that has sent
// already is served at once, without a notice.
func (l *loop) begin() {
	c, a := l.progress.opening, l.progress.attempt
	if c == nil {
		return
	}
	l.progress.opening, l.progress.attempt = nil, nil
	if c.driver == nil { // refused
		l.releaseSource(c)
		_ = unix.Close(int(c.fd))
		l.engine.leave()
		a.settle()
		return
	}
	if s := c.seat.strand; s != nil {
		s.attempt = a
		s.signal(opened)
		return
	}
	a.settle()
	c.readable = true
	c.pump()
}

func reverse(head *conn) *conn {
	var first *conn
	for head != nil {
		head, head.next, first = head.next, first, head
	}
	return first
}

// others reports whether sessions wait for a turn, the first of them at progress.resumed in progress.again.
func (l *loop) others() bool {
	p := &l.progress
	if p.resumed == len(p.again) {
		clear(p.again)
		p.again, l.again, p.resumed = l.again, p.again[:0], 0
	}
	return p.resumed < len(p.again)
}

// later has c resumed when those who wait had their turn: in this turn if there is time left, or the next, after the events that
// are due.
func (l *loop) later(c *conn) {
	if c.waiting {
		return
	}
	c.waiting = true
	l.again = append(l.again, c)
	l.wake()
}
