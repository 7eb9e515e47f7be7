package ongnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/internal/asynclog"
	"github.com/servercore-go/servercore/internal/reactor"
	"github.com/servercore-go/servercore/session"
)

// Options are the engine's, with the same defaults. Loops, KeepAlive, KeepAliveInterval, KeepAliveCount and UserTimeout are gnet's to set and
// have no effect here, nor have StallWarning and HandshakeTimeout. MaxSessions is off by default.
type Options = engine.Options

// ErrNotHeld is the reason of a session that was not to be read (PauseRecv, PauseAbove) and whose peer has sent more than SendLimit bytes
// meanwhile: gnet reads on, and the session keeps what it reads. It ends with a reset.
var ErrNotHeld = errors.New("ongnet: the peer sends on, and gnet cannot stop reading")

var (
	errKilled = fmt.Errorf("%w: %w", session.ErrShutdown, session.ErrAborted)
	errGoexit = fmt.Errorf("%w: runtime.Goexit in a callback has ended gnet's event loop", errKilled)
)

// Adapter is what Handler returns: a gnet.EventHandler for one run of gnet.
type Adapter struct {
	gnet.BuiltinEventEngine
	factory session.Factory
	options Options
	limits  session.Limits
	log     *asynclog.Logger
	clock   reactor.Clock
	watcher reactor.Watcher[*conn]
	ending  sync.Mutex    // one Shutdown at a time
	left    chan struct{} // a session has ended
	halting chan struct{} // closed when OnShutdown begins

	mu       sync.Mutex
	engine   gnet.Engine
	loops    []*loop // each comes with its first connection: gnet does not tell of them before
	conns    map[*conn]bool
	stopping bool // no more sessions

	sessions, accepted, full, failed, closing atomic.Int64
}

// Handler returns a handler for gnet.Run that makes a session with f for each connection. It is an *Adapter. Handler panics if f is nil or an
// option cannot work, and names it.
func Handler(f session.Factory, o Options) gnet.EventHandler {
	limits, err := o.Limits()
	if f == nil {
		err = errors.New("the session factory is nil")
	}
	if err != nil {
		panic(fmt.Errorf("ongnet: %w", err))
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &Adapter{factory: f, options: o, limits: limits, log: asynclog.New(o.Logger.Handler()), clock: reactor.NewClock(),
		watcher: reactor.Watcher[*conn]{Tell: func(c *conn) { c.ask(dueRoom) }}, conns: make(map[*conn]bool),
		left: make(chan struct{}, 1), halting: make(chan struct{})}
}

// OnBoot implements gnet.EventHandler.
func (a *Adapter) OnBoot(e gnet.Engine) gnet.Action {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.engine = e
	return gnet.None
}

// OnOpen implements gnet.EventHandler: the factory is asked, and OnConnected follows.
func (a *Adapter) OnOpen(g gnet.Conn) (out []byte, action gnet.Action) {
	var c *conn
	l := a.loopOf(g.EventLoop())
	l.call(-1, func() {
		if c = l.open(g); c != nil {
			c.driver.Connected()
		}
	})
	return nil, c.action()
}

// OnTraffic implements gnet.EventHandler: what was read comes to OnRecv.
func (a *Adapter) OnTraffic(g gnet.Conn) gnet.Action {
	c, _ := g.Context().(*conn)
	if data, _ := g.Next(-1); c != nil && len(data) > 0 {
		c.loop.call(-1, func() { c.receive(data) })
	}
	return c.action()
}

// OnClose implements gnet.EventHandler. gnet closes the descriptor after it, also where only the peer has finished: a session that has not
// ended goes on with a duplicate (E2).
func (a *Adapter) OnClose(g gnet.Conn, err error) gnet.Action {
	c, _ := g.Context().(*conn)
	if c == nil || c.closed { // refused, or the session's own Close
		return gnet.None
	}
	c.loop.call(g.Fd(), func() {
		switch {
		case err == nil: // the loop ends
			c.end(errKilled)
		case errors.Is(err, io.EOF): // or a hang-up, for a reset
			c.driver.PeerClosed(c.Error())
		default:
			c.driver.PeerClosed(errors.Unwrap(err))
		}
		if !c.closed {
			c.outlive()
		}
	})
	return gnet.None
}

// OnShutdown implements gnet.EventHandler: Shutdown within DrainTimeout. gnet waits for it, and its loops still run.
func (a *Adapter) OnShutdown(gnet.Engine) {
	close(a.halting)
	ctx, cancel := context.Background(), func() {}
	if d := a.limits.Drain; d > 0 {
		ctx, cancel = context.WithTimeout(ctx, d)
	}
	defer cancel()
	_ = a.Shutdown(ctx)
	a.watcher.Close()
}

// Shutdown ends accepting, disconnects every session as Session.Disconnect does, and returns when all have ended and gnet is about to. When
// ctx ends, what is left is aborted, and ctx's error returned. It returns gnet's error if gnet does not run. Shutdown waits for
// callbacks, so it is not to be called in one. Any other goroutine, any number of times.
func (a *Adapter) Shutdown(ctx context.Context) (err error) {
	a.ending.Lock()
	defer a.ending.Unlock()
	if err := a.halt(); err != nil {
		return fmt.Errorf("ongnet: %w", err)
	}
	<-a.halting // by now nothing is accepted
	for _, c := range a.open() {
		c.driver.End(session.ErrShutdown)
	}
	for a.sessions.Load() > 0 {
		select {
		case <-a.left:
		case <-ctx.Done():
			for _, c := range a.open() {
				c.driver.Kill(errKilled)
			}
			ctx, err = context.Background(), ctx.Err()
		}
	}
	return err
}

// halt ends accepting and has gnet stop, without waiting for it.
func (a *Adapter) halt() error {
	a.mu.Lock()
	e, first := a.engine, !a.stopping
	a.stopping = true
	a.mu.Unlock()
	err := e.Validate()
	if err == nil && first && !stopListening(e) {
		go func() { _ = e.Stop(context.Background()) }()
	}
	return err
}

// stopListening ends an acceptor that serves one listener by an error of accept, which gnet logs, and returns true: now gnet stops. It returns
// false for a unix socket, whose accept has no such error, and where it would end loops (WithReusePort) or cannot reach the sockets
// (several listeners). There, connections are accepted and closed until gnet has stopped.
func stopListening(e gnet.Engine) bool {
	fd, err := e.Dup()
	if err != nil {
		return false
	}
	defer reactor.Socket(fd).Close()
	shared, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT)
	if err != nil || shared != 0 || unix.Shutdown(fd, unix.SHUT_RD) != nil {
		return false
	}
	for {
		pending, _, err := unix.Accept(fd)
		if err != nil {
			return err == unix.EINVAL
		}
		_ = unix.Close(pending)
	}
}

// Stats counts as engine.Engine.Stats does, as far as gnet tells: no errors of accept, no stalls, and the loops that have had a
// connection. Any goroutine.
func (a *Adapter) Stats() engine.Stats {
	count := func(n *atomic.Int64) uint64 { return uint64(n.Load()) }
	s := engine.Stats{Sessions: int(a.sessions.Load()), MaxSessions: max(a.options.MaxSessions, 0), Accepted: count(&a.accepted),
		Refused: engine.Refused{Full: count(&a.full), Factory: count(&a.failed), Closing: count(&a.closing)},
		Queued:  a.limits.Budget.Held(), LogDropped: a.log.Dropped()}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.loops {
		of := engine.LoopStatsOf(&l.shared.Counters)
		of.Sessions, of.WakeUps = int(l.sessions.Load()), count(&l.wakeUps)
		s.Loops = append(s.Loops, of)
		s.Total.Add(of)
	}
	return s
}

// Sessions returns the handlers of the sessions open now, in no order. Any goroutine.
func (a *Adapter) Sessions() iter.Seq[session.Handler] {
	return func(yield func(session.Handler) bool) {
		for _, c := range a.open() {
			if !yield(c.driver.Handler()) {
				return
			}
		}
	}
}

func (a *Adapter) open() []*conn {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Collect(maps.Keys(a.conns))
}
