package reactor

import "github.com/panjf2000/gnet/v2/pkg/netpoll"

// Listening. A loop tells its owner when connections wait at a listening descriptor; the owner accepts them, and decides. Accepting is not
// gnet's because an accept error ends gnet's engine, and gnet admits a connection before it asks.

// listener is a descriptor that is listened on.
type listener struct{ accept func() bool }

// maxAccepts bounds the connections that are accepted at one listener before the loop serves its own again.
const maxAccepts = 32

// Listen has the loop call accept when connections wait at a descriptor, until accept returns false: none waits, or the owner
// takes care of it otherwise. accept takes one connection without waiting. Before Run.
func (l *Loop[C]) Listen(fd int, accept func() bool) error {
	l.listeners[fd] = &listener{accept}
	return l.poller.AddRead(&netpoll.PollAttachment{FD: fd}, true)
}

// Unlisten ends the notices of a listening descriptor that is about to be closed. accept may still be called, also on
// account of another descriptor that has the number later: it has to return false from then on. Any goroutine: the kernel holds the
// registrations.
func (l *Loop[C]) Unlisten(fd int) { _ = l.poller.Delete(fd) }

// acceptReady accepts at the listeners where connections wait. A listener where more wait comes again in the next turn.
func (l *Loop[C]) acceptReady() {
	ready := l.ready
	l.ready = l.ready[len(ready):]
	for _, n := range ready {
		accepted := 0
		for accepted < maxAccepts && n.accept() {
			accepted++
		}
		if accepted == maxAccepts {
			l.ready = append(l.ready, n)
		}
	}
}
