package session

import (
	"errors"
	"net"
	"sync/atomic"
	"time"
)

// Driver is a session as its loop sees it: the same memory with another method set, so that the compiler knows which methods are for the loop.
// The engine holds Drivers; a handler never sees one. A method is for the loop only, unless its comment says otherwise.
type Driver Session

var lastID atomic.Uint64

// ErrHandler: a factory has returned nil, or a handler that has had a connection.
var ErrHandler = errors.New("session: the factory must return a new, non-nil handler for each connection")

// Bind ties a new handler to its connection. The bytes of the connection are framed, or plain with a nil framing. Bind runs no callback:
// Connected does. The error is ErrHandler.
func Bind(h Handler, conn Transport, loop *Loop, framing *Framing, local, remote net.Addr) (*Driver, error) {
	s := embedded(h)
	if s == nil || !s.takeForBind() {
		return nil, ErrHandler
	}
	s.id, s.handler, s.conn, s.loop = lastID.Add(1), h, conn, loop
	s.setAddresses(local, remote)
	if framing != nil {
		s.rare.Store(&rare{framed: &framed{Framing: framing}}) // at once: Send and Pending look at it at any time
	}
	_, s.tellsWritable = h.(Writability)
	s.tellsWritable = s.tellsWritable && loop.Limits.HighWater > 0
	s.reading = true
	s.opened = conn.Now()
	s.advance(phaseOpen)
	return (*Driver)(s), nil
}

// embedded returns the session that h embeds, nil if it has none: h may be nil, or a nil pointer, or hold a nil Handler in the
// session's place.
func embedded(h Handler) (s *Session) {
	defer func() {
		if recover() != nil {
			s = nil
		}
	}()
	return h.session()
}

// takeForBind returns true to one caller only, also when the factories of two loops return the same handler at the same time.
func (s *Session) takeForBind() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != phaseFresh {
		return false
	}
	s.phase = phaseBinding
	return true
}

// Handler returns the session's handler. Any goroutine.
func (d *Driver) Handler() Handler { return d.handler }

// Asked reports whether the session has asked for a turn that it has not had, or is having one. Any goroutine.
func (d *Driver) Asked() bool { return !d.wakeup.isIdle() }

// Session returns this session as the application sees it. Any goroutine.
func (d *Driver) Session() *Session { return (*Session)(d) }

// Ended reports whether the session is closed, OnDisconnected has run and Transport.Done was called.
func (d *Driver) Ended() bool { return d.done }

// Reason returns the first reason the session ends for, without what went wrong afterwards, which Err has too. It is nil while the session
// does not end. Any goroutine.
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
	if s.timesSilence() {
		s.lastActive = s.conn.Now()
	}
	if l := s.layered(); l != nil {
		s.expireLayer(l, s.conn.Now()) // its goroutine may be lost: OnDisconnected is not owed yet (L2)
	}
	s.connected = true
	s.lendScratch()
	s.callConnected()
	s.settle()
}

// Receive takes bytes that were read from the connection. It delivers, keeps or discards them, as the state demands. data is the caller's again
// when it returns.
func (d *Driver) Receive(data []byte) {
	s := (*Session)(d)
	s.loop.Counters.BytesIn.Add(len(data))
	if s.phase > phaseOpen {
		s.noteDiscarded(len(data))
	} else {
		s.arrived += uint32(len(data))
	}
	if t := s.tap(); t != nil && s.phase != phaseClosed {
		t.Received(data)
	}
	if l := s.layered(); l != nil && s.phase != phaseClosed {
		s.wakeup.hold()
		s.receiveLayered(l, data)
		s.settle()
		return
	}
	if s.phase != phaseOpen {
		return // E1: after our decision to end, input is discarded
	}
	if s.severed {
		s.rare.Load().unread -= int32(len(data))
	}
	s.wakeup.hold()
	if s.timesSilence() {
		s.receivedAny, s.lastActive = true, s.conn.Now()
	}
	f := s.framed()
	switch {
	case s.paused.Load() || s.congested || s.hasStash() || f == nil && (len(data) > s.loop.Limits.answerable() || !s.rateAllows(len(data))):
		s.stash(data)
	case f == nil:
		s.deliver(data, data)
	default:
		if n := s.deliverPackets(f, data, data); n < len(data) {
			s.stash(data[n:])
		}
	}
	s.settle()
}

// PeerClosed tells that nothing more will be read. err is nil for the peer's FIN: all bytes before it were given to Receive. Otherwise it is
// what broke the connection.
func (d *Driver) PeerClosed(err error) {
	s := (*Session)(d)
	if s.phase == phaseClosed {
		return
	}
	s.wakeup.hold()
	if t := s.tap(); t != nil && err == nil && !s.severed {
		t.PeerFinished()
	}
	switch l := s.layered(); {
	case err != nil:
		s.sever(err, 0)
	case l == nil:
		s.takeFIN()
	default:
		if l.wireFIN = true; !l.peerDone {
			s.takeFIN()
		}
	}
	s.settle()
}

// Broken tells that the connection has failed, though it was not read to its end: received bytes may wait in the kernel.
func (d *Driver) Broken(err error) {
	s := (*Session)(d)
	if s.phase == phaseClosed {
		return
	}
	s.wakeup.hold()
	s.sever(err, s.conn.Received())
	s.settle()
}

// Writable tells that the kernel takes bytes again.
func (d *Driver) Writable() {
	s := (*Session)(d)
	s.wakeup.hold()
	s.unblock()
	s.settle()
}

// Turn answers Transport.Wake.
func (d *Driver) Turn() {
	d.wakeup.arrive()
	(*Session)(d).settle()
}

// Resume answers Transport.Again, and carries on where a lost goroutine left off.
func (d *Driver) Resume() {
	d.wakeup.hold()
	(*Session)(d).settle()
}

// Expire answers Transport.Arm: it acts on the deadlines that have passed at now, if any.
func (d *Driver) Expire(now time.Duration) {
	s := (*Session)(d)
	if s.phase == phaseClosed {
		return
	}
	if l := s.layered(); l != nil {
		l.armed = false
	}
	s.wakeup.hold()
	s.expire(now)
	s.settle()
}

// End is DisconnectWith for the engine. A callback that is running is not disturbed: what it sends is still accepted, and packets of the
// same read are still delivered (E4). The end begins when the loop looks next. Any goroutine.
func (d *Driver) End(reason error) {
	s := (*Session)(d)
	if !s.wakeup.isBound() {
		return
	}
	s.mu.Lock()
	s.ensureRare().endReason = &reason
	s.mu.Unlock()
	s.schedule()
}

// Kill is Abort with a reason, for the engine. Any goroutine.
func (d *Driver) Kill(reason error) { (*Session)(d).abort(reason) }

// LimitRecv sets the rate at which the session receives. It is called after Bind and before Connected.
func (d *Driver) LimitRecv(r *Rate) { (*Session)(d).ensureExtras().rated = newRated(r) }
