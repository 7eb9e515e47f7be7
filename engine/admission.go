package engine

import (
	"errors"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/internal/guard"
	"github.com/servercore-go/servercore/session"
)

// Accepting is ours, not gnet's: an accept error ends gnet's engine, and gnet admits before it asks. A listener belongs
// to the reactor of one loop, its door, which accepts as part of its work: no goroutine has to be woken for a newcomer.
// It refuses what is over the limit before anything is built for it, and hands the rest to the loop with the fewest
// sessions. Should the door be held up, by a callback that does not return or by errors, the listener's goroutine
// accepts in its place. docs/decisions/0002 weighs the ways.

// newcomer is a connection on its way from accept, or from Dial, to its loop.
type newcomer struct {
	origin        *origin
	fd            int
	local, remote net.Addr
	attempt       *attempt      // of Dial, nil for an accepted one
	source        *guard.Source // the address as a Guard counts it, nil without
	clientUnknown bool          // its PROXY header tells of no client: remote is the proxy
	registered    bool          // the poller tells of it already
	shared        bool          // accepted on a socket that others have too: it may have inherited any option
}

// maxKnocks bounds the newcomers a door lets in before it looks at its connections again.
const maxKnocks = 32

// answer accepts at the doors that were knocked at. Whom no loop can take now waits for the listener's goroutine.
func (l *loop) answer() {
	knocked := l.knocked
	l.knocked = l.knocked[len(knocked):]
	for _, d := range knocked {
		i := 0
		for i < maxKnocks && d.letIn() {
			i++
		}
		if i == maxKnocks {
			l.knocked = append(l.knocked, d)
		}
	}
}

// letIn accepts one connection, if there is one and a loop to take it, without waiting. Whoever ends the engine says so
// first and closes the listener under acceptMu then, so that from there on nobody is let in.
func (l *Listener) letIn() bool {
	lp := l.engine.roomiest(maxOpening)
	if lp == nil {
		return false
	}
	l.acceptMu.Lock()
	defer l.acceptMu.Unlock()
	if l.engine.stopping() {
		return false
	}
	switch n, err := l.next(); err {
	case nil:
		l.engine.admit(n, lp)
		return true
	case unix.EAGAIN, net.ErrClosed:
	default: // the listener's goroutine deals with it
		l.engine.noteAcceptError(l, err)
	}
	return false
}

// doorGrace is how long a newcomer is left to the door before the listener's goroutine takes a look.
const doorGrace = 5 * time.Millisecond

// accept is a listener's goroutine.
func (l *Listener) accept() {
	defer l.engine.acceptors.Done()
	var pause time.Duration
	for l.await() == nil {
		pause = doorGrace
		for pause > 0 {
			select {
			case <-time.After(pause):
			case <-l.engine.life.Done():
				return
			}
			pause = l.help(pause)
		}
	}
}

// help accepts whatever waits, and returns after what time to try again, 0 if nothing waits any more.
func (l *Listener) help(pause time.Duration) time.Duration {
	for {
		n, err := l.try()
		switch {
		case err == nil:
			l.engine.admit(n, l.engine.emptiest())
			pause = 0
		case err == unix.EAGAIN || err == net.ErrClosed || l.engine.stopping():
			return 0
		default:
			if pause = l.engine.acceptFailed(l, err, pause); pause > 0 {
				return pause
			}
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
	e.noteAcceptError(l, err)
	if outOfDescriptors(err) {
		switch n, waiting := e.acceptOnSpare(l); {
		case n.origin != nil:
			e.admit(n, e.emptiest())
			return 0
		case waiting:
			e.refused.descriptors.Add(1)
			return 0
		}
	}
	return min(max(2*pause, minAcceptPause), maxAcceptPause)
}

func (e *Engine) noteAcceptError(l *Listener, err error) {
	e.acceptErrors.Add(1)
	e.log.limited(acceptLine, "accept failed; established sessions go on", "err", err, "listener", l.addr.String())
}

// admit decides about a newcomer and hands it to a loop, nil if the engine is stopping.
func (e *Engine) admit(n newcomer, lp *loop) {
	switch {
	case lp == nil || e.stopping():
		e.refused.closing.Add(1)
		_ = unix.Close(n.fd)
	case n.origin.entry != nil && !e.pass(&n):
	case !e.enter():
		e.log.limited(fullLine, "refusing connections: MaxSessions reached", "max", e.maxSessions)
		n.source.Release(time.Now())
		e.refused.full.Add(1)
		n.origin.entry.sendRefusal(n.fd)
		_ = unix.Close(n.fd)
	case !e.spareKept():
		n.source.Release(time.Now())
		e.refused.descriptors.Add(1)
		e.shed(n.fd)
		e.leave()
	default:
		if n.shared || !inheritsOptions {
			e.setAccepted(n.fd, n.origin.network, n.shared)
		}
		lp.welcome(n)
	}
}

// pass asks what can be asked of a newcomer at the door. Whom it turns away is closed.
func (e *Engine) pass(n *newcomer) bool {
	switch en := n.origin.entry; {
	case en.trusted == nil:
		if e.judge(n) {
			return true
		}
		en.sendRefusal(n.fd)
	case en.trusted.Contains(addrPort(n.remote).Addr()):
		return true
	default:
		e.refused.untrusted.Add(1)
		e.log.limited(proxyLine, "refusing connections that do not come from a trusted proxy", "remote", n.remote)
	}
	_ = unix.Close(n.fd)
	return false
}

// maxOpening bounds the newcomers that wait for one loop, give or take one for each listener: a loop held up by a callback
// soon has its share of them, and the others go on.
const maxOpening = 64

// emptiest waits for a loop that can take another newcomer and returns the one with the fewest sessions, nil if
// the engine is stopping.
func (e *Engine) emptiest() *loop {
	waited := false
	for {
		if best := e.roomiest(maxOpening); best != nil {
			if waited {
				e.landed() // this notice may have been meant for another who waits, or there is room for both
			}
			return best
		}
		select {
		case <-e.landing:
			waited = true
		case <-e.life.Done():
			return nil
		}
	}
}

// roomiest returns the loop with the fewest sessions among those where fewer newcomers than that wait, nil if there is
// none.
func (e *Engine) roomiest(waiting int32) (best *loop) {
	var least int32
	for _, lp := range e.loops {
		opening := lp.opening.Load()
		if n := opening + lp.live.Load() + lp.expected.Load(); opening < waiting && (best == nil || n < least) {
			best, least = lp, n
		}
	}
	return best
}

// open calls the factory and, if all is well, OnConnected. c.driver stays nil if the newcomer is refused.
func (c *conn) open(n newcomer) {
	l := c.on()
	e := l.engine
	if n.attempt != nil && !n.attempt.claim() { // Dial has given it up
		return
	}
	if e.stopping() || l.ended != nil {
		e.refused.closing.Add(1)
		n.attempt.fail(ErrClosed)
		return
	}
	if n.origin.entry != nil && n.origin.entry.admit != nil && !l.callAdmit(n) {
		n.origin.entry.sendRefusal(n.fd)
		return
	}
	h, err := l.callFactory(n)
	if err != nil {
		c.refused(n, &e.refused.factory, err)
		return
	}
	if !n.registered { // before Bind: a session that is bound may have accepted bytes, and can no longer be refused
		if err = l.register(c); err != nil { // its events come when this is over
			c.refused(n, &e.refused.failed, err)
			return
		}
	}
	d, err := session.Bind(h, c, l.shared, n.origin.framing, n.local, n.remote)
	if err != nil {
		c.refused(n, &e.refused.factory, err)
		return
	}
	if n.origin.rate != nil {
		d.LimitRecv(n.origin.rate)
	}
	c.driver = d
	if n.origin.network == "unix" {
		c.care = max(c.care, thorough)
	}
	l.watch(c)
	if n.attempt != nil {
		e.dialed.Add(1)
		n.attempt.succeed(c, h)
	} else {
		e.accepted.Add(1)
	}
	l.live.Add(1)
	l.enlist(c)
	if e.stopping() {
		e.endLate(c.driver)
	}
	if c.seat.strand == nil {
		c.driver.Connected()
	}
}

func (c *conn) refused(n newcomer, cause *atomic.Uint64, err error) {
	cause.Add(1)
	if n.attempt != nil {
		n.attempt.fail(err)
		return
	}
	c.on().engine.log.limited(factoryLine, "connection refused: its session cannot be made", "err", err, "remote", n.remote)
}

func outOfDescriptors(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)
}
