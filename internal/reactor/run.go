package reactor

import (
	"errors"
	"runtime"
	"time"

	gerrors "github.com/panjf2000/gnet/v2/pkg/errors"
	"github.com/panjf2000/gnet/v2/pkg/netpoll"
)

// event is what gnet's poller says about a descriptor.
type event struct {
	readable bool // bytes wait
	writable bool // the kernel takes bytes
	hangup   bool // the peer has finished, or the connection is broken; bytes may wait
	urgent   bool // reads end short before urgent data
}

// Run runs the loop until Halt. It returns early if a handler ends the goroutine by Goexit: another one carries on.
func (l *Loop[C]) Run() { l.run(false) }

// run is the loop's goroutine. The handler may take it down, by runtime.Goexit, which cannot be recovered from: then
// another carries on where it was (R5).
func (l *Loop[C]) run(resumed bool) {
	finished := false
	defer func() {
		if !finished {
			go l.run(true)
		}
	}()
	l.handler.OnBoot()
	if resumed {
		l.resurvey()
		l.turn()
		if l.ended == nil && l.halted() { // the notice of that may be lost with the goroutine too
			l.ended = gerrors.ErrEngineShutdown
		}
	}
	if l.ended == nil {
		l.ended = l.poller.Polling(l.event)
	}
	for !l.halted() { // after a fault: the owner may still bring connections until it knows
		l.sweep()
		time.Sleep(time.Millisecond)
	}
	l.sweep()
	finished = true
	close(l.gone)
}

// sweep ends what is left when there are no events any more.
func (l *Loop[C]) sweep() {
	cause := l.ended
	if errors.Is(cause, gerrors.ErrEngineShutdown) {
		cause = nil
	}
	l.handler.OnShutdown(cause)
	for l.turn(); len(l.conns) > 0 || l.progress.more; l.turn() {
		time.Sleep(time.Millisecond) // workers are at them, or a turn was too short, and there is no poller to wait with
	}
}

// event serves one event. The error it returns ends Polling.
//
// The number of a descriptor may have passed to another connection since the event was fetched. That connection is then
// looked at without need, which does no harm (R7).
func (l *Loop[C]) event(fd int, e netpoll.IOEvent, flags netpoll.IOFlags) error {
	if fd == l.waker.descriptor() {
		l.waker.drain()
		l.turn()
		if l.halted() {
			return gerrors.ErrEngineShutdown
		}
		return nil
	}
	if c := l.table.get(fd); c != nil {
		c.event(translate(e, flags))
		l.yield()
		return nil
	}
	if n := l.listeners[fd]; n != nil {
		l.ready = append(l.ready, n)
		l.turn()
	}
	return nil
}

// yieldEvery is how many events a loop serves before it lets other goroutines have its processor: a third of a
// millisecond of short messages. Yielding costs as much as a fiftieth of one.
const yieldEvery = 32

// yield follows an event. A loop that never comes to rest leaves other goroutines no time if there is but one processor, or none
// is free: Go would take the processor away after 10 ms only.
func (l *Loop[C]) yield() {
	if l.served++; l.served >= yieldEvery {
		l.served = 0
		runtime.Gosched()
	}
}

// Register has the poller tell of a connection: OnReady is called for its events until Open is. A second Register does
// nothing. If there is something to tell already, an event follows when the running method has returned (R1). After an error, that of
// epoll_ctl(2) or kevent(2), the connection is not registered, and still has to be closed.
func (l *Loop[C]) Register(c *Conn[C]) error {
	fd := int(c.fd)
	if l.table.get(fd) == c {
		return nil
	}
	l.attachment.FD = fd // all that gnet wants to know
	if err := l.poller.AddReadWrite(&l.attachment, true); err != nil {
		return err
	}
	l.table.put(c)
	return nil
}

// forget has no event told of a connection whose descriptor is about to be closed, which ends its registration.
func (l *Loop[C]) forget(c *Conn[C]) { l.table.remove(c) }

// resurvey has every connection looked at: events that were fetched and not served are lost with their goroutine. What they told of
// is true still, so the kernel is asked for it.
func (l *Loop[C]) resurvey() {
	for _, n := range l.listeners {
		l.ready = append(l.ready, n)
	}
	for c := range l.table.all() {
		if c.index == notOpen {
			c.note(survey(int(c.fd)))
			l.later(c)
		}
	}
	for _, c := range l.conns { // only the loop changes it
		switch s := c.executor.strand; {
		case s == nil && !c.closed:
			c.note(survey(int(c.fd)))
			l.later(c)
		case s == nil:
			l.later(c)
		case !s.closed:
			s.enqueueEvent(survey(int(c.fd)))
			s.signal(dueAll)
		default:
			s.signal(dueAll)
		}
	}
}
