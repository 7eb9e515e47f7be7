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

	"github.com/servercore-go/servercore/internal/reactor"
	"github.com/servercore-go/servercore/session"
)

// The way of an outbound connection: Dial takes a place among the sessions, package net connects, and from there it is a
// pending connection like one that was accepted: a loop opens it. docs/decisions/0007 weighs the ways.

// ErrFull is what Dial returns when MaxSessions are open.
var ErrFull = errors.New("engine: MaxSessions reached")

// Dial connects to an address and returns the handler of the new session, which f has made and whose OnConnected has
// run. The session lives on a loop under the same contract and limits as one that was accepted, and may have ended
// already. network is tcp, tcp4, tcp6 or unix; a tcp address is host:port, where host may be a name that is looked up
// and no host means this machine; a unix address is a path, or a name in Linux' abstract space if it begins with "@".
//
// ctx bounds the dial, not the session: when ctx or the engine ends, Dial returns, whatever callbacks, workers and loops do. The
// error matches ctx's if ctx ended; ErrClosed if the engine ended; ErrFull if MaxSessions are open;
// session.ErrHandler or session.ErrPanic if f failed; session.ErrHandshake if that of a layer failed; or it wraps package net's, for errors.Is and errors.As:
// syscall.ECONNREFUSED, *net.DNSError, syscall.EMFILE. Dial before Start is an error.
//
// When Dial returns an error there is no session and no callback runs, with one exception: ctx or the engine ended when f had been
// called, and OnConnected had not returned. That session gets OnConnected and OnDisconnected as every other one; at
// ctx's end it is aborted, and its Err matches session.ErrAborted, at the engine's it is ended with the others. With Reconnect
// none follows it.
//
// Any goroutine, but not a callback: Dial waits for the peer and then for OnConnected, which may need the loop or the worker
// that the callback holds. In a callback it returns an error that matches ErrInCallback at once. Options hold for this
// session, and with Reconnect for those that follow it.
func (e *Engine) Dial(ctx context.Context, network, address string, f session.Factory, opts ...Option) (session.Handler, error) {
	if ctx == nil {
		return nil, fmt.Errorf("engine: dial %s %s: the context is nil", network, address)
	}
	if err := e.inCallback("Dial", "what it waits for may need this callback to return: use another goroutine", true); err != nil {
		return nil, err
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
	a := &attempt{}
	if err := o.checkLayers(true, network, address); err != nil {
		return nil, fmt.Errorf("engine: dial %s %s: %w", network, address, err)
	}
	o.address = address
	if o.policy != nil {
		a.link = &link{engine: e, origin: &o, address: address}
	}
	return e.attempt(ctx, &o, address, a)
}

// attempt is an attempt to connect, as its caller and the loop share it.
type attempt struct {
	link     *link         // what it is made for, nil without Reconnect
	follows  bool          // it is not Dial's: nobody waits for OnConnected
	claimed  atomic.Bool   // see claim
	fate     atomic.Uint32 // made or abandoned, whichever came first, once it was claimed
	driver   atomic.Pointer[session.Driver]
	wake     atomic.Pointer[func()] // has the loop look, if there is a handshake
	resolved chan struct{}          // closed when there is an outcome: with a session, after OnConnected

	// The loop's until resolved, or the worker's.
	told    bool // resolved is closed
	handler session.Handler
	err     error
}

// Fates of an attempt.
const (
	made      uint32 = 1 + iota // there is a session
	abandoned                   // the dialler has gone
)

// attempt makes one.
func (e *Engine) attempt(ctx context.Context, o *origin, address string, a *attempt) (session.Handler, error) {
	a.resolved = make(chan struct{})
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

// connect connects and hands the connection to a loop. On an error nothing is left of it.
func (e *Engine) connect(ctx context.Context, o *origin, address string, a *attempt) error {
	if err := e.beginDial("Dial"); err != nil {
		return err
	}
	defer e.dials.Done()
	if !e.takePlace() { // before there is a socket: T2 bounds descriptors
		e.countRefused(o, refusedFull, nil, ErrFull)
		return ErrFull
	}
	p := pendingConn{origin: o, attempt: a}
	if err := e.connectSocket(ctx, address, &p); err != nil {
		e.freePlace()
		return err
	}
	// Not bounded by maxOpening: that is for peers that cannot be asked to wait.
	e.leastLoaded(math.MaxInt32).enqueue(p)
	return nil
}

// beginDial begins what must be over before the loops may go; dials.Done ends it. It must not wait for a callback.
func (e *Engine) beginDial(method string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch e.state.get() {
	case StateRunning:
		e.dials.Add(1)
		return nil
	case StateNew:
		return errors.New("Start must come before " + method)
	}
	return ErrClosed
}

// connectSocket makes the connection and its addresses. Package net knows how: it looks names up, tries their addresses in turn
// and can be interrupted. Its own descriptor, which the Go runtime watches, is closed then.
func (e *Engine) connectSocket(ctx context.Context, address string, p *pendingConn) error {
	within, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.life, cancel)()
	dialer := net.Dialer{
		KeepAlive: -1, // ours is among the options of prepareSocket
		Control:   e.prepareSocket,
	}
	dialer.SetMultipathTCP(false) // its sockets take none of our options
	c, err := dialer.DialContext(within, p.origin.network, address)
	if err != nil {
		return e.explainDial(ctx, err)
	}
	defer c.Close()
	if p.local, p.remote = c.LocalAddr(), c.RemoteAddr(); p.local == nil || p.remote == nil {
		return fmt.Errorf("the connection has broken already: %w", unix.ENOTCONN)
	}
	p.fd, err = reactor.Duplicate(c.(syscall.Conn))
	if err != nil {
		return e.explainDial(ctx, err)
	}
	return nil
}

// explainDial adds to an error what it does not tell by itself.
func (e *Engine) explainDial(ctx context.Context, err error) error {
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

// claim decides between the loop, about to open the connection, and the dialler, which gives it up: the first one has it.
func (a *attempt) claim() bool { return !a.claimed.Swap(true) }

// outcome waits for the loop, and for OnConnected, but no longer than for ctx and for the engine.
func (a *attempt) outcome(ctx, life context.Context) error {
	var why error
	select {
	case <-a.resolved:
		return a.err
	case <-life.Done():
		why = ErrClosed
	case <-ctx.Done():
		why = ctx.Err()
	}
	switch {
	case a.claim(): // the loop closes it when it comes to it
		if wake := a.wake.Load(); wake != nil {
			(*wake)()
		}
		return why
	case a.abandon(ctx.Err() != nil):
		return why
	}
	<-a.resolved // no callback is in between
	return a.err
}

// errAbandoned is the reason of a session whose Dial has returned.
var errAbandoned = fmt.Errorf("%w: the context of its Dial ended before OnConnected had returned", session.ErrAborted)

// abandon is for a dialler that goes before there is an outcome, and returns false if it has to stay for it. kill says
// whether to end the session, if there is one: when the engine ends, it ends that one too.
func (a *attempt) abandon(kill bool) bool {
	if a.fate.CompareAndSwap(0, abandoned) {
		return true // the loop will see it
	}
	select {
	case <-a.resolved:
		return false
	default:
	}
	if a.follows { // the session has the link
		return false
	}
	if kill {
		a.driver.Load().Kill(errAbandoned)
	}
	return true
}

// succeed notes that there is a session. OnConnected follows.
func (a *attempt) succeed(l *loop, c *conn, h session.Handler) {
	a.handler = h
	a.driver.Store(c.Context)
	if !a.fate.CompareAndSwap(0, made) {
		if !l.engine.stopping() { // else OnOpen ends it
			c.Context.Kill(errAbandoned)
		}
		return
	}
	if a.link != nil {
		a.link.since = l.Now()
		l.links[c] = a.link
	}
	if a.follows {
		a.resolve()
	}
}

// fail notes why there is none. Without an attempt, for an accepted connection, it does nothing.
func (a *attempt) fail(err error) {
	if a != nil {
		a.err = err
	}
}

// resolve tells the dialler that there is an outcome, if there is a dialler.
func (a *attempt) resolve() {
	if a != nil && !a.told {
		a.told = true
		close(a.resolved)
	}
}
