package engine

import "testing"

// A session that ends costs no allocation once Closed is full.
func TestClosedDoesNotAllocate(t *testing.T) {
	c, l := connect(t, Options{KeepClosed: 10})
	exchange(t, c, 1)
	d := l.Context
	lp := loopOf(l)
	for range 20 {
		lp.noteClosed(d)
	}
	if n := testing.AllocsPerRun(1000, func() { lp.noteClosed(d) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	n := 0
	for c := range lp.engine.Closed() {
		if n++; c.ID != d.Session().ID() || c.BytesIn != 1 {
			t.Errorf("%+v", c)
		}
	}
	if n != 10 {
		t.Errorf("%d are kept, want 10", n)
	}
}

// BenchmarkClosed is what the end of a session costs for Engine.Closed.
func BenchmarkClosed(b *testing.B) {
	_, l := connect(b, Options{})
	lp := loopOf(l)
	for b.Loop() {
		lp.noteClosed(l.Context)
	}
}

// BenchmarkSessionStats is what a look at a session costs.
func BenchmarkSessionStats(b *testing.B) {
	_, l := connect(b, Options{})
	e, n := loopOf(l).engine, 0
	for b.Loop() {
		for s := range e.SessionStats() {
			n += s.Pending
		}
	}
}

// BenchmarkStats is what a snapshot of all counters costs, for one loop and one listener.
func BenchmarkStats(b *testing.B) {
	_, l := connect(b, Options{})
	e := loopOf(l).engine
	for b.Loop() {
		_ = e.Stats()
	}
}

// BenchmarkSamples is what it costs to make the samples of a snapshot.
func BenchmarkSamples(b *testing.B) {
	_, l := connect(b, Options{})
	s, n := loopOf(l).engine.Stats(), 0
	for b.Loop() {
		for range s.Samples() {
			n++
		}
	}
}
