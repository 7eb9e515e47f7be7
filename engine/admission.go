package engine

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/session"
)

// Accepting is ours, not gnet's: an accept error ends gnet's engine, and gnet admits before it asks. One goroutine
// per listener accepts, refuses what is over the limit before anything is built for it, and hands the rest to the
// loop with the fewest sessions. docs/decisions/0002 weighs the ways.

// arrival is a connection on its way from accept to its loop.
type arrival struct {
	context.Context // what gnet asks for is the arrival itself, see Value

	loop          *loop
	listener      *Listener
	local, remote net.Addr
	landed        atomic.Bool
}

// Value implements context.Context: gnet looks for the connection's context under a key of its own, as
// gnet.NewContext would have set it with one more allocation.
func (a *arrival) Value(any) any { return a }

// accept is a listener's goroutine.
func (l *Listener) accept() {
	defer l.engine.acceptors.Done()
	var pause time.Duration
	for {
		nc, err := l.ln.Accept()
		if err == nil {
			pause = 0
			l.engine.admit(l, nc)
			continue
		}
		if l.engine.stopping() || errors.Is(err, net.ErrClosed) {
			return
		}
		pause = l.engine.acceptFailed(l, err, pause)
		select {
		case <-time.After(pause):
		case <-l.engine.stop:
			return
		}
	}
}

const (
	// net/http waits 5 ms, doubling to 1 s; here a newcomer finds the door open a tenth of a second after the trouble.
	minAcceptPause = 5 * time.Millisecond
	maxAcceptPause = 100 * time.Millisecond
)

// acceptFailed deals with an error of accept and returns how long to wait before the next try. Out of
// descriptors, the newcomer is taken on the spare one and, unless the shortage has passed, shed, so that it learns
// at once and the listener's queue does not fill with the waiting.
func (e *Engine) acceptFailed(l *Listener, err error, pause time.Duration) time.Duration {
	e.acceptErrors.Add(1)
	e.log.limited(acceptLine, "accept failed; established sessions go on", "err", err, "listener", l.ln.Addr().String())
	if outOfDescriptors(err) {
		switch nc, waiting := e.spare.accept(l); {
		case nc != nil:
			e.admit(l, nc)
			return 0
		case waiting:
			e.refused.descriptors.Add(1)
			return 0
		}
	}
	return min(max(2*pause, minAcceptPause), maxAcceptPause)
}

// admit decides about a newcomer and hands it to a loop.
func (e *Engine) admit(l *Listener, nc net.Conn) {
	if e.stopping() {
		e.refuse(nc, &e.refused.closing)
		return
	}
	if !e.enter() {
		e.log.limited(fullLine, "refusing connections: MaxSessions reached", "max", e.maxSessions)
		e.refuse(nc, &e.refused.full)
		return
	}
	lp := e.emptiest()
	if lp == nil {
		e.leave()
		e.refuse(nc, &e.refused.closing)
		return
	}
	a := &arrival{Context: context.Background(), loop: lp, listener: l, local: l.sharedLocal(nc.LocalAddr()), remote: ownAddr(nc.RemoteAddr())}
	result, err := lp.gnet.Enroll(a, nc)
	if err != nil {
		a.lost()
		e.refuse(nc, &e.refused.failed)
		e.log.limited(enrollLine, "connection not taken by its loop", "err", err, "loop", lp.index)
		return
	}
	e.helpers.Add(1)
	go a.await(result)
}

func (e *Engine) refuse(nc net.Conn, cause *atomic.Uint64) {
	cause.Add(1)
	_ = nc.Close()
}

// ownAddr returns an address that is ours to keep. gnet returns the zone of an address to a pool of bytes when it
// is done with it, and package net shares zone strings between connections: so gnet gets to see no zone.
func ownAddr(addr net.Addr) net.Addr {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || tcp.Zone == "" {
		if u, ok := addr.(*net.UnixAddr); ok { // gnet renames the local one in place
			c := *u
			return &c
		}
		return addr
	}
	own := *tcp
	own.Zone = strings.Clone(tcp.Zone)
	tcp.Zone = ""
	return &own
}

// sharedLocal is ownAddr for the local address, which most connections of a listener have in common: they share
// one copy. Only the accepting goroutine calls it.
func (l *Listener) sharedLocal(addr net.Addr) net.Addr {
	addr = ownAddr(addr)
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return addr
	}
	if s := l.shared; s != nil && s.Port == tcp.Port && s.Zone == tcp.Zone && s.IP.Equal(tcp.IP) {
		tcp.IP = s.IP // gnet keeps this one
		return s
	}
	own := *tcp
	l.shared = &own
	return l.shared
}

// emptiest waits for a loop that can take another newcomer and returns the one with the fewest sessions, nil if
// the engine is stopping. A loop held up by a callback soon has its share of newcomers waiting; the others go on.
func (e *Engine) emptiest() *loop {
	for {
		var best *loop
		var least int32
		for _, lp := range e.loops {
			opening := lp.opening.Load()
			if n := opening + lp.live.Load(); opening < e.maxOpening && (best == nil || n < least) {
				best, least = lp, n
			}
		}
		if best != nil {
			best.opening.Add(1)
			return best
		}
		select {
		case <-e.landing:
		case <-e.stop:
			return nil
		}
	}
}

// await notices a newcomer that never reached its loop: gnet does not report one it cannot watch, it closes the
// connection and leaves it at that. There are never more than maxOpening of these goroutines per loop.
func (a *arrival) await(result <-chan gnet.RegisteredResult) {
	e := a.loop.engine
	defer e.helpers.Done()
	select {
	case r := <-result:
		if a.landed.Load() {
			return
		}
		a.lost()
		if outOfDescriptors(r.Err) {
			e.refused.descriptors.Add(1)
		} else {
			e.refused.failed.Add(1)
		}
		e.log.limited(enrollLine, "connection not taken by its loop", "err", r.Err, "loop", a.loop.index)
	case <-e.gone:
		// gnet's loops ended with the newcomer on the way; its descriptor is gnet's loss.
	}
}

func (a *arrival) lost() {
	a.loop.opening.Add(-1)
	a.loop.engine.landed()
	a.loop.engine.leave()
}

// opened runs on the loop, when gnet has the connection.
func (a *arrival) opened(g gnet.Conn) {
	a.landed.Store(true)
	lp := a.loop
	lp.opening.Add(-1)
	lp.engine.landed()
	c := &conn{loop: lp, gnet: g, fd: int32(g.Fd())}
	g.SetContext(c)
	lp.enter(job{kind: jobOpen, conn: c, arrival: a})
	if c.driver == nil { // refused, or the factory took the goroutine down
		if c.gnet != nil {
			c.leave()
		}
		lp.engine.leave()
	}
}

// open calls the factory and, if all is well, OnConnected.
func (c *conn) open(a *arrival) {
	e := c.loop.engine
	if e.stopping() {
		e.refused.closing.Add(1)
		return
	}
	h, err := e.callFactory(a.listener)
	if err == nil {
		inheritOptions(int(c.fd), &e.options)
		c.driver, err = session.Bind(h, c, c.loop.shared, a.local, a.remote)
	}
	if err != nil {
		e.refused.factory.Add(1)
		e.log.limited(factoryLine, "connection refused: its session cannot be made", "err", err, "remote", a.remote)
		return
	}
	e.accepted.Add(1)
	c.loop.live.Add(1)
	c.loop.enlist(c)
	if e.stopping() {
		e.endLate(c.driver)
	}
	c.driver.Connected()
}

// spare is a descriptor kept for the moment there are no others.
type spare struct {
	mu   sync.Mutex
	file *os.File
}

func (s *spare) open() (err error) {
	s.file, err = os.Open(os.DevNull)
	return err
}

func (s *spare) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != nil {
		_ = s.file.Close()
		s.file = nil
	}
}

// borrow gives the spare descriptor up while f runs, for f to use, and tells whether there is a spare again.
func (s *spare) borrow(f func()) (replaced bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != nil {
		_ = s.file.Close()
		s.file = nil
	}
	f()
	return s.open() == nil
}

// refill gets a spare descriptor if there is none.
func (s *spare) refill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		_ = s.open()
	}
}

func outOfDescriptors(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)
}

// accept takes one waiting connection on the spare descriptor. If the spare can be replaced there are
// descriptors after all, and the connection is returned; otherwise it is reset and counted as waiting.
func (s *spare) accept(l *Listener) (nc net.Conn, waiting bool) {
	replaced := s.borrow(func() { nc, _ = l.poll() })
	if nc == nil || replaced {
		return nc, false
	}
	if tcp, ok := nc.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = nc.Close()
	s.refill() // with what the newcomer held
	return nil, true
}
