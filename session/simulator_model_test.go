package session_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

// sim is one run.
type sim struct {
	*rand.Rand
	loop      *testkit.Loop
	limits    session.Limits
	sessions  []*simSession
	groups    [3]session.Group
	source    []byte // contents are cut from it
	calm      bool   // applications and kernels behave, for the end of the run
	goexit    bool
	deny      int    // percent of writes that find no room, no memory or a broken connection
	depth     int    // callbacks under way, of all sessions
	disturbed bool   // others came in during the visit that is under way, or the last one
	away      bool   // they are at it
	rests     bool   // the watchdog, until a callback stirs it
	rested    uint64 // callbacks that had begun when it went to rest
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
	layer    *simLayer   // nil for none
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
	closing  bool        // a timer was cancelled with the session
	marked   bool        // OnWritable(false) is owed, or was the last word
	rate     *session.Rate
	echo     bool    // answers each byte with a byte
	wishes   bool    // the application calls methods in its callbacks
	member   [3]bool // of the groups, until its end
	paused   bool    // last asked: PauseRecv
	late     bool    // that, or the end, was asked for while the loop was at work: an OnRecv, or OnHalfClose, may be on its way
	lateFIN  bool    // CloseWrite came while the loop was at work: OnHalfClose may be on its way
	closed   bool    // Send has returned ErrClosed
	ending   bool    // Disconnect or Abort was called
	aborted  bool
	stopped  bool // Driver.End was called
	calling  int  // its callbacks that run
	spared   bool // End was called in one of them: Send goes on until it returns
	fin      bool // the peer has finished
	broken   bool // the peer has reset, or a write was told so
	failing  bool // the handler has failed
	cutShort bool // and the connection was still there
	handler  session.Handler
	lasting  bool // the application goes on when the peer has finished
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

func (m *simSession) writable(h *testkit.Handler, writable bool) {
	s := m.sim
	s.stats.marks++
	switch {
	case s.limits.HighWater == 0:
		s.failf("%d: OnWritable without marks", m.n)
	case !writable && !m.marked:
		s.failf("%d: OnWritable(false) and nothing was above the mark", m.n)
	case writable && m.backlog() >= s.limits.LowWater:
		s.failf("%d: OnWritable(true) with a backlog of %d bytes", m.n, m.backlog())
	case m.ending || m.framing == nil && h.Send(nil) != nil:
		s.failf("%d: OnWritable(%t) when Send no longer accepts", m.n, writable)
	}
	if writable {
		m.marked = false
	}
	m.inside("OnWritable")
}

// take compares what leaves with what was accepted (I5).
func (m *simSession) take(p []byte) {
	if m.layer != nil {
		m.layer.take(p)
		return
	}
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
	if m.halved || !m.fin || m.got < len(m.sent) && !m.layer.cut() || m.ending && !m.late || m.finished && !m.lateFIN {
		s.failf("%d: OnHalfClose: again %t, finished by the peer %t, %d of %d bytes brought, ending %t, finished %t", m.n, m.halved,
			m.fin, m.got, len(m.sent), m.ending, m.finished)
	}
	m.halved = true
	s.stats.halves++
	m.inside("OnHalfClose")
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

// is reports whether h is the session's handler.
func (m *simSession) is(h session.Handler) bool { return h == m.handler || h == session.Handler(m.h) }

// raised follows a Send that was accepted.
func (m *simSession) raised() {
	if mark := m.sim.limits.HighWater; mark > 0 && m.backlog() > mark {
		m.marked = true
	}
}

// shed reports whether the session may be being ended for the budget, which need not be its first reason, nor its second: its
// queue may have been dropped then, and is not counted yet.
func (m *simSession) shed() bool {
	err := m.h.Err()
	return !m.c.Closed && (errors.Is(err, session.ErrSendBudget) || err != nil && m.aborted && m.sim.limits.Budget != nil)
}

// silence returns how long the peer may be silent now, 0 if for ever.
func (m *simSession) silence() time.Duration {
	l := &m.sim.limits
	if m.neverHeard() && l.FirstByte > 0 && (l.Idle == 0 || l.FirstByte < l.Idle) {
		return l.FirstByte
	}
	return l.Idle
}

func (s *sim) connect() {
	m := &simSession{sim: s, n: len(s.sessions), echo: s.IntN(4) == 0, wishes: s.IntN(3) > 0}
	m.h = &testkit.Handler{Quiet: true, Recv: m.recv, Sent: m.onSend}
	m.h.Writable = m.writable
	m.h.Connected = func(*testkit.Handler) { m.inside("OnConnected") }
	m.h.Disconnected = func(*testkit.Handler) { m.inside("OnDisconnected") }
	var handler session.Handler = m.h
	if m.lasting = s.IntN(4) == 0; m.lasting {
		h := &testkit.HalfOpen{Handler: testkit.Handler{Quiet: true, Recv: m.recv, Sent: m.onSend}, HalfClosed: m.halfClose}
		h.Connected, h.Disconnected, h.Writable = m.h.Connected, m.h.Disconnected, m.h.Writable
		handler, m.h = h, &h.Handler
	}
	var shared *session.Framing
	if s.IntN(2) == 0 {
		m.framing = simFramings[s.IntN(len(simFramings))]
		shared = m.framing.shared
	}
	if s.IntN(3) == 0 {
		m.layer = s.newLayer(m)
		if m.framing != nil {
			shared = m.framing.shared
		}
	}
	c, err := s.loop.Bind(handler, shared)
	if err != nil {
		panic(err)
	}
	m.c, m.handler = c, handler
	if m.layer != nil {
		c.Driver.UseLayer(m.layer.ofSession(), false)
		c.Look = m.layer.offered
		s.stats.layered++
	}
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
	s.note("%d: connect: kernel %d, write %d, chunk %d, echo %t, framed %t, layer %v", m.n, c.Kernel, c.MaxWrite, c.Chunk, m.echo, m.framing != nil, m.layer)
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
