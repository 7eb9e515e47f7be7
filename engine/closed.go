package engine

import (
	"iter"
	"net"
	"time"

	"github.com/servercore-go/servercore/session"
)

// ClosedSession is a session that has ended.
type ClosedSession struct {
	ID             uint64   // Session.ID
	Listener       string   // as ListenerStats names it, "" for a Dial and an Upgrade
	Local, Remote  net.Addr // read-only
	Opened, Closed time.Time
	BytesIn        uint64 // received from the connection, what frames and layers add and discarded input included
	BytesOut       uint64 // taken by the kernel, likewise
	BytesDropped   uint64 // accepted by Send, lost with the end
	MessagesIn     uint64 // calls of OnRecv and OnText
	MessagesOut    uint64 // Sends accepted
	Cause          string // what counts it, as the label reason of Metrics has it: peer_closed for Ended.PeerClosed
	Reason         error  // as of Session.Err. It may be the application's: its methods can do anything
}

// closedSession is what is kept of one. Times are the engine's.
type closedSession struct {
	id        uint64
	addresses session.Addresses
	tally     session.Tally
	closed    time.Duration
	reason    error
}

// Closed returns the sessions that have ended, the last one first: Options.KeepClosed of them at the most. It is a snapshot. What a session's handler
// held is not kept, but for the error it was ended with. Any goroutine, at any time, callbacks included.
func (e *Engine) Closed() iter.Seq[ClosedSession] {
	return func(yield func(ClosedSession) bool) {
		toTime := e.wallClock()
		for _, c := range e.closed.Last() {
			if !yield(c.public(toTime)) {
				return
			}
		}
	}
}

// public returns what the application gets.
func (c *closedSession) public(toTime func(time.Duration) time.Time) ClosedSession {
	return ClosedSession{
		ID:           c.id,
		Listener:     c.tally.Listener,
		Local:        c.addresses.Local(),
		Remote:       c.addresses.Remote(),
		Opened:       toTime(c.tally.Opened),
		Closed:       toTime(c.closed),
		BytesIn:      c.tally.BytesIn,
		BytesOut:     c.tally.BytesOut,
		BytesDropped: c.tally.BytesDropped,
		MessagesIn:   c.tally.MessagesIn,
		MessagesOut:  c.tally.MessagesOut,
		Cause:        labelOf(session.CauseOf(c.reason).String()),
		Reason:       c.reason,
	}
}

// wallClock returns a function that turns times of the engine's clock into those of the wall clock, as that is set now.
func (e *Engine) wallClock() func(time.Duration) time.Time {
	now, wall := e.now(), time.Now()
	return func(at time.Duration) time.Time { return wall.Add(at - now) }
}

// noteClosed keeps what is to be known of a session that has ended. Connections that net/http serves are no sessions of the application's.
func (l *loop) noteClosed(d *session.Driver) {
	e := l.engine
	trace := e.options.Trace
	traced := trace != nil && trace.Close != nil
	if e.options.KeepClosed <= 0 && !traced || isHTTP(d.Handler()) {
		return
	}
	s := d.Session()
	c := closedSession{s.ID(), d.Addresses(), d.Tally(), e.now(), s.Err()}
	e.closed.Push(c)
	if traced {
		e.callTrace("Close", func() { trace.Close(c.public(e.wallClock())) })
	}
}
