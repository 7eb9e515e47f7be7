package engine

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
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

// arrival is a connection whose PROXY header has not come. It is no session yet: it stands in loop.arrivals, not in
// loop.watched, so that the events of sessions do not pay for it, and its conn has no driver. The bytes stay in the
// kernel until the header is whole.
type arrival struct {
	conn     *conn
	newcomer newcomer
	until    time.Duration
}

// expect waits for a newcomer's header, if it is not there.
func (l *loop) expect(c *conn, n newcomer) {
	c.seat = &l.seat
	a := &arrival{conn: c, newcomer: n, until: l.engine.now() + l.engine.headerTimeout()}
	l.arrivals[c.fd] = a
	l.expected.Add(1)
	if l.engine.stopping() || l.ended != nil {
		l.turnAway(a, &l.engine.refused.closing, nil)
		return
	}
	l.look(a)
	if l.arrivals[c.fd] != a {
		return
	}
	if err := l.register(c); err != nil { // tells also of what has come since
		l.turnAway(a, &l.engine.refused.failed, err)
		return
	}
	a.newcomer.registered = true
	l.arm(c, a.until)
}

// hear serves an event.
func (l *loop) hear(a *arrival, n news) {
	a.conn.note(n)
	l.look(a)
}

// reconsider looks at an arrival, if c still is one, without an event: now is the time if its deadline may have passed, otherwise 0.
func (l *loop) reconsider(c *conn, now time.Duration) {
	waits := func(a *arrival) bool { return a != nil && a.conn == c && l.arrivals[c.fd] == a }
	a := l.arrivals[c.fd]
	if !waits(a) {
		return
	}
	if l.look(a); now == 0 || !waits(a) {
		return
	}
	if now < a.until {
		l.arm(c, a.until)
		return
	}
	b, _ := l.peek(c.fd)
	l.turnAway(a, &l.engine.refused.late, fmt.Errorf("not whole within %v: %d bytes came: %s", l.engine.headerTimeout(), len(b), proxyproto.Quote(b)))
}

// look opens the session if the header is whole, and turns away what cannot become one.
func (l *loop) look(a *arrival) {
	fd, malformed := a.conn.fd, &l.engine.refused.header
	over := a.conn.care == hungUp && finished(int(fd)) // the event may have been of the number's last owner; asked before the bytes
	b, err := l.peek(fd)
	switch {
	case err == unix.EAGAIN:
		return
	case err == unix.ECONNRESET, err == nil && len(b) == 0: // nothing was sent, or the reset would come behind it
		l.turnAway(a, malformed, nil)
		return
	case err != nil:
		l.turnAway(a, malformed, err)
		return
	}
	h, size, err := proxyproto.Parse(b)
	if err == nil && size == 0 && over { // every byte before the end has come
		err = fmt.Errorf("%w after %d bytes: %s", io.ErrUnexpectedEOF, len(b), proxyproto.Quote(b))
	}
	if err == nil {
		err = consume(int(fd), b[:size])
	}
	switch {
	case err != nil:
		l.turnAway(a, malformed, err)
	case size > 0:
		l.receive(a, h)
	}
}

// peek returns what has come of a header, and leaves it in the kernel. It is valid until the loop reads or peeks again.
func (l *loop) peek(fd int32) ([]byte, error) {
	b := l.seat.input[:proxyproto.MaxSize]
	for {
		n, _, err := unix.Recvfrom(int(fd), b, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if err != unix.EINTR {
			return b[:max(n, 0)], err
		}
	}
}

// consume reads what has been peeked at.
func consume(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := read(fd, b)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case n == 0:
			return io.ErrUnexpectedEOF
		default:
			b = b[n:]
		}
	}
	return nil
}

// receive goes on with an arrival whose header was read.
func (l *loop) receive(a *arrival, h proxyproto.Header) {
	l.depart(a)
	c, n := a.conn, a.newcomer
	n.clientUnknown = !h.Source.IsValid() || speaksOfItself(h, n)
	if h.Source.IsValid() {
		n.remote = net.TCPAddrFromAddrPort(h.Source)
	}
	if h.Destination.IsValid() {
		n.local = net.TCPAddrFromAddrPort(h.Destination)
	}
	if !l.engine.judge(&n) {
		n.origin.entry.sendRefusal(n.fd)
		l.drop(a)
		return
	}
	l.introduce(c, n)
}

// speaksOfItself reports whether the header repeats the two addresses of the connection it came in. The protocol wants a proxy that has no
// client for the connection to write that in version 1, where many receivers refuse UNKNOWN, and HAProxy does, to check health.
// A client's destination is the proxy's address and not ours, so its header never looks like that.
func speaksOfItself(h proxyproto.Header, n newcomer) bool {
	same := func(told netip.AddrPort, real net.Addr) bool {
		a := addrPort(real)
		return told == netip.AddrPortFrom(a.Addr().WithZone(""), a.Port())
	}
	return same(h.Source, n.remote) && same(h.Destination, n.local)
}

// depart takes an arrival off the books.
func (l *loop) depart(a *arrival) {
	delete(l.arrivals, a.conn.fd)
	l.expected.Add(-1)
	l.wheel.Disarm(a.conn)
}

// drop closes one that has departed.
func (l *loop) drop(a *arrival) {
	_ = unix.Close(int(a.conn.fd))
	l.engine.leave()
}

// turnAway refuses an arrival; err is for the log, nil if it is not worth a line.
func (l *loop) turnAway(a *arrival, cause *atomic.Uint64, err error) {
	l.depart(a)
	cause.Add(1)
	if err != nil {
		l.engine.log.limited(proxyLine, "connection refused because of its PROXY header", "err", err, "remote", a.newcomer.remote)
	}
	l.drop(a)
}

// dismiss turns everyone away, because the engine ends.
func (l *loop) dismiss() {
	for _, a := range l.arrivals {
		l.turnAway(a, &l.engine.refused.closing, nil)
	}
}
