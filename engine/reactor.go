package engine

import (
	"errors"
	"time"

	gerrors "github.com/panjf2000/gnet/v2/pkg/errors"
	"github.com/panjf2000/gnet/v2/pkg/netpoll"
)

// The reactor is gnet's poller, one for each loop, which waits for descriptors and calls event for each that has news.
// Everything registered with it is edge-triggered and stays as registered until it is closed: an event says that
// something has become true since the last look, and whoever looked until the kernel had nothing more misses nothing.

// news is what an event says about a connection.
type news struct {
	readable bool // bytes wait
	writable bool // the kernel takes bytes
	hangup   bool // the peer has finished, or the connection is broken; bytes may wait
	urgent   bool // reads end short before urgent data
}

// run is the loop's goroutine. Content may take it down, by runtime.Goexit, which cannot be recovered from: then
// another carries on where it was.
func (l *loop) run(resumed bool) {
	l.present()
	finished := false
	defer func() {
		if !finished {
			go l.run(true)
		}
	}()
	if resumed {
		l.resurvey()
		l.turn()
		if l.ended == nil && l.halted() { // the notice of that may be lost with the goroutine too
			l.ended = gerrors.ErrEngineShutdown
		}
	}
	if l.ended == nil {
		l.ended = l.poller.Polling(l.event)
		if !errors.Is(l.ended, gerrors.ErrEngineShutdown) {
			l.fault()
		}
	}
	for !l.halted() { // after a fault: whoever knows nothing of it yet may still bring newcomers
		l.sweep()
		time.Sleep(time.Millisecond)
	}
	l.sweep()
	finished = true
	close(l.gone)
}

// event serves one event. The error it returns ends Polling.
//
// The number of a descriptor may have passed to another connection since the event was fetched. That one is then
// looked at without need, which it does not notice (I6).
func (l *loop) event(fd int, e netpoll.IOEvent, flags netpoll.IOFlags) error {
	if fd == l.waker.descriptor() {
		l.waker.drain()
		l.turn()
		if l.halted() {
			return gerrors.ErrEngineShutdown
		}
		return nil
	}
	if fd < len(l.watched) {
		if c := l.watched[fd]; c != nil {
			c.event(translate(e, flags))
			l.breathe()
			return nil
		}
	}
	if a := l.arrivals[int32(fd)]; a != nil {
		l.hear(a, translate(e, flags))
		l.breathe()
		return nil
	}
	if d := l.doors[fd]; d != nil {
		l.knocked = append(l.knocked, d)
		l.turn()
	}
	return nil
}

// watch has the events of a connection, which is registered, come to it.
func (l *loop) watch(c *conn) {
	fd := int(c.fd)
	for fd >= len(l.watched) {
		l.watched = append(l.watched, make([]*conn, max(64, len(l.watched)))...)
	}
	l.watched[fd] = c
}

// register has the poller tell of a connection.
func (l *loop) register(c *conn) error {
	l.attachment.FD = int(c.fd) // all that gnet wants to know
	return l.poller.AddReadWrite(&l.attachment, true)
}

// attend makes the loop a listener's door. The loop does not run yet.
func (l *loop) attend(d *Listener) error {
	fd := d.descriptor()
	l.doors[fd], d.door = d, l
	return l.poller.AddRead(&netpoll.PollAttachment{FD: fd}, true)
}

// ignore ends the notices of a listener that is about to be closed. Any goroutine: the kernel holds the registrations. Its
// entry among the doors stays, and does no harm: a connection that has the number now comes first, and nobody is let
// in at a closed door.
func (l *loop) ignore(d *Listener) { _ = l.poller.Delete(d.descriptor()) }

// unwatch forgets a connection whose descriptor is about to be closed, which ends its registration.
func (l *loop) unwatch(c *conn) { l.watched[c.fd] = nil }

// resurvey has every connection looked at: events that were fetched and not served are lost with their goroutine. What they told of
// is true still, so the kernel is asked for it.
func (l *loop) resurvey() {
	for _, d := range l.doors {
		l.knocked = append(l.knocked, d)
	}
	for _, a := range l.arrivals {
		a.conn.note(survey(int(a.conn.fd)))
		l.later(a.conn)
	}
	for _, c := range l.conns { // only the loop changes it
		switch s := c.seat.strand; {
		case s == nil && !c.closed():
			c.note(survey(int(c.fd)))
			l.later(c)
		case s == nil:
			l.later(c)
		case !s.given:
			s.hear(survey(int(c.fd)))
			s.signal(everything)
		default:
			s.signal(everything)
		}
	}
}
