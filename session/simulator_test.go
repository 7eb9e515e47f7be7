package session_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/internal/budget"
	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

// The simulator runs sessions of one loop through random schedules, in a world where everything that can happen
// between two instructions of different goroutines happens between two steps: visits in any order, early, late
// and twice; calls from elsewhere and in callbacks; kernels that take any prefix; peers that stop, finish and
// reset; content that fails. It keeps a model of what each session owes and compares after each step.
//
// What it cannot find are errors in the memory order of real goroutines; stress_test.go is for those.

var (
	simSeed  = flag.Int64("seed", -1, "the one seed that TestSimulator runs, with a trace")
	simFor   = flag.Duration("simulate", 0, "for how long TestSimulator runs new seeds, such as 1h, instead of the first ones")
	simSeeds = flag.Uint64("seeds", 0, "how many seeds TestSimulator runs; 0: 10,000, or fewer with -race and -short")
)

const (
	simSteps    = 200
	simSessions = 6 // at the most
)

func TestSimulator(t *testing.T) {
	if *simSeed >= 0 {
		s, err := simulate(uint64(*simSeed), true)
		t.Logf("seed %d:\n%s", *simSeed, strings.Join(s.trace, "\n"))
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	seeds := uint64(10_000)
	switch {
	case *simSeeds > 0:
		seeds = *simSeeds
	case raced:
		seeds = 400
	case testing.Short():
		seeds = 1_000
	}
	var sum simStats
	run := func(seed uint64) {
		s, err := simulate(seed, false)
		if err != nil {
			t.Fatalf("seed %d: %v\nreplay: go test ./session -run TestSimulator -seed=%d", seed, err, seed)
		}
		sum.add(s.stats)
	}
	if *simFor > 0 {
		seeds = simulateFor(t, *simFor, run)
	} else {
		for seed := range seeds {
			run(seed)
		}
	}
	t.Logf("%d seeds: %+v", seeds, sum)
	// A simulator that does nothing finds nothing.
	for what, n := range map[string]int{
		"orderly ends": sum.orderly, "resets": sum.resets, "failures": sum.failures, "blocked writes": sum.blocked,
		"pauses": sum.pauses, "refused sends": sum.refused, "posts": sum.posts, "bytes received": sum.bytesIn,
		"broadcasts": sum.broadcasts, "skipped": sum.skipped, "timeouts": sum.timeouts, "yields": sum.yields,
		"timers": sum.timers, "timers stopped": sum.stopped, "half-closes": sum.halves,
		"ended for the soft limit": sum.soft, "ended for the budget": sum.budget, "marks told": sum.marks, "waits for tokens": sum.waits,
		"ended for the rate": sum.rate, "packets received": sum.packets, "ended by their framer": sum.garbled,
	} {
		if n < int(seeds)/100 {
			t.Errorf("%s: only %d in %d seeds", what, n, seeds)
		}
	}
}

// simulateFor runs seeds that nobody has run before, as many as there is time for, and returns how many.
func simulateFor(t *testing.T, d time.Duration, run func(seed uint64)) (n uint64) {
	first := rand.Uint64() >> 1
	began := time.Now()
	told := began
	for ; time.Since(began) < d; n++ {
		run(first + n)
		if time.Since(told) >= 10*time.Second {
			told = time.Now()
			fmt.Printf("%v of %v: %d seeds from %d on, %d a second\n", time.Since(began).Round(time.Second), d, n+1, first,
				int(float64(n+1)/time.Since(began).Seconds()))
		}
	}
	t.Logf("seeds from %d on", first)
	return n
}

type simStats struct {
	sessions, orderly, resets, failures, blocked, pauses, refused, posts, bytesIn, bytesOut, timeouts, yields, broadcasts, skipped int
	timers, stopped, halves                                                                                                        int
	soft, budget, marks, waits, rate                                                                                               int
	packets, garbled                                                                                                               int
}

func (a *simStats) add(b simStats) {
	a.sessions += b.sessions
	a.orderly += b.orderly
	a.resets += b.resets
	a.failures += b.failures
	a.blocked += b.blocked
	a.pauses += b.pauses
	a.refused += b.refused
	a.posts += b.posts
	a.bytesIn += b.bytesIn
	a.bytesOut += b.bytesOut
	a.timeouts += b.timeouts
	a.yields += b.yields
	a.broadcasts += b.broadcasts
	a.skipped += b.skipped
	a.timers += b.timers
	a.stopped += b.stopped
	a.halves += b.halves
	a.soft += b.soft
	a.budget += b.budget
	a.marks += b.marks
	a.waits += b.waits
	a.rate += b.rate
	a.packets += b.packets
	a.garbled += b.garbled
}

// sim is one run.
type sim struct {
	*rand.Rand
	loop      *testkit.Loop
	limits    session.Limits
	sessions  []*simSession
	groups    [3]session.Group
	source    []byte // contents are cut from it
	calm      bool   // content and kernels behave, for the end of the run
	goexit    bool
	deny      int  // percent of writes that find no room, no memory or a broken connection
	depth     int  // callbacks under way, of all sessions
	disturbed bool // others came in during the visit that is under way, or the last one
	away      bool // they are at it
	failed    error
	tracing   bool
	trace     []string
	stats     simStats
}

// simSession is the model of one session.
type simSession struct {
	sim      *sim
	n        int
	h        *testkit.Handler
	c        *testkit.Conn
	framing  *simFraming // nil for plain bytes
	accepted int         // bytes accepted by Send
	wire     []byte      // the same as they travel
	taken    int         // of wire, by the kernel
	leaving  int         // of taken, by the write that is under way
	out      []simOut    // packets that were not told by OnSend yet
	sent     []byte      // by the peer, whole packets only
	packets  []int       // of sent, and not brought by OnRecv yet: their sizes
	coming   []byte      // what the peer is sending
	rest     []byte      // of it as it travels, what it has not sent
	garbled  bool        // the peer has sent what is no packet
	got      int         // bytes of sent that OnRecv brought
	posted   int         // accepted by Post
	ran      int         // of them
	marked   bool        // OnWritable(false) is owed, or was the last word
	rate     *session.Rate
	echo     bool    // answers each byte with a byte
	wishes   bool    // its content asks for things in callbacks
	member   [3]bool // of the groups, until its end
	paused   bool    // last asked: PauseRecv
	late     bool    // that, or the end, was asked for while the loop was at work: an OnRecv, or OnHalfClose, may be on its way
	closed   bool    // Send has returned ErrClosed
	ending   bool    // Disconnect or Abort was called
	aborted  bool
	stopped  bool // Driver.End was called
	calling  int  // its callbacks that run
	spared   bool // End was called in one of them: Send goes on until it returns
	fin      bool // the peer has finished
	broken   bool // the peer has reset, or a write was told so
	failing  bool // content has failed
	cutShort bool // and the connection was still there
	content  session.Handler
	lasting  bool // its content goes on when the peer has finished
	halved   bool // and was told so
	finished bool // CloseWrite was called
	mayMiss  bool // it was paused, or waited for its rate, when the connection had failed: what was received may be given up
	idle     bool // it was seen to end for that
	timers   []*simTimer
}

// simTimer is the model of an AfterFunc.
type simTimer struct {
	due  time.Duration
	stop func() bool
	over bool // it has run, or was stopped
}

var errSimBroken = errors.New("simulated reset")

func simulate(seed uint64, tracing bool) (s *sim, err error) {
	s = &sim{Rand: rand.New(rand.NewPCG(seed, 0)), tracing: tracing, source: simSource}
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("panic: %v\n%s", value, stack())
		}
	}()
	pick := func(of ...int) int { return of[s.IntN(len(of))] }
	wait := func(of ...time.Duration) time.Duration { return of[s.IntN(len(of))] }
	s.limits = session.Limits{
		SendLimit:  pick(0, 1000, 20_000, 200_000),
		EndSlow:    s.IntN(6) == 0,
		PauseAbove: pick(0, 1, 300, 999),
		Idle:       wait(0, 0, time.Minute),
		FirstByte:  wait(0, 0, 10*time.Second),
		Write:      wait(0, 10*time.Second),
		Drain:      wait(0, 20*time.Second),
		Linger:     wait(0, 2*time.Second),
		SoftLimit:  pick(0, 0, 0, 900),
		SoftFor:    20 * time.Second,
		HighWater:  pick(0, 200, 800),
	}
	s.limits.LowWater = max(s.limits.HighWater/pick(1, 2, 200), 1)
	if s.IntN(5) == 0 {
		s.limits.Budget = budget.New(pick(2000, 20_000, 300_000))
	}
	s.goexit = s.IntN(8) == 0
	s.deny = pick(0, 2, 30)
	s.groups[0].EndSlow = s.IntN(4) == 0
	s.loop = testkit.NewLoop(s.limits)
	s.loop.Isolate = s.goexit
	for range 1 + s.IntN(3) {
		s.connect()
	}
	for i := 0; i < simSteps && s.failed == nil; i++ {
		s.step()
		s.check()
	}
	if s.failed == nil {
		s.settle()
	}
	if s.failed != nil {
		s.loop.Isolate = true
		return s, s.failed
	}
	return s, nil
}

var simSource = func() []byte {
	r := rand.New(rand.NewPCG(1, 2))
	p := make([]byte, 1<<17)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}()

func stack() []byte {
	buf := make([]byte, 4<<10)
	return buf[:runtime.Stack(buf, false)]
}

func (s *sim) failf(format string, args ...any) {
	if s.failed == nil {
		s.failed = fmt.Errorf(format, args...)
		s.note("FAILED: %v", s.failed)
	}
}

func (s *sim) note(format string, args ...any) {
	if s.tracing {
		s.trace = append(s.trace, strings.Repeat("  ", s.depth)+fmt.Sprintf(format, args...))
	}
}

// some returns n bytes of content.
func (s *sim) some(n int) []byte {
	at := s.IntN(len(s.source) - n)
	return s.source[at : at+n]
}

// size returns a length: mostly small, sometimes more than a page, seldom more than the scratch memory.
func (s *sim) size() int {
	switch r := s.IntN(100); {
	case r < 60:
		return 1 + s.IntN(40)
	case r < 92:
		return 1 + s.IntN(900)
	case r < 99:
		return 1 + s.IntN(10_000)
	default:
		return 1 + s.IntN(100_000)
	}
}

func (s *sim) connect() {
	m := &simSession{sim: s, n: len(s.sessions), echo: s.IntN(4) == 0, wishes: s.IntN(3) > 0}
	m.h = &testkit.Handler{Quiet: true, Recv: m.recv, Sent: m.onSend}
	m.h.Writable = m.writable
	m.h.Connected = func(*testkit.Handler) { m.inside("OnConnected") }
	m.h.Disconnected = func(*testkit.Handler) { m.inside("OnDisconnected") }
	var content session.Handler = m.h
	if m.lasting = s.IntN(4) == 0; m.lasting {
		h := &testkit.HalfOpen{Handler: testkit.Handler{Quiet: true, Recv: m.recv, Sent: m.onSend}, HalfClosed: m.halfClose}
		h.Connected, h.Disconnected, h.Writable = m.h.Connected, m.h.Disconnected, m.h.Writable
		content, m.h = h, &h.Handler
	}
	var shared *session.Framing
	if s.IntN(2) == 0 {
		m.framing = simFramings[s.IntN(len(simFramings))]
		shared = m.framing.shared
	}
	c, err := s.loop.Bind(content, shared)
	if err != nil {
		panic(err)
	}
	m.c, m.content = c, content
	if s.IntN(3) == 0 {
		m.rate = s.rate()
		c.Driver.LimitRecv(m.rate)
	}
	c.Kernel = []int{0, 1, 100, 5000, 200_000}[s.IntN(5)]
	c.MaxWrite = []int{0, 0, 7, 3000}[s.IntN(4)]
	c.Chunk = []int{0, 1, 500}[s.IntN(3)]
	c.Plan, c.Take = m.plan, m.take
	c.Meanwhile = func() {
		if !s.away { // a Send in it may look at the clock
			s.away = true
			s.meanwhile()
			s.away, m.leaving = false, 0
		}
	}
	s.sessions = append(s.sessions, m)
	s.stats.sessions++
	s.note("%d: connect: kernel %d, write %d, chunk %d, echo %t, framed %t", m.n, c.Kernel, c.MaxWrite, c.Chunk, m.echo, m.framing != nil)
	if s.IntN(20) == 0 {
		m.act() // somebody knows it before OnConnected
	}
	c.Connected()
}

// rate returns a random one.
func (s *sim) rate() *session.Rate {
	pick := func(of ...int) int { return of[s.IntN(len(of))] }
	r := &session.Rate{BytesPerSecond: pick(0, 1000, 50_000), PacketsPerSecond: pick(0, 3, 50), End: s.IntN(8) == 0}
	r.BurstBytes = max(r.BytesPerSecond*pick(1, 2)/pick(1, 100), 1)
	r.BurstPackets = max(r.PacketsPerSecond/pick(1, 10), 1)
	return r
}

func (m *simSession) writable(h *testkit.Handler, writable bool) {
	s := m.sim
	s.stats.marks++
	switch {
	case s.limits.HighWater == 0:
		s.failf("%d: OnWritable without marks", m.n)
	case !writable && !m.marked:
		s.failf("%d: OnWritable(false) and nothing was above the mark", m.n)
	case writable && m.queued() >= s.limits.LowWater:
		s.failf("%d: OnWritable(true) with %d bytes waiting", m.n, m.queued())
	case m.ending || m.framing == nil && h.Send(nil) != nil:
		s.failf("%d: OnWritable(%t) when Send no longer accepts", m.n, writable)
	}
	if writable {
		m.marked = false
	}
	m.inside("OnWritable")
}

// plan is the kernel's mood.
func (m *simSession) plan(offered int) (int, error) {
	s := m.sim
	if m.aborted {
		s.failf("%d: a write after Abort", m.n)
	}
	if m.broken {
		return 0, errSimBroken
	}
	if s.calm || s.IntN(100) >= s.deny {
		return offered, nil
	}
	switch s.IntN(10) {
	case 0, 1, 2, 3:
		s.stats.blocked++
		return 0, session.ErrWouldBlock
	case 4, 5:
		return 0, session.ErrNoMemory
	case 6:
		m.broken = true
		return 0, errSimBroken
	default:
		return 1 + s.IntN(offered), nil
	}
}

// take compares what leaves with what was accepted (I5).
func (m *simSession) take(p []byte) {
	at := m.taken
	if at+len(p) > len(m.wire) || !bytes.Equal(p, m.wire[at:at+len(p)]) {
		m.sim.failf("%d: the kernel got other bytes than were accepted, %d from byte %d of %d on",
			m.n, len(p), at, len(m.wire))
	}
	m.taken += len(p)
	m.leaving += len(p)
}

func (m *simSession) recv(h *testkit.Handler, p []byte) {
	s := m.sim
	switch late := m.late; {
	case m.ending && (!late || m.framing == nil):
		s.failf("%d: OnRecv after the end was asked for", m.n)
	case m.paused && !late:
		s.failf("%d: OnRecv after PauseRecv", m.n)
	case m.stopped && errors.Is(h.Err(), session.ErrShutdown):
		s.failf("%d: OnRecv after the end has begun", m.n)
	}
	m.late = false
	if m.got+len(p) > len(m.sent) || !bytes.Equal(p, m.sent[m.got:m.got+len(p)]) {
		s.failf("%d: OnRecv brought other bytes than the peer sent", m.n)
	}
	if m.framing != nil {
		if above := s.limits.PauseAbove; above > 0 && m.queued() > above && !s.disturbed { // S7
			s.failf("%d: OnRecv with %d bytes waiting", m.n, m.queued())
		}
		s.stats.packets++
		if len(m.packets) == 0 || len(p) != m.packets[0] {
			s.failf("%d: OnRecv brought %d bytes of packets of %v", m.n, len(p), m.packets)
			return
		}
		m.packets = m.packets[1:]
	}
	m.got += len(p)
	s.stats.bytesIn += len(p)
	if m.echo && !m.closed {
		m.accept(h.Send(p), p)
	}
	m.inside("OnRecv")
}

func (m *simSession) onSend(h *testkit.Handler, n int) {
	before := len(m.out)
	for len(m.out) > 0 && m.out[0].end <= m.taken {
		n -= m.out[0].size
		m.out = m.out[1:]
	}
	switch {
	case m.framing == nil && h.SentSum != m.taken:
		m.sim.failf("%d: OnSend makes %d, the kernel took %d", m.n, h.SentSum, m.taken)
	case m.framing != nil && n != 0:
		m.sim.failf("%d: OnSend told %d bytes more than left in whole packets", m.n, n)
	case m.framing != nil && len(m.out) == before:
		m.sim.failf("%d: OnSend of a write that completed no packet", m.n)
	}
	m.inside("OnSend")
}

func (m *simSession) halfClose(*testkit.Handler) {
	s := m.sim
	if m.halved || !m.fin || m.got < len(m.sent) || m.ending && !m.late || m.finished {
		s.failf("%d: OnHalfClose: again %t, finished by the peer %t, %d of %d bytes brought, ending %t, finished %t", m.n, m.halved,
			m.fin, m.got, len(m.sent), m.ending, m.finished)
	}
	m.halved = true
	s.stats.halves++
	m.inside("OnHalfClose")
}

// after sets a timer, or stops one.
func (m *simSession) after() {
	s := m.sim
	if n := len(m.timers); n > 0 && s.IntN(3) == 0 {
		t := m.timers[s.IntN(n)]
		in := t.stop()
		s.note("%d: stops a timer: %t", m.n, in)
		if in == (t.over || m.c.Closed) {
			s.failf("%d: a timer was stopped %t, over %t, closed %t", m.n, in, t.over, m.c.Closed)
		}
		if in {
			t.over = true
			s.stats.stopped++
		}
		return
	}
	d := []time.Duration{-1, 0, time.Millisecond, 10 * time.Second}[s.IntN(4)]
	t := &simTimer{due: s.loop.Now() + max(d, 0), over: m.c.Closed}
	s.note("%d: AfterFunc(%v)", m.n, d)
	t.stop = m.h.AfterFunc(d, m.h.Posted("AfterFunc", func() {
		for _, o := range m.timers {
			if o == t {
				break
			}
			if !o.over && o.due <= t.due {
				s.failf("%d: a timer overtakes another", m.n)
			}
		}
		if t.over || s.loop.Now() < t.due || m.c.Closed {
			s.failf("%d: a timer runs: over %t, %v early, closed %t", m.n, t.over, t.due-s.loop.Now(), m.c.Closed)
		}
		t.over = true
		s.stats.timers++
		m.inside("AfterFunc")
	}))
	m.timers = append(m.timers, t)
}

// nextTimer returns when the next one is due, 0 if there is none.
func (m *simSession) nextTimer() (due time.Duration) {
	for _, t := range m.timers {
		if !t.over && (due == 0 || t.due < due) {
			due = t.due
		}
	}
	return due
}

// inside is content in a callback.
func (m *simSession) inside(callback string) {
	s := m.sim
	s.note("%d: %s", m.n, callback)
	if s.calm || !m.wishes {
		return
	}
	s.depth++
	m.calling++
	defer func() {
		s.depth--
		m.calling--
		m.spared = false
	}()
	for s.IntN(3) == 0 {
		if s.IntN(5) == 0 {
			s.sessions[s.IntN(len(s.sessions))].act() // any session's methods may be called
		} else {
			m.act()
		}
	}
	if s.IntN(300) == 0 {
		m.failing = true
		m.cutShort = m.cutShort || !m.c.Closed
		s.stats.failures++
		s.note("%d: fails in %s", m.n, callback)
		if s.goexit {
			runtime.Goexit()
		}
		panic("simulated")
	}
}

// meanwhile is what other goroutines do while a session is at work.
func (s *sim) meanwhile() {
	if s.calm || s.IntN(20) > 0 {
		return
	}
	s.depth++
	s.note("meanwhile")
	s.disturbed = true
	var before [simSessions]struct{ paused, ending bool }
	for i, m := range s.sessions {
		before[i].paused, before[i].ending = m.paused, m.ending
	}
	s.sessions[s.IntN(len(s.sessions))].act()
	for i, m := range s.sessions { // one may speak in a group and end the others
		m.late = m.late || m.paused && !before[i].paused || m.ending && !before[i].ending
	}
	s.depth--
}

// act calls one method of a session, inside a callback or elsewhere.
func (m *simSession) act() {
	s, h := m.sim, m.h
	switch r := s.IntN(100); {
	case r < 45:
		p := s.some(s.size())
		s.note("%d: Send(%d)", m.n, len(p))
		m.accept(h.Send(p), p)
	case r < 54:
		m.membership()
	case r < 60:
		p := s.some(s.size())
		s.note("%d: SendBuffer(%d)", m.n, len(p))
		b := buffer(string(p))
		if s.IntN(3) == 0 { // to many
			for _, o := range s.sessions {
				o.accept(o.h.SendBuffer(b.Retain()), p)
			}
		}
		m.accept(h.SendBuffer(b), p)
	case r < 72:
		m.post()
	case r < 75:
		m.after()
	case r < 83:
		s.note("%d: PauseRecv", m.n)
		m.paused = true
		h.PauseRecv()
	case r < 93:
		s.note("%d: ResumeRecv", m.n)
		m.paused = false
		h.ResumeRecv()
	case r < 97:
		if s.IntN(3) > 0 {
			return
		}
		s.note("%d: Disconnect", m.n)
		m.ending = true
		h.Disconnect()
	case r < 98:
		if s.IntN(3) > 0 {
			return
		}
		s.note("%d: CloseWrite", m.n)
		m.finished = true
		h.CloseWrite()
	case r < 99:
		if s.IntN(3) > 0 {
			return
		}
		s.note("%d: Abort", m.n)
		m.ending, m.aborted = true, true
		h.Abort()
	default:
		if s.IntN(3) > 0 {
			return
		}
		s.note("%d: End", m.n)
		m.stopped = true
		m.spared = m.calling > 0 && h.Err() == nil && !m.closed && !m.finished && s.limits.Budget == nil
		m.c.Driver.End(session.ErrShutdown)
	}
}

// membership is what one does in groups.
func (m *simSession) membership() {
	s, i := m.sim, m.sim.IntN(len(m.sim.groups))
	if s.limits.Budget != nil {
		return // whom a Broadcast reaches then is not foreseen here
	}
	g := &s.groups[i]
	switch s.IntN(4) {
	case 0:
		s.note("%d: leaves group %d", m.n, i)
		g.Leave(m.h)
		m.member[i] = false
	case 1:
		s.note("%d: joins group %d", m.n, i)
		g.Join(m.h)
		m.member[i] = !m.c.Closed
	default:
		s.broadcast(i, m)
	}
}

// broadcast speaks in a group, now and then to all but one session.
func (s *sim) broadcast(i int, except *simSession) {
	size := s.size()
	if s.IntN(3) == 0 {
		size = 1 + s.IntN(30_000) // more than many may have queued
	}
	g, p := &s.groups[i], s.some(size)
	var excepted []session.Handler
	if s.IntN(2) == 0 {
		excepted = []session.Handler{except.h}
	}
	for _, o := range s.sessions {
		if o.framing != nil && !o.accepts() {
			excepted = append(excepted, o.content) // it may still accept, while its queue lasts
		}
	}
	s.note("Broadcast(%d) in group %d, but for %d: %d", len(p), i, len(excepted), except.n)
	want, skipped := 0, 0
	var raised []*simSession
	for _, o := range s.sessions {
		wire, err := o.framed(p)
		switch {
		case !o.member[i] || o.c.Closed || slices.ContainsFunc(excepted, o.is) || err != nil || !o.accepts():
		case s.limits.SendLimit > 0 && o.queued()+len(wire) > s.limits.SendLimit:
			skipped++
			if g.EndSlow || s.limits.EndSlow {
				o.ending, o.aborted = true, true
			}
		default:
			want++
			raised = append(raised, o)
		}
	}
	before := g.Skipped()
	n := g.Broadcast(p, excepted...)
	for _, o := range raised {
		o.took(p)
	}
	if n != want {
		s.failf("a Broadcast in group %d reached %d, want %d", i, n, want)
	}
	if n := int(g.Skipped() - before); n != skipped {
		s.failf("a Broadcast in group %d skipped %d, want %d", i, n, skipped)
	}
	for _, o := range raised {
		o.raised()
	}
	s.stats.broadcasts++
	s.stats.skipped += skipped
}

// accept notes how a Send went.
func (m *simSession) accept(err error, p []byte) {
	s := m.sim
	wire, refusal := m.framed(p)
	switch {
	case refusal != nil && !errors.Is(err, session.ErrClosed):
		if !errors.Is(err, frame.ErrTooLarge) || m.closed || m.ending || m.finished {
			s.failf("%d: Send: %v, want %v, or ErrClosed after the end", m.n, err, refusal)
		}
	case err == nil:
		if m.closed || m.ending || m.finished {
			s.failf("%d: Send accepted after ErrClosed or the end was asked for", m.n)
		}
		m.took(p)
		m.raised()
	case errors.Is(err, session.ErrSendBudget):
		s.stats.refused++
		if s.limits.Budget == nil || len(p) == 0 {
			s.failf("%d: refused %d bytes for the budget", m.n, len(p))
		}
	case errors.Is(err, session.ErrClosed):
		m.closed = true
		if m.h.Err() == nil && !m.finished {
			s.failf("%d: ErrClosed without a reason", m.n)
		}
		if m.spared && !m.ending && !m.finished { // E4
			s.failf("%d: ErrClosed in the callback that the end finds running", m.n)
		}
	case errors.Is(err, session.ErrSendLimit):
		s.stats.refused++
		if limit := s.limits.SendLimit; limit <= 0 || m.queued()+len(wire) <= limit {
			s.failf("%d: refused %d bytes with %d of %d waiting", m.n, len(wire), m.queued(), limit)
		}
		if s.limits.EndSlow {
			m.ending, m.aborted = true, true
		}
	default:
		s.failf("%d: Send: %v", m.n, err)
	}
}

// is reports whether h is the session's content.
func (m *simSession) is(h session.Handler) bool { return h == m.content || h == session.Handler(m.h) }

// raised follows a Send that was accepted.
func (m *simSession) raised() {
	if mark := m.sim.limits.HighWater; mark > 0 && m.queued() > mark {
		m.marked = true
	}
}

func (m *simSession) post() {
	s := m.sim
	number := m.posted
	err := m.h.Post(m.h.Posted("", func() {
		if number != m.ran {
			s.failf("%d: post %d ran, want %d", m.n, number, m.ran)
		}
		m.ran++
		s.stats.posts++
		m.inside("Post")
	}))
	s.note("%d: Post: %v", m.n, err)
	switch {
	case err == nil:
		m.posted++
	case m.h.Over == 0 && !m.c.Closed && m.h.Err() == nil:
		s.failf("%d: Post refused by an open session: %v", m.n, err)
	}
}

// step is one event of the world.
func (s *sim) step() {
	m := s.sessions[s.IntN(len(s.sessions))]
	c := m.c
	switch r := s.IntN(100); {
	case r < 45: // something that waits is served
		if v := c.Wants(); v != 0 {
			for one := testkit.Visit(1) << s.IntN(7); ; one = testkit.Visit(1) << s.IntN(7) {
				if v&one != 0 {
					s.visit(m, one)
					return
				}
			}
		}
	case r < 70:
		m.act()
	case r < 80:
		if !m.fin && !m.broken && !m.garbled && !c.Closed {
			m.peerSends()
		}
	case r < 90:
		n := s.size()
		s.note("%d: the peer reads %d of %d", m.n, n, c.Held())
		c.PeerRead(n)
	case r < 93:
		d := []time.Duration{time.Millisecond, time.Second, 15 * time.Second}[s.IntN(3)]
		s.note("the clock moves by %v", d)
		s.loop.Skip(d)
	case r < 95: // a deadline too early, or news that is none
		if !c.Closed {
			s.visit(m, []testkit.Visit{testkit.Expire, testkit.Writable}[s.IntN(2)])
		}
	case r < 96:
		if !c.Closed {
			s.note("%d: the peer finishes", m.n)
			m.fin = true
			c.PeerFIN()
		}
	case r < 97:
		if s.IntN(4) == 0 && !c.Closed && !m.broken {
			s.note("%d: the peer resets", m.n)
			m.broken = true
			c.PeerReset(errSimBroken)
		}
	case r < 98:
		if len(s.sessions) < simSessions {
			s.connect()
		}
	default:
		c.Room()
	}
}

var visitNames = map[testkit.Visit]string{
	testkit.Reset: "reset", testkit.Writable: "writable", testkit.Input: "input", testkit.FIN: "FIN",
	testkit.Expire: "expire", testkit.Turn: "turn", testkit.Resume: "resume",
}

func (s *sim) visit(m *simSession, v testkit.Visit) {
	s.note("%d: %s", m.n, visitNames[v])
	if v == testkit.Resume && m.h.Pending() > 0 {
		s.stats.yields++
	}
	s.disturbed = false
	for _, o := range s.sessions {
		o.late = false
	}
	s.depth++
	m.c.Serve(v)
	s.depth--
	s.note("%d: has %d of %d waiting, wants %b, Err %v", m.n, m.h.Pending(), m.accepted, m.c.Wants(), m.h.Err())
}

// check compares sessions and models, between two steps.
func (s *sim) check() {
	waiting, accepted, told, taken, shed := 0, 0, 0, 0, 0
	for _, m := range s.sessions {
		m.check()
		waiting += m.h.Pending()
		accepted += m.accepted
		told += m.h.SentSum
		taken += m.taken
		if m.shed() && !m.failing && !(m.broken && !m.c.Untold()) { // a failed connection's queue is counted at once
			shed += m.accepted - m.h.SentSum - m.h.Pending()
		}
	}
	k := &s.loop.Shared.Counters
	if sum := told + int(k.BytesDropped.Load()) + waiting + shed; sum != accepted {
		s.failf("accepted %d, but %d told + %d dropped + %d waiting", accepted, told, k.BytesDropped.Load(), waiting)
	}
	if out := int(k.BytesOut.Load()); out != taken {
		s.failf("the kernels took %d bytes, %d are counted", taken, out)
	}
	s.checkMemory()
	for i := range s.groups {
		var want []session.Handler
		for _, m := range s.sessions {
			if m.member[i] && !m.c.Closed {
				want = append(want, m.content)
			}
		}
		n := s.groups[i].Len()
		for h := range s.groups[i].All() {
			if n--; !slices.Contains(want, h) {
				s.failf("group %d has a member that left or ended", i)
			}
		}
		if n != 0 || s.groups[i].Len() != len(want) {
			s.failf("group %d has %d members, want %d", i, s.groups[i].Len(), len(want))
		}
	}
	if faults := s.loop.Faults(); faults != nil {
		s.failf("%s", strings.Join(faults, "; "))
	}
}

// shed reports whether the session may be being ended for the budget, which need not be its first reason, nor its second: its
// queue may have been dropped then, and is not counted yet.
func (m *simSession) shed() bool {
	err := m.h.Err()
	return !m.c.Closed && (errors.Is(err, session.ErrSendBudget) || err != nil && m.aborted && m.sim.limits.Budget != nil)
}

func (m *simSession) check() {
	s, h, c := m.sim, m.h, m.c
	size, err := h.Pending(), h.Err()
	dropped := m.accepted - h.SentSum - size
	size = m.queued()
	switch {
	case m.owed() != 0: // S4
		s.failf("%d: OnSend told %d, the kernel took %d", m.n, h.SentSum, c.Took)
	case m.framing == nil && h.SentN != c.TookN:
		s.failf("%d: %d OnSend for %d writes", m.n, h.SentN, c.TookN)
	case dropped < 0 || dropped > 0 && !c.Closed && !m.failing && !m.shed() && !m.broken: // S8
		s.failf("%d: accepted %d, sent %d, %d wait, %d lost, Err %v", m.n, m.accepted, h.SentSum, h.Pending(), dropped, err)
	case s.limits.SendLimit > 0 && size > s.limits.SendLimit: // S5
		s.failf("%d: %d bytes wait", m.n, size)
	case c.Closed && size > 0:
		s.failf("%d: closed with %d bytes waiting", m.n, size)
	case c.Closed && !c.WasReset && !m.broken && c.Unacked > 0: // E1, E2
		s.failf("%d: closed with %d bytes that the peer has not", m.n, c.Unacked)
	case h.Begun != 1 || c.Ended && h.Over != 1 || h.Over > 1: // L2
		s.failf("%d: done %t, %d OnConnected, %d OnDisconnected", m.n, c.Ended, h.Begun, h.Over)
	case c.FINSent && size > 0 && !c.Closed:
		s.failf("%d: FIN with %d bytes waiting", m.n, size)
	}
	m.ending = m.ending || m.stopped && errors.Is(err, session.ErrShutdown)
	m.mayMiss = m.mayMiss || m.broken && (m.paused || m.rate != nil)
	if errors.Is(err, session.ErrIdle) && !m.idle { // T4
		m.idle = true
		if silent := s.loop.Now() - c.Heard; m.silence() == 0 || silent < m.silence() || c.Backlog() > 0 {
			s.failf("%d: idle after %v, of %v, with %d bytes to be read", m.n, silent, m.silence(), c.Backlog())
		}
	}
	if wants := c.Wants(); wants&testkit.Turn == 0 && !c.Closed && !m.failing && m.nextTimer() > 0 && (c.Armed == 0 || c.Armed > m.nextTimer()) {
		s.failf("%d: forgets a timer, busy as it is", m.n) // Resume may be asked for again and again, with nothing but writes between
	} else if wants&(testkit.Turn|testkit.Resume) != 0 {
		return
	}
	// From here on: nobody is going to look at the session again, but for news and deadlines. Everything that
	// was asked for must have been done (I4).
	switch {
	case c.Closed && !c.Ended:
		s.failf("%d: closed and not done", m.n)
	case c.Closed:
	case m.ran < m.posted:
		s.failf("%d: forgets a Post", m.n)
	case m.stopped && err == nil:
		s.failf("%d: forgets to end", m.n)
	case m.failing && m.nextTimer() > 0 && (c.Armed == 0 || c.Armed > m.nextTimer()):
		s.failf("%d: forgets a timer", m.n)
	case m.finished && size == 0 && !c.FINSent:
		s.failf("%d: forgets the FIN", m.n)
	case m.finished && m.halved && size == 0 && c.Armed == 0: // otherwise it is looked whether the peer has everything
		s.failf("%d: both sides have finished, and it is open", m.n)
	case size > 0 && !c.Full() && (!c.Retry() || c.Armed == 0):
		s.failf("%d: forgets %d bytes", m.n, size)
	case size > 0 && c.Full() && s.limits.Write > 0 && c.Armed == 0:
		s.failf("%d: forgets WriteTimeout", m.n)
	case size > 0 && c.Full() && s.limits.Write > 0 && c.Armed > max(c.Stuck+s.limits.Write, s.loop.Now()+time.Second/2):
		s.failf("%d: WriteTimeout is late", m.n)
	case m.broken && !c.Untold() && err != nil && !m.paused && !c.Reads && (m.rate == nil || m.rate.End):
		s.failf("%d: what was received before the connection failed is not read", m.n)
	case m.broken && !c.Untold() && m.paused && s.limits.Linger > 0 && c.Armed == 0:
		s.failf("%d: a failed connection is held for ever", m.n)
	case err != nil && size > 0 && s.limits.Drain > 0 && c.Armed == 0:
		s.failf("%d: forgets DrainTimeout", m.n)
	case size > s.limits.SoftLimit && s.limits.SoftLimit > 0 && c.Armed == 0:
		s.failf("%d: forgets the soft limit", m.n)
	case err == nil && c.Reads && size == 0 && !m.halved && m.silence() > 0 && c.Armed == 0:
		s.failf("%d: forgets that the peer is silent", m.n)
	case m.marked && !h.Waits && m.accepts():
		s.failf("%d: forgets OnWritable(false)", m.n)
	case h.Waits && size < s.limits.LowWater && m.accepts():
		s.failf("%d: forgets OnWritable(true) with %d bytes waiting", m.n, size)
	case m.ending && size == 0 && !c.FINSent:
		s.failf("%d: forgets the end", m.n)
	case c.FINSent && err != nil && s.limits.Linger > 0 && c.Armed == 0:
		s.failf("%d: forgets LingerTimeout", m.n)
	case err != nil && !c.Reads && m.ending && c.Wants()&testkit.FIN == 0 && !m.fin:
		s.failf("%d: draining and not reading", m.n)
	case m.halved: // there is nothing to read
	case err == nil && m.paused && c.Reads:
		s.failf("%d: reads while paused", m.n)
	case err == nil && s.limits.PauseAbove > 0 && size > s.limits.PauseAbove && c.Reads: // S7
		s.failf("%d: reads with %d bytes waiting", m.n, size)
	case err == nil && !m.paused && !c.Reads && m.rate != nil && !m.rate.End && c.Armed > 0: // it waits for tokens
		s.stats.waits++
	case err == nil && !m.paused && !c.Reads && (s.limits.PauseAbove <= 0 || size < max(s.limits.PauseAbove/2, 1)):
		s.failf("%d: does not read with %d bytes waiting", m.n, size)
	}
}

// silence returns how long the peer may be silent now, 0 if for ever.
func (m *simSession) silence() time.Duration {
	l := &m.sim.limits
	if m.c.Inputs == 0 && l.FirstByte > 0 && (l.Idle == 0 || l.FirstByte < l.Idle) {
		return l.FirstByte
	}
	return l.Idle
}

// settle lets the world come to rest: nobody asks for anything any more, kernels take what there is room for, peers
// read all, the clock runs on. Then nothing may be left undone.
func (s *sim) settle() {
	s.note("settle")
	s.calm = true
	for _, m := range s.sessions {
		m.c.Chunk, m.c.MaxWrite = 0, 0
		if m.c.Kernel < 5000 || m.rate != nil { // whose input takes its time, and its answers with it
			m.c.Kernel = 0
		}
	}
	for range 2 {
		s.drain()
		for _, m := range s.sessions {
			m.atRest()
			m.paused = false
			m.h.ResumeRecv()
		}
	}
	s.note("the peers finish")
	for _, m := range s.sessions {
		m.fin = true
		m.c.PeerFIN()
	}
	s.drain()
	s.check()
	for _, m := range s.sessions {
		if m.lasting && !m.c.Closed {
			m.finished = true
			m.h.CloseWrite()
		}
	}
	s.drain()
	s.check()
	for _, m := range s.sessions {
		m.atEnd()
	}
	if n := pool.Live(); n != 0 {
		s.failf("%d pooled buffers are live at the end", n)
	}
	if s.failed == nil && len(s.loop.Live()) > 0 {
		s.failf("%d sessions live at the end", len(s.loop.Live()))
	}
}

func (s *sim) drain() {
	for _, d := range []time.Duration{0, time.Second, 5 * time.Second, time.Hour} {
		s.loop.Advance(d)
		for rounds, moved := 0, true; moved && s.failed == nil; rounds++ {
			moved = false
			for _, m := range s.sessions {
				if !m.c.Closed {
					moved = moved || m.c.Held() > 0 || m.c.Full()
					m.c.PeerRead(m.c.Held())
				}
				for v := testkit.Visit(1) << s.IntN(7); m.c.Wants()&v != 0; v = testkit.Visit(1) << s.IntN(7) {
					s.visit(m, v) // not always in the order of Run
				}
			}
			s.loop.Run()
			s.check()
			if rounds > 10_000 {
				s.failf("the sessions do not come to rest")
			}
		}
	}
	s.loop.Advance(time.Second) // until it is seen that the peers have everything
	s.check()
}

// atRest: closed, or open with nothing to do.
func (m *simSession) atRest() {
	s, c := m.sim, m.c
	switch {
	case c.Ended:
	case c.Closed || c.Wants() != 0:
		s.failf("%d: closed %t, wants %b at rest", m.n, c.Closed, c.Wants())
	case m.h.Pending() > 0:
		s.failf("%d: %d bytes wait at rest", m.n, m.h.Pending())
	case m.ran != m.posted:
		s.failf("%d: %d of %d posts ran", m.n, m.ran, m.posted)
	case m.h.Err() == nil && !m.paused && m.got < len(m.sent):
		s.failf("%d: OnRecv brought %d of %d bytes", m.n, m.got, len(m.sent))
	case m.h.Err() == nil && !m.paused && m.garbled:
		s.failf("%d: garbage goes unnoticed", m.n)
	case m.nextTimer() > 0:
		s.failf("%d: a timer waits at rest", m.n)
	case m.h.Err() == nil && m.closed && !m.finished:
		s.failf("%d: open, but Send said ErrClosed", m.n)
	case m.h.Err() != nil && !c.FINSent && !(m.broken && m.paused):
		s.failf("%d: ends for ever: %v", m.n, m.h.Err())
	}
}

// atEnd: how it ended is what its reason says.
func (m *simSession) atEnd() {
	s, c, err := m.sim, m.c, m.h.Err()
	if !c.Ended || m.h.Over != 1 || m.ran != m.posted {
		s.failf("%d: done %t, %d OnDisconnected, %d of %d posts ran at the end", m.n, c.Ended, m.h.Over, m.ran, m.posted)
		return
	}
	is := func(of ...error) bool {
		for _, e := range of {
			if errors.Is(err, e) {
				return true
			}
		}
		return false
	}
	late := is(session.ErrDrainTimeout, session.ErrWriteStall)
	cut := late || m.cutShort || is(session.ErrAborted, session.ErrSendLimit, session.ErrRecvRate, frame.ErrMalformed)
	broken := is(session.ErrPeerReset)
	s.stats.bytesOut += c.Took
	if late || is(session.ErrIdle) {
		s.stats.timeouts++
	}
	if len(c.Switched) > 0 {
		s.stats.pauses++
	}
	switch {
	case is(session.ErrSendBudget):
		s.stats.budget++
	case is(session.ErrSendLimit) && strings.Contains(err.Error(), "soft limit"):
		s.stats.soft++
	case is(session.ErrRecvRate):
		s.stats.rate++
	case is(frame.ErrMalformed):
		s.stats.garbled++
	}
	switch {
	case err == nil:
		s.failf("%d: ended without a reason", m.n)
	case m.failing != is(session.ErrPanic):
		s.failf("%d: failed %t, Err %v", m.n, m.failing, err)
	case broken && !m.broken, c.WasReset && !cut,
		cut && !c.WasReset && !m.broken && !c.FINSent && !(m.fin && c.Took == len(m.wire)): // an Abort may come when all is over
		s.failf("%d: reset by us %t, by the peer %t, Err %v", m.n, c.WasReset, m.broken, err)
	case broken && errors.Is(c.Driver.Reason(), session.ErrPeerReset) && !cut && !m.ending && !m.stopped && !m.failing && !m.mayMiss && !m.garbled && m.got != len(m.sent): // E2c
		s.failf("%d: OnRecv brought %d of %d bytes before the reset", m.n, m.got, len(m.sent))
	case cut || broken:
		s.stats.resets++
	case is(frame.ErrMalformed) && !m.garbled:
		s.failf("%d: no garbage was sent, Err %v", m.n, err)
	case c.Took != len(m.wire): // E1, E2
		s.failf("%d: %d of %d accepted bytes left before an orderly end, Err %v", m.n, c.Took, len(m.wire), err)
	case is(session.ErrPeerClosed) && m.got != len(m.sent):
		s.failf("%d: OnRecv brought %d of %d bytes before the peer's FIN", m.n, m.got, len(m.sent))
	default:
		s.stats.orderly++
	}
}
