package engine

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/internal/poll"
	"github.com/servercore-go/servercore/session"
)

// Accepting is ours, not gnet's: an accept error ends gnet's engine, and gnet admits before it asks. One goroutine
// per listener accepts, refuses what is over the limit before anything is built for it, and hands the rest to the
// loop with the fewest sessions, which serves it by its own poller. docs/decisions/0002 weighs the ways.

// newcomer is a connection on its way from accept to its loop.
type newcomer struct {
	listener      *Listener
	fd            int
	local, remote net.Addr
}

// accept is a listener's goroutine.
func (l *Listener) accept() {
	defer l.engine.acceptors.Done()
	var pause time.Duration
	for {
		n, err := l.next()
		if err == nil {
			pause = 0
			l.engine.admit(n)
			continue
		}
		if l.engine.stopping() {
			return
		}
		pause = l.engine.acceptFailed(l, err, pause)
		select {
		case <-time.After(pause):
		case <-l.engine.stop:
			return
		}
	}
}

const (
	// net/http waits 5 ms, doubling to 1 s; here a newcomer finds the door open a tenth of a second after the trouble.
	minAcceptPause = 5 * time.Millisecond
	maxAcceptPause = 100 * time.Millisecond
)

// acceptFailed deals with an error of accept and returns how long to wait before the next try. Out of
// descriptors, the newcomer is taken on the spare one and, unless the shortage has passed, shed, so that it learns
// at once and the listener's queue does not fill with the waiting.
func (e *Engine) acceptFailed(l *Listener, err error, pause time.Duration) time.Duration {
	e.acceptErrors.Add(1)
	e.log.limited(acceptLine, "accept failed; established sessions go on", "err", err, "listener", l.addr.String())
	if outOfDescriptors(err) {
		switch n, waiting := e.spare.accept(l); {
		case n.listener != nil:
			e.admit(n)
			return 0
		case waiting:
			e.refused.descriptors.Add(1)
			return 0
		}
	}
	return min(max(2*pause, minAcceptPause), maxAcceptPause)
}

// admit decides about a newcomer and hands it to a loop.
func (e *Engine) admit(n newcomer) {
	if e.stopping() {
		e.refuse(n.fd, &e.refused.closing)
		return
	}
	if !e.enter() {
		e.log.limited(fullLine, "refusing connections: MaxSessions reached", "max", e.maxSessions)
		e.refuse(n.fd, &e.refused.full)
		return
	}
	lp := e.emptiest()
	if lp == nil {
		e.leave()
		e.refuse(n.fd, &e.refused.closing)
		return
	}
	lp.welcome(n)
}

func (e *Engine) refuse(fd int, cause *atomic.Uint64) {
	cause.Add(1)
	_ = unix.Close(fd)
}

// maxOpening bounds the newcomers that wait for one loop: a loop held up by a callback soon has its share of them,
// and the others go on.
const maxOpening = 64

// emptiest waits for a loop that can take another newcomer and returns the one with the fewest sessions, nil if
// the engine is stopping.
func (e *Engine) emptiest() *loop {
	for {
		var best *loop
		var least int32
		for _, lp := range e.loops {
			opening := lp.opening.Load()
			if n := opening + lp.live.Load(); opening < maxOpening && (best == nil || n < least) {
				best, least = lp, n
			}
		}
		if best != nil {
			best.opening.Add(1)
			return best
		}
		select {
		case <-e.landing:
		case <-e.stop:
			return nil
		}
	}
}

// open calls the factory and, if all is well, OnConnected. c.driver stays nil if the newcomer is refused.
func (c *conn) open(n newcomer) {
	e := c.loop.engine
	if e.stopping() {
		e.refused.closing.Add(1)
		return
	}
	h, err := e.callFactory(n.listener)
	if err != nil {
		c.refused(n, &e.refused.factory, err)
		return
	}
	inheritOptions(int(c.fd), &e.options)
	d, err := session.Bind(h, c, c.loop.shared, n.local, n.remote)
	if err != nil {
		c.refused(n, &e.refused.factory, err)
		return
	}
	c.driver = d
	if err := c.watch(poll.Read); err != nil {
		d.Refuse()
		c.driver = nil
		c.refused(n, &e.refused.failed, err)
		return
	}
	e.accepted.Add(1)
	c.loop.live.Add(1)
	c.loop.enlist(c)
	if e.stopping() {
		e.endLate(c.driver)
	}
	c.driver.Connected()
}

func (c *conn) refused(n newcomer, cause *atomic.Uint64, err error) {
	cause.Add(1)
	c.loop.engine.log.limited(factoryLine, "connection refused: its session cannot be made", "err", err, "remote", n.remote)
}

// spare is a descriptor kept for the moment there are no others.
type spare struct {
	mu   sync.Mutex
	file *os.File
}

func (s *spare) open() (err error) {
	s.file, err = os.Open(os.DevNull)
	return err
}

func (s *spare) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != nil {
		_ = s.file.Close()
		s.file = nil
	}
}

// borrow gives the spare descriptor up while f runs, for f to use, and tells whether there is a spare again.
func (s *spare) borrow(f func()) (replaced bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != nil {
		_ = s.file.Close()
		s.file = nil
	}
	f()
	return s.open() == nil
}

// refill gets a spare descriptor if there is none.
func (s *spare) refill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		_ = s.open()
	}
}

// accept takes one waiting connection on the spare descriptor. If the spare can be replaced there are
// descriptors after all, and the connection is returned; otherwise it is reset and counted as waiting.
func (s *spare) accept(l *Listener) (n newcomer, waiting bool) {
	var err error
	replaced := s.borrow(func() { n, err = l.try() })
	if err != nil {
		return newcomer{}, false
	}
	if replaced {
		return n, true
	}
	_ = unix.SetsockoptLinger(n.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	_ = unix.Close(n.fd)
	s.refill() // with what the newcomer held
	return newcomer{}, true
}

func outOfDescriptors(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)
}
