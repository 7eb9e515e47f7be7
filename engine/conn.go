package engine

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/internal/wheel"
	"github.com/servercore-go/servercore/session"
)

// conn is one session's connection: its session.Transport on a socket, in 48 bytes. It belongs to the loop, or, if it is offloaded,
// to the worker that serves it (see strand), but for Wake, WakeAll and Now.
//
// What the last look at the socket found is kept in flags, because the reactor tells changes only:
//
//	readable   set by an event, and whenever nobody has looked; cleared when there was nothing more to read
//	room       none when the kernel took nothing more; perhaps when an event has come since; some when that was tried
//
// Whoever has much to read, or waits to write, is not served when an event tells of it but in a turn, so that those who have
// little are served between one piece and the next (T3).
type conn struct {
	driver *session.Driver
	seat   *seat
	next   *conn // in the mailbox
	fd     int32
	index  int32          // in loop.conns, under loop.connsMu
	place  wheel.Position // the loop's

	shut     bool // Close was called
	paused   bool // Reading(false)
	readable bool // input may wait
	over     bool // nothing more to read
	bulky    bool // the last read brought much
	waiting  bool // in loop.again
	care     care
	room     room
}

// care is how far a read that brings less than it might have can be trusted to have emptied the socket.
type care uint8

const (
	brief    care = iota // it has
	thorough             // it need not have
	hungUp               // it need not have, and an event told of the end, or of a fault
)

// room is what is known of the kernel's buffer.
type room uint8

const (
	some room = iota
	none
	perhaps
)

// on returns where the connection lives, whoever serves it.
func (c *conn) on() *loop { return c.seat.loop }

// WheelPosition implements wheel.Item.
func (c *conn) WheelPosition() *wheel.Position { return &c.place }

const (
	readSize  = 64 << 10 // what is read at once
	bulkyRead = 16 << 10 // what is much: some thirty short messages take as long
	pumpReads = 4        // of one connection at a time
)

// Wake implements session.Transport.
func (c *conn) Wake() {
	if s := c.seat.strand; s != nil {
		s.signal(turn)
		return
	}
	c.on().post(c, c)
}

// WakeAll implements session.Transport. Until the chain is posted, its links belong to the caller: nobody else wakes the
// loop for these sessions (I4).
func (c *conn) WakeAll(all []session.Transport) {
	var first, last *conn
	for _, t := range all {
		next := t.(*conn)
		switch {
		case next.seat.strand != nil:
			next.Wake()
			continue
		case last == nil:
			first = next
		default:
			next.next = last
		}
		last = next
	}
	if last != nil {
		c.on().post(last, first)
	}
}

// closed reports whether the descriptor was given up.
func (c *conn) closed() bool { return c.shut }

// Again implements session.Transport.
func (c *conn) Again() {
	if s := c.seat.strand; s != nil {
		s.signal(resume)
		return
	}
	c.on().later(c)
}

// Now implements session.Transport.
func (c *conn) Now() time.Duration { return c.on().engine.now() }

// Scratch implements session.Transport.
func (c *conn) Scratch() *session.Scratch { return c.seat.scratch }

// Arm implements session.Transport.
func (c *conn) Arm(at time.Duration) {
	if s := c.seat.strand; s != nil {
		s.arm(at)
		return
	}
	c.on().arm(c, at)
}

// Write implements session.Transport: one write or writev. An EAGAIN has the kernel report when it takes bytes again, so
// none is lost between the two. It does so when what the socket holds is acknowledged: one that holds nothing met a want of
// memory, and the write is tried again by the clock.
func (c *conn) Write(bufs [][]byte) (int, error) {
	for {
		n, err := c.seat.gather.write(int(c.fd), bufs)
		switch err {
		case nil:
			return n, nil
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			c.room = none
			if starved(int(c.fd)) {
				return 0, session.ErrNoMemory
			}
			return 0, session.ErrWouldBlock
		case unix.ENOBUFS, unix.ENOMEM:
			return 0, session.ErrNoMemory
		default:
			return 0, err
		}
	}
}

// CloseWrite implements session.Transport.
func (c *conn) CloseWrite() error { return unix.Shutdown(int(c.fd), unix.SHUT_WR) }

// Reading implements session.Transport.
func (c *conn) Reading(on bool) error {
	c.paused = !on
	c.readable = true // a pump follows whatever called us
	return nil
}

// Unread implements session.Transport. It asks by poll(2), which leaves a reset to be found by the next read: MSG_PEEK would
// take the error away, and what follows would look like a FIN. The watchdog asks too, from its own goroutine.
func (c *conn) Unread() bool {
	p := [1]unix.PollFd{{Fd: c.fd, Events: unix.POLLIN}}
	n, err := unix.Poll(p[:], 0)
	return err == nil && n > 0 && p[0].Revents&unix.POLLIN != 0
}

// Received implements session.Transport.
func (c *conn) Received() int { return received(int(c.fd)) }

// Unsent implements session.Transport.
func (c *conn) Unsent() int { return unsent(int(c.fd)) }

// Close implements session.Transport.
func (c *conn) Close(reset bool) {
	c.shut = true
	switch s := c.seat.strand; {
	case s == nil:
		c.giveUp(reset)
	case reset:
		s.end(closing | byReset)
	default:
		s.end(closing)
	}
}

// giveUp closes the descriptor. Loop only.
func (c *conn) giveUp(reset bool) {
	c.on().wheel.Disarm(c)
	c.on().unwatch(c)
	if reset {
		_ = unix.SetsockoptLinger(int(c.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	_ = unix.Close(int(c.fd))
}

// Done implements session.Transport.
func (c *conn) Done() {
	if s := c.seat.strand; s != nil {
		s.end(leaving)
		return
	}
	c.leave()
}

// leave takes the session off the loop's books. Loop only.
func (c *conn) leave() {
	l := c.on()
	l.delist(c)
	l.live.Add(-1)
	l.releaseSource(c)
	l.engine.leave()
	if link := l.links[c]; link != nil {
		delete(l.links, c)
		link.lost(c.driver)
	}
}

// Failed implements session.Transport.
func (c *conn) Failed(callback string, value any, stack []byte) {
	s := c.driver.Session()
	if value == nil {
		value = "runtime.Goexit"
	}
	c.on().engine.log.limited(panicLine, "callback failed, the session is reset",
		"callback", callback, "panic", value, "session", s.ID(), "remote", s.RemoteAddr(), "loop", c.on().index,
		"stack", string(stack))
}

// event serves an event, or has a worker do it.
func (c *conn) event(n news) {
	if s := c.seat.strand; s != nil {
		s.hear(n)
		return
	}
	c.note(n)
	if c.bulky || c.room == perhaps {
		c.on().later(c)
	}
	if !c.waiting {
		c.look()
	}
}

// note keeps what an event says.
func (c *conn) note(n news) {
	if n.urgent {
		c.care = max(c.care, thorough)
	}
	if n.hangup {
		c.care = hungUp
	}
	c.readable = c.readable || n.readable || n.hangup
	if c.room == none && (n.writable || n.hangup) { // a broken connection shows itself in the write
		c.room = perhaps
	}
}

// look acts on what was noted.
func (c *conn) look() {
	if c.care == hungUp && c.over && !c.closed() { // a session that was finished by its peer may have been reset since
		if err := socketError(int(c.fd)); err != nil {
			c.driver.PeerClosed(err)
		}
	}
	if c.room == perhaps {
		c.room = some
		c.driver.Writable()
	}
	c.pump() // also if that has resumed reading
}

// turn serves an entry in the loop's mailbox.
func (c *conn) turn() {
	if s := c.seat.strand; s != nil {
		s.attend()
		return
	}
	c.driver.Turn()
	c.pump()
}

// resume serves Again, and looks at everything.
func (c *conn) resume() {
	if c.driver == nil {
		c.on().reconsider(c, 0)
		return
	}
	if s := c.seat.strand; s != nil { // an arrival was to be looked at, and was introduced meanwhile
		s.signal(resume)
		return
	}
	c.driver.Resume()
	c.look()
}

// expire serves a deadline.
func (c *conn) expire(now time.Duration) {
	if c.driver == nil {
		c.on().reconsider(c, now)
		return
	}
	if s := c.seat.strand; s != nil {
		s.signal(expire)
		return
	}
	c.driver.Expire(now)
	c.pump()
}

// probe looks, without reading, whether a connection that is not read has failed, or finished with no byte left. Both calls may find
// the failure: each takes the error from the socket.
func (c *conn) probe() {
	err := socketError(int(c.fd))
	if err == nil {
		var b [1]byte
		n := 0
		if n, _, err = unix.Recvfrom(int(c.fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT); n == 0 && err == nil {
			c.over = true
			c.driver.PeerClosed(nil)
			return
		}
	}
	if err != nil && err != unix.EAGAIN && err != unix.EINTR {
		c.driver.Broken(err)
	}
}

// pump reads what is there; what is left after a read that brought much waits for another turn. A read that brings less than
// it might have has emptied the socket: whatever comes after it is another event. That does not hold before urgent data, behind
// which there may be more, and behind the last byte, where the end is to be read; an event says so beforehand. Nor for
// unix sockets, whose reads end short wherever the peer has passed a descriptor along.
func (c *conn) pump() {
	for i := 0; c.readable && !c.paused && !c.over && !c.closed(); {
		if i == pumpReads || i > 0 && c.bulky {
			c.Again()
			return
		}
		n, err := read(int(c.fd), c.seat.input)
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
			c.bulky = n >= bulkyRead
			c.readable = n == len(c.seat.input) || c.care > brief
			c.driver.Receive(c.seat.input[:n])
		}
	}
	if c.care == hungUp && c.paused && !c.over && !c.closed() {
		c.probe()
	}
}
