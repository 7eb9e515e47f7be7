package engine

import (
	"errors"
	"net"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/servercore-go/servercore/session"
)

// Admit has the application decide about each connection that MaxSessions, Guard and ProxyProtocol have passed: f is called before the
// factory, before there is a session, and an error refuses the connection. The error is logged, at most one a second. A
// panic refuses as well.
//
// remote is the client's address and what the session would have as RemoteAddr, IPv4 as IPv4. It is the zero AddrPort if nobody
// told the client's address: for a unix socket, and behind ProxyProtocol for a header without a client, such as a proxy's health
// check. Admit those, unless there is a reason not to.
//
// f runs on the event loops, on several at once, and must not wait. Each refusal counts in Stats.Refused.Admit.
func Admit(f func(remote netip.AddrPort) error) Option {
	return func(o *origin) error {
		if f == nil {
			return errors.New("Admit: the function is nil")
		}
		en := o.enter()
		return once("Admit", &en.admit, f, en.admit != nil)
	}
}

// callAdmit asks the application, whatever that does.
func (l *loop) callAdmit(p pendingConn) (admitted bool) {
	e := l.engine
	returned := false
	var err error
	defer func() {
		l.scratch.Leave()
		l.making.Store(nil)
		if admitted {
			return
		}
		e.countRefused(p.origin, refusedAdmit, p.remote, err)
		if returned {
			e.log.Limited(admitLine, "connection refused by Admit", "err", err, "remote", p.remote)
			return
		}
		value := recover()
		if value == nil {
			value = "runtime.Goexit"
		}
		e.log.LimitedError(panicLine, "Admit failed, the connection is refused", "panic", value, "stack", string(debug.Stack()),
			"remote", p.remote)
	}()
	if a, ok := p.remote.(*net.TCPAddr); ok {
		l.making.Store(a)
	}
	began := time.Duration(0)
	if l.scratch.Enter(session.CallAdmit, nil) {
		began = e.now()
	}
	client := addrPort(p.remote)
	if p.clientUnknown {
		client = netip.AddrPort{}
	}
	err = p.origin.entry.admit(client)
	returned = true
	if began > 0 {
		l.shared.Times[session.CallAdmit].Record(e.now() - began)
	}
	return err == nil
}

// addrPort returns a TCP peer's address, IPv4 as IPv4, and the zero value for other peers.
func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	p := t.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}
