package engine

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	gerrors "github.com/panjf2000/gnet/v2/pkg/errors"
	"github.com/panjf2000/gnet/v2/pkg/netpoll"
	"golang.org/x/sys/unix"

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
	newcomers []newcomer   // from the acceptors
	pings     []chan<- int // to be answered by a turn, with the loop's index

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
	timerAt    time.Duration      // when the timer fires, 0 if it is not set
	again      []*conn            // sessions for a later turn
	links      map[*conn]*link    // sessions that are followed by another one
	visitors   map[*conn]*visitor // what a Guard knows of the addresses of those it has let in
	arrivals   map[int32]*arrival // by descriptor: connections whose PROXY header has not come
	seat       seat               // of its connections that are not offloaded
	served     int                // events since the last breath
	progress   progress           // of the turn that runs
}

// progress is how far a turn has come.
type progress struct {
	newcomers []newcomer
	opened    int      // how many of them were opened
	opening   *conn    // the last of them, until what follows OnConnected is done
	attempt   *attempt // its, if it was dialled
	again     []*conn
	resumed   int
	mail      *conn
	due       []*conn
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
		visitors: make(map[*conn]*visitor),
		arrivals: make(map[int32]*arrival),
		quit:     make(chan struct{}),
		gone:     make(chan struct{}),
	}
	l.seat = seat{loop: l, workspace: newWorkspace()}
	l.seat.scratch.Watched(e.options.StallWarning > 0)
	if l.waker, err = newWaker(); err != nil {
		return nil, err
	}
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

// turnMail is how many sessions a turn takes from the mailbox, some two milliseconds of short writes: who was told something
// in a room of 100,000 must not keep the events of the others.
const turnMail = 256

// turn serves whoever asked for it. Each list is cut out of its shared place first, then worked off.
func (l *loop) turn() {
	if len(l.knocked) > 0 {
		l.woken.Store(true) // this turn: nobody has to wake the loop for its own newcomers
		l.answer()
	}
	l.woken.Store(false)
	if len(l.arrivals) > 0 && l.engine.stopping() {
		l.dismiss()
	}
	p := &l.progress

	l.begin()
	if p.opened == len(p.newcomers) {
		clear(p.newcomers)
		l.welcomeMu.Lock()
		p.newcomers, l.newcomers, p.opened = l.newcomers, p.newcomers[:0], 0
		for _, c := range l.pings {
			c <- l.index
		}
		l.pings = nil
		l.welcomeMu.Unlock()
	}
	for p.opened < len(p.newcomers) {
		n := p.newcomers[p.opened]
		p.opened++
		l.opening.Add(-1)
		l.engine.landed()
		c := &conn{fd: int32(n.fd)}
		if n.origin.entry != nil && n.origin.entry.trusted != nil {
			l.expect(c, n)
			continue
		}
		l.introduce(c, n)
	}

	if p.resumed == len(p.again) {
		clear(p.again)
		p.again, l.again, p.resumed = l.again, p.again[:0], 0
	}
	for p.resumed < len(p.again) {
		c := p.again[p.resumed]
		p.resumed++
		c.waiting = false
		c.resume()
	}

	if p.mail == nil {
		p.mail = reverse(l.mailbox.Swap(nil))
	}
	for n := 0; p.mail != nil && n < turnMail; n++ {
		c := p.mail
		p.mail, c.next = c.next, nil
		c.turn()
	}

	now := l.engine.now()
	if len(p.due) == 0 {
		l.wheel.Expire(now, func(c *conn) { p.due = append(p.due, c) })
	}
	for len(p.due) > 0 {
		c := p.due[len(p.due)-1]
		p.due[len(p.due)-1] = nil
		p.due = p.due[:len(p.due)-1]
		c.expire(now)
	}

	if len(l.knocked) > 0 || p.mail != nil || l.mailbox.Load() != nil {
		l.wake()
	}
	l.timerAt = 0
	if at, ok := l.wheel.Next(); ok {
		l.setTimer(at)
	}
}

// breathEvery is how many events a loop serves before it lets other goroutines have its processor: a third of a
// millisecond of short messages. A breath costs as much as a fiftieth of one.
const breathEvery = 32

// breathe follows an event. A loop that never comes to rest leaves others no time if there is but one processor, or none
// is free: Go would take it away after 10 ms only.
func (l *loop) breathe() {
	if l.served++; l.served >= breathEvery {
		l.served = 0
		runtime.Gosched()
	}
}

// welcome takes a newcomer. Any goroutine.
func (l *loop) welcome(n newcomer) {
	l.opening.Add(1)
	l.welcomeMu.Lock()
	l.newcomers = append(l.newcomers, n)
	l.welcomeMu.Unlock()
	l.wake()
}

// introduce opens a newcomer.
func (l *loop) introduce(c *conn, n newcomer) {
	if n.visitor != nil {
		l.visitors[c] = n.visitor
	}
	l.progress.opening, l.progress.attempt = c, n.attempt
	l.seatFor(c, n.origin)
	c.open(n)
	l.begin()
}

// farewell tells a Guard that a connection it has let in is no more.
func (l *loop) farewell(c *conn) {
	if v := l.visitors[c]; v != nil {
		delete(l.visitors, c)
		v.leave()
	}
}

// begin does what follows a newcomer's OnConnected, also if that took its goroutine down: a client that has sent
// already is served at once, without a notice.
func (l *loop) begin() {
	c, a := l.progress.opening, l.progress.attempt
	if c == nil {
		return
	}
	l.progress.opening, l.progress.attempt = nil, nil
	if c.driver == nil { // refused
		l.farewell(c)
		_ = unix.Close(int(c.fd))
		l.engine.leave()
		a.settle()
		return
	}
	if s := c.seat.strand; s != nil {
		s.attempt = a
		s.signal(opened)
		return
	}
	a.settle()
	c.readable = true
	c.pump()
}

func reverse(head *conn) *conn {
	var first *conn
	for head != nil {
		head, head.next, first = head.next, first, head
	}
	return first
}

// later has c resumed in a turn of its own, after the events that are due.
func (l *loop) later(c *conn) {
	if c.waiting {
		return
	}
	c.waiting = true
	l.again = append(l.again, c)
	l.wake()
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
	l.ended = fmt.Errorf("engine: event loop %d ended by itself: %w", l.index, l.ended)
	go l.engine.fail(l.ended)
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
	for l.turn(); len(l.conns) > 0; l.turn() {
		time.Sleep(time.Millisecond) // workers are at them, and there is no poller to wait with
	}
}
