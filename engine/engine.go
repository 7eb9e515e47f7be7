package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/internal/asynclog"
	"github.com/servercore-go/servercore/internal/budget"
	"github.com/servercore-go/servercore/internal/descriptors"
	"github.com/servercore-go/servercore/internal/reactor"
	"github.com/servercore-go/servercore/internal/ring"
	layertls "github.com/servercore-go/servercore/layer/tls"
	"github.com/servercore-go/servercore/session"
)

// Engine runs sessions on a fixed set of event loops. New, Listen as often as needed, then Run, or Start and later Shutdown or Close; Dial
// in between. An engine that has ended cannot be started again. All methods are safe from any goroutine. Shutdown, Close, Run, Dial and
// Ping wait for callbacks: called from one, they return an error that matches ErrInCallback at once (Ping only on a loop). Shutdown and
// Close begin the end all the same.
type Engine struct {
	options Options
	log     *asynclog.Logger
	clock   reactor.Clock

	mu        sync.Mutex
	state     stateHolder // changed under mu, read by any goroutine
	listeners []*Listener
	loops     []*loop              // fixed by Start
	live      atomic.Pointer[live] // what runs, for those who must not wait for mu: Start holds it while it looks names up
	err       error                // why it ended, or is ending, if somebody asked for it
	fault     error                // of loops that failed

	budget *budget.Budget // nil without SendBudget

	tuning       []socketOption                                             // what Options ask of each TCP socket
	refusal      sync.Map                                                   // names of socket options that the system has refused
	setsockopt   func(fd, level, option, value int) error                   // unix.SetsockoptInt
	acceptSocket func(listener int) (fd int, peer unix.Sockaddr, err error) // reactor.Accept
	spare        descriptors.Spare
	life         context.Context    // ends when the end begins: no new session
	stop         context.CancelFunc // ends life
	done         chan struct{}      // closed when everything has ended

	grace context.Context    // ends when what ends is aborted from then on, not drained
	hurry context.CancelFunc // ends grace

	acceptors sync.WaitGroup
	dials     sync.WaitGroup // those that may still hand a connection to a loop, and links that wait; see beginDial

	maxSessions int
	sessions    atomic.Int64
	room        chan struct{} // a loop has begun to open a connection: it can take another one, see awaitLoop
	emptied     chan struct{} // the last session has left

	stirred   chan struct{} // a loop has run a callback while the watchdog rested
	unwatch   chan struct{} // closed to end the watchdog
	unwatched chan struct{} // closed when it has ended

	accepted, acceptErrors atomic.Uint64
	dialed, dialErrors     atomic.Uint64
	offloaded              reactor.Offloaded
	table                  reactor.Table[*session.Driver] // of connections by descriptor, which the loops share
	handshakes             layertls.Handshakes
	refused                refusedCounts
	closed                 *ring.Ring[closedSession]
}

// ErrClosed is what Err returns after Shutdown or Close, and what they, Start and Dial return on an engine that has
// ended, or is ending.
var ErrClosed = errors.New("engine: closed")

// errClosing is the reason of sessions that Close, or the end of Shutdown's context, aborts.
var errClosing = fmt.Errorf("%w: %w", session.ErrShutdown, session.ErrAborted)

// New checks the options and returns an engine that does nothing yet and holds no resources.
func New(o Options) (*Engine, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	e := &Engine{
		options:      o,
		log:          asynclog.New(o.Logger.Handler()),
		clock:        reactor.NewClock(),
		done:         make(chan struct{}),
		room:         make(chan struct{}, 1),
		emptied:      make(chan struct{}, 1),
		stirred:      make(chan struct{}, 1),
		tuning:       o.tuning(),
		setsockopt:   unix.SetsockoptInt,
		acceptSocket: reactor.Accept,
		closed:       ring.New[closedSession](o.KeepClosed),
	}
	if o.SendBudget > 0 {
		e.budget = budget.New(o.SendBudget)
	}
	e.life, e.stop = context.WithCancel(context.Background())
	e.grace, e.hurry = context.WithCancel(context.Background())
	return e, nil
}

// now is the engine's clock: monotonic, and never 0, which stands for "no time" everywhere.
func (e *Engine) now() time.Duration { return e.clock.Now() }

// Listen adds an address, to be bound by Start, whose connections become sessions made by f. network is tcp, tcp4, tcp6 or unix; a tcp
// address is host:port, port 0 lets the system choose; a unix address is a path, or a name in Linux' abstract space if it begins with "@"
// ("./@name" is the file of that name). It returns an error if the address can never work, if f is nil, or after Start. Options hold for
// the sessions of this listener.
func (e *Engine) Listen(network, address string, f session.Factory, opts ...Option) (*Listener, error) {
	if f == nil {
		return nil, fmt.Errorf("engine: listen %s %s: the session factory is nil", network, address)
	}
	o, err := newOrigin(network, f, opts)
	if err != nil {
		return nil, fmt.Errorf("engine: listen %s %s: %w", network, address, err)
	}
	if o.from == nil {
		if err := checkAddress(network, address); err != nil {
			return nil, err
		}
	}
	if o.policy != nil {
		return nil, fmt.Errorf("engine: listen %s %s: Reconnect is an option of Dial", network, address)
	}
	if en := o.entry; en != nil && network == "unix" && (en.guard != nil || en.trusted != nil) {
		return nil, fmt.Errorf("engine: listen %s %s: Guard and ProxyProtocol are about addresses, which peers of a unix socket "+
			"do not have", network, address)
	}
	if err := o.checkLayers(false, network, address); err != nil {
		return nil, fmt.Errorf("engine: listen %s %s: %w", network, address, err)
	}
	if w := o.websocket; w != nil && w.options.HTTP != nil {
		w.http = e.newHTTPServer(w.options.HTTP, w.server)
	}
	o.address = address
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state.get() != StateNew {
		return nil, fmt.Errorf("engine: listen %s %s: Listen must come before Start", network, address)
	}
	o.counts = &listenerCounts{index: len(e.listeners)}
	l := &Listener{engine: e, address: address, origin: o, addr: o.addr}
	e.listeners = append(e.listeners, l)
	return l, nil
}

// Start binds every listener and starts the loops. It returns once all listeners accept, or with the reason they
// cannot, and then nothing is left behind and Start may be tried again. Without a listener the engine is for Dial alone.
func (e *Engine) Start() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.state.get() == StateRunning:
		return errors.New("engine: already started")
	case e.state.get() != StateNew:
		return ErrClosed
	}
	if err := e.start(); err != nil {
		e.undo()
		return err
	}
	e.state.set(StateRunning)
	for _, l := range e.listeners {
		if l.bound.Load() {
			l.keepPath()
			e.acceptors.Add(1)
			go l.acceptFallback()
		}
	}
	return nil
}

func (e *Engine) start() error {
	for _, l := range e.listeners {
		if err := l.bind(); err != nil {
			return err
		}
	}
	if err := e.spare.Keep(); err != nil {
		return fmt.Errorf("engine: no descriptor to keep in reserve: %w%s", err, hint("", err))
	}
	limits := e.options.limits()
	limits.Budget = e.budget
	for i := range e.options.Loops {
		l, err := newLoop(e, i, limits)
		if err != nil {
			return fmt.Errorf("engine: event loop %d: %w%s", i, err, hint("", err))
		}
		e.loops = append(e.loops, l)
	}
	if err := e.setBounds(); err != nil {
		return err
	}
	for i, l := range e.listeners {
		if !l.bound.Load() { // closed already
			continue
		}
		if err := e.loops[i%len(e.loops)].watchListener(l); err != nil {
			return fmt.Errorf("engine: listen %s %s: %w%s", l.origin.network, l.address, err, hint("", err))
		}
	}
	e.goLive()
	for _, l := range e.loops { // last: what the loops see does not change any more
		go l.Run()
	}
	e.unwatch, e.unwatched = make(chan struct{}), make(chan struct{})
	go e.watch()
	return nil
}

// undo takes back what start did before it failed. The caller holds mu.
func (e *Engine) undo() {
	for _, l := range e.listeners {
		l.unbind()
	}
	for _, l := range e.loops {
		l.Close()
	}
	e.spare.Close()
	e.loops = nil
}

// Run starts the engine and waits for ctx to end or for a fault. At ctx's end it shuts down, within DrainTimeout,
// aborting what is left then, and returns nil; also if somebody else has called Shutdown before, with more time. Otherwise it
// returns why it could not start, or the fault that ended the engine, or came while it ended; ErrClosed if somebody called
// Shutdown or Close before ctx ended; or, a second after the last session has ended that could be, that callbacks do not return.
func (e *Engine) Run(ctx context.Context) error {
	_ = ctx.Err() // a nil one panics before anything has begun
	if err := e.inCallback("Run", "the engine runs already", false); err != nil {
		return err
	}
	if err := e.Start(); err != nil {
		return err
	}
	select {
	case <-e.done:
		return e.Err()
	case <-ctx.Done():
	}
	within := context.Background()
	if d := e.options.DrainTimeout; d > 0 {
		var cancel context.CancelFunc
		within, cancel = context.WithTimeout(within, d)
		defer cancel()
	}
	err := e.Shutdown(within)
	if errors.Is(err, ErrClosed) { // somebody else was first
		err = e.outwait(within)
	}
	if errors.Is(err, errStuck) {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		e.log.Warn("shut down; some sessions were not drained in time and were reset", "drain_timeout", e.options.DrainTimeout)
		e.log.Flush(flushTime)
	}
	return e.faults()
}

// Done returns a channel that is closed when the engine has ended: after the last OnDisconnected.
func (e *Engine) Done() <-chan struct{} { return e.done }

// Err returns nil until the engine begins to end, then why: ErrClosed after Shutdown or Close, else the fault that
// ended it. A fault that came after Shutdown or Close is told besides: the error matches both.
func (e *Engine) Err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err == nil || e.fault == nil {
		return cmp.Or(e.err, e.fault)
	}
	return errors.Join(e.err, e.fault)
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
