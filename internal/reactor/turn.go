package reactor

import (
	"runtime"
	"time"
)

// A turn serves, in this order, ready listeners, pings, the owner's pending work, connections that were put off, the mailbox, and
// deadlines. Each part is bounded (R4): the events of other connections do not wait for a burst of accepts, for connections that
// bring much, for a thousand that time out together, for a room of 100,000 that was told something, nor for one of 256 that was
// told a megabyte. What is left waits for the next turn. Measured: docs/decisions/0015-turns.md.

// The bounds of a turn.
const (
	// TurnTime is how long a turn serves the owner's work, connections that were put off, and deadlines, each of the three.
	TurnTime = 500 * time.Microsecond

	// BulkTime is how long connections that bring much are served between two turns, among the events of the others.
	BulkTime = TurnTime / 2

	// TurnWakes is how many connections of the mailbox a turn serves: some two milliseconds of short writes. It serves fewer when
	// TurnBytes are written, or when WakeTime has passed: the clock is read once for WakeLooks connections.
	TurnWakes = 256
	TurnBytes = 1 << 20
	WakeTime  = 4 * time.Millisecond
	WakeLooks = 8
)

// progress is how far a turn has come. Each list is cut out of its shared place first, then worked off.
type progress[C any] struct {
	more    bool // the owner has work left
	again   []*Conn[C]
	resumed int      // how many of again were
	mail    *Conn[C] // the first of those left of the mailbox
	due     []*Conn[C]
}

// Turn makes one turn of a loop that does not run, without waiting for events: an owner's tests drive it by hand.
func (l *Loop[C]) Turn() { l.turn() }

// turn serves what has asked for it.
func (l *Loop[C]) turn() {
	if len(l.ready) > 0 {
		l.woken.Store(true) // this turn: nobody has to wake the loop for connections it accepts itself
		l.acceptReady()
	}
	l.woken.Store(false) // before anything is looked at (R3)
	l.answerPings()
	p := &l.progress
	l.bulkUntil = 1 // in a turn, one piece of each
	p.more = true   // should the goroutine end
	p.more = l.handler.OnTurn(l.Now() + TurnTime)
	l.resumeAgain()
	l.serveMailbox()
	l.expireDue()
	rest := p.more || l.hasAgain() || p.mail != nil || len(p.due) > 0 // a long turn, and another is to come
	if rest || len(l.ready) > 0 || l.mailbox.Load() != nil {
		l.Wake()
	}
	l.bulkUntil = 0
	l.timerAt = 0
	if at, ok := l.wheel.Next(); ok {
		l.setTimer(at)
	}
	if rest {
		runtime.Gosched() // see yield
	}
}

// takesBulk reports whether connections that bring much may be served now, among the events of the others: for BulkTime after the first of them since the
// last turn. After that they wait for a turn. A turn costs an event of its own, which would be one for each batch of events (docs/decisions/0015-turns.md).
func (l *Loop[C]) takesBulk() bool {
	now := l.Now()
	if l.bulkUntil == 0 {
		l.bulkUntil = now + BulkTime
	}
	return now < l.bulkUntil
}

// later has c resumed when the connections that wait have had their turn: in this turn if there is time left, or the next, after the
// events that are due.
func (l *Loop[C]) later(c *Conn[C]) {
	if c.waiting {
		return
	}
	c.waiting = true
	l.again = append(l.again, c)
	l.Wake()
}

// hasAgain reports whether connections wait to be resumed, the first of them at progress.resumed in progress.again.
func (l *Loop[C]) hasAgain() bool {
	p := &l.progress
	if p.resumed == len(p.again) {
		clear(p.again)
		p.again, l.again, p.resumed = l.again, p.again[:0], 0
	}
	return p.resumed < len(p.again)
}

// resumeAgain resumes connections that were put off, for TurnTime.
func (l *Loop[C]) resumeAgain() {
	p := &l.progress
	now := l.Now()
	for until := now + TurnTime; l.hasAgain() && now < until; now = l.Now() {
		c := p.again[p.resumed]
		p.resumed++
		c.waiting = false
		c.resume()
	}
}

// serveMailbox serves connections that were woken, until this turn has served enough.
func (l *Loop[C]) serveMailbox() {
	p := &l.progress
	if p.mail == nil {
		p.mail = l.takeMailbox()
	}
	written := &l.executor.scratch.written
	until, most := l.Now()+WakeTime, *written+TurnBytes
	for n := 1; p.mail != nil && n <= TurnWakes; n++ {
		c := p.mail
		p.mail, c.next = c.next, nil
		c.wake()
		if *written >= most || n%WakeLooks == 0 && l.Now() >= until {
			return
		}
	}
}

// expireDue visits connections whose deadline may have passed, for TurnTime.
func (l *Loop[C]) expireDue() {
	p := &l.progress
	now := l.Now()
	if len(p.due) == 0 {
		l.wheel.Expire(now, func(c *Conn[C]) { p.due = append(p.due, c) })
	}
	for until := now + TurnTime; len(p.due) > 0 && now < until; now = l.Now() {
		last := len(p.due) - 1
		c := p.due[last]
		p.due[last] = nil
		p.due = p.due[:last]
		c.expire(now)
	}
}

// arm has c looked at when its deadline passes.
func (l *Loop[C]) arm(c *Conn[C], at time.Duration) {
	l.wheel.Arm(c, at)
	l.setTimer(at)
}

func (l *Loop[C]) setTimer(at time.Duration) {
	if l.timerAt == 0 || at < l.timerAt {
		l.timerAt = at
		l.timer.Reset(max(at-l.Now(), 0))
	}
}
