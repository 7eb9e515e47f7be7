package engine

import (
	"iter"
	"net"
	"time"

	"github.com/servercore-go/servercore/session"
)

// Sessions returns the handlers of the sessions open now, in no order. It is a snapshot: sessions may end while
// it is walked. Any goroutine, callbacks included.
func (e *Engine) Sessions() iter.Seq[session.Handler] {
	return func(yield func(session.Handler) bool) {
		for d := range e.drivers() {
			if !yield(d.Handler()) {
				return
			}
		}
	}
}

// Session returns the handler of the open session with that number (Session.ID), and whether there is one. It looks at every session, which takes
// about a millisecond for 10,000: it is for people and tools. A program that looks sessions up for each message keeps a map of its own. Any
// goroutine, callbacks included.
func (e *Engine) Session(id uint64) (session.Handler, bool) {
	for d := range e.drivers() {
		if d.Session().ID() == id {
			return d.Handler(), true
		}
	}
	return nil, false
}

// SessionStats is what can be told of an open session.
type SessionStats struct {
	ID            uint64 // Session.ID
	Handler       session.Handler
	Listener      string   // as ListenerStats names it, "" for a Dial and an Upgrade
	Loop          int      // where it lives: the index in Stats.Loops
	Local, Remote net.Addr // read-only
	Opened        time.Time
	Active        time.Time // when bytes came or were taken last, up to a fifth of a second early, with StallWarning off a second; Opened if none were
	BytesIn       uint64    // received from the connection, what frames and layers add and discarded input included
	BytesOut      uint64    // taken by the kernel, likewise
	BytesDropped  uint64    // accepted by Send, and lost
	MessagesIn    uint64    // calls of OnRecv and OnText
	MessagesOut   uint64    // Sends accepted
	Pending       int       // Session.Pending: bytes accepted by Send and not yet taken by the kernel
	Slow          bool      // bytes wait because the peer does not take what it is offered
	Paused        bool      // the handler has called PauseRecv
	Ending        bool      // its end was decided
}

// SessionStats returns what can be told of the sessions open now, in no order. Each is read when the iteration comes to it, and may end meanwhile. No
// loop is stopped or woken: a loop, or a Send, that comes to the same session in that moment waits for some 50 ns, and one that opens or ends a
// session for the copy of a list, some 10 µs for 10,000. Any goroutine, callbacks included; but in a callback, 10,000 sessions take
// milliseconds, which the loop then lacks.
func (e *Engine) SessionStats() iter.Seq[SessionStats] {
	return func(yield func(SessionStats) bool) {
		toTime := e.wallClock()
		for d, loop := range e.drivers() {
			t, addresses := d.Tally(), d.Addresses()
			if !yield(SessionStats{
				ID:           d.Session().ID(),
				Handler:      d.Handler(),
				Listener:     t.Listener,
				Loop:         loop,
				Local:        addresses.Local(),
				Remote:       addresses.Remote(),
				Opened:       toTime(t.Opened),
				Active:       toTime(t.Active),
				BytesIn:      t.BytesIn,
				BytesOut:     t.BytesOut,
				BytesDropped: t.BytesDropped,
				MessagesIn:   t.MessagesIn,
				MessagesOut:  t.MessagesOut,
				Pending:      t.Pending,
				Slow:         t.Slow,
				Paused:       t.Paused,
				Ending:       t.Ending,
			}) {
				return
			}
		}
	}
}

// drivers returns the sessions open now, and the index of the loop of each. Connections that net/http serves are left out.
func (e *Engine) drivers() iter.Seq2[*session.Driver, int] {
	return func(yield func(*session.Driver, int) bool) {
		for i, l := range e.running() {
			for _, c := range l.Conns() {
				if d := c.Context; !isHTTP(d.Handler()) && !yield(d, i) {
					return
				}
			}
		}
	}
}

// eachSession calls f for each session and each connection that net/http serves.
func (e *Engine) eachSession(f func(*session.Driver)) {
	for _, l := range e.running() {
		for _, c := range l.Conns() {
			f(c.Context)
		}
	}
}
