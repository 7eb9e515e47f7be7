package engine

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/internal/poll"
	"github.com/servercore-go/servercore/internal/wheel"
	"github.com/servercore-go/servercore/session"
)

// loop is one event loop: a gnet loop, the sessions that live on it, and what they share.
//
// Whatever happens on a loop happens in one of two ways: gnet calls the reactor because a connection has bytes, or
// closed; or gnet runs the loop's turn because somebody woke it. A turn serves, in this order, the newcomers, the
// notices of the loop's own poller, the sessions left over from earlier turns, the mailbox, and the deadlines.
//
// Both run in a coroutine (see enter), so that content which calls runtime.Goexit takes down the coroutine and
// not gnet's loop. Every step of a turn therefore keeps its place in the loop, not in local variables: a turn that
// was cut short is simply run again.
type loop struct {
	engine *Engine
	index  int
	gnet   gnet.EventLoop
	anchor *anchor
	shared *session.Loop

	// Any goroutine.
	mailbox atomic.Pointer[conn] // sessions that want a turn, last come first
	woken   atomic.Bool          // a turn is on its way: one wake-up, however many wait (S3)
	wakeups atomic.Uint64
	opening atomic.Int32 // newcomers, not yet opened
	live    atomic.Int32 // opened, not yet done

	boarding atomic.Int32 // connections on their way to gnet

	wakeMu  sync.Mutex
	stopped bool // under wakeMu: gnet's loop is gone, or going

	welcomeMu sync.Mutex
	newcomers []newcomer // from the acceptors

	noticeMu sync.Mutex
	notices  []poll.Event // from the poller's goroutine

	connsMu sync.Mutex
	conns   []*conn // every session of the loop, for snapshots

	// The loop's own.
	poller   *poll.Poller
	watched  map[uint64]*conn // by session id: who has a descriptor in the poller
	wheel    *wheel.Wheel[*conn]
	timer    *time.Timer
	timerAt  time.Duration // when the timer fires, 0 if it is not set
	boardAt  time.Duration // when the next connection may go to gnet
	again    []*conn       // sessions for a later turn
	gather   gather        // for writes
	input    []byte        // what is read without gnet
	inside   bool          // the coroutine runs
	job      job
	progress progress // of the turn that runs
	next     func() (bool, bool)
	stop     func()
}

// progress is how far a turn has come.
type progress struct {
	newcomers []newcomer
	opened    int   // how many of them were opened
	opening   *conn // the last of them, until what follows OnConnected is done
	notices   []poll.Event
	noticed   int // how many of them were served
	again     []*conn
	resumed   int
	mail      *conn
	due       []*conn
}

const (
	tick      = 20 * time.Millisecond // resolution of deadlines
	tickSlots = 512                   // one rotation is about 10 s; longer deadlines are looked at once each
)

func newLoop(e *Engine, index int, limits session.Limits) (*loop, error) {
	p, err := poll.New()
	if err != nil {
		return nil, err
	}
	l := &loop{
		engine:  e,
		index:   index,
		shared:  session.NewLoop(limits),
		poller:  p,
		watched: make(map[uint64]*conn),
		wheel:   wheel.New[*conn](tick, tickSlots),
		input:   make([]byte, readSize),
	}
	l.timer = time.AfterFunc(time.Hour, func() { l.wake() })
	l.timer.Stop()
	l.startCoroutine()
	return l, nil
}

// post puts c on the mailbox. The first one into an empty mailbox wakes the loop.
func (l *loop) post(c *conn) {
	for {
		head := l.mailbox.Load()
		c.next = head
		if l.mailbox.CompareAndSwap(head, c) {
			if head == nil && l.wake() {
				l.wakeups.Add(1)
			}
			return
		}
	}
}

// wake has gnet run a turn, unless one is on its way. The turn clears woken before it looks at anything, so
// whoever finds woken set has published before that look. It returns false if a turn was on its way.
func (l *loop) wake() bool {
	if l.woken.Swap(true) {
		return false
	}
	l.wakeMu.Lock()
	defer l.wakeMu.Unlock()
	if l.stopped {
		return false // the sweep at the end of the engine sees to what is left
	}
	if err := l.gnet.Execute(context.Background(), l); err != nil {
		l.engine.log.error("loop cannot be woken", err, "loop", l.index)
	}
	return true
}

// Run is the turn as gnet calls it.
func (l *loop) Run(context.Context) error {
	l.enter(job{kind: jobTurn})
	return nil
}

// turn serves whoever asked for it. Each list is cut out of its shared place first, then worked off.
func (l *loop) turn() {
	l.woken.Store(false)
	p := &l.progress

	l.begin()
	if p.opened == len(p.newcomers) {
		clear(p.newcomers)
		l.welcomeMu.Lock()
		p.newcomers, l.newcomers, p.opened = l.newcomers, p.newcomers[:0], 0
		l.welcomeMu.Unlock()
	}
	for p.opened < len(p.newcomers) {
		n := p.newcomers[p.opened]
		p.opened++
		l.opening.Add(-1)
		l.engine.landed()
		p.opening = &conn{loop: l, fd: int32(n.fd)}
		p.opening.open(n)
		l.begin()
	}

	if p.noticed == len(p.notices) {
		l.noticeMu.Lock()
		p.notices, l.notices, p.noticed = l.notices, p.notices[:0], 0
		l.noticeMu.Unlock()
	}
	for p.noticed < len(p.notices) {
		n := p.notices[p.noticed]
		p.noticed++
		// Keys are session ids, never used twice: a notice of a descriptor closed meanwhile finds nobody (I6).
		if c := l.watched[n.Key]; c != nil {
			c.notice(n)
		}
	}

	if p.resumed == len(p.again) {
		clear(p.again)
		p.again, l.again, p.resumed = l.again, p.again[:0], 0
	}
	for p.resumed < len(p.again) {
		c := p.again[p.resumed]
		p.resumed++
		c.waiting = false
		c.driver.Resume()
		c.pump()
	}

	if p.mail == nil {
		p.mail = reverse(l.mailbox.Swap(nil))
	}
	for p.mail != nil {
		c := p.mail
		p.mail, c.next = c.next, nil
		c.driver.Turn()
		c.pump()
	}

	now := l.engine.now()
	if len(p.due) == 0 {
		l.wheel.Expire(now, func(c *conn) { p.due = append(p.due, c) })
	}
	for len(p.due) > 0 {
		c := p.due[len(p.due)-1]
		p.due[len(p.due)-1] = nil
		p.due = p.due[:len(p.due)-1]
		c.driver.Expire(now)
		c.pump()
	}

	l.timerAt = 0
	if len(l.again) > 0 {
		l.setTimer(now)
	} else if at, ok := l.wheel.Next(); ok {
		l.setTimer(at)
	}
}

// welcome takes a newcomer. Any goroutine.
func (l *loop) welcome(n newcomer) {
	l.welcomeMu.Lock()
	l.newcomers = append(l.newcomers, n)
	l.welcomeMu.Unlock()
	l.wake()
}

// begin does what follows a newcomer's OnConnected, also if that took its goroutine down: a client that has sent
// already is served at once, without a notice.
func (l *loop) begin() {
	c := l.progress.opening
	if c == nil {
		return
	}
	l.progress.opening = nil
	if c.driver == nil { // refused
		_ = unix.Close(int(c.fd))
		l.engine.leave()
		return
	}
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

// later has c resumed in a turn of its own. The wake-up comes from a timer's goroutine, because gnet would serve
// one posted here before it looks at the connections again.
func (l *loop) later(c *conn) {
	if c.waiting {
		return
	}
	c.waiting = true
	l.again = append(l.again, c)
	l.setTimer(l.engine.now())
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

// watch is the poller's goroutine: it passes notices on and touches nothing else.
func (l *loop) watch() {
	defer l.engine.helpers.Done()
	events := make([]poll.Event, 256)
	for {
		n, err := l.poller.Wait(events)
		if n > 0 {
			l.noticeMu.Lock()
			l.notices = append(l.notices, events[:n]...)
			l.noticeMu.Unlock()
			l.wake()
		}
		if err != nil {
			if !l.halted() {
				go l.engine.fail(fmt.Errorf("engine: the poller of event loop %d ended by itself: %w", l.index, err))
			}
			return
		}
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

// halt keeps anyone from waking a loop that gnet is about to take away.
func (l *loop) halt() {
	l.wakeMu.Lock()
	l.stopped = true
	l.wakeMu.Unlock()
}

func (l *loop) halted() bool {
	l.wakeMu.Lock()
	defer l.wakeMu.Unlock()
	return l.stopped
}

// sweep ends what is left when gnet's loop is gone; the caller's goroutine is the loop now.
func (l *loop) sweep(reason error) {
	for _, d := range l.snapshot() {
		d.Kill(reason)
	}
	l.enter(job{kind: jobTurn}) // newcomers that were not opened are refused
	for len(l.snapshot()) > 0 {
		l.enter(job{kind: jobTurn})
	}
}

// release frees what the loop holds. gnet's loop is gone and the sessions are done.
func (l *loop) release() {
	l.timer.Stop()
	_ = l.poller.Close()
	l.stop()
	if l.anchor != nil && l.anchor.far != nil {
		_ = l.anchor.far.Close()
	}
}
