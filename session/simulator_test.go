package session_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/budget"
	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

// The simulator runs sessions of one loop through random schedules, in a world where everything that can happen
// between two instructions of different goroutines happens between two steps: visits in any order, early, late
// and twice; calls from elsewhere and in callbacks; kernels that take any prefix; peers that stop, finish and
// reset; handlers that fail. It keeps a model of what each session owes and compares after each step.
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
		"ended for the rate": sum.rate, "packets received": sum.packets, "ended by their framer": sum.garbled, "rests": sum.rests,
		"sessions with a layer": sum.layered, "units sealed": sum.sealed, "answers": sum.answers, "last words": sum.lastWords, "truncated": sum.truncated,
		"ended by their layer": sum.spoilt,
	} {
		if n < int(seeds)/100 {
			t.Errorf("%s: only %d in %d seeds", what, n, seeds)
		}
	}
}

// simulateFor runs new seeds, as many as there is time for, and returns how many.
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
	packets, garbled, rests                                                                                                        int
	layered, sealed, answers, lastWords, truncated, spoilt                                                                         int
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
	a.rests += b.rests
	a.layered += b.layered
	a.sealed += b.sealed
	a.answers += b.answers
	a.lastWords += b.lastWords
	a.truncated += b.truncated
	a.spoilt += b.spoilt
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
	s.loop.Scratch().StirredBy(s.stirred)
	for range 1 + s.IntN(3) {
		s.connect()
	}
	for i := 0; i < simSteps && s.failed == nil; i++ {
		s.step()
		s.check()
	}
	if s.failed == nil {
		s.comeToRest()
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
		o.late, o.lateFIN = false, false
	}
	s.depth++
	m.c.Serve(v)
	s.depth--
	s.note("%d: has %d of %d waiting, wants %b, Err %v", m.n, m.h.Pending(), m.accepted, m.c.Wants(), m.h.Err())
}

// comeToRest lets the world come to rest: no more requests, kernels take what there is room for, peers read all, the clock runs on. Then nothing
// may be left undone.
func (s *sim) comeToRest() {
	s.note("come to rest")
	s.calm = true
	for _, m := range s.sessions {
		m.layer.flush()
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
		m.peerFinishes(false)
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
