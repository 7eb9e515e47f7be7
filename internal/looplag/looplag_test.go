package looplag_test

import (
	"sync"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/looplag"
)

const every = 100 * time.Millisecond

// A lag is the time from the question to the answer; an answer without a question, and a second one, are none.
func TestLagIsMeasured(t *testing.T) {
	var p looplag.Probe
	now := time.Second
	p.Answer(now)
	if p.Waiting(now) != 0 {
		t.Error("a question waits that nobody has asked")
	}
	if !p.Ask(now) {
		t.Error("the first question wakes nobody")
	}
	if w := p.Waiting(now + 7*time.Millisecond); w != 7*time.Millisecond {
		t.Errorf("it waits for %v, want 7ms", w)
	}
	p.Answer(now + 30*time.Millisecond)
	p.Answer(now + 90*time.Millisecond)
	if p.Waiting(now+every) != 0 {
		t.Error("an answered question waits")
	}
	if n := p.Lags().Count(); n != 0 {
		t.Errorf("%d lags before the prober has come", n)
	}
	if !p.Ask(now + every) {
		t.Error("the second question wakes nobody")
	}
	if n, longest := p.Lags().Count(), p.Lags().Longest(); n != 1 || longest != 30*time.Millisecond {
		t.Errorf("%d lags, the longest %v, want one of 30ms", n, longest)
	}
}

// A loop that stands is not woken again, and what was asked in vain meanwhile counts when it has answered.
func TestStandingLoopCountsForEachQuestion(t *testing.T) {
	var p looplag.Probe
	now := time.Second
	p.Ask(now)
	for i := range 9 {
		if p.Ask(now + time.Duration(i+1)*every) {
			t.Errorf("question %d wakes a loop that has not answered", i)
		}
	}
	p.Answer(now + 950*time.Millisecond)
	if !p.Ask(now + 10*every) {
		t.Error("a loop that has answered is not asked again")
	}
	h := p.Lags()
	if n, longest := h.Count(), h.Longest(); n != 10 || longest != 950*time.Millisecond {
		t.Errorf("%d lags, the longest %v, want ten up to 950ms", n, longest)
	}
	if q := h.Quantile(0.45); q < 450*time.Millisecond || q > 570*time.Millisecond { // 50, 150, ... 950
		t.Errorf("the median is %v, want about 450ms", q)
	}
	p.Answer(now + 10*every)
	p.Ask(now + 11*every)
	if n := h.Count(); n != 11 {
		t.Errorf("%d lags: those in vain count again", n)
	}
}

// A loop that stands for hours costs bounded memory, and its first question still counts in full.
func TestStandingForHours(t *testing.T) {
	var p looplag.Probe
	now := time.Second
	p.Ask(now)
	for i := range 100_000 {
		p.Ask(now + time.Duration(i+1)*every)
	}
	p.Answer(now + 100_001*every)
	p.Ask(now + 100_002*every)
	if n, longest := p.Lags().Count(), p.Lags().Longest(); n != 4097 || longest != 100_001*every {
		t.Errorf("%d lags, the longest %v", n, longest)
	}
}

// The prober, the loop and those who look need no lock.
func TestProbeOfThreeGoroutines(t *testing.T) {
	var p looplag.Probe
	var wg sync.WaitGroup
	began, stop := time.Now(), make(chan struct{})
	now := func() time.Duration { return time.Second + time.Since(began) }
	for _, f := range []func(){func() { p.Answer(now()) }, func() { _ = p.Waiting(now()); p.Lags().Count() }} {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					f()
				}
			}
		})
	}
	asked := uint64(0)
	for asked < 1000 {
		if p.Ask(now()) {
			asked++
		}
	}
	close(stop)
	wg.Wait()
	if n := p.Lags().Count(); n < asked-1 || p.Lags().Longest() > time.Since(began) {
		t.Errorf("%d lags of %d questions, the longest %v", n, asked, p.Lags().Longest())
	}
}
