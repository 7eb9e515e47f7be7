// Package testkit drives sessions without sockets, for tests.
//
//	[Loop]     an event loop of one goroutine: mailbox, Again, deadlines, a clock
//	[Conn]     a session.Transport in memory (transport.go), the kernel's buffers and the peer (conn.go)
//	[Handler]  a session.Handler that records its callbacks and reports forbidden ones
//
// Besides it has [Crowd], for tests of a process with many goroutines.
//
// A test has two ways to run a loop. It can run the loop on its own goroutine, with Run, Advance or Conn.Serve, and a clock that only
// Advance and Skip move. Or it can give the loop a goroutine, with Start, and the time of package time, which is virtual under
// testing/synctest. Faults returns every violation of the rules between a session, its transport and its handler.
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

// Loop is an event loop. Its methods must be called on the loop's goroutine, except Do, Faults and Wakeups.
type Loop struct {
	Shared *session.Loop

	// Isolate gives each visit a goroutine of its own, so that a handler may call runtime.Goexit.
	Isolate bool

	scratch *session.Scratch
	conns   []*Conn       // connections whose Done was not called
	again   []*Conn       // connections whose Again was called
	now     time.Duration // the clock; of a started loop, the clock at Start
	epoch   time.Time     // when a started loop was started
	inside  atomic.Bool   // a visit is in progress

	mu      sync.Mutex
	mail    []*Conn
	jobs    []func()
	wakeups int
	faults  []string

	bell chan struct{}
	quit chan struct{}
	gone chan struct{}
}

// NewLoop returns a loop whose clock shows one second.
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

// Scratch returns what shows the callback that runs.
func (l *Loop) Scratch() *session.Scratch { return l.scratch }

// Bind makes a connection for h, framed if framing is not nil. It does not call OnConnected.
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

// BindLayer is Bind for a session with a layer whose handshake is done and whose own bytes are out. more is as for Driver.UseLayer.
func (l *Loop) BindLayer(h session.Handler, framing *session.Framing, layer session.Layer, more bool) (*Conn, error) {
	c, err := l.Bind(h, framing)
	if err == nil {
		c.Driver.UseLayer(layer, more)
	}
	return c, err
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

// Live returns the connections of all sessions that have not ended.
func (l *Loop) Live() []*Conn { return slices.Clone(l.conns) }

// Now returns the loop's time.
func (l *Loop) Now() time.Duration {
	if !l.epoch.IsZero() {
		return l.now + time.Since(l.epoch)
	}
	return l.now
}

// Run visits sessions until no visit is due. It is a fault if that takes more than 100,000 visits.
func (l *Loop) Run() {
	for range 100_000 {
		if !l.step() {
			return
		}
	}
	l.fault("a visit is still due after 100,000 visits")
}

// Advance calls Run, then moves the clock by d. It stops at each deadline on the way and calls Run there.
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

// Skip moves the clock by d without a visit, like a loop that was blocked for that time.
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

// step runs one job of Do or makes one visit, and reports whether there was one. The order is that of an engine: events and deadlines of
// connections, the mailbox, and the connections that called Again.
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

// Start gives the loop a goroutine of its own. Until Stop, its methods must be called in Do.
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

// Stop ends a started loop and waits for its goroutine. From then on the loop belongs to the caller's goroutine.
func (l *Loop) Stop() {
	close(l.quit)
	<-l.gone
	l.now, l.epoch = l.Now(), time.Time{}
}

// Do runs f on the goroutine of a started loop and waits for it. It must not be called from callbacks.
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

// Abort ends all sessions and calls Run. It is a fault if a session is left.
func (l *Loop) Abort() {
	for _, c := range l.Live() {
		c.Driver.Kill(session.ErrShutdown)
	}
	l.Run()
	if n := len(l.conns); n > 0 {
		l.fault("%d sessions have not ended after Abort", n)
	}
}

// Wakeups returns how often the first connection entered the empty mailbox. Each time an engine would wake its loop.
func (l *Loop) Wakeups() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wakeups
}

// Faults returns the faults found so far, 20 at most.
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
		l.fault("Wake again before the Turn of the Wake before")
	}
	l.ring()
}

// Inside runs f as a visit, for tests that call the Driver themselves.
func (l *Loop) Inside(f func()) { l.visit(f) }

// visit runs f, which calls into a session, on the loop's goroutine or, with Isolate, on a goroutine of its own.
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
