package layer_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/budget"
	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

// The simulator runs sessions above the real layers, TLS, WebSocket and WebSocket above TLS, as servers and as clients, through random
// schedules in memory. Bytes come in pieces of any size, kernels take any prefix or nothing, calls come at any time and from callbacks,
// peers finish, cut their stream, reset, send garbage, ping, and do not answer. A model says what each peer must have received and each
// session been told; the peers are crypto/tls itself and a WebSocket written for this.
//
// Keys and nonces are random, their sizes are not: a seed runs the same each time. The simulator of package session has more of what a
// session can meet, above a layer made for tests.

var (
	simSeed  = flag.Int64("seed", -1, "the one seed that TestSimulator runs, with a trace")
	simFor   = flag.Duration("simulate", 0, "for how long TestSimulator runs new seeds, such as 1h, instead of the first ones")
	simSeeds = flag.Uint64("seeds", 0, "how many seeds TestSimulator runs; 0: 1,500, or fewer with -race and -short")
)

const (
	simSteps      = 250
	simSessions   = 4 // at the most
	simMaxMessage = 50_000
)

func TestSimulator(t *testing.T) {
	if *simSeed >= 0 {
		s := simulate(t, uint64(*simSeed), true)
		t.Logf("seed %d:\n%s", *simSeed, strings.Join(s.trace, "\n"))
		if s.failed != nil {
			t.Fatal(s.failed)
		}
		return
	}
	seeds := uint64(1500)
	switch {
	case *simSeeds > 0:
		seeds = *simSeeds
	case raced:
		seeds = 100
	case testing.Short():
		seeds = 400
	}
	sum := map[string]int{}
	run := func(seed uint64) {
		s := simulate(t, seed, false)
		if s.failed != nil {
			t.Fatalf("seed %d: %v\nreplay: go test ./layer -run TestSimulator -seed=%d", seed, s.failed, seed)
		}
		for what, n := range s.stats {
			sum[what] += n
		}
	}
	if *simFor > 0 {
		first := rand.Uint64() >> 1
		t.Logf("seeds from %d on", first)
		for began := time.Now(); time.Since(began) < *simFor; first++ {
			run(first)
		}
		t.Log(sum)
		return
	}
	for seed := range seeds {
		run(seed)
	}
	t.Logf("%d seeds: %v", seeds, sum)
	// A simulator that does nothing finds nothing.
	for _, what := range []string{"orderly ends", "resets", "truncated", "closed by peers", "garbage", "idle", "refused sends", "broadcasts", "messages received",
		"texts received", "messages sent", "close codes", "half-closes", "pings answered", "blocked writes", "TLS 1.2", "TLS 1.3", "wss", "compressed"} {
		if sum[what] < int(seeds)/100 {
			t.Errorf("%s: only %d in %d seeds", what, sum[what], seeds)
		}
	}
}

func simulate(t *testing.T, seed uint64, tracing bool) (s *simWorld) {
	s = &simWorld{Rand: rand.New(rand.NewPCG(seed, 1)), t: t, tracing: tracing, stats: map[string]int{}}
	defer func() {
		if value := recover(); value != nil {
			s.failf("panic: %v\n%s", value, debug.Stack())
		}
	}()
	wait := func(of ...time.Duration) time.Duration { return of[s.IntN(len(of))] }
	s.limits = session.Limits{
		SendLimit:  s.pick(0, 1000, 20_000, 200_000),
		PauseAbove: s.pick(0, 1, 300, 999),
		Idle:       wait(0, 0, time.Minute),
		Write:      wait(0, 10*time.Second),
		Drain:      wait(0, 20*time.Second),
		Linger:     wait(0, 2*time.Second),
		HalfClose:  wait(0, time.Minute),
	}
	if s.IntN(5) == 0 {
		s.limits.Budget = budget.New(s.pick(20_000, 300_000, 3_000_000))
	}
	s.loop = testkit.NewLoop(s.limits)
	for range 1 + s.IntN(2) {
		s.connect()
	}
	for i := 0; i < simSteps && s.failed == nil; i++ {
		s.step()
		s.check()
	}
	if s.failed == nil {
		s.comeToRest()
	}
	if s.failed != nil { // nothing is left for the next seed
		s.loop.Abort()
	}
	return s
}

// step is one event of the world.
func (s *simWorld) step() {
	m := s.sessions[s.IntN(len(s.sessions))]
	c := m.c
	switch r := s.IntN(100); {
	case r < 45: // something that waits is served
		if v := c.Wants(); v != 0 {
			for one := testkit.Visit(1) << s.IntN(7); ; one = testkit.Visit(1) << s.IntN(7) {
				if v&one != 0 {
					s.note("%d: visit %b", m.n, one)
					c.Serve(one)
					return
				}
			}
		}
	case r < 62:
		m.act()
	case r < 72:
		m.peerSends()
	case r < 84:
		m.flush(s.size())
	case r < 90:
		c.PeerRead(s.size())
	case r < 93:
		d := []time.Duration{time.Millisecond, time.Second, 15 * time.Second}[s.IntN(3)]
		s.note("the clock moves by %v", d)
		s.loop.Skip(d)
	case r < 95: // a deadline too early, or news that is none
		if !c.Closed {
			c.Serve([]testkit.Visit{testkit.Expire, testkit.Writable}[s.IntN(2)])
		}
	case r < 98:
		m.peerEnds()
	case r < 99:
		if len(s.sessions) < simSessions {
			s.connect()
		}
	default:
		c.Room()
	}
}

func (s *simWorld) check() {
	for _, m := range s.sessions {
		m.check()
	}
	if faults := s.loop.Faults(); faults != nil {
		s.failf("%s", strings.Join(faults, "; "))
	}
}

// comeToRest lets the world come to rest: kernels take everything, peers send what they have made and read all, the clock runs on. Then
// nothing may be left undone.
func (s *simWorld) comeToRest() {
	s.note("come to rest")
	s.calm = true
	for _, m := range s.sessions {
		m.c.Chunk, m.c.MaxWrite, m.c.Kernel = 0, 0, 0
		m.paused = false
		m.h.ResumeRecv()
	}
	s.drain()
	for _, m := range s.sessions {
		m.atRest()
	}
	s.note("the peers finish")
	for _, m := range s.sessions {
		m.peerFinishes()
	}
	s.drain()
	for _, m := range s.sessions {
		if m.lasting && !m.c.Closed {
			m.finished = true
			m.h.CloseWrite()
		}
	}
	s.drain()
	for _, m := range s.sessions {
		m.atEnd()
	}
	if n := pool.Live(); n != 0 {
		s.failf("%d pooled buffers are live at the end", n)
	}
}

// settle serves everything that waits.
func (s *simWorld) settle() {
	for visits := 0; s.failed == nil; visits++ {
		served := false
		for _, m := range s.sessions {
			if v := m.c.Wants(); v != 0 {
				served = true
				if visits > 20_000 {
					s.failf("%d: still wants %b, reads %t, backlog %d, pending %d, Err %v", m.n, v, m.c.Reads, m.c.Backlog(), m.h.Pending(), m.h.Err())
				}
				m.c.Serve(v & -v)
			}
		}
		if !served {
			return
		}
	}
}

func (s *simWorld) drain() {
	s.settle()
	for _, d := range []time.Duration{0, time.Second, 5 * time.Second, time.Hour} {
		s.loop.Advance(d)
		for rounds := 0; s.failed == nil; rounds++ {
			moved := false
			for _, m := range s.sessions {
				if m.c.Closed {
					continue
				}
				moved = m.flush(1<<20) || moved
				moved = moved || m.c.Held() > 0 || m.c.Full()
				m.c.PeerRead(m.c.Held())
			}
			s.settle()
			s.check()
			if !moved {
				break
			}
			if rounds > 10_000 {
				s.failf("the sessions do not come to rest")
			}
		}
	}
	s.loop.Advance(time.Second)
	s.check()
}

// act is one call of the application's.
func (m *simSession) act() {
	s, h := m.s, m.h
	switch r := s.IntN(100); {
	case r < 40:
		m.send(s.size(), false)
	case r < 55:
		m.send(s.size(), true)
	case r < 65:
		m.broadcast()
	case r < 75:
		s.note("%d: PauseRecv", m.n)
		m.paused, m.everPaused = true, true
		h.PauseRecv()
	case r < 88:
		s.note("%d: ResumeRecv", m.n)
		m.paused = false
		h.ResumeRecv()
	case s.IntN(3) > 0:
	case r < 92:
		s.note("%d: Disconnect", m.n)
		m.ending = true
		h.Disconnect()
	case r < 94:
		s.note("%d: DisconnectWith 4000", m.n)
		m.ending = true
		h.DisconnectWith(fmt.Errorf("enough: %w", &session.CloseError{Code: 4000, Reason: "enough"}))
	case r < 96:
		s.note("%d: CloseWrite", m.n)
		m.finished = true
		h.CloseWrite()
	case r < 98:
		s.note("%d: Abort", m.n)
		m.ending = true
		h.Abort()
	default:
		s.note("%d: End", m.n)
		m.ending = true
		m.c.Driver.End(session.ErrShutdown)
	}
}

// send sends a message.
func (m *simSession) send(n int, text bool) {
	s := m.s
	if m.kind.webSocket && s.IntN(30) == 0 {
		n = 0
	}
	message := simMessage{data: s.some(n)}
	var err error
	if text {
		message = simMessage{m.kind.webSocket, s.text(n)}
		err = m.h.SendText([]byte(message.data))
	} else {
		err = m.h.Send([]byte(message.data))
	}
	s.note("%d: Send %d, text %t: %v", m.n, len(message.data), message.text, err)
	switch {
	case err == nil:
		m.took(message)
	case errors.Is(err, session.ErrSendLimit) || errors.Is(err, session.ErrSendBudget):
		s.stats["refused sends"]++
	case m.h.Err() == nil && !m.finished && !m.ending:
		s.failf("%d: Send refused by an open session: %v", m.n, err)
	}
}

func (m *simSession) took(message simMessage) {
	m.accepted, m.acceptedBytes = append(m.accepted, message), m.acceptedBytes+len(message.data)
	m.s.stats["messages sent"]++
}

// broadcast speaks in the room.
func (m *simSession) broadcast() {
	s := m.s
	message := simMessage{data: s.some(s.size())}
	before := map[*simSession]int{}
	for _, o := range s.sessions {
		before[o] = o.h.Pending()
	}
	n := s.group.Broadcast([]byte(message.data))
	s.note("Broadcast %d: %d", len(message.data), n)
	for _, o := range s.sessions {
		if o.member && !o.c.Closed && o.h.Pending() > before[o] {
			n--
			o.took(message)
		}
	}
	if s.stats["broadcasts"]++; n != 0 && s.limits.Budget == nil { // a budget may have ended a member meanwhile, and its queue is gone
		s.failf("a Broadcast says that %d more have accepted it", n)
	}
}

// OnDisconnected is the model's.
func (h *simHandler) OnDisconnected(net.Addr) { h.m.inside(func() { h.m.over++ }) }
