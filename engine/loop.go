package engine

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/servercore-go/servercore/internal/guard"
	"github.com/servercore-go/servercore/internal/looplag"
	"github.com/servercore-go/servercore/internal/reactor"
	"github.com/servercore-go/servercore/session"
)

// loop is an event loop of the reactor together with what its sessions share, and the connections that are about to become
// sessions. It is its reactor's Handler: see adapter.go.
//
// A handler of the application may end the loop's goroutine in the midst of anything, and another carries on. So progress is kept in the
// loop, not in local variables.
type loop struct {
	*eventLoop
	engine  *Engine
	index   int
	shared  *session.Loop    // of the sessions that no listener has accepted
	parts   []*session.Loop  // of those of each listener, in the order of Listen; fixed by Start
	probe   looplag.Probe    // asked by the watchdog
	scratch *session.Scratch // of the loop's goroutine

	// Any goroutine.
	opening   atomic.Int32                // pending connections
	awaiting  atomic.Int32                // connections that await their PROXY header, or are in their handshake
	stalls    atomic.Uint64               // callbacks that held it
	stalled   atomic.Int64                // how long they did, nanoseconds
	goroutine atomic.Pointer[string]      // its number, as stacks have it
	making    atomic.Pointer[net.TCPAddr] // the remote address of the session whose factory runs, if it has such an address

	pendingMu sync.Mutex
	pending   []pendingConn // not yet seen by the loop
	woken     []*conn       // whose handshake has news

	// The loop's own.
	taken   []pendingConn           // pending connections that the loop has taken over
	opened  int                     // how many of them were opened
	links   map[*conn]*link         // sessions that are followed by another one
	sources map[*conn]*guard.Source // of the connections that a Guard counts
	headers map[*conn]*headerReader // connections that await their PROXY header

	handshakes map[*conn]*handshake // connections whose layer's handshake is not done
	toServe    []*conn              // taken from woken, and not yet looked at
	served     *session.Loop        // what the connections for net/http share, nil before the first one
	fault      error                // why it has ended by itself
}

func newLoop(e *Engine, index int, limits session.Limits) (*loop, error) {
	l := &loop{
		engine:  e,
		index:   index,
		shared:  session.NewLoop(limits),
		scratch: session.NewScratch(),
		links:   make(map[*conn]*link),
		sources: make(map[*conn]*guard.Source),
		headers: make(map[*conn]*headerReader),

		handshakes: make(map[*conn]*handshake),
	}
	watched := e.options.StallWarning > 0
	l.scratch.Watched(watched)
	l.scratch.StirredBy(e.stir)
	var err error
	l.eventLoop, err = reactor.New(reactor.Config[*session.Driver]{
		Handler:   l,
		Clock:     e.clock,
		Scratch:   l.scratch,
		OnServe:   func(scratch any) { scratch.(*session.Scratch).Watched(watched) }, // the last session may have been another engine's
		Offloaded: &e.offloaded,
		Table:     &e.table,
	})
	return l, err
}

// enqueue hands a connection to the loop, to be opened. Any goroutine.
func (l *loop) enqueue(p pendingConn) {
	l.opening.Add(1)
	l.pendingMu.Lock()
	l.pending = append(l.pending, p)
	l.pendingMu.Unlock()
	l.Wake()
}

// hasPending reports whether connections wait to be opened, the first of them at opened in taken. If it does not, the next one that
// is enqueued wakes the loop.
func (l *loop) hasPending() bool {
	if l.opened < len(l.taken) {
		return true
	}
	l.pendingMu.Lock()
	defer l.pendingMu.Unlock()
	clear(l.taken)
	l.taken, l.pending, l.opened = l.pending, l.taken[:0], 0
	return len(l.taken) > 0
}

// openPending opens pending connections until that time. It returns whether some are left.
func (l *loop) openPending(until time.Duration) bool {
	for l.hasPending() && l.Now() < until {
		p := l.taken[l.opened]
		l.opened++
		l.opening.Add(-1)
		l.engine.notifyRoom()
		c := l.NewConn(p.fd)
		if p.origin.entry != nil && p.origin.entry.trusted != nil {
			l.awaitHeader(c, p)
			continue
		}
		l.become(c, p)
	}
	return l.opened < len(l.taken)
}

// open makes a connection a session: Admit and the factory are asked, and OnConnected follows. A connection that is refused is
// closed, also if the application's code has ended the goroutine.
func (l *loop) open(c *conn, p pendingConn) {
	defer func() {
		if c.Context == nil {
			l.refuse(c, p)
		}
	}()
	if p.source != nil {
		l.sources[c] = p.source
	}
	handler := l.bind(c, p)
	if handler == nil {
		return
	}
	if p.origin.workers != nil && p.http == nil {
		l.Offload(c, p.origin.workers)
	}
	if p.origin.network == "unix" {
		c.ReadsEndShort()
	}
	if p.attempt == nil {
		if p.http == nil {
			l.engine.countAccepted(p.origin)
		}
		l.Open(c, nil)
		return
	}
	l.engine.dialed.Add(1)
	p.attempt.succeed(l, c, handler)
	l.Open(c, p.attempt.resolve)
}

// bind asks whether the connection may become a session, makes that session and binds it to the connection. It returns nil if
// the connection is refused, the reason having been counted.
func (l *loop) bind(c *conn, p pendingConn) session.Handler {
	e := l.engine
	if p.attempt != nil && !p.attempt.claim() { // Dial has given it up
		return nil
	}
	if e.stopping() || l.fault != nil {
		e.countRefused(p.origin, refusedClosing, p.remote, ErrClosed)
		p.attempt.fail(ErrClosed)
		return nil
	}
	if !p.admitted && p.origin.entry != nil && p.origin.entry.admit != nil && !l.callAdmit(p) {
		p.origin.entry.sendRefusal(p.fd)
		return nil
	}
	var h session.Handler = p.http
	shared, framing := l.part(p.origin), p.origin.framingFor(p.layer, p.attempt == nil)
	var err error
	if p.http != nil {
		shared, framing = l.loopOfServed(), nil
	} else if h, err = l.callFactory(p); err != nil {
		l.noteRefused(p, refusedFactory, err)
		return nil
	}
	// Before Bind: a session that is bound may have accepted bytes, and can no longer be refused. Events come when this is over.
	if err = l.Register(c); err != nil {
		l.noteRefused(p, refusedFailed, err)
		return nil
	}
	d, err := session.Bind(h, (*transport)(c), shared, framing, p.local, p.remote)
	if err != nil {
		l.noteRefused(p, refusedFactory, err)
		return nil
	}
	if p.origin.rate != nil {
		d.LimitRecv(p.origin.rate)
	}
	if p.origin.recorder != nil {
		l.record(d, p)
	}
	if p.layer != nil {
		d.UseLayer(p.layer, p.more)
	}
	d.Preload(p.early, p.earlyWire)
	c.Context = d
	return h
}

// noteRefused counts a connection that does not become a session, and tells Dial or the log why.
func (l *loop) noteRefused(p pendingConn, cause refusal, err error) {
	l.engine.countRefused(p.origin, cause, p.remote, err)
	if p.attempt != nil {
		p.attempt.fail(err)
		return
	}
	l.engine.log.Limited(factoryLine, "connection refused: its session cannot be made", "err", err, "remote", p.remote)
}

// refuse closes a connection that does not become a session.
func (l *loop) refuse(c *conn, p pendingConn) {
	l.releaseSource(c)
	c.Close(false)
	l.engine.freePlace()
	p.attempt.resolve()
	if p.layer != nil {
		l.callDrop(p.layer)
	}
}

// release takes a session off the books that has ended.
func (l *loop) release(c *conn) {
	l.releaseSource(c)
	l.noteClosed(c.Context)
	l.engine.freePlace()
	if link := l.links[c]; link != nil {
		delete(l.links, c)
		link.lost(c.Context)
	}
}

// releaseSource tells the Guard that has counted a connection that it has ended.
func (l *loop) releaseSource(c *conn) {
	if s := l.sources[c]; s != nil {
		delete(l.sources, c)
		s.Release(time.Now())
	}
}

// shutdown ends what is left on a loop that has no events any more: err is why if nobody asked for it (T5). Pending connections are
// refused.
func (l *loop) shutdown(err error) {
	reason := errClosing
	if err != nil {
		if l.fault == nil {
			l.fault = fmt.Errorf("engine: event loop %d ended by itself: waiting for events: %w", l.index, err)
			l.engine.fail(l.fault)
		}
		reason = fmt.Errorf("%w: %w", session.ErrShutdown, l.fault)
	}
	for _, c := range l.Conns() {
		c.Context.Kill(reason)
	}
}

// logFailure logs that a callback panicked with that value, or called runtime.Goexit if it is nil.
func (l *loop) logFailure(s *session.Session, callback string, value any, stack []byte) {
	if value == nil {
		value = "runtime.Goexit"
	}
	l.engine.log.LimitedError(panicLine, "callback failed, the session is reset",
		"callback", callback, "panic", value, "session", s.ID(), "remote", s.RemoteAddr(), "loop", l.index,
		"stack", string(stack))
}
