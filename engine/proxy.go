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

	"github.com/servercore-go/servercore/internal/proxyproto"
)

// ProxyProtocol is for a listener behind proxies that speak the PROXY protocol, version 1 or 2: each connection begins with a
// header that tells whom the proxy has connected for. RemoteAddr, OnConnected and OnDisconnected, Admit and Guard get the client's address out of it,
// LocalAddr the one the client connected to, and OnRecv what follows it. If the header tells of no TCP client
// (LOCAL, UNKNOWN, UNSPEC, AF_UNIX), the addresses are the connection's own.
//
// A header is believed from the trusted prefixes only, of which there must be one. A connection from elsewhere is refused: it
// has gone around the proxy, or would make its address up, and guessing whether a header has been sent is what the
// protocol forbids. Clients that come directly need a listener of their own.
//
// The header must be whole within Options.FirstByteTimeout, or 5 s if that is off, and have at most 4 KiB (version 1: 107
// bytes); checksums are checked, and what else it tells is skipped. While it is awaited the connection counts for
// MaxSessions and Stats.Sessions and holds no memory but some 250 bytes. What is refused is closed at once and counted in
// Stats.Refused: Untrusted, ProxyHeader, ProxyLate. A connection that ends without having sent a byte, as health checks do, counts in
// ProxyHeader and is not logged.
func ProxyProtocol(trusted ...netip.Prefix) Option {
	set, err := newPrefixes(trusted)
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

// headerTimeout is how long a header may take unless FirstByteTimeout says so: more than the 3 s that the protocol asks
// receivers to wait, so that a lost packet is sent again in time.
const headerTimeout = 5 * time.Second

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
	wait := l.engine.options.FirstByteTimeout
	if wait <= 0 {
		wait = headerTimeout
	}
	a := &arrival{conn: c, newcomer: n, until: l.engine.now() + wait}
	l.arrivals[c.fd] = a
	l.expected.Add(1)
	if l.engine.stopping() {
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
	l.turnAway(a, &l.engine.refused.late, errLate)
}

var errLate = errors.New("no whole PROXY header in time")

// look opens the session if the header is whole, and turns away what cannot become one.
func (l *loop) look(a *arrival) {
	fd, malformed := int(a.conn.fd), &l.engine.refused.header
	b := l.seat.input[:proxyproto.MaxSize]
	over := a.conn.care == hungUp && finished(fd) // the event may have been of the number's last owner; asked before the bytes
	n, _, err := unix.Recvfrom(fd, b, unix.MSG_PEEK|unix.MSG_DONTWAIT)
	for err == unix.EINTR {
		n, _, err = unix.Recvfrom(fd, b, unix.MSG_PEEK|unix.MSG_DONTWAIT)
	}
	switch {
	case err == unix.EAGAIN:
		return
	case err != nil:
		l.turnAway(a, malformed, err)
		return
	case n == 0:
		l.turnAway(a, malformed, nil)
		return
	}
	h, size, err := proxyproto.Parse(b[:n])
	if err == nil && size == 0 && over {
		err = io.ErrUnexpectedEOF // every byte before the end has come
	}
	if err == nil {
		err = consume(fd, b[:size])
	}
	switch {
	case err != nil:
		l.turnAway(a, malformed, err)
	case size > 0:
		l.receive(a, h)
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
	if h.Source.IsValid() {
		n.remote, n.local = net.TCPAddrFromAddrPort(h.Source), net.TCPAddrFromAddrPort(h.Destination)
	}
	if !l.engine.judge(&n) {
		n.origin.entry.farewell(n.fd)
		l.drop(a)
		return
	}
	l.introduce(c, n)
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
		l.engine.log.limited(proxyLine, "connection refused: its PROXY header", "err", err, "remote", a.newcomer.remote)
	}
	l.drop(a)
}

// dismiss turns everyone away, because the engine ends.
func (l *loop) dismiss() {
	for _, a := range l.arrivals {
		l.turnAway(a, &l.engine.refused.closing, nil)
	}
}
