package ongnet

import (
	"cmp"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
	"github.com/panjf2000/gnet/v2/pkg/socket"
	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/internal/reactor"
	"github.com/servercore-go/servercore/session"
)

// conn is a connection as its session sees it: a session.Transport, whose methods that ask the system are the Socket's. It is its loop's own,
// but for due.
type conn struct {
	reactor.Socket           // gnet's descriptor, or a duplicate when gnet has given the connection up
	gnet           gnet.Conn // nil then
	loop           *loop
	driver         *session.Driver
	due            atomic.Uint32 // why the loop is to look at it
	timer          *time.Timer   // nil before the first deadline
	timerAt        time.Duration // 0 if it is not set
	watched        bool
	closed         bool
	paused         bool
	kept           int // bytes received while paused
}

// Why a loop is to look at a connection.
const (
	dueTurn uint32 = 1 << iota // its session has asked
	dueRoom                    // the kernel takes bytes again, or the connection has broken
	dueTime                    // a deadline may have passed
)

var _ session.Transport = (*conn)(nil)

// limitBuffer bounds what the kernel holds for the connection, as the engine does.
func (c *conn) limitBuffer(o Options) {
	const bound = 256 << 10 // the engine's default of both
	size, notSent := o.SendBuffer, cmp.Or(o.NotSentLowWater, bound)
	if notSent > 0 && c.LimitNotSent(notSent) != nil && size == 0 {
		size = bound
	}
	if size > 0 {
		_ = c.gnet.SetWriteBuffer(size)
	}
}

// action answers gnet's events. A second close does nothing, and keeps gnet from reading a descriptor that is closed.
func (c *conn) action() gnet.Action {
	if c == nil || c.closed {
		return gnet.Close
	}
	return gnet.None
}

// receive brings what gnet has read to the session, which keeps it while it is not to be read, up to SendLimit.
func (c *conn) receive(data []byte) {
	if c.paused {
		c.kept += len(data)
		if limit := c.loop.shared.Limits.SendLimit; limit > 0 && c.kept > limit {
			c.end(ErrNotHeld)
			return
		}
	}
	c.driver.Receive(data)
}

// post has the loop's next turn serve the connection. Any goroutine.
func (c *conn) post(why uint32) {
	if c.due.Or(why) == 0 {
		c.loop.mu.Lock()
		c.loop.mail = append(c.loop.mail, c)
		c.loop.mu.Unlock()
	}
}

// ask is post, and wakes the loop. Any goroutine.
func (c *conn) ask(why uint32) {
	c.post(why)
	c.loop.wake()
}

func (c *conn) serve() {
	due := c.due.Swap(0)
	if due&dueTime != 0 {
		c.timerAt = 0
		c.driver.Expire(c.Now())
	}
	if due&dueRoom != 0 && !c.closed {
		if c.gnet == nil { // gnet would have told of a reset
			if err := c.Error(); err != nil {
				c.driver.PeerClosed(err)
			}
		}
		c.driver.Writable()
	}
	c.driver.Turn()
}

// end aborts the session now.
func (c *conn) end(why error) {
	c.driver.Kill(why)
	c.driver.Turn()
}

// outlive takes the connection over from gnet, which is about to close its descriptor. There is nothing left to read. Whether it has room, or
// has broken, is the watcher's to tell.
func (c *conn) outlive() {
	c.unwatch()
	fd, err := c.gnet.Dup()
	if err == nil {
		c.gnet, c.Socket = nil, reactor.Socket(fd)
		err = c.watch()
	}
	if err != nil {
		c.end(err)
	}
}

// watch has the loop told when the connection takes bytes again.
func (c *conn) watch() (err error) {
	if !c.watched {
		err = c.loop.adapter.watcher.Add(int(c.Socket), c)
		c.watched = err == nil
	}
	return err
}

func (c *conn) unwatch() {
	if c.watched {
		c.watched = false
		c.loop.adapter.watcher.Remove(int(c.Socket))
	}
}

// The methods of session.Transport.

func (c *conn) Wake()                     { c.WakeAll([]session.Transport{c}) }
func (c *conn) Now() time.Duration        { return c.loop.adapter.clock.Now() }
func (c *conn) Scratch() *session.Scratch { return c.loop.scratch }
func (c *conn) Done()                     { c.loop.forget(c) }

// WakeAll has gnet make one turn for all of them.
func (c *conn) WakeAll(all []session.Transport) {
	for _, other := range all {
		other.(*conn).post(dueTurn)
	}
	if c.loop.wake() {
		c.loop.wakeUps.Add(1)
	}
}

// Again waits for a timer: what a task of gnet's asks for is done before gnet looks at its connections.
func (c *conn) Again() { c.Arm(c.Now()) }

func (c *conn) Arm(at time.Duration) {
	if c.timerAt > 0 && c.timerAt <= at {
		return
	}
	c.timerAt = at
	if in := max(at-c.Now(), 0); c.timer == nil {
		c.timer = time.AfterFunc(in, func() { c.ask(dueTime) })
	} else {
		c.timer.Reset(in)
	}
}

// Write goes around gnet's own, which keeps what the kernel does not take, and tells nobody when it does.
func (c *conn) Write(bufs [][]byte) (int, error) {
	n, err := c.Socket.Write(&c.loop.memory, bufs)
	switch {
	case err == reactor.ErrWouldBlock && c.watch() == nil:
		err = session.ErrWouldBlock
	case err == reactor.ErrWouldBlock, err == reactor.ErrNoMemory:
		err = session.ErrNoMemory // it tries again soon
	}
	return n, err
}

// Reading stops nothing: see receive.
func (c *conn) Reading(on bool) error {
	c.paused, c.kept = !on, 0
	return nil
}

func (c *conn) Close(reset bool) {
	c.closed = true
	c.unwatch()
	if c.timer != nil {
		c.timer.Stop()
	}
	if reset {
		c.ResetOnClose()
	}
	if c.gnet == nil {
		c.Socket.Close()
		return
	}
	_ = c.loop.gnet.Close(c.gnet)
}

func (c *conn) Failed(callback string, value any, stack []byte) {
	if value == nil {
		value = "runtime.Goexit"
	}
	s := c.driver.Session()
	c.loop.adapter.log.LimitedError(panicLine, "callback failed, the session is reset", "callback", callback, "panic", value, "session", s.ID(),
		"remote", s.RemoteAddr(), "loop", c.loop.index, "stack", string(stack))
}

// addresses returns addresses to keep. gnet's local one is the listener's, as it was configured, and a zone in the remote one goes
// back to a pool of gnet's with the connection.
func addresses(g gnet.Conn) (local, remote net.Addr) {
	local, remote = g.LocalAddr(), g.RemoteAddr()
	if a, ok := remote.(*net.TCPAddr); ok {
		remote = &net.TCPAddr{IP: a.IP, Port: a.Port, Zone: strings.Clone(a.Zone)}
		if sa, err := unix.Getsockname(g.Fd()); err == nil {
			local = socket.SockaddrToTCPOrUnixAddr(sa)
		}
	}
	return local, remote
}
