package testkit

import (
	"slices"
	"time"

	"github.com/servercore-go/servercore/session"
)

// Visit is a set of reasons for which a loop calls a session.
type Visit uint8

// The visits, in the order in which Run makes them.
const (
	Reset    Visit = 1 << iota // the peer's reset: PeerClosed with an error
	Writable                   // the kernel takes bytes again
	Input                      // bytes of the peer's: Receive
	FIN                        // PeerClosed(nil)
	Expire                     // a deadline has passed
	Turn                       // after Wake
	Resume                     // after Again
)

// Write is one write as the kernel saw it.
type Write struct{ Segments, Offered, Took int }

// Conn is a session's connection in memory: the transport, the kernel's buffers, and the peer. What is exported
// may be set or read on the loop's goroutine.
type Conn struct {
	Loop   *Loop
	Driver *session.Driver

	// How it behaves. The zero value takes everything.
	Kernel     int                                     // bytes the kernel holds until the peer takes them, 0: any number, and all is taken at once
	MaxWrite   int                                     // bytes one write takes, 0: any number
	Plan       func(offered int) (take int, err error) // has a say in each write before the others
	Look       func(bufs [][]byte)                     // sees what each write offers
	Chunk      int                                     // bytes of input per Receive, 0: 64 KiB
	Trouble    error                                   // what Reading and CloseWrite return
	Take       func(p []byte)                          // gets what the kernel takes, in place of Wire
	UnsentFunc func() int                              // in place of what the peer has not read
	Meanwhile  func()                                  // what other goroutines do while the session calls

	// What became of it.
	Wire     []byte  // all the kernel took
	Writes   []Write // if Take is nil
	Took     int     // bytes the kernel took
	TookN    int     // writes that took any
	Reads    bool    // the session wants input
	Switched []bool  // calls of Reading
	FINSent  bool
	Closed   bool
	WasReset bool // Close(true)
	Unacked  int  // bytes that the peer had not taken at Close
	Ended    bool // Done was called
	Armed    time.Duration
	Stuck    time.Duration // since when writes have taken nothing, 0 if the last one has
	Heard    time.Duration // when input was last brought, or asked for again
	Inputs   int           // calls of Receive
	Failures []string      // callbacks in which content failed

	unread  []byte // input in the kernel
	held    int    // bytes taken and not read by the peer
	full    bool   // a write found no room, a Writable is owed
	room    bool   // there is room again
	retry   bool   // the last write found no memory
	fin     bool   // the peer finished
	finTold bool
	broken  error // the peer's reset, until it is told
	gone    bool  // nothing more can be read
	waiting bool  // in Loop.again
	mailed  bool  // in Loop.mail, under Loop.mu
	wakes   int   // under Loop.mu
}

// Connected runs OnConnected.
func (c *Conn) Connected() {
	c.Heard = c.Loop.Now()
	c.Loop.visit(c.Driver.Connected)
}

// Session returns the connection's session.
func (c *Conn) Session() *session.Session { return c.Driver.Session() }

// Wakes returns how often the session has asked for a turn.
func (c *Conn) Wakes() int {
	c.Loop.mu.Lock()
	defer c.Loop.mu.Unlock()
	return c.wakes
}

// Full reports whether the last write found no room.
func (c *Conn) Full() bool { return c.full }

// Retry reports whether the last write found no memory.
func (c *Conn) Retry() bool { return c.retry }

// Backlog returns how many bytes of the peer's have not been read.
func (c *Conn) Backlog() int { return len(c.unread) }

// Untold reports whether the peer has reset and the session was not told.
func (c *Conn) Untold() bool { return c.broken != nil }

// Held returns how many bytes the peer has not read.
func (c *Conn) Held() int { return c.held }

// Wants returns the visits that are due.
func (c *Conn) Wants() (v Visit) {
	c.Loop.mu.Lock()
	if c.mailed {
		v |= Turn
	}
	c.Loop.mu.Unlock()
	if c.waiting {
		v |= Resume
	}
	if c.Closed {
		return v
	}
	if c.broken != nil && (!c.Reads || len(c.unread) == 0) { // a read brings what was received first
		v |= Reset
	}
	if c.room {
		v |= Writable
	}
	switch {
	case len(c.unread) > 0:
		if c.Reads {
			v |= Input
		}
	case c.fin && !c.finTold && !c.gone && c.broken == nil:
		v |= FIN
	}
	if c.Armed > 0 && c.Armed <= c.Loop.Now() {
		v |= Expire
	}
	return v
}

// Serve makes one visit, due or not.
func (c *Conn) Serve(v Visit) {
	l, d := c.Loop, c.Driver
	switch v {
	case Reset:
		err := c.broken
		c.broken = nil
		if c.Reads && len(c.unread) == 0 {
			c.gone = true
			l.visit(func() { d.PeerClosed(err) })
			return
		}
		c.fin = true // what reads find behind the last byte, now that the error was taken
		l.visit(func() { d.Broken(err) })
	case Writable:
		c.full, c.room = false, false
		l.visit(d.Writable)
	case Input:
		n := len(c.unread)
		if c.Chunk > 0 {
			n = min(n, c.Chunk)
		}
		data := slices.Clone(c.unread[:min(n, 64<<10)])
		c.unread = c.unread[len(data):]
		c.Heard = l.Now()
		c.Inputs++
		l.visit(func() { d.Receive(data) })
		for i := range data { // it was lent
			data[i] = 0xdd
		}
	case FIN:
		c.finTold = true
		l.visit(func() { d.PeerClosed(nil) })
	case Expire:
		c.Armed = 0
		l.visit(func() { d.Expire(l.Now()) })
	case Turn:
		l.mu.Lock()
		if i := slices.Index(l.mail, c); i >= 0 {
			l.mail = slices.Delete(l.mail, i, i+1)
		}
		c.mailed = false
		l.mu.Unlock()
		l.visit(d.Turn)
	case Resume:
		if i := slices.Index(l.again, c); i >= 0 {
			l.again = slices.Delete(l.again, i, i+1)
		}
		c.waiting = false
		l.visit(d.Resume)
	}
}

// PeerRead has the peer read n bytes, or what there is.
func (c *Conn) PeerRead(n int) {
	c.held -= min(n, c.held)
	c.Room()
}

// Room tells a session that was told otherwise that there is room, if there is.
func (c *Conn) Room() { c.room = c.full && (c.Kernel == 0 || c.held < c.Kernel) }

// PeerWrite has the peer send p.
func (c *Conn) PeerWrite(p []byte) { c.unread = append(c.unread, p...) }

// PeerFIN has the peer finish.
func (c *Conn) PeerFIN() { c.fin = true }

// PeerReset breaks the connection: writes fail, and reads do when what was received is read. The first call that meets the error
// takes it from the socket: reads find the end then.
func (c *Conn) PeerReset(err error) {
	c.broken = err
	c.Plan = func(int) (int, error) {
		if c.broken != nil {
			c.broken, c.fin = nil, true
		}
		return 0, err
	}
}

// check finds calls that come too late or not from the loop.
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

// meanwhile ends each call of a session's to its transport, but Wake, WakeAll and Scratch: others come in between there, as they may
// come in anywhere, and must find the session unlocked.
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
		c.Loop.fault("WakeAll for others only")
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
	// Not while a callback runs: what is decided before it, and what is measured of it, belong together.
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
