package reactor

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/internal/wheel"
)

// Errors of Write that are not the end of the connection.
var (
	// ErrWouldBlock: the kernel's buffer is full. OnWritable follows when the kernel takes bytes again.
	ErrWouldBlock = errors.New("reactor: the kernel's buffer is full")

	// ErrNoMemory: the kernel has no memory for now. No event tells when it has: try again in a moment.
	ErrNoMemory = errors.New("reactor: the kernel has no memory for the write")
)

// Conn is one connection, in 48 bytes with a pointer as Context. It belongs to its loop, or, if it is offloaded, to the worker that serves
// it (see strand): all methods are for the goroutine that serves it, but for those that say otherwise.
//
// What the last look at the socket found is kept in flags, because events tell of changes only (R1):
//
//	readable   set by an event, and when reading is switched; cleared when there was nothing more to read
//	shortRead  what a read that brings less than it might have says
//	sendSpace  what is known of the kernel's buffer
//
// Connections that bring much, or wait to write, are served for BulkTime when events tell of them, and in turns from then on, so that those that
// have little are served in between (R4).
type Conn[C any] struct {
	Context C // the owner's, set before Open

	executor *executor[C]
	next     *Conn[C] // in the mailbox
	fd       int32
	index    int32          // in Loop.conns, under Loop.connsMu; notOpen before Open and after Release
	place    wheel.Position // in the loop's wheel

	closed    bool // Close was called
	paused    bool // Reading(false)
	readable  bool // input may wait
	finished  bool // nothing more to read
	bulky     bool // the last read brought much
	waiting   bool // in Loop.again
	shortRead shortRead
	sendSpace sendSpace
}

const notOpen = -1

// shortRead is what a read says that brings less than it might have.
type shortRead uint8

const (
	emptied shortRead = iota // it has emptied the socket
	unsure                   // it need not have
	atEnd                    // it need not have, and an event told of the end, or of a fault
)

// sendSpace is what is known of the kernel's buffer for what is sent.
type sendSpace uint8

const (
	untried   sendSpace = iota // not full, as far as anybody knows
	exhausted                  // the kernel took nothing more
	reported                   // likewise, and an event has come since
)

// NewConn returns a connection on a socket in non-blocking mode, which the loop owns from then on. No event is told of it before
// Register or Open.
func (l *Loop[C]) NewConn(fd int) *Conn[C] {
	return &Conn[C]{fd: int32(fd), index: notOpen, executor: &l.executor}
}

// Open opens a connection that was registered: OnOpen is called, then after, if it is not nil, also when OnOpen has ended its goroutine.
// What the peer has sent already follows: an event tells of it, that of Register or one that came before Open and was noted. So a
// connection whose peer has sent nothing yet, as most have when they are accepted, is not read in vain.
func (l *Loop[C]) Open(c *Conn[C], after func()) {
	l.enlist(c)
	if s := c.executor.strand; s != nil {
		s.after = after
		s.signal(dueOpen)
		return
	}
	c.open(after)
	c.pump()
}

func (c *Conn[C]) open(after func()) {
	if after != nil {
		defer after()
	}
	c.executor.loop.handler.OnOpen(c)
}

// Loop returns where the connection lives, whether the loop or a worker serves it. Any goroutine.
func (c *Conn[C]) Loop() *Loop[C] { return c.executor.loop }

// Fd returns the descriptor, which belongs to the connection, and to another one after Close. Any goroutine.
func (c *Conn[C]) Fd() int { return int(c.fd) }

// Offloaded reports whether workers serve the connection. Any goroutine.
func (c *Conn[C]) Offloaded() bool { return c.executor.strand != nil }

// Scratch returns the owner's memory of the goroutine that serves the connection: Config.Scratch, or the worker's.
func (c *Conn[C]) Scratch() any { return c.executor.scratch.owner }

// WheelPosition implements wheel.Item.
func (c *Conn[C]) WheelPosition() *wheel.Position { return &c.place }

// Again has OnResume called later, after other connections that wait, on the goroutine that serves the connection. A second call before OnResume
// begins does nothing.
func (c *Conn[C]) Again() {
	if s := c.executor.strand; s != nil {
		s.signal(dueResume)
		return
	}
	c.executor.loop.later(c)
}

// Arm has OnDeadline called at that time, on the clock of Loop.Now, or earlier, on the goroutine that serves the connection. An earlier call still
// counts. There is nothing to disarm: the owner ignores an OnDeadline that comes too early.
func (c *Conn[C]) Arm(at time.Duration) {
	if s := c.executor.strand; s != nil {
		s.arm(at)
		return
	}
	c.executor.loop.arm(c, at)
}

// Disarm takes a deadline back from a connection that is not offloaded, for example one that was not open when it was armed.
func (l *Loop[C]) Disarm(c *Conn[C]) { l.wheel.Disarm(c) }

// Write offers the kernel the buffers in order, in one write or writev, and returns how many bytes it took. The buffers are not
// kept, nor written to. Errors besides [ErrWouldBlock] and [ErrNoMemory] mean that the connection is broken.
//
// An EAGAIN has the kernel report when it takes bytes again, so no report is lost between the two. The kernel reports when what the
// socket holds is acknowledged. A socket that holds nothing met a want of memory: nothing will be reported.
func (c *Conn[C]) Write(bufs [][]byte) (int, error) {
	s := c.executor.scratch
	for {
		n, err := s.gather.write(int(c.fd), bufs)
		switch err {
		case nil:
			s.written += n
			return n, nil
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			c.sendSpace = exhausted
			if starved(int(c.fd)) {
				return 0, ErrNoMemory
			}
			return 0, ErrWouldBlock
		case unix.ENOBUFS, unix.ENOMEM:
			return 0, ErrNoMemory
		default:
			return 0, err
		}
	}
}

// CloseWrite sends FIN. An error means that the connection is broken, and is what has broken it.
func (c *Conn[C]) CloseWrite() error { return closeWrite(int(c.fd)) }

// Unread reports whether received bytes, a FIN or a reset wait in the kernel. It asks by poll(2), which leaves a reset to be found by
// the next read: MSG_PEEK would take the error away, and what follows would look like a FIN. Any goroutine, before Close.
func (c *Conn[C]) Unread() bool {
	p := [1]unix.PollFd{{Fd: c.fd, Events: unix.POLLIN}}
	n, err := unix.Poll(p[:], 0)
	return err == nil && n > 0 && p[0].Revents&unix.POLLIN != 0
}

// Received returns how many received bytes wait in the kernel.
func (c *Conn[C]) Received() int { return received(int(c.fd)) }

// Unsent returns the bytes that the kernel took and the peer has not acknowledged, our FIN being one of them, 0 where that is not known.
func (c *Conn[C]) Unsent() int { return unsent(int(c.fd)) }

// Close closes the descriptor; reset discards what the kernel still holds and tells the peer so. Afterwards only OnResume,
// OnWake and OnRelease are called. Also for a connection that was never opened.
func (c *Conn[C]) Close(reset bool) {
	c.closed = true
	switch s := c.executor.strand; {
	case s == nil:
		c.giveUp(reset)
	case reset:
		s.end(closing | byReset)
	default:
		s.end(closing)
	}
}

// giveUp closes the descriptor. Loop only.
func (c *Conn[C]) giveUp(reset bool) {
	l := c.executor.loop
	l.wheel.Disarm(c)
	l.forget(c)
	closeSocket(int(c.fd), reset)
}

// Release has the loop forget a connection that was closed. OnRelease follows: at once on the loop, later for a connection that
// is offloaded.
func (c *Conn[C]) Release() {
	if s := c.executor.strand; s != nil {
		s.end(releasing)
		return
	}
	c.release()
}

// release takes the connection off the loop's list. Loop only.
func (c *Conn[C]) release() {
	l := c.executor.loop
	l.delist(c)
	l.handler.OnRelease(c)
}

// wake serves an entry in the loop's mailbox.
func (c *Conn[C]) wake() {
	if s := c.executor.strand; s != nil {
		s.serveRequests()
		return
	}
	c.executor.loop.handler.OnWake(c)
	c.pump()
}

// resume serves Again, and looks at everything. A connection that is not open yet, or not any more, is its owner's to look at.
func (c *Conn[C]) resume() {
	if s := c.executor.strand; s != nil { // it was to be looked at before Open, which has offloaded it
		s.signal(dueResume)
		return
	}
	open := c.index != notOpen
	c.executor.loop.handler.OnResume(c)
	if open {
		c.look()
	}
}

// expire serves a deadline.
func (c *Conn[C]) expire(now time.Duration) {
	if s := c.executor.strand; s != nil {
		s.signal(dueDeadline)
		return
	}
	open := c.index != notOpen
	c.executor.loop.handler.OnDeadline(c, now)
	if open {
		c.pump()
	}
}
