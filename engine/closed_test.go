package engine

import (
	"log/slog"
	"net"
	"testing"

	"github.com/servercore-go/servercore/session"
)

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

// BenchmarkSessionStats is what a look at 200 sessions costs, and at one of them by its number.
func BenchmarkSessionStats(b *testing.B) {
	const sessions = 200
	e, err := New(Options{Loops: 2, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = e.Close() })
	connected := make(chan *plain, sessions)
	l, err := e.Listen("tcp", "127.0.0.1:0", func() session.Handler {
		s := &plain{connected: make(chan struct{})}
		connected <- s
		return s
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := e.Start(); err != nil {
		b.Fatal(err)
	}
	var last *plain
	for range sessions {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = c.Close() })
		last = <-connected
		<-last.connected
	}
	b.Run("walk", func(b *testing.B) {
		for b.Loop() {
			n := 0
			for range e.SessionStats() {
				n++
			}
			if n != sessions {
				b.Fatalf("%d sessions", n)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/sessions, "ns/session")
	})
	b.Run("one", func(b *testing.B) {
		for b.Loop() {
			if h, ok := e.Session(last.ID()); !ok || h != session.Handler(last) {
				b.Fatal("not found")
			}
		}
	})
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
