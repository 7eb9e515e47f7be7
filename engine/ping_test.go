package engine

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// K12: callers that ping a loop that does not answer share one channel, and each of them is answered.
func TestPingsOfAStuckLoop(t *testing.T) {
	sessions := make(chan *recorder, 1)
	e, l := oneLoop(t, func() *recorder {
		s := &recorder{}
		s.connected = func() { sessions <- s }
		return s
	})
	dial(t, l)
	release := hold(t, receive(t, sessions))
	loop := e.loops[0]
	for range 100 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		err := e.Ping(ctx)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "event loop 0 ") {
			t.Fatalf("Ping returns %v, want that loop 0 has not answered", err)
		}
	}
	first := loop.Ping()
	if loop.Ping() != first {
		t.Error("each ping has a channel of its own")
	}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if err := e.Ping(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	release()
	wg.Wait()
	receive(t, first)
	if loop.Ping() == first {
		t.Error("a channel that is closed is given out")
	}
}

// Ping waits for every loop, and names one that has not answered.
func TestPingWaitsForEachLoop(t *testing.T) {
	e, err := New(Options{Loops: 3, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "Start") {
		t.Errorf("before Start: %v", err)
	}
	for i := range 3 {
		l, err := newLoop(e, i, e.options.limits())
		if err != nil {
			t.Fatal(err)
		}
		e.loops = append(e.loops, l)
	}
	e.goLive()
	go e.loops[0].Run()
	go e.loops[2].Run()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := e.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "event loop 1 ") {
		t.Errorf("Ping returns %v, want that loop 1 has not answered", err)
	}
	go e.loops[1].Run()
	if err := e.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	for _, l := range e.loops {
		l.Halt()
		l.Close()
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if err := e.Ping(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
