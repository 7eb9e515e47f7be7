package testkit

import (
	"slices"
	"time"

	"github.com/servercore-go/servercore/session"
)

// Visit is a set of reasons for a loop to call into a session.
type Visit uint8

// The visits, in the order in which Run makes them.
const (
	Reset    Visit = 1 << iota // the peer has reset the connection: PeerClosed with an error
	Writable                   // the kernel has room again
	Input                      // bytes of the peer have arrived: Receive
	FIN                        // the peer has sent FIN: PeerClosed(nil)
	Expire                     // a deadline has passed
	Turn                       // the session has called Wake
	Resume                     // the session has called Again
)

// Write is one write as the kernel sees it: its segments, the bytes offered, and the bytes taken.
type Write struct{ Segments, Offered, Took int }

// Conn is a session's connection in memory: the transport, the kernel's buffers, and the peer. Its exported fields may be set and read
// on the loop's goroutine.
type Conn struct {
	Loop   *Loop
	Driver *session.Driver

	// Behaviour. With the zero value, the kernel takes everything.
	Kernel     int                                     // bytes that the kernel holds until the peer reads them; 0: the peer reads everything at once
	MaxWrite   int                                     // bytes that one write takes; 0: any number
	Plan       func(offered int) (take int, err error) // decides each write, before MaxWrite and Kernel limit it
	Look       func(bufs [][]byte)                     // gets the buffers of each write
	Chunk      int                                     // bytes of input per Receive; 0: 64 KiB
	Trouble    error                                   // the error that Reading and CloseWrite return
	Take       func(p []byte)                          // gets the bytes that the kernel takes, in place of Wire
	UnsentFunc func() int                              // the result of Unsent, in place of the bytes that the peer has not read
	Meanwhile  func()                                  // stands for other goroutines: called at the end of each call from the session

	// Results.
	Wire     []byte        // all bytes that the kernel has taken
	Writes   []Write       // the writes, if Take is nil
	Took     int           // bytes that the kernel has taken
	TookN    int           // writes that took a byte or more
	Reads    bool          // the session wants input
	Switched []bool        // the arguments of all calls of Reading
	FINSent  bool          // CloseWrite was called
	Closed   bool          // Close was called
	WasReset bool          // Close was called with reset
	Unacked  int           // bytes that the peer had not read at Close
	Ended    bool          // Done was called
	Armed    time.Duration // the deadline; 0 for none
	Stuck    time.Duration // since when writes have taken nothing; 0 if the last one took a byte or more
	Heard    time.Duration // when input was last delivered, or reading resumed
	Inputs   int           // calls of Receive
	Failures []string      // callbacks in which the handler failed

	unread  []byte // input in the kernel
	held    int    // bytes that the kernel holds and the peer has not read
	full    bool   // a write found the kernel's buffer full: a Writable is owed
	room    bool   // the kernel's buffer has room again
	retry   bool   // the last write failed with ErrNoMemory
	fin     bool   // the peer has sent FIN
	finTold bool   // the session knows of the FIN
	broken  error  // the peer's reset, until the session knows of it
	gone    bool   // nothing more can be read
	waiting bool   // in Loop.again
	mailed  bool   // in Loop.mail; guarded by Loop.mu
	wakes   int    // guarded by Loop.mu
}

// Connected runs OnConnected.
func (c *Conn) Connected() {
	c.Heard = c.Loop.Now()
	c.Loop.visit(c.Driver.Connected)
}

// Session returns the connection's session.
func (c *Conn) Session() *session.Session { return c.Driver.Session() }

// Wakes returns how often the session has called Wake.
func (c *Conn) Wakes() int {
	c.Loop.mu.Lock()
	defer c.Loop.mu.Unlock()
	return c.wakes
}

// Full reports whether the last write found the kernel's buffer full.
func (c *Conn) Full() bool { return c.full }

// Retry reports whether the last write failed with ErrNoMemory.
func (c *Conn) Retry() bool { return c.retry }

// Backlog returns how many bytes from the peer the session has not read.
func (c *Conn) Backlog() int { return len(c.unread) }

// Untold reports whether the peer has reset the connection and the session does not know it yet.
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
	if c.broken != nil && (!c.Reads || len(c.unread) == 0) { // a read first returns the bytes that arrived before the reset
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
		c.fin = true // after the error was reported, reads find the end of the stream behind the last byte
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
		for i := range data { // the session must not use data after Receive
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

// PeerRead makes the peer read n bytes, or all there are.
func (c *Conn) PeerRead(n int) {
	c.held -= min(n, c.held)
	c.Room()
}

// Room makes a Writable due if the last write found the kernel's buffer full and it has room now.
func (c *Conn) Room() { c.room = c.full && (c.Kernel == 0 || c.held < c.Kernel) }

// PeerWrite makes the peer send p.
func (c *Conn) PeerWrite(p []byte) { c.unread = append(c.unread, p...) }

// PeerFIN makes the peer send FIN.
func (c *Conn) PeerFIN() { c.fin = true }

// PeerReset makes the peer reset the connection. Writes and CloseWrite fail with err, and so do reads after the bytes that have arrived. As with a
// socket, the first call that fails takes the error: later reads find the end of the stream.
func (c *Conn) PeerReset(err error) {
	c.broken = err
	c.Plan = func(int) (int, error) {
		if c.broken != nil {
			c.broken, c.fin = nil, true
		}
		return 0, err
	}
}
