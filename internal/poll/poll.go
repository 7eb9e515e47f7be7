//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

// Package poll tells the engine when one of its own descriptors takes bytes
// again, and, for the few that ask, when there is something to read.
//
// A session whose socket refused bytes is added here once and stays until it
// is closed. From then on the kernel announces changes, not states: an event
// means "something became true since you last looked".
//
// Guaranteed:
//   - What is already true when Add or Modify returns is announced.
//   - What becomes true after a read or write returned EAGAIN is announced.
//   - An event carries the key of the registration that caused it, in full on
//     64-bit systems.
//
// Not guaranteed:
//   - That an event is still true when it is seen. Read or write until EAGAIN.
//   - That a condition is announced a second time while it lasts. A caller
//     that stops before EAGAIN has to remember to come back by itself.
//   - That one descriptor takes up one event only: kqueue announces reading
//     and writing apart.
//   - That events already fetched are withdrawn by Remove. A fetched event may
//     be seen after its descriptor was removed, closed and its number given to
//     somebody else; its key is the only thing that tells. Never use a key
//     twice.
//
// With epoll, a waiting goroutine is parked by the Go runtime as if it read
// from a socket, and costs no thread. The runtime looks after it as it does
// after its sockets, which means only every ten milliseconds while goroutines
// keep all processors busy. With kqueue Wait costs a thread: the runtime
// insists on a write filter for every descriptor it looks after, and a kqueue
// refuses to have one.
package poll

import (
	"errors"
	"fmt"
	"net"
	"sync"
)

// Interest is what a registered descriptor wants to hear about. Errors and
// resets are announced whatever the interest is.
type Interest uint8

const (
	// Read asks when there are bytes to read and when the peer closed its
	// writing side.
	Read Interest = 1 << iota
	// Write asks when the descriptor takes bytes again.
	Write
	// ReadWrite asks for both.
	ReadWrite = Read | Write
)

// Event is one announcement. Several of its fields may be set.
type Event struct {
	// Key is the number given to Add or Modify. On 32-bit systems with
	// kqueue only its lower half survives.
	Key uint64

	Readable bool
	Writable bool

	// Hangup: the peer closed its writing side (with Read only), or the
	// connection is closed in both directions or broken. There may still be
	// bytes to read. The next read or write tells which it was.
	Hangup bool
}

var errClosed = fmt.Errorf("poll: %w", net.ErrClosed)

var errInterest = errors.New("poll: interest is none of Read, Write and ReadWrite")

// A Poller watches descriptors that belong to somebody else: it never reads,
// writes or closes them.
//
// Wait belongs to one goroutine. All other methods may be called from any
// goroutine at any time, also while Wait waits. Errors that come from the
// kernel wrap its number (errors.Is(err, unix.EEXIST)); after Close every
// method but Close returns an error matching net.ErrClosed.
type Poller struct {
	// Held for reading while the registrations are changed, so that Close
	// cannot give the queue's descriptor number to somebody else meanwhile.
	mu     sync.RWMutex
	closed bool // under mu

	queue queue // epoll or kqueue
}

// New opens a Poller. It holds one descriptor with epoll and three with
// kqueue, until Close.
func New() (*Poller, error) {
	p := new(Poller)
	if err := p.queue.open(); err != nil {
		return nil, err
	}
	return p, nil
}

// Add registers a descriptor, which must be in non-blocking mode to be of any
// use. What is already true is announced at once. The descriptor must not be
// registered yet; epoll answers EEXIST if it is, kqueue replaces the
// registration.
func (p *Poller) Add(fd int, key uint64, in Interest) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if err := p.checkLocked(in); err != nil {
		return err
	}
	return p.queue.add(fd, key, in)
}

// Modify gives a registered descriptor another key and another interest, and
// announces again what is already true.
func (p *Poller) Modify(fd int, key uint64, in Interest) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if err := p.checkLocked(in); err != nil {
		return err
	}
	return p.queue.modify(fd, key, in)
}

// Remove ends a registration. Call it before the descriptor is closed: a
// duplicate of it elsewhere would keep the registration alive, and nobody
// could remove it any more. The error is ENOENT if there is no registration.
func (p *Poller) Remove(fd int) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return errClosed
	}
	return p.queue.remove(fd)
}

func (p *Poller) checkLocked(in Interest) error {
	switch {
	case p.closed:
		return errClosed
	case in == 0 || in > ReadWrite:
		return errInterest
	}
	return nil
}

// Wait blocks until there are announcements, writes them to the front of
// events and returns how many there are. Events that find no room stay for
// the next call; an empty slice is answered with EINVAL. The slice is not
// kept. Wait allocates only when it is given a longer slice than ever before.
//
// Interrupted system calls are repeated inside. Any error returned is final:
// net.ErrClosed after Close, or a kernel error that would come back.
func (p *Poller) Wait(events []Event) (int, error) {
	if p.isClosed() {
		return 0, errClosed
	}
	n, err := p.queue.wait(events)
	if err != nil && p.isClosed() {
		return 0, errClosed
	}
	return n, err
}

func (p *Poller) isClosed() bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.closed
}

// Close ends all registrations, wakes Wait and, once Wait has left, frees the
// Poller's descriptors. They are free when Close returns. The registered
// descriptors are not touched. Further calls do nothing and return nil, also
// while the first one is still waiting.
func (p *Poller) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.mu.Unlock()
	return p.queue.close()
}
