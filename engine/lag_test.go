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
	for every, want := range map[time.Duration]bool{0: true, 25 * time.Millisecond: false, time.Second: true} {
		if ticker := p.ticker(every); (ticker != nil) != want {
			t.Errorf("beside one of %v: %v", every, ticker)
		} else if ticker != nil {
			ticker.Stop()
		}
	}
}
