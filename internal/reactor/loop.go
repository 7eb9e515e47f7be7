package reactor

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2/pkg/netpoll"

	"github.com/servercore-go/servercore/internal/wheel"
)

// Config is what a loop is made of.
type Config[C any] struct {
	Handler Handler[C]
	Clock   Clock

	// Scratch is the owner's memory for the loop's goroutine: what [Conn.Scratch] returns. Nil if the owner needs none.
	Scratch any

	// OnServe is called on the goroutine of a worker, with the memory of that worker, before it serves a connection of this loop. Nil is no
	// call.
	OnServe func(scratch any)

	// Table has the connections by descriptor. Loops may share one, which takes 8 bytes for each descriptor then, whatever their number. Nil is
	// a table of the loop's own.
	Table *Table[C]

	// Offloaded counts what workers do for this loop's connections. Loops may share it. Nil is a count of the loop's own.
	Offloaded *Offloaded
}

// Loop is one event loop: a goroutine, gnet's poller, and the connections that live on it. Methods belong to the loop's
// goroutine unless they say otherwise.
//
// Every step of a turn keeps its place in the loop, not in local variables: a handler may take the goroutine down in the midst of a
// turn, and the next one runs the turn again (R5).
type Loop[C any] struct {
	handler   Handler[C]
	clock     Clock
	onServe   func(scratch any)
	offloaded *Offloaded

	// Any goroutine.
	mailbox atomic.Pointer[Conn[C]] // connections to be woken, last come first
	woken   atomic.Bool             // a turn is on its way: one wake-up, however many wait (R3)
	wakeUps atomic.Uint64
	pong    atomic.Pointer[chan struct{}] // closed by the next turn, nil if nobody pings
	size    atomic.Int32                  // of conns
	quit    chan struct{}                 // closed to end the loop
	gone    chan struct{}                 // closed when it has ended, and its connections are released

	wakeMu  sync.Mutex
	waker   waker
	stopped bool // under wakeMu: the waker is closed

	connsMu sync.Mutex
	conns   []*Conn[C] // every open connection, for snapshots; changed by the loop only

	// The loop's own.
	poller     *netpoll.Poller
	attachment netpoll.PollAttachment
	table      places[C]         // by descriptor: connections whose events are told
	listeners  map[int]*listener // by descriptor; fixed when the loop starts
	ready      []*listener       // listeners where connections wait
	ended      error             // what Polling returned
	wheel      *wheel.Wheel[*Conn[C]]
	timer      *time.Timer
	timerAt    time.Duration // when the timer fires, 0 if it is not set
	again      []*Conn[C]    // connections for a later turn
	bulkUntil  time.Duration // until when bulky connections are served without one, see takesBulk; 0 if none was since the last turn, 1 in a turn
	executor   executor[C]   // of the connections that are not offloaded
	served     int           // events since the last yield
	progress   progress[C]   // of the turn that runs
}

// Resolution and reach of deadlines.
const (
	Tick      = 20 * time.Millisecond
	TickSlots = 512 // one rotation is about 10 s; a longer deadline is looked at once per rotation

	// GatherTicks is how many ticks apart the first looks at deadlines are that are more than twice so far away: 320 ms, so that thousands of
	// connections whose deadlines have moved on wake a loop three times a second and not fifty times. A deadline that is met is kept to a Tick.
	GatherTicks = 16
)

// New returns a loop that does not run yet, and holds a poller and a waker. Close frees them.
func New[C any](cfg Config[C]) (_ *Loop[C], err error) {
	l := &Loop[C]{
		handler:   cfg.Handler,
		clock:     cfg.Clock,
		onServe:   cfg.OnServe,
		offloaded: cfg.Offloaded,
		wheel:     wheel.New[*Conn[C]](Tick, TickSlots),
		listeners: make(map[int]*listener),
		quit:      make(chan struct{}),
		gone:      make(chan struct{}),
	}
	if l.table.table = cfg.Table; l.table.table == nil {
		l.table.table = new(Table[C])
	}
	l.wheel.Gather(GatherTicks, l.Now)
	if l.offloaded == nil {
		l.offloaded = new(Offloaded)
	}
	l.executor = executor[C]{loop: l, scratch: newScratch(cfg.Scratch)}
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
	l.timer = time.AfterFunc(time.Hour, func() { l.Wake() })
	l.timer.Stop()
	return l, nil
}

// Halt ends a loop that runs, and waits until it has ended: for the handler's method that runs, and for the last OnRelease. Any
// other goroutine.
func (l *Loop[C]) Halt() {
	close(l.quit)
	l.signal()
	<-l.gone
}

// Close frees what a loop holds that has ended, or never ran.
func (l *Loop[C]) Close() {
	l.timer.Stop()
	l.wakeMu.Lock()
	l.stopped = true
	l.waker.close()
	l.wakeMu.Unlock()
	_ = l.poller.Close()
}

func (l *Loop[C]) halted() bool {
	select {
	case <-l.quit:
		return true
	default:
		return false
	}
}

// Handler returns the loop's handler. Any goroutine.
func (l *Loop[C]) Handler() Handler[C] { return l.handler }

// Now returns the time on the loop's clock. Any goroutine.
func (l *Loop[C]) Now() time.Duration { return l.clock.Now() }

// Len returns how many connections are open. Any goroutine.
func (l *Loop[C]) Len() int { return int(l.size.Load()) }

// WakeUps returns how many times the loop was woken for its connections. Any goroutine.
func (l *Loop[C]) WakeUps() uint64 { return l.wakeUps.Load() }

// Conns returns the connections that are open now. Any goroutine.
func (l *Loop[C]) Conns() []*Conn[C] {
	l.connsMu.Lock()
	defer l.connsMu.Unlock()
	return append([]*Conn[C](nil), l.conns...)
}

func (l *Loop[C]) enlist(c *Conn[C]) {
	l.connsMu.Lock()
	c.index = int32(len(l.conns))
	l.conns = append(l.conns, c)
	l.connsMu.Unlock()
	l.size.Add(1)
}

func (l *Loop[C]) delist(c *Conn[C]) {
	l.connsMu.Lock()
	last := len(l.conns) - 1
	moved := l.conns[last]
	l.conns[c.index], moved.index = moved, c.index
	l.conns[last] = nil
	l.conns = l.conns[:last]
	c.index = notOpen
	l.connsMu.Unlock()
	l.size.Add(-1)
}

// Clock is a monotonic clock that several loops and their owner share.
type Clock struct{ started time.Time }

// NewClock returns a clock that begins now.
func NewClock() Clock { return Clock{time.Now()} }

// Now is never 0, which stands for "no time" everywhere.
func (c Clock) Now() time.Duration { return time.Since(c.started) + time.Second }
