package engine

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/internal/guard"
	"github.com/servercore-go/servercore/internal/proxyproto"
)

// ProxyProtocol is for a listener behind proxies that speak the PROXY protocol, version 1 or 2: each connection begins with a
// header that tells for which client the proxy has connected. RemoteAddr, OnConnected, OnDisconnected, Admit and Guard get the
// client's address out of it, LocalAddr the one the client connected to, and OnRecv what follows it.
//
// A header may tell of no TCP client: LOCAL, UNKNOWN, UNSPEC, AF_UNIX, a datagram, or both addresses of the very connection it came in. The
// first and the last are how proxies check health. Then nobody knows a client's address, and the proxy's says nothing about
// one. RemoteAddr and LocalAddr are the connection's own. Guard neither judges nor counts the connection. Admit gets the zero AddrPort, and may
// refuse it. MaxSessions holds.
//
// A header is believed from the trusted prefixes only, of which there must be one. A connection from elsewhere is refused: it
// has gone around the proxy, or would make its address up, and guessing whether a header has been sent is what the
// protocol forbids. Clients that come directly need a listener of their own.
//
// A header that cannot become valid is refused at the byte that says so. In two points valid means more than the protocol says,
// because nginx, in the middle between another proxy and this server, writes where its own connection came in as the destination: its family may
// differ from the source's, and it may be the path of a unix socket, which leaves LocalAddr the connection's own. The checksum
// of version 2 is checked if there is one, that of LOCAL and UNSPEC too. What else a header tells is skipped.
//
// The header must be whole within Options.FirstByteTimeout, or 5 s if that is off, and have at most 4 KiB (version 1: 107
// bytes). Until then the connection counts for MaxSessions and Stats.Sessions and holds some 250 bytes of memory. What is
// refused is closed at once and counted in Stats.Refused: Untrusted, ProxyHeader, ProxyLate. The log line, one a second at most, says
// what is wrong and quotes the beginning of what came. A connection that ends without having sent a byte, as health checks do,
// counts in ProxyHeader and is not logged.
func ProxyProtocol(trusted ...netip.Prefix) Option {
	set, err := guard.NewPrefixes(trusted)
	return func(o *origin) error {
		switch {
		case err != nil:
			return fmt.Errorf("ProxyProtocol: %w", err)
		case len(trusted) == 0:
			return errors.New("ProxyProtocol: no prefix is trusted; 0.0.0.0/0 and ::/0 would trust everybody")
		}
		en := o.enter()
		return once("ProxyProtocol", &en.trusted, set, en.trusted != nil)
	}
}

// defaultHeaderTimeout is more than the 3 s that the protocol asks receivers to wait, so that a lost packet is sent again in time.
const defaultHeaderTimeout = 5 * time.Second

// headerTimeout is how long a header may take.
func (e *Engine) headerTimeout() time.Duration {
	if t := e.options.FirstByteTimeout; t > 0 {
		return t
	}
	return defaultHeaderTimeout
}

// headerReader is a connection that awaits its PROXY header. It is no session yet: it is registered with the reactor and not open, and its
// Context is nil. The bytes stay in the kernel until the header is whole.
type headerReader struct {
	conn     *conn
	pending  pendingConn
	deadline time.Duration
}

// awaitHeader waits for the header of a connection, if it is not there.
func (l *loop) awaitHeader(c *conn, p pendingConn) {
	r := &headerReader{conn: c, pending: p, deadline: l.Now() + l.engine.headerTimeout()}
	l.headers[c] = r
	l.awaiting.Add(1)
	if l.engine.stopping() || l.fault != nil {
		l.refuseHeader(r, refusedClosing, nil)
		return
	}
	l.readHeader(c)
	if l.headers[c] == nil {
		return
	}
	if err := l.Register(c); err != nil { // tells also of what has come since
		l.refuseHeader(r, refusedFailed, err)
		return
	}
	c.Arm(r.deadline)
}

// readHeader opens the session if the header is whole, and refuses what cannot become one. It does nothing if the connection does not
// await its header any more.
func (l *loop) readHeader(c *conn) {
	const malformed = refusedProxyHeader
	r := l.headers[c]
	if r == nil {
		return
	}
	finished := c.PeerFinished() // asked before the bytes
	b, err := c.Peek(proxyproto.MaxSize)
	switch {
	case err == unix.EAGAIN:
		return
	case err == unix.ECONNRESET, err == nil && len(b) == 0: // nothing was sent, or the reset would come behind it
		l.refuseHeader(r, malformed, nil)
		return
	case err != nil:
		l.refuseHeader(r, malformed, err)
		return
	}
	h, size, err := proxyproto.Parse(b)
	if err == nil && size == 0 && finished { // every byte before the end has come
		err = fmt.Errorf("%w after %d bytes: %s", io.ErrUnexpectedEOF, len(b), proxyproto.Quote(b))
	}
	if err == nil {
		err = c.Discard(b[:size])
	}
	switch {
	case err != nil:
		l.refuseHeader(r, malformed, err)
	case size > 0:
		l.takeHeader(r, h)
	}
}

// expireHeader refuses a connection whose header is not whole at its deadline. A header that has come by now is in time: the loop may be
// late.
func (l *loop) expireHeader(c *conn, now time.Duration) {
	l.readHeader(c)
	r := l.headers[c]
	if r == nil {
		return
	}
	if now < r.deadline {
		c.Arm(r.deadline)
		return
	}
	b, _ := c.Peek(proxyproto.MaxSize)
	l.refuseHeader(r, refusedProxyLate, fmt.Errorf("not whole within %v: %d bytes came: %s", l.engine.headerTimeout(), len(b), proxyproto.Quote(b)))
}

// takeHeader goes on with a connection whose header was read.
func (l *loop) takeHeader(r *headerReader, h proxyproto.Header) {
	l.forgetHeader(r)
	p := r.pending
	p.clientUnknown = !h.Source.IsValid() || namesItsOwnConnection(h, p)
	if h.Source.IsValid() {
		p.remote = net.TCPAddrFromAddrPort(h.Source)
	}
	if h.Destination.IsValid() {
		p.local = net.TCPAddrFromAddrPort(h.Destination)
	}
	if !l.engine.judge(&p) {
		p.origin.entry.sendRefusal(p.fd)
		l.closeHeader(r)
		return
	}
	l.Disarm(r.conn)
	l.become(r.conn, p)
}

// namesItsOwnConnection reports whether the header repeats the two addresses of the connection it came in. The protocol wants a proxy that has no
// client for the connection to write that in version 1, where many receivers refuse UNKNOWN, and HAProxy does, to check health.
// A client's destination is the proxy's address and not ours, so its header never looks like that.
func namesItsOwnConnection(h proxyproto.Header, p pendingConn) bool {
	same := func(told netip.AddrPort, real net.Addr) bool {
		a := addrPort(real)
		return told == netip.AddrPortFrom(a.Addr().WithZone(""), a.Port())
	}
	return same(h.Source, p.remote) && same(h.Destination, p.local)
}

// forgetHeader takes a connection off the list of those that await their header.
func (l *loop) forgetHeader(r *headerReader) {
	delete(l.headers, r.conn)
	l.awaiting.Add(-1)
}

// closeHeader closes a connection that has left that list, and does not become a session.
func (l *loop) closeHeader(r *headerReader) {
	r.conn.Close(false)
	l.engine.freePlace()
}

// refuseHeader refuses a connection that awaits its header; err is for the log, nil if it is not worth a line.
func (l *loop) refuseHeader(r *headerReader, cause refusal, err error) {
	l.forgetHeader(r)
	l.engine.countRefused(r.pending.origin, cause, r.pending.remote, err)
	if err != nil {
		l.engine.log.Limited(proxyLine, "connection refused because of its PROXY header", "err", err, "remote", r.pending.remote)
	}
	l.closeHeader(r)
}

// refuseHeaders refuses every connection that awaits its header, because the engine ends.
func (l *loop) refuseHeaders() {
	for _, r := range l.headers {
		l.refuseHeader(r, refusedClosing, nil)
	}
}
