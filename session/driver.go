package session

import (
	"errors"
	"net"
	"sync/atomic"
	"time"
)

// Driver is a session as its loop sees it: the same memory with another method set, so that "on the loop only"
// is a type and not a plea. The engine holds Drivers, content never sees one.
type Driver Session

var lastID atomic.Uint64

// ErrHandler: a factory returned nil, or a handler that had a connection before.
var ErrHandler = errors.New("session: the factory must return a new, non-nil handler for each connection")

// Bind ties a fresh handler to its connection, whose bytes are framed, or plain with a nil framing. Nothing is called yet.
func Bind(h Handler, conn Transport, loop *Loop, framing *Framing, local, remote net.Addr) (*Driver, error) {
	s := embedded(h)
	if s == nil || !s.take() {
		return nil, ErrHandler
	}
	s.id, s.handler, s.conn, s.loop = lastID.Add(1), h, conn, loop
	s.local, s.remote = local, remote
	if framing != nil {
		s.rare.Store(&rare{framed: &framed{Framing: framing}}) // at once: Send and Pending look at it at any time
	}
	_, s.marked = h.(Writability)
	s.marked = s.marked && loop.Limits.HighWater > 0
	s.reading = true
	s.scheduled.Store(true) // until Connected has run, nobody needs to wake the loop
	s.mine = true
	s.advance(phaseOpen)
	return (*Driver)(s), nil
}

// embedded returns the session that h embeds, nil if it has none: h may be nil, or a nil pointer to content, or hold a nil
// Handler in the session's place.
func embedded(h Handler) (s *Session) {
	defer func() {
		if recover() != nil {
			s = nil
		}
	}()
	return h.session()
}

// take claims the session for one Bind, also when two loops have the same handler from their factories at the same time.
func (s *Session) take() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != phaseFresh {
		return false
	}
	s.phase = phaseBinding
	return true
}

// Handler returns the content's handler. Any goroutine.
func (d *Driver) Handler() Handler { return d.handler }

// Asked reports whether the session has asked for a turn it has not had, or is having one. Any goroutine.
func (d *Driver) Asked() bool { return d.scheduled.Load() }

// Session returns the same session for any goroutine.
func (d *Driver) Session() *Session { return (*Session)(d) }

// Ended reports whether the session is closed, OnDisconnected has run and Done was called.
func (d *Driver) Ended() bool { return d.done }

// Reason returns the first reason the session ends for, which Err returns together with what then went wrong; nil while
// it does not end. Any goroutine.
func (d *Driver) Reason() error {
	err := (*Session)(d).Err()
	for {
		c, ok := err.(*chain)
		if !ok {
			return err
		}
		err = c.first
	}
}

// Connected runs OnConnected.
func (d *Driver) Connected() {
	s := (*Session)(d)
	if s.watching() {
		s.heardAt = s.conn.Now()
	}
	s.connected = true
	s.lend()
	s.callConnected()
	s.settle()
}

// Receive delivers bytes read from the connection, or keeps or discards them as the state demands. data is the
// caller's again when it returns.
func (d *Driver) Receive(data []byte) {
	s := (*Session)(d)
	s.loop.Counters.BytesIn.Add(len(data))
	if s.phase != phaseOpen {
		return // E1: after our decision to end, input is discarded
	}
	if s.severed {
		s.rare.Load().unread -= len(data)
	}
	s.hold()
	if s.watching() {
		s.heard, s.heardAt = true, s.conn.Now()
	}
	f := s.framing()
	switch {
	case s.paused.Load() || s.choked || s.stashed() || f == nil && (len(data) > s.loop.Limits.safe() || !s.covers(len(data))):
		s.stash(data)
	case f == nil:
		s.deliver(data, data)
	default:
		if n := s.feed(f, data, data); n < len(data) {
			s.stash(data[n:])
		}
	}
	s.settle()
}

// PeerClosed tells that nothing more will be read: err nil for the peer's FIN, all bytes before it having been
// given to Receive; otherwise what broke the connection.
func (d *Driver) PeerClosed(err error) {
	s := (*Session)(d)
	if s.phase == phaseClosed {
		return
	}
	s.hold()
	switch {
	case err != nil:
		s.sever(err, 0)
	case s.phase == phaseOpen && s.stashed():
		s.rarely().fin = true
	default:
		s.gotFIN()
	}
	s.settle()
}

// Broken tells that the connection has failed, though nobody has read it to its end: received bytes may wait in the kernel.
func (d *Driver) Broken(err error) {
	s := (*Session)(d)
	if s.phase == phaseClosed {
		return
	}
	s.hold()
	s.sever(err, s.conn.Received())
	s.settle()
}

// Writable tells that the kernel takes bytes again.
func (d *Driver) Writable() {
	s := (*Session)(d)
	s.hold()
	s.unblock()
	s.settle()
}

// Turn answers Wake.
func (d *Driver) Turn() {
	d.mine = true // the mailbox entry held it
	d.Resume()
}

// Resume answers Again, and carries on wherever a lost goroutine left off.
func (d *Driver) Resume() {
	s := (*Session)(d)
	s.hold()
	s.settle()
}

// Expire answers Arm: it looks which deadline has passed, if any.
func (d *Driver) Expire(now time.Duration) {
	s := (*Session)(d)
	if s.phase == phaseClosed {
		return
	}
	s.hold()
	s.expire(now)
	s.settle()
}

// End is DisconnectWith for the engine, on any goroutine. A callback that is running is not disturbed: what it sends is still
// accepted, and packets of the same read are still delivered (E4). The end begins when the loop looks next.
func (d *Driver) End(reason error) {
	s := (*Session)(d)
	if !s.bound.Load() {
		return
	}
	s.mu.Lock()
	s.rarely().end = reason
	s.mu.Unlock()
	s.schedule()
}

// Kill is Abort with a reason, for the engine, on any goroutine.
func (d *Driver) Kill(reason error) { (*Session)(d).kill(reason) }
