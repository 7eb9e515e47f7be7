package engine

import (
	"errors"
	"io"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/internal/poll"
	"github.com/servercore-go/servercore/internal/wheel"
	"github.com/servercore-go/servercore/session"
)

// conn is one session's connection: its session.Transport on gnet and on the loop's own poller. Loop only, but
// for Wake.
//
// gnet's loop is the fast way for a connection with something to say, and a dear one for all others: to be taken in
// costs as much as ten messages and 400 bytes, and gnet can neither stop reading nor keep a connection whose peer sent
// FIN. So a connection is gnet's from its fourth input within a second on, until it must not be read or owes bytes
// to a peer that has finished.
//
//	            newcomer ────busy────▶ attached ──pause, half-close──▶ detached
//	watched by  loop.poller, for       gnet, for input                 loop.poller, for
//	            input and, from the    loop.poller, for room, from     input and room
//	            first full buffer      the first full buffer on
//	            on, room
//	read by     pump                   gnet, then OnTraffic            pump
//	closed by   Close                  gnet                            Close
//
// To attach is in attach.go. Each step gives the descriptor another number: the new one is a duplicate, and whoever
// had the old one closes it.
type conn struct {
	driver *session.Driver
	loop   *loop
	gnet   gnet.Conn // nil unless attached
	next   *conn     // in the mailbox
	fd     int32     // ours, or gnet's while attached
	index  int32     // in loop.conns, under loop.connsMu
	place  wheel.Position

	interest poll.Interest // of fd in the poller, 0 if it is not there
	inputs   uint8         // as a newcomer, in that second; or boarded
	second   uint8         // of the engine's clock, modulo 256
	leaving  bool          // gnet is closing its side, or has; its callback is not news
	paused   bool          // Reading(false)
	readable bool          // not attached: input may wait
	over     bool          // not attached: nothing more to read
	waiting  bool          // in loop.again
}

// WheelPosition implements wheel.Item.
func (c *conn) WheelPosition() *wheel.Position { return &c.place }

const (
	readSize  = 64 << 10 // what gnet reads at once, and what pump does
	pumpReads = 4        // of one connection per turn
)

// Wake implements session.Transport.
func (c *conn) Wake() { c.loop.post(c) }

// closed reports whether the descriptor was given up.
func (c *conn) closed() bool { return c.fd < 0 }

// Again implements session.Transport.
func (c *conn) Again() { c.loop.later(c) }

// Now implements session.Transport.
func (c *conn) Now() time.Duration { return c.loop.engine.now() }

// Arm implements session.Transport.
func (c *conn) Arm(at time.Duration) { c.loop.arm(c, at) }

// Write implements session.Transport: one write or writev on the descriptor. gnet's outbound buffer stays empty
// for ever, so gnet never writes to the connection, nor closes it from inside a write.
func (c *conn) Write(bufs [][]byte) (int, error) {
	for {
		n, err := c.loop.gather.write(int(c.fd), bufs)
		switch err {
		case nil:
			return n, nil
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return 0, c.awaitRoom()
		case unix.ENOBUFS, unix.ENOMEM:
			return 0, session.ErrNoMemory
		default:
			return 0, err
		}
	}
}

// awaitRoom asks for a notice when the kernel takes bytes again. The interest is edge-triggered and stays for
// the life of the descriptor: adding it reports a descriptor that has become writable meanwhile, and each later
// EAGAIN has the kernel report the next change, so no notice is lost.
func (c *conn) awaitRoom() error {
	if err := c.watch(poll.Write); err != nil {
		return err
	}
	return session.ErrWouldBlock
}

func (c *conn) key() uint64 { return c.driver.Session().ID() }

// watch adds to what the poller tells of the connection.
func (c *conn) watch(in poll.Interest) error {
	want := c.interest | in
	switch {
	case want == c.interest:
		return nil
	case c.interest != 0:
		if err := c.loop.poller.Modify(int(c.fd), c.key(), want); err != nil {
			return err
		}
	default:
		if err := c.loop.poller.Add(int(c.fd), c.key(), want); err != nil {
			return err
		}
		c.loop.watched[c.key()] = c
	}
	c.interest = want
	return nil
}

func (c *conn) unwatch() {
	if c.interest != 0 {
		_ = c.loop.poller.Remove(int(c.fd))
		delete(c.loop.watched, c.key())
		c.interest = 0
	}
}

// CloseWrite implements session.Transport.
func (c *conn) CloseWrite() error { return unix.Shutdown(int(c.fd), unix.SHUT_WR) }

// Reading implements session.Transport.
func (c *conn) Reading(on bool) error {
	c.paused = !on
	if !on && c.gnet != nil {
		return c.detach()
	}
	c.readable = true // a pump follows whatever called us
	return nil
}

// Unread implements session.Transport.
func (c *conn) Unread() bool {
	var b [1]byte
	n, _, err := unix.Recvfrom(int(c.fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return err == nil && n >= 0
}

// Unsent implements session.Transport.
func (c *conn) Unsent() int { return unsent(int(c.fd)) }

// Close implements session.Transport.
func (c *conn) Close(reset bool) {
	c.loop.wheel.Disarm(c)
	c.unwatch()
	if reset {
		_ = unix.SetsockoptLinger(int(c.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	if c.gnet == nil {
		_ = unix.Close(int(c.fd))
	} else {
		c.leave()
	}
	c.fd = -1
}

// leave has gnet close its side, unless gnet is about to.
func (c *conn) leave() {
	g := c.gnet
	c.gnet = nil
	if !c.leaving {
		c.leaving = true
		_ = c.loop.gnet.Close(g)
	}
}

// Done implements session.Transport.
func (c *conn) Done() {
	c.loop.delist(c)
	c.loop.live.Add(-1)
	c.loop.engine.leave()
}

// Failed implements session.Transport.
func (c *conn) Failed(callback string, value any, stack []byte) {
	s := c.driver.Session()
	if value == nil {
		value = "runtime.Goexit"
	}
	c.loop.engine.log.limited(panicLine, "callback failed, the session is reset",
		"callback", callback, "panic", value, "session", s.ID(), "remote", s.RemoteAddr(), "loop", c.loop.index,
		"stack", string(stack))
}

// detach takes the connection out of gnet's hands and into the poller's. For a moment that takes one descriptor more,
// which is the spare one if there is no other: a session is not lost to a shortage because its peer reads slowly.
func (c *conn) detach() error {
	fd, err := duplicate(int(c.fd))
	if outOfDescriptors(err) {
		spare := &c.loop.engine.spare
		spare.borrow(func() { fd, err = duplicate(int(c.fd)) })
		defer spare.refill()
	}
	if err != nil {
		return err
	}
	old, in := c.fd, poll.Read|c.interest
	c.unwatch()
	c.fd = int32(fd)
	if err := c.watch(in); err != nil {
		c.fd = old
		_ = unix.Close(fd)
		return err
	}
	c.leave()
	return nil
}

// hungUp is gnet's news that the connection has ended: by the peer's FIN (io.EOF), by an error, or, with none,
// because gnet's loop itself is ending. gnet closes the descriptor when this returns.
func (c *conn) hungUp(err error) {
	c.leaving = true
	switch {
	case err == nil:
		c.driver.Kill(c.loop.engine.lost())
		c.driver.Resume()
		return
	case err == io.EOF: //nolint:errorlint // the bare value is gnet's hang-up without a read; FIN comes wrapped
		err = socketError(int(c.fd))
	case errors.Is(err, io.EOF):
		err = nil
	}
	if err == nil {
		c.over = true
	}
	c.driver.PeerClosed(err)
	if c.closed() {
		return
	}
	if err := c.detach(); err != nil { // bytes are owed
		c.driver.PeerClosed(err)
	}
}

// notice is news from the poller.
func (c *conn) notice(n poll.Event) {
	if n.Writable || n.Hangup {
		c.driver.Writable() // a broken connection shows itself in the write
	}
	if c.closed() || c.gnet != nil {
		return
	}
	c.readable = c.readable || n.Readable || n.Hangup
	if n.Hangup && c.paused && !c.over {
		c.probe()
	}
	c.pump()
}

// probe looks, without reading, whether a connection that is not read was reset, or finished with no byte left.
func (c *conn) probe() {
	if err := socketError(int(c.fd)); err != nil {
		c.driver.PeerClosed(err)
		return
	}
	var b [1]byte
	if n, _, err := unix.Recvfrom(int(c.fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT); n == 0 && err == nil {
		c.over = true
		c.driver.PeerClosed(nil)
	}
}

// pump reads a connection that is not attached, up to its budget; what is left waits for another turn. It reads until
// there is nothing: a read that brings less than it might have has not always emptied the socket, for it also ends
// before urgent data.
func (c *conn) pump() {
	for i := 0; c.gnet == nil && c.readable && !c.paused && !c.over && !c.closed(); {
		if i == pumpReads {
			c.Again()
			return
		}
		n, err := read(int(c.fd), c.loop.input)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			c.readable = false
		case err != nil:
			c.over = true
			c.driver.PeerClosed(err)
		case n == 0:
			c.over = true
			c.driver.PeerClosed(nil)
		default:
			i++
			c.driver.Receive(c.loop.input[:n])
			c.attachIfBusy()
		}
	}
}
