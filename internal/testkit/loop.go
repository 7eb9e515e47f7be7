// Package testkit drives sessions without sockets, for tests.
//
//	[Loop]     an event loop of one goroutine: mailbox, Again, deadlines, a clock
//	[Conn]     a session.Transport in memory, with the peer's end of it
//	[Handler]  content that records its callbacks and finds forbidden ones
//
// A test either takes the loop's place, with Run, Advance or Conn.Serve on its own goroutine and a clock that
// only Advance moves, or lets the loop have a goroutine of its own, with Start, and time as package time tells
// it (under testing/synctest: virtual). Whatever breaks the rules between a session, its transport and its
// content is collected in Faults.
package testkit

import (
	"fmt"
	"math"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/servercore-go/servercore/session"
)

// Loop is an event loop. Its methods belong to one goroutine, the loop's, but for Do, Faults and Wakeups.
type Loop struct {
	Shared *session.Loop

	// Isolate gives each visit to a session a goroutine of its own, so that content may call runtime.Goexit.
	Isolate bool

	scratch *session.Scratch
	conns   []*Conn // those not done
	again   []*Conn
	now     time.Duration
	epoch   time.Time   // of a started loop
	inside  atomic.Bool // a visit is under way

	mu      sync.Mutex
	mail    []*Conn
	jobs    []func()
	wakeups int
	faults  []string

	bell chan struct{}
	quit chan struct{}
	gone chan struct{}
}

// NewLoop returns a loop whose clock stands at one second.
func NewLoop(limits session.Limits) *Loop {
	return &Loop{
		Shared:  session.NewLoop(limits),
		scratch: session.NewScratch(),
		now:     time.Second,
		bell:    make(chan struct{}, 1),
		quit:    make(chan struct{}),
		gone:    make(chan struct{}),
	}
}

var (
	local  = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}
	remote = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2}
)

// Bind makes a connection for h, framed if framing is not nil, and does not call OnConnected yet.
func (l *Loop) Bind(h session.Handler, framing *session.Framing) (*Conn, error) {
	c := &Conn{Loop: l, Reads: true}
	if r := record(h); r != nil {
		r.loop = l
	}
	d, err := session.Bind(h, c, l.Shared, framing, local, remote)
	if err != nil {
		return nil, err
	}
	c.Driver = d
	l.conns = append(l.conns, c)
	return c, nil
}

// Connect makes a connection for h and calls OnConnected.
func (l *Loop) Connect(h session.Handler) *Conn {
	c, err := l.Bind(h, nil)
	if err != nil {
		panic(err)
	}
	c.Connected()
	return c
}

// Live returns the connections whose sessions have not ended.
func (l *Loop) Live() []*Conn { return slices.Clone(l.conns) }

// Now returns the loop's time.
func (l *Loop) Now() time.Duration {
	if !l.epoch.IsZero() {
		return l.now + time.Since(l.epoch)
	}
	return l.now
}

// Run visits sessions until none wants a visit. Sessions that never come to rest are a fault.
func (l *Loop) Run() {
	for range 100_000 {
		if !l.step() {
			return
		}
	}
	l.fault("the loop does not come to rest")
}

// Advance runs the loop to rest, moves the clock by d in steps from deadline to deadline, and runs it again.
func (l *Loop) Advance(d time.Duration) {
	l.Run()
	for until := l.now + d; ; {
		at, ok := l.nextDeadline()
		if !ok || at > until {
			l.now = until
			return
		}
		l.now = max(l.now, at)
		l.Run()
	}
}

// Skip moves the clock without serving anything: a loop that was held up.
func (l *Loop) Skip(d time.Duration) { l.now += d }

func (l *Loop) nextDeadline() (time.Duration, bool) {
	at := time.Duration(math.MaxInt64)
	for _, c := range l.conns {
		if c.Armed > 0 && c.Armed < at {
			at = c.Armed
		}
	}
	return at, at < math.MaxInt64
}

// step makes one visit or does one job, in the order an engine would: news of connections, mailbox, deadlines,
// and what was put off by Again.
func (l *Loop) step() bool {
	if l.doJob() {
		return true
	}
	for _, c := range l.conns {
		if v := c.Wants() &^ (Turn | Resume); v != 0 {
			c.Serve(v & -v)
			return true
		}
	}
	l.mu.Lock()
	var c *Conn
	if len(l.mail) > 0 {
		c = l.mail[0]
	}
	l.mu.Unlock()
	if c != nil {
		c.Serve(Turn)
		return true
	}
	if len(l.again) > 0 {
		l.again[0].Serve(Resume)
		return true
	}
	return false
}

func (l *Loop) doJob() bool {
	l.mu.Lock()
	if len(l.jobs) == 0 {
		l.mu.Unlock()
		return false
	}
	job := l.jobs[0]
	l.jobs = l.jobs[1:]
	l.mu.Unlock()
	job()
	return true
}

// Start gives the loop a goroutine of its own. Connect and everything else of the loop is then for Do, until
// Stop.
func (l *Loop) Start() {
	l.epoch = time.Now()
	go func() {
		defer close(l.gone)
		timer := time.NewTimer(time.Hour)
		defer timer.Stop()
		for {
			for l.step() {
			}
			if at, ok := l.nextDeadline(); ok {
				timer.Reset(max(at-l.Now(), 0))
			} else {
				timer.Reset(time.Hour)
			}
			select {
			case <-l.bell:
			case <-timer.C:
			case <-l.quit:
				return
			}
		}
	}()
}

// Stop ends a started loop and waits for its goroutine; the caller's is the loop's from then on.
func (l *Loop) Stop() {
	close(l.quit)
	<-l.gone
	l.now, l.epoch = l.Now(), time.Time{}
}

// Do runs f on the goroutine of a started loop and waits for it. Not from callbacks.
func (l *Loop) Do(f func()) {
	done := make(chan struct{})
	l.mu.Lock()
	l.jobs = append(l.jobs, func() {
		defer close(done)
		f()
	})
	l.mu.Unlock()
	l.ring()
	<-done
}

func (l *Loop) ring() {
	select {
	case l.bell <- struct{}{}:
	default:
	}
}

// Abort ends whatever still lives and runs the loop to rest.
func (l *Loop) Abort() {
	for _, c := range l.Live() {
		c.Driver.Kill(session.ErrShutdown)
	}
	l.Run()
	if n := len(l.conns); n > 0 {
		l.fault("%d sessions survive their abort", n)
	}
}

// Wakeups returns how often the mailbox went from empty to not: what would have cost an engine a wake-up.
func (l *Loop) Wakeups() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wakeups
}

// Faults returns the violations found so far.
func (l *Loop) Faults() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.faults)
}

func (l *Loop) fault(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.faults) < 20 {
		l.faults = append(l.faults, fmt.Sprintf(format, args...))
	}
}

func (l *Loop) post(conns ...*Conn) {
	twice := false
	l.mu.Lock()
	if len(l.mail) == 0 {
		l.wakeups++
	}
	for _, c := range conns {
		if c.mailed {
			twice = true
			continue
		}
		c.mailed = true
		c.wakes++
		l.mail = append(l.mail, c)
	}
	l.mu.Unlock()
	if twice {
		l.fault("Wake while a Turn is owed")
	}
	l.ring()
}

// Inside runs f as a visit of its own, for tests that call the Driver themselves.
func (l *Loop) Inside(f func()) { l.visit(f) }

// visit calls into a session.
func (l *Loop) visit(f func()) {
	if !l.inside.CompareAndSwap(false, true) {
		l.fault("a visit within a visit")
	}
	defer l.inside.Store(false)
	if !l.Isolate {
		f()
		return
	}
	done := make(chan any)
	go func() {
		defer func() { done <- recover() }()
		f()
	}()
	if value := <-done; value != nil {
		panic(value)
	}
}
