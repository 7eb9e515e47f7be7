package session_test

import (
	"runtime"
	"slices"
	"time"

	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

// some returns n random bytes.
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

// after sets a timer, or stops one.
func (m *simSession) after() {
	s := m.sim
	if n := len(m.timers); n > 0 && s.IntN(3) == 0 {
		t := m.timers[s.IntN(n)]
		in := t.stop()
		s.note("%d: stops a timer: %t", m.n, in)
		if !in && !t.over && !m.c.Closed && m.h.Err() != nil { // cancelled with the session, which is being closed at this moment
			t.over, m.closing = true, true
		}
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

// inside is what the application does in a callback.
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
	var before [simSessions]struct{ paused, ending, finished bool }
	for i, m := range s.sessions {
		before[i].paused, before[i].ending, before[i].finished = m.paused, m.ending, m.finished
	}
	if s.IntN(4) == 0 {
		s.rest()
	}
	s.sessions[s.IntN(len(s.sessions))].act()
	for i, m := range s.sessions { // one may speak in a group and end the others
		m.late = m.late || m.paused && !before[i].paused || m.ending && !before[i].ending
		m.lateFIN = m.lateFIN || m.finished && !before[i].finished
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
		return // the model does not foresee which sessions a Broadcast reaches then
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
			excepted = append(excepted, o.handler) // it may still accept, while its queue lasts
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
			m.peerFinishes(true)
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
	case r < 99:
		s.rest()
	default:
		c.Room()
	}
}

// rest has the watchdog rest, if no callback runs.
func (s *sim) rest() {
	w := s.loop.Scratch()
	runs, calls := w.Running() != session.Running{}, w.Calls()
	if ok := w.Rest(calls); ok == runs {
		s.failf("a callback runs: %t, and the watchdog may rest: %t", runs, ok)
	} else if ok {
		s.note("the watchdog rests")
		s.stats.rests++
		s.rests, s.rested = true, calls
	}
}

// stirred is called by the first callback since rest.
func (s *sim) stirred() {
	if now := s.loop.Scratch().Calls(); !s.rests || now != s.rested+1 {
		s.failf("stirred by callback %d, at rest: %t, since %d", now, s.rests, s.rested)
	}
	s.rests = false
}
