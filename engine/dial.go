package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/session"
)

// The way of an outbound connection: Dial takes a place among the sessions, package net connects, and from there it is a
// newcomer like one that was accepted: a loop opens it. docs/decisions/0007 weighs the ways.

// ErrFull is what Dial returns when MaxSessions are open.
var ErrFull = errors.New("engine: MaxSessions reached")

// Dial connects to an address and returns the handler of the new session, which f has made and whose OnConnected has
// run. The session lives on a loop under the same contract and limits as one that was accepted, and may have ended
// already. network is tcp, tcp4, tcp6 or unix; a tcp address is host:port, where host may be a name that is looked up
// and no host means this machine; a unix address is a path, or a name in Linux' abstract space if it begins with "@".
//
// ctx bounds the dial, not the session. Whenever Dial returns an error there is no session and there was no callback. The
// error matches ctx's if ctx ended before f was called; ErrClosed if the engine ended; ErrFull if MaxSessions are open;
// session.ErrHandler or session.ErrPanic if f failed; or it wraps package net's, for errors.Is and errors.As:
// syscall.ECONNREFUSED, *net.DNSError, syscall.EMFILE. Dial before Start is an error.
//
// Any goroutine, but not a callback: Dial waits, for the peer and then for the loop. Options hold for this session, and
// with Reconnect for those that follow it.
func (e *Engine) Dial(ctx context.Context, network, address string, f session.Factory, opts ...Option) (session.Handler, error) {
	if ctx == nil {
		return nil, fmt.Errorf("engine: dial %s %s: the context is nil", network, address)
	}
	if f == nil {
		return nil, fmt.Errorf("engine: dial %s %s: the session factory is nil", network, address)
	}
	if err := checkAddress(network, address); err != nil {
		return nil, err
	}
	o, err := newOrigin(network, f, opts)
	if err != nil {
		return nil, fmt.Errorf("engine: dial %s %s: %w", network, address, err)
	}
	if o.from != nil {
		return nil, fmt.Errorf("engine: dial %s %s: From is an option of Listen", network, address)
	}
	if o.entry != nil {
		return nil, fmt.Errorf("engine: dial %s %s: Admit, Guard and ProxyProtocol are options of Listen", network, address)
	}
	var l *link
	if o.policy != nil {
		l = &link{engine: e, origin: &o, address: address}
	}
	return e.attempt(ctx, &o, address, l)
}

// attempt is an attempt to connect, as its caller and the loop share it.
type attempt struct {
	link    *link         // what it is made for, nil without Reconnect
	claimed atomic.Bool   // see claim
	settled chan struct{} // closed when the loop is done with it, after OnConnected

	// The loop's until settled.
	handler session.Handler
	err     error
}

// attempt makes one.
func (e *Engine) attempt(ctx context.Context, o *origin, address string, l *link) (session.Handler, error) {
	a := &attempt{link: l, settled: make(chan struct{})}
	err := e.connect(ctx, o, address, a)
	if err == nil {
		err = a.outcome(ctx, e.life)
	}
	if err == nil {
		return a.handler, nil
	}
	e.dialErrors.Add(1)
	if op := new(net.OpError); errors.As(err, &op) { // says itself what was dialled
		return nil, fmt.Errorf("engine: %w", err)
	}
	return nil, fmt.Errorf("engine: dial %s %s: %w", o.network, address, err)
}

// connect connects and hands the newcomer to a loop. On an error nothing is left of it.
func (e *Engine) connect(ctx context.Context, o *origin, address string, a *attempt) error {
	if err := e.board(); err != nil {
		return err
	}
	defer e.dials.Done()
	if !e.enter() { // before there is a socket: T2 bounds descriptors
		e.refused.full.Add(1)
		return ErrFull
	}
	n := newcomer{origin: o, attempt: a}
	if err := e.reach(ctx, address, &n); err != nil {
		e.leave()
		return err
	}
	// Not bounded by maxOpening: that is for who cannot be asked to wait.
	e.roomiest(math.MaxInt32).welcome(n)
	return nil
}

// board begins what must be over before the loops may go; dials.Done ends it. It must not wait for a callback.
func (e *Engine) board() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch e.state {
	case running:
		e.dials.Add(1)
		return nil
	case fresh:
		return errors.New("Start must come before Dial")
	}
	return ErrClosed
}

// reach makes the connection and its addresses. Package net knows how: it looks names up, tries their addresses in turn
// and can be interrupted. Its own descriptor, which the Go runtime watches, is closed then.
func (e *Engine) reach(ctx context.Context, address string, n *newcomer) error {
	within, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.life, cancel)()
	dialer := net.Dialer{
		KeepAlive: -1, // ours is among control's options
		Control:   e.options.control,
	}
	dialer.SetMultipathTCP(false) // its sockets take none of our options
	c, err := dialer.DialContext(within, n.origin.network, address)
	if err != nil {
		return e.why(ctx, err)
	}
	defer c.Close()
	if n.local, n.remote = c.LocalAddr(), c.RemoteAddr(); n.local == nil || n.remote == nil {
		return fmt.Errorf("the connection has broken already: %w", unix.ENOTCONN)
	}
	n.fd, err = duplicate(c.(syscall.Conn))
	if err != nil {
		return e.why(ctx, err)
	}
	return nil
}

// why adds to an error what it does not tell by itself.
func (e *Engine) why(ctx context.Context, err error) error {
	// Package net keeps ctx's deadline by a timer of its own, which may be the first.
	deadline, bounded := ctx.Deadline()
	switch {
	case e.stopping():
		return fmt.Errorf("%w: %w", err, ErrClosed)
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", err, ctx.Err())
	case bounded && !time.Now().Before(deadline):
		return fmt.Errorf("%w: %w", err, context.DeadlineExceeded)
	case outOfDescriptors(err):
		return fmt.Errorf("%w (the limit of descriptors is reached; raise it with ulimit -n)", err)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("%w (every local port towards that address is in use, or no interface can reach it)", err)
	}
	return err
}

// claim decides between the loop, about to open the newcomer, and the dialler, who gives it up: the first one has it.
func (a *attempt) claim() bool { return !a.claimed.Swap(true) }

// outcome waits for the loop, if need be for a callback, but not for the factory to be called.
func (a *attempt) outcome(ctx, life context.Context) error {
	var why error
	select {
	case <-a.settled:
		return a.err
	case <-life.Done():
		why = ErrClosed
	case <-ctx.Done():
		why = ctx.Err()
	}
	if a.claim() {
		return why // and the loop closes it when it comes to it
	}
	<-a.settled
	return a.err
}

// succeed notes that there is a session. OnConnected follows.
func (a *attempt) succeed(c *conn, h session.Handler) {
	a.handler = h
	if a.link != nil {
		a.link.since = c.Now()
		c.on().links[c] = a.link
	}
}

// fail notes why there is none. Without an attempt, for an accepted newcomer, it does nothing.
func (a *attempt) fail(err error) {
	if a != nil {
		a.err = err
	}
}

// settle tells the dialler, if there is one.
func (a *attempt) settle() {
	if a != nil {
		close(a.settled)
	}
}
