package engine

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/servercore-go/servercore/session"
)

// httpConn is a connection as package net/http wants it, a net.Conn whose methods wait, over a session. The callbacks run on the loop and
// do not wait, the other methods on the goroutines of net/http and of the application.
type httpConn struct {
	session.Session
	server   *httpServer
	hijacked atomic.Bool
	unit     int // bytes of one Send, at most
	most     int // Pending at which Write waits

	mu      sync.Mutex
	in      []byte        // received and not read
	paused  bool          // PauseRecv was called
	readErr error         // what Read returns behind in; nil while more may come
	ended   error         // what Write returns
	changed chan struct{} // closed at the next change, nil if nobody waits
	read    deadline
	write   deadline
}

var _ net.Conn = (*httpConn)(nil)

const (
	httpUnread = 64 << 10  // bytes that are received and not read, above which the session is paused
	httpUnsent = 256 << 10 // bytes that wait to be sent, above which Write waits
	httpUnit   = 64 << 10
)

// newHTTPConn makes one for an engine whose sessions have that SendLimit. Write never comes near it: Options.SlowPeer may end a session
// there.
func newHTTPConn(s *httpServer, sendLimit int) *httpConn {
	c := &httpConn{server: s, unit: httpUnit, most: httpUnsent}
	if sendLimit > 0 {
		c.unit, c.most = max(min(c.unit, sendLimit/4), 1), min(c.most, sendLimit/2)
	}
	return c
}

// OnConnected implements session.Handler.
func (c *httpConn) OnConnected(net.Addr) { c.server.push(c) }

// OnRecv implements session.Handler.
func (c *httpConn) OnRecv(data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in = append(c.in, data...)
	if len(c.in) > httpUnread && !c.paused {
		c.paused = true
		c.PauseRecv()
	}
	c.change()
}

// OnSend implements session.Handler.
func (c *httpConn) OnSend(int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.change()
}

// OnHalfClose implements session.HalfCloser: who has asked may finish and still gets the answer.
func (c *httpConn) OnHalfClose() { c.end(io.EOF, nil) }

// OnDisconnected implements session.Handler.
func (c *httpConn) OnDisconnected(net.Addr) {
	err := c.Err()
	if errors.Is(err, session.ErrPeerClosed) {
		c.end(io.EOF, err)
		return
	}
	c.end(err, err)
}

// end has Read, and Write, return these errors, unless they return others.
func (c *httpConn) end(read, write error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.readErr == nil {
		c.readErr = read
	}
	if c.ended == nil {
		c.ended = write
	}
	c.change()
}

// change wakes those that wait. The caller holds mu.
func (c *httpConn) change() {
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// await returns what is closed at the next change. The caller holds mu.
func (c *httpConn) await() <-chan struct{} {
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	return c.changed
}

// Read implements net.Conn.
func (c *httpConn) Read(p []byte) (int, error) {
	for {
		c.mu.Lock()
		switch {
		case c.read.passed:
			c.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case len(c.in) > 0 || len(p) == 0:
			n := copy(p, c.in)
			if c.in = c.in[n:]; len(c.in) == 0 {
				c.in = nil
			}
			resume := c.paused && len(c.in) < httpUnread/2
			c.paused = c.paused && !resume
			c.mu.Unlock()
			if resume {
				c.ResumeRecv()
			}
			return n, nil
		case c.readErr != nil:
			defer c.mu.Unlock()
			return 0, c.readErr
		}
		changed := c.await()
		c.mu.Unlock()
		<-changed
	}
}

// budgetRetry is how long Write waits when Options.SendBudget has no room: nothing tells when there is some.
const budgetRetry = 20 * time.Millisecond

// Write implements net.Conn. It returns when all of p is queued.
func (c *httpConn) Write(p []byte) (n int, err error) {
	for n < len(p) {
		c.mu.Lock()
		changed := c.await() // before Pending is asked: what changes then is told
		passed, ended := c.write.passed, c.ended
		c.mu.Unlock()
		switch {
		case passed:
			return n, os.ErrDeadlineExceeded
		case ended != nil:
			return n, ended
		case c.Pending() > c.most:
			<-changed
			continue
		}
		piece := p[n:min(len(p), n+c.unit)]
		switch err := c.Send(piece); {
		case err == nil:
			n += len(piece)
		case !errors.Is(err, session.ErrSendLimit):
			return n, err
		default:
			select {
			case <-changed:
			case <-time.After(budgetRetry):
			}
		}
	}
	return n, nil
}

// Close implements net.Conn. What Write has queued is delivered.
func (c *httpConn) Close() error {
	c.end(net.ErrClosed, net.ErrClosed)
	c.Disconnect()
	return nil
}

// SetDeadline implements net.Conn.
func (c *httpConn) SetDeadline(t time.Time) error {
	c.setDeadline(&c.read, t)
	c.setDeadline(&c.write, t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (c *httpConn) SetReadDeadline(t time.Time) error { c.setDeadline(&c.read, t); return nil }

// SetWriteDeadline implements net.Conn.
func (c *httpConn) SetWriteDeadline(t time.Time) error { c.setDeadline(&c.write, t); return nil }

// deadline is one of Read or of Write.
type deadline struct {
	timer  *time.Timer // nil for none
	passed bool
}

func (c *httpConn) setDeadline(d *deadline, t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
	d.timer, d.passed = nil, false
	if t.IsZero() {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		d.passed = true
		c.change()
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if d.timer == timer { // not replaced meanwhile
			d.passed = true
			c.change()
		}
	})
	d.timer = timer
}

// hijack notes that the application has taken the connection over from net/http: from then on the engine's end ends it.
func (c *httpConn) hijack(e *Engine) {
	c.hijacked.Store(true)
	if e.stopping() { // else the goroutine that ends the engine sees it
		c.DisconnectWith(session.ErrShutdown)
	}
}
