package reactor

import (
	"io"

	"golang.org/x/sys/unix"
)

// Reading: from an event to OnTraffic.

// The bounds of reading.
const (
	ReadSize  = 64 << 10 // what is read at once
	PumpReads = 4        // of one connection at a time

	bulkyRead = 16 << 10 // what is much: some thirty short messages take as long
)

// event serves an event, or has a worker do it.
func (c *Conn[C]) event(e event) {
	if s := c.executor.strand; s != nil {
		s.enqueueEvent(e)
		return
	}
	c.note(e)
	switch {
	case c.index == notOpen:
		c.executor.loop.handler.OnReady(c)
		return
	case (c.bulky || c.sendSpace == reported) && !c.mayGoOn():
		c.executor.loop.later(c)
	}
	if !c.waiting {
		c.look()
	}
}

// note keeps what an event says.
func (c *Conn[C]) note(e event) {
	if e.urgent {
		c.shortRead = max(c.shortRead, unsure)
	}
	if e.hangup {
		c.shortRead = atEnd
	}
	c.readable = c.readable || e.readable || e.hangup
	if c.sendSpace == exhausted && (e.writable || e.hangup) { // a broken connection shows itself in the write
		c.sendSpace = reported
	}
}

// look acts on what was noted.
func (c *Conn[C]) look() {
	c.lookForReset()
	if c.sendSpace == reported {
		c.sendSpace = untried
		c.executor.loop.handler.OnWritable(c)
	}
	c.pump() // also if that has resumed reading
}

// lookForReset tells that a connection has been reset that its peer had finished.
func (c *Conn[C]) lookForReset() {
	if c.shortRead == atEnd && c.finished && !c.closed {
		if err := socketError(int(c.fd)); err != nil {
			c.executor.loop.handler.OnClose(c, err)
		}
	}
}

// mayGoOn reports whether a connection that brings much, or waits to write, may be served now, and not in a turn.
func (c *Conn[C]) mayGoOn() bool { return c.executor.strand == nil && c.executor.loop.takesBulk() }

// pump reads what is there; what is left after a read that brought much waits for another turn. A read that brings less than
// it might have has emptied the socket: whatever comes after it is another event. That does not hold before urgent data, behind
// which there may be more, and behind the last byte, where the end is to be read; an event says so beforehand. Nor for
// unix sockets, whose reads end short wherever the peer has passed a descriptor along (R1).
func (c *Conn[C]) pump() {
	handler, s := c.executor.loop.handler, c.executor.scratch
	for i := 0; c.readable && !c.paused && !c.finished && !c.closed; {
		if i == PumpReads || i > 0 && c.bulky && !c.mayGoOn() {
			c.Again()
			return
		}
		n, err := read(int(c.fd), s.input)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			c.readable = false
		case err != nil:
			c.finished = true
			handler.OnClose(c, err)
		case n == 0: // after all bytes (R2)
			c.finished = true
			handler.OnClose(c, nil)
			c.lookForReset() // it may have come with the same event
		default:
			i++
			c.bulky = n >= bulkyRead
			c.readable = n == len(s.input) || c.shortRead != emptied
			handler.OnTraffic(c, s.input[:n])
		}
	}
	if c.shortRead == atEnd && c.paused && !c.finished && !c.closed {
		c.probe()
	}
}

// probe looks, without reading, whether a connection whose reading is off has failed, or finished with no byte left. Both calls may
// find the failure: each takes the error from the socket.
func (c *Conn[C]) probe() {
	err := socketError(int(c.fd))
	if err == nil {
		var b [1]byte
		n := 0
		if n, _, err = unix.Recvfrom(int(c.fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT); n == 0 && err == nil {
			c.finished = true
			c.executor.loop.handler.OnClose(c, nil)
			return
		}
	}
	if err != nil && err != unix.EAGAIN && err != unix.EINTR {
		c.executor.loop.handler.OnError(c, err)
	}
}

// Reading stops or resumes the reading. After Reading(false), OnTraffic is not called and TCP holds the peer; OnError is still called
// for a reset at once, and OnClose for a FIN that no byte precedes. A connection starts out reading.
func (c *Conn[C]) Reading(on bool) {
	c.paused = !on
	c.readable = true // a pump follows whatever called us
}

// ReadsEndShort tells that a read may end before the socket is empty, as it does on a unix socket where a descriptor was passed.
func (c *Conn[C]) ReadsEndShort() { c.shortRead = max(c.shortRead, unsure) }

// Peek returns up to size bytes that have been received, at most ReadSize, and leaves them in the kernel. They are valid until
// the goroutine reads or peeks again. No bytes and no error mean the peer's FIN; EAGAIN means that nothing has come. For the owner of a
// connection that is not open. A size above ReadSize panics.
func (c *Conn[C]) Peek(size int) ([]byte, error) {
	b := c.executor.scratch.input[:size]
	for {
		n, _, err := unix.Recvfrom(int(c.fd), b, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if err != unix.EINTR {
			return b[:max(n, 0)], err
		}
	}
}

// Discard reads bytes that Peek has returned, so that they are not brought to OnTraffic. It writes to peeked. The error is that of read(2), or
// io.ErrUnexpectedEOF if the kernel has fewer and the peer's FIN behind them.
func (c *Conn[C]) Discard(peeked []byte) error {
	for len(peeked) > 0 {
		n, err := read(int(c.fd), peeked)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case n == 0:
			return io.ErrUnexpectedEOF
		default:
			peeked = peeked[n:]
		}
	}
	return nil
}

// PeerFinished reports whether the peer has finished, or the connection is broken: what Peek returns after that is all there will be.
// An event has told so, which may have been about the descriptor's last owner; so the kernel is asked too (R7).
func (c *Conn[C]) PeerFinished() bool { return c.shortRead == atEnd && finished(int(c.fd)) }
