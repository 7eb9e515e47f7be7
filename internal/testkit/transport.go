package testkit

import (
	"slices"
	"time"

	"github.com/servercore-go/servercore/session"
)

// The methods of Conn that its session calls: session.Transport. Each checks that the call is allowed now, and does to the connection
// in memory what an engine does to a socket.

// check records a fault if the session makes a call outside of a visit, after Done, or after Close. closedToo says that the call is
// allowed after Close.
func (c *Conn) check(call string, closedToo bool) {
	if !c.Loop.inside.Load() {
		c.Loop.fault("%s outside of a visit", call)
	}
	if c.Ended {
		c.Loop.fault("%s after Done", call)
	} else if c.Closed && !closedToo {
		c.Loop.fault("%s after Close", call)
	}
}

// meanwhile runs Conn.Meanwhile at the end of each call from the session, except Wake, WakeAll and Scratch. Other goroutines may call
// the session at any time, and must find it unlocked there.
func (c *Conn) meanwhile() {
	if c.Meanwhile != nil && !c.Ended {
		c.Meanwhile()
	}
}

// Wake implements session.Transport.
func (c *Conn) Wake() { c.Loop.post(c) }

// WakeAll implements session.Transport.
func (c *Conn) WakeAll(all []session.Transport) {
	conns := make([]*Conn, len(all))
	for i, t := range all {
		conns[i] = t.(*Conn)
		if conns[i].Loop != c.Loop {
			c.Loop.fault("WakeAll for another loop")
		}
	}
	if !slices.Contains(conns, c) {
		c.Loop.fault("WakeAll without the connection that is called")
	}
	c.Loop.post(conns...)
}

// Again implements session.Transport.
func (c *Conn) Again() {
	c.check("Again", true)
	defer c.meanwhile()
	if !c.waiting {
		c.waiting = true
		c.Loop.again = append(c.Loop.again, c)
	}
}

// Now implements session.Transport.
func (c *Conn) Now() time.Duration {
	// No other goroutine comes in between a callback's start and the call that reads its start time.
	if c.Loop.inside.Load() && c.Loop.scratch.Running().Call == 0 {
		defer c.meanwhile()
	}
	return c.Loop.Now()
}

// Scratch implements session.Transport.
func (c *Conn) Scratch() *session.Scratch {
	c.check("Scratch", true)
	return c.Loop.scratch
}

// Arm implements session.Transport.
func (c *Conn) Arm(at time.Duration) {
	c.check("Arm", false)
	defer c.meanwhile()
	if c.Armed == 0 || at < c.Armed {
		c.Armed = at
	}
}

// Write implements session.Transport.
func (c *Conn) Write(bufs [][]byte) (n int, err error) {
	c.check("Write", false)
	defer c.meanwhile()
	offered := 0
	for _, b := range bufs {
		if len(b) == 0 {
			c.Loop.fault("Write of an empty slice")
		}
		offered += len(b)
	}
	switch {
	case offered == 0:
		c.Loop.fault("Write of nothing")
	case c.FINSent:
		c.Loop.fault("Write after CloseWrite")
	}
	if c.Look != nil {
		c.Look(bufs)
	}
	n = offered
	if c.Plan != nil {
		n, err = c.Plan(offered)
		n = min(n, offered)
	}
	if c.MaxWrite > 0 {
		n = min(n, c.MaxWrite)
	}
	if c.Kernel > 0 {
		n = min(n, c.Kernel-c.held)
	}
	if n == 0 && err == nil {
		err = session.ErrWouldBlock
	}
	c.retry = err == session.ErrNoMemory
	if err == session.ErrWouldBlock {
		c.full = true
	}
	if c.Take == nil {
		c.Writes = append(c.Writes, Write{len(bufs), offered, n})
	}
	switch {
	case n > 0:
		c.TookN++
		c.Stuck = 0
	case c.Stuck == 0:
		c.Stuck = c.Loop.Now()
	}
	c.Took += n
	c.held += n
	for left := n; left > 0; bufs = bufs[1:] {
		p := bufs[0][:min(left, len(bufs[0]))]
		left -= len(p)
		if c.Take != nil {
			c.Take(p)
		} else {
			c.Wire = append(c.Wire, p...)
		}
	}
	return n, err
}

// CloseWrite implements session.Transport.
func (c *Conn) CloseWrite() error {
	c.check("CloseWrite", false)
	defer c.meanwhile()
	if c.FINSent {
		c.Loop.fault("CloseWrite twice")
	}
	c.FINSent = true
	if err := c.broken; err != nil {
		c.broken, c.fin = nil, true
		return err
	}
	return c.Trouble
}

// Reading implements session.Transport.
func (c *Conn) Reading(on bool) error {
	c.check("Reading", false)
	defer c.meanwhile()
	if on == c.Reads {
		c.Loop.fault("Reading(%t) twice", on)
	}
	c.Reads = on
	if on {
		c.Heard = c.Loop.Now()
	}
	c.Switched = append(c.Switched, on)
	return c.Trouble
}

// Unread implements session.Transport.
func (c *Conn) Unread() bool {
	c.check("Unread", false)
	defer c.meanwhile()
	return len(c.unread) > 0
}

// Received implements session.Transport.
func (c *Conn) Received() int {
	c.check("Received", false)
	defer c.meanwhile()
	return len(c.unread)
}

// Unsent implements session.Transport.
func (c *Conn) Unsent() int {
	c.check("Unsent", false)
	defer c.meanwhile()
	if c.UnsentFunc != nil {
		return c.UnsentFunc()
	}
	if c.Kernel == 0 {
		return 0
	}
	return c.held
}

// Close implements session.Transport.
func (c *Conn) Close(reset bool) {
	c.check("Close", false)
	defer c.meanwhile()
	if c.Kernel > 0 {
		c.Unacked = c.held
	}
	c.Closed, c.WasReset, c.Armed = true, reset, 0
}

// Done implements session.Transport.
func (c *Conn) Done() {
	c.check("Done", true)
	if !c.Closed {
		c.Loop.fault("Done without Close")
	}
	c.Ended = true
	if i := slices.Index(c.Loop.conns, c); i >= 0 {
		c.Loop.conns = slices.Delete(c.Loop.conns, i, i+1)
	}
}

// Failed implements session.Transport.
func (c *Conn) Failed(callback string, value any, stack []byte) {
	c.check("Failed", true)
	defer c.meanwhile()
	if len(stack) == 0 {
		c.Loop.fault("Failed without a stack")
	}
	if value == nil {
		callback += ": Goexit"
	}
	c.Failures = append(c.Failures, callback)
}
