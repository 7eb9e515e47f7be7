package engine

import (
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/internal/guard"
	"github.com/servercore-go/servercore/layer/websocket"
	"github.com/servercore-go/servercore/session"
)

// pendingConn is a connection on its way from accept, or from Dial, to its loop.
type pendingConn struct {
	origin        *origin
	fd            int
	local, remote net.Addr
	attempt       *attempt         // of Dial, nil for an accepted one
	layer         session.Layer    // whose handshake is done, nil without
	more          bool             // what its last Open has returned
	http          *httpConn        // its handler, of a connection for net/http; nil for the factory's
	early         []byte           // plain bytes that were received already
	earlyWire     []byte           // likewise, for the layer
	upgrade       *websocket.Layer // of Upgrade: the layer, which is established; nil otherwise
	recording     *recording       // what Record keeps of it before it is a session, nil without
	admitted      bool             // Admit was asked
	source        *guard.Source    // the address as a Guard counts it, nil without
	clientUnknown bool             // its PROXY header tells of no client: remote is the proxy
	shared        bool             // accepted on a socket that others have too: it may have inherited any option
}

// admit decides about a connection that was accepted. It hands the connection to a loop, or refuses it, counts that and closes it. lp is nil if the
// engine is stopping. Later decisions are the loop's: the PROXY header, Admit, the factory.
func (e *Engine) admit(p pendingConn, lp *loop) {
	e.traceAccept(p.origin, p.local, p.remote)
	if lp == nil || e.stopping() {
		e.countRefused(p.origin, refusedClosing, p.remote, ErrClosed)
		_ = unix.Close(p.fd)
		return
	}
	if p.origin.entry != nil && !e.checkSource(&p) {
		_ = unix.Close(p.fd)
		return
	}
	if !e.takePlace() {
		e.log.Limited(fullLine, "refusing connections: MaxSessions reached", "max", e.maxSessions)
		p.source.Release(time.Now())
		e.countRefused(p.origin, refusedFull, p.remote, ErrFull)
		p.origin.entry.sendRefusal(p.fd)
		_ = unix.Close(p.fd)
		return
	}
	if !e.spareKept() {
		p.source.Release(time.Now())
		e.countRefused(p.origin, refusedDescriptors, p.remote, unix.EMFILE)
		e.shed(p.fd)
		e.freePlace()
		return
	}
	if p.shared || !inheritsOptions {
		e.setAccepted(p.fd, p.origin.network, p.shared)
	}
	lp.enqueue(p)
}

// checkSource asks what can be asked of a connection by its address alone: a trusted proxy behind ProxyProtocol, otherwise Guard. A
// refusal is counted, and the message sent. The caller closes the connection then.
func (e *Engine) checkSource(p *pendingConn) bool {
	en := p.origin.entry
	if en.trusted == nil {
		accepted := e.judge(p)
		if !accepted {
			en.sendRefusal(p.fd)
		}
		return accepted
	}
	if en.trusted.Contains(addrPort(p.remote).Addr()) {
		return true
	}
	e.countRefused(p.origin, refusedUntrusted, p.remote, nil)
	e.log.Limited(proxyLine, "refusing connections that do not come from a trusted proxy", "remote", p.remote)
	return false
}

// takePlace takes a place among the sessions, if there is one (T2).
func (e *Engine) takePlace() bool {
	for {
		n := e.sessions.Load()
		if e.maxSessions > 0 && n >= int64(e.maxSessions) {
			return false
		}
		if e.sessions.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// freePlace gives it back.
func (e *Engine) freePlace() {
	if e.sessions.Add(-1) == 0 {
		notify(e.emptied)
	}
}

func outOfDescriptors(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)
}
