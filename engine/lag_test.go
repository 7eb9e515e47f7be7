package engine

import (
	"log/slog"
	"testing"
	"time"

	"github.com/servercore-go/servercore/session"
)

// A loop that works is asked ten times a second, one that rests once a second, and one that stands whenever somebody looks. All sessions
// know the time.
func TestWhoIsProbed(t *testing.T) {
	e, err := New(Options{Loops: 2, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		l, err := newLoop(e, i, e.options.limits())
		if err != nil {
			t.Fatal(err)
		}
		e.loops = append(e.loops, l)
		t.Cleanup(l.Close)
	}
	p, now := newProber(e), time.Minute
	works, rests := e.loops[0], e.loops[1]
	asked := make([]int, 2)
	for tick := range 400 { // 10 s, 25 ms at a time
		works.scratch.Enter(session.CallRecv, nil)
		works.scratch.Leave()
		p.look(now)
		for i, l := range e.loops {
			if l.probe.Waiting(now+1) == 1 {
				asked[i]++
			}
			if l.shared.Recent.Load() < int64(now-probeEvery) {
				t.Fatalf("tick %d: the time is %v, the sessions have %v", tick, now, time.Duration(l.shared.Recent.Load()))
			}
			l.probe.Answer(now + 1)
		}
		now += 25 * time.Millisecond
	}
	if asked[0] != 100 || asked[1] != 10 {
		t.Errorf("in 10 s, one that works was asked %d times, one that rests %d times, want 100 and 10", asked[0], asked[1])
	}
	now += time.Second
	p.look(now) // and nobody answers
	for range 5 {
		now += probeEvery
		p.look(now)
	}
	rests.probe.Answer(now)
	p.look(now + 2*time.Second)
	var h Histogram
	h.add(rests.probe.Lags())
	if n := h.Count(); n != 10+6 {
		t.Errorf("%d lags, want 10, one that is late and five asked in vain", n)
	}
}

// While the watchdog rests, sessions read the clock.
func TestRestingProberTellsNoTime(t *testing.T) {
	e := newDog(t, 1).engine
	l, p := e.loops[0], newProber(e)
	recent := func() time.Duration { return time.Duration(l.shared.Recent.Load()) }
	p.look(time.Minute)
	if recent() != time.Minute {
		t.Errorf("the time is %v, want a minute", recent())
	}
	p.rest()
	if recent() >= 0 {
		t.Errorf("at rest the time is %v, want a negative one", recent())
	}
	p.look(2 * time.Minute)
	if recent() >= 0 || l.probe.Waiting(2*time.Minute+1) == 0 {
		t.Errorf("at a look of its rest the time is %v, and the loop was asked: %t; want a negative one, and true", recent(), l.probe.Waiting(2*time.Minute+1) > 0)
	}
	p.stir(3 * time.Minute)
	if recent() != 3*time.Minute {
		t.Errorf("after its rest the time is %v, want three minutes", recent())
	}
}
