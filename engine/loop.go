package engine

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	gerrors "github.com/panjf2000/gnet/v2/pkg/errors"
	"github.com/panjf2000/gnet/v2/pkg/netpoll"

	"github.com/servercore-go/servercore/internal/guard"
	"github.com/servercore-go/servercore/internal/wheel"
	"github.com/servercore-go/servercore/session"
)

// loop is one event loop: a goroutine, gnet's poller, the sessions that live on it, and what they share.
//
// Whatever happens on a loop happens in one of two ways: the reactor has news of a connection, or somebody woke the loop
// and it makes a turn. A turn serves, in this order, the newcomers, the sessions left over from earlier turns, the
// mailbox, and the deadlines.
//
// Content may take the loop's goroutine down in the midst of either (see run). Every step of a turn therefore keeps its
// place in the loop, not in local variables: a turn that was cut short is simply run again.
type loop struct {
	engine *Engine
	index  int
	shared *session.Loop

	// Any goroutine.
	mailbox   atomic.Pointer[conn] // sessions that want a turn, last come first
	woken     atomic.Bool          // a turn is on its way: one wake-up, however many wait (S3)
	wakeups   atomic.Uint64
	opening   atomic.Int32                // newcomers, not yet opened
	live      atomic.Int32                // opened, not yet done
	expected  atomic.Int32                // waiting for a PROXY header
	stalls    atomic.Uint64               // callbacks that held it
	stalled   atomic.Int64                // how long they did, nanoseconds
	goroutine atomic.Pointer[string]      // its number, as stacks have it
	making    atomic.Pointer[net.TCPAddr] // the newcomer whose factory runs, if it has such an address
	quit      chan struct{}               // closed to end the loop
	gone      chan struct{}               // closed when it has ended, its sessions too

	wakeMu  sync.Mutex
	waker   waker
	stopped bool // under wakeMu: the waker is closed

	welcomeMu sync.Mutex
	newcomers []newcomer    // from the acceptors
	pong      chan struct{} // closed by the next turn: all who ping wait for it. nil if nobody does

	connsMu sync.Mutex
	conns   []*conn // every session of the loop, for snapshots; changed by the loop only

	// The loop's own.
	poller     *netpoll.Poller
	attachment netpoll.PollAttachment
	watched    []*conn           // by descriptor
	doors      map[int]*Listener // by descriptor; fixed when the loop starts
	knocked    []*Listener       // doors where newcomers wait
	ended      error             // what Polling returned
	wheel      *wheel.Wheel[*conn]
	timer      *time.Timer
	timerAt    time.Duration           // when the timer fires, 0 if it is not set
	again      []*conn                 // sessions for a later turn
	links      map[*conn]*link         // sessions that are followed by another one
	sources    map[*conn]*guard.Source // of the sessions that a Guard counts
	arrivals   map[int32]*arrival      // by descriptor: connections whose PROXY header has not come
	seat       seat                    // of its connections that are not offloaded
	served     int                     // events since the last breath
	progress   progress                // of the turn that runs
}

const (
	tick      = 20 * time.Millisecond // resolution of deadlines
	tickSlots = 512                   // one rotation is about 10 s; longer deadlines are looked at once each
)

func newLoop(e *Engine, index int, limits session.Limits) (_ *loop, err error) {
	l := &loop{
		engine:   e,
		index:    index,
		shared:   session.NewLoop(limits),
		wheel:    wheel.New[*conn](tick, tickSlots),
		doors:    make(map[int]*Listener),
		links:    make(map[*conn]*link),
		sources:  make(map[*conn]*guard.Source),
		arrivals: make(map[int32]*arrival),
		quit:     make(chan struct{}),
		gone:     make(chan struct{}),
	}
	l.seat = seat{loop: l, workspace: newWorkspace()}
	l.seat.scratch.Watched(e.options.StallWarning > 0)
	if l.waker, err = newWaker(); err != nil {
		return nil, err
	}
	filterGnetLog()
	if l.poller, err = netpoll.OpenPoller(); err != nil {
		l.waker.close()
		return nil, err
	}
	if err := l.poller.AddRead(&netpoll.PollAttachment{FD: l.waker.descriptor()}, true); err != nil {
		l.waker.close()
		_ = l.poller.Close()
		return nil, err
	}
	l.timer = time.AfterFunc(time.Hour, func() { l.wake() })
	l.timer.Stop()
	return l, nil
}

// post puts a chain of connections on the mailbox, from last to first as the mailbox has them. The first chain in an empty
// mailbox wakes the loop.
func (l *loop) post(last, first *conn) {
	for {
		head := l.mailbox.Load()
		first.next = head
		if l.mailbox.CompareAndSwap(head, last) {
			if head == nil && l.wake() {
				l.wakeups.Add(1)
			}
			return
		}
	}
}

// wake has the loop make a turn, unless one is on its way. The turn clears woken before it looks at anything, so
// whoever finds woken set has published before that look. It returns false if a turn was on its way.
func (l *loop) wake() bool {
	if l.woken.Swap(true) {
		return false
	}
	l.signal()
	return true
}

// signal interrupts the loop if it waits.
func (l *loop) signal() {
	l.wakeMu.Lock()
	defer l.wakeMu.Unlock()
	if !l.stopped {
		l.waker.signal()
	}
}

// arm has c looked at when its deadline passes.
func (l *loop) arm(c *conn, at time.Duration) {
	l.wheel.Arm(c, at)
	l.setTimer(at)
}

func (l *loop) setTimer(at time.Duration) {
	if l.timerAt == 0 || at < l.timerAt {
		l.timerAt = at
		l.timer.Reset(max(at-l.engine.now(), 0))
	}
}

func (l *loop) enlist(c *conn) {
	l.connsMu.Lock()
	c.index = int32(len(l.conns))
	l.conns = append(l.conns, c)
	l.connsMu.Unlock()
}

func (l *loop) delist(c *conn) {
	l.connsMu.Lock()
	last := len(l.conns) - 1
	moved := l.conns[last]
	l.conns[c.index], moved.index = moved, c.index
	l.conns[last] = nil
	l.conns = l.conns[:last]
	l.connsMu.Unlock()
}

// snapshot returns the loop's sessions as they are now. Any goroutine.
func (l *loop) snapshot() []*session.Driver {
	l.connsMu.Lock()
	defer l.connsMu.Unlock()
	drivers := make([]*session.Driver, len(l.conns))
	for i, c := range l.conns {
		drivers[i] = c.driver
	}
	return drivers
}

// halt ends the loop and waits until it has ended: for the callback that runs, and for the last OnDisconnected.
func (l *loop) halt() {
	close(l.quit)
	l.signal()
	<-l.gone
}

// release frees what a loop holds that has ended, or never began.
func (l *loop) release() {
	l.timer.Stop()
	l.wakeMu.Lock()
	l.stopped = true
	l.waker.close()
	l.wakeMu.Unlock()
	_ = l.poller.Close()
}

func (l *loop) halted() bool {
	select {
	case <-l.quit:
		return true
	default:
		return false
	}
}

// fault reports a loop whose poller has failed (T5).
func (l *loop) fault() {
	l.ended = fmt.Errorf("engine: event loop %d ended by itself: waiting for events: %w", l.index, l.ended)
	l.engine.fail(l.ended)
}

// sweep ends what is left when there are no events any more. Newcomers that were not opened are refused.
func (l *loop) sweep() {
	reason := errClosing
	if !errors.Is(l.ended, gerrors.ErrEngineShutdown) {
		reason = fmt.Errorf("%w: %w", session.ErrShutdown, l.ended)
	}
	for _, c := range l.conns {
		c.driver.Kill(reason)
	}
	for l.turn(); len(l.conns) > 0 || l.opening.Load() > 0; l.turn() {
		time.Sleep(time.Millisecond) // workers are at them, or a turn was too short, and there is no poller to wait with
	}
}
