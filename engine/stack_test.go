package engine

import (
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/session"
)

//go:noinline
func parked(depth int, gate <-chan struct{}) {
	if depth == 0 {
		<-gate
		return
	}
	parked(depth-1, gate)
}

// crowd adds goroutines to the process until the test ends.
func crowd(t *testing.T, n int) {
	t.Helper()
	gate := make(chan struct{})
	before := runtime.NumGoroutine()
	for range n {
		go parked(8, gate)
	}
	t.Cleanup(func() {
		close(gate)
		for range 5000 {
			if runtime.NumGoroutine() <= before {
				return
			}
			time.Sleep(time.Millisecond)
		}
		t.Error("the goroutines do not end")
	})
}

// stuck is an engine whose only session holds its loop, in the function of that name.
func stuckIn(t *testing.T, loops int, hold func(gate <-chan struct{})) (*Engine, *logBook) {
	t.Helper()
	log := &logBook{}
	e, err := New(Options{Loops: loops, StallWarning: 50 * time.Millisecond, Logger: slog.New(log)})
	if err != nil {
		t.Fatal(err)
	}
	sessions := make(chan *recorder, loops)
	l, err := e.Listen("tcp", "127.0.0.1:0", func() session.Handler {
		s := &recorder{}
		s.connected = func() { sessions <- s }
		return s
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	gate := make(chan struct{})
	t.Cleanup(func() { close(gate) })
	var all []*recorder
	for range loops {
		dial(t, l)
		all = append(all, receive(t, sessions))
	}
	for _, s := range all {
		if err := s.Post(func() { hold(gate) }); err != nil {
			t.Fatal(err)
		}
	}
	for range 5000 {
		if len(log.all()) == loops {
			return e, log
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("no line within 5 s")
	return nil, nil
}

// K5: the stack is in the line, and no other one, however many goroutines there are.
func TestStackAmongManyGoroutines(t *testing.T) {
	for _, n := range []int{0, fewGoroutines, 5000} { // the race detector allows 8,128
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			crowd(t, n)
			_, log := stuckIn(t, 1, holdHere)
			line := log.all()[0]
			if stack := line["stack"].String(); !strings.Contains(stack, "holdHere") || strings.Contains(stack, "none:") ||
				strings.Contains(stack, "parked") {
				t.Errorf("stack:\n%s", stack)
			}
			if got := line["handler"].String(); got != "*engine.recorder" {
				t.Errorf("handler %s", got)
			}
		})
	}
}

//go:noinline
func holdHere(gate <-chan struct{}) { <-gate }

//go:noinline
func holdDeep(gate <-chan struct{}) { parked(20, gate) }

//go:noinline
func holdTooDeep(gate <-chan struct{}) { parked(100, gate) }

// A callback that has made many calls is found all the same, unless they are too many to be told from others'.
func TestStackOfADeepCallback(t *testing.T) {
	crowd(t, 2*fewGoroutines)
	for want, hold := range map[string]func(<-chan struct{}){"holdDeep": holdDeep, "none: the callback is more than 32 calls deep": holdTooDeep} {
		t.Run(want, func(t *testing.T) {
			_, log := stuckIn(t, 1, hold)
			if stack := log.all()[0]["stack"].String(); !strings.Contains(stack, want) {
				t.Errorf("stack:\n%s", stack)
			}
		})
	}
}

// Two loops that stand at two places: the profile does not tell which is which, and the line gives both. That a loop is found in the
// profile taken for another one spares a second profile.
func TestStacksOfTwoLoops(t *testing.T) {
	crowd(t, 2*fewGoroutines)
	var turns = make(chan func(<-chan struct{}), 2)
	turns <- holdHere
	turns <- holdDeep
	_, log := stuckIn(t, 2, func(gate <-chan struct{}) { (<-turns)(gate) })
	for _, line := range log.all() {
		stack := line["stack"].String()
		if !strings.Contains(stack, "holdHere") && !strings.Contains(stack, "holdDeep") {
			t.Errorf("stack:\n%s", stack)
		}
	}
}

// Profiles take a tenth of the time at most; a stall that was seen before the last one was taken is in it.
func TestProfilesTakeATenth(t *testing.T) {
	crowd(t, 2*fewGoroutines)
	l := unstarted(t)
	s := stacks{most: manyGoroutines}
	now := time.Second
	clock := func() time.Duration { now += 10 * time.Millisecond; return now } // what a profile costs
	l.scratch.Enter(session.CallRecv, nil)
	take := func(since time.Duration) string { return s.take(l, l.scratch.Running(), since, clock) }
	const notFound, tooSoon = "none: the callback is more than", "none: the last one"
	want := func(got, beginning string) {
		t.Helper()
		if !strings.HasPrefix(got, beginning) {
			t.Errorf("at %v: %q, want %q", now, got, beginning)
		}
	}
	want(take(now), notFound) // no loop runs
	taken := s.taken
	want(take(taken-1), notFound) // in that profile
	if s.taken != taken {
		t.Error("another profile was taken")
	}
	now = taken + 8*s.cost
	want(take(now), tooSoon)
	now = taken + profileShare*s.cost
	want(take(now), notFound)
	if s.taken == taken {
		t.Error("no other profile was taken")
	}
	now, s.most = now+time.Hour, 2*fewGoroutines-1 // and then there are too many
	want(take(now), "none: the process has")
	s.most = manyGoroutines
	call := l.scratch.Running()
	l.scratch.Leave()
	now += time.Hour
	if got := s.take(l, call, now, clock); got != "" {
		t.Errorf("%q of a call that is over", got)
	}
}

// The time that a profile takes is not taken for one in which callbacks did not run.
func TestProfileDoesNotMakeTheWatchdogLate(t *testing.T) {
	crowd(t, 2*fewGoroutines)
	d := newDog(t, 1)
	d.enter(0, session.CallRecv)
	d.looks(5)
	d.want(0, 1, 0, 1)
	cost := d.stacks.cost
	if cost <= 0 || d.last != d.now+cost { // as if it had looked when the profile was there
		t.Errorf("a profile took %v, and it is taken to have looked %v later", cost, d.last-d.now)
	}
}

// A line tells of the loops that run its kind of callback, of three at most.
func TestPlacesOfACallback(t *testing.T) {
	var s stacks
	at := func(c session.Callback) {
		p := place{callback: c}
		runtime.Callers(0, p.stack.Stack0[:]) // each call of at is another place
		s.places = append(s.places, p)
	}
	at(session.CallRecv)
	at(session.CallPost)
	at(session.CallPost)
	if text := s.text(session.CallRecv); strings.Count(text, "TestPlacesOfACallback(") != 1 || !strings.HasPrefix(text, "a profile has 1 for loops in OnRecv:") {
		t.Errorf("of OnRecv:\n%s", text)
	}
	if text := s.text(session.CallPost); strings.Count(text, "TestPlacesOfACallback(") != 2 {
		t.Errorf("of Post:\n%s", text)
	}
	for range 5 {
		at(session.CallPost)
	}
	if text := s.text(session.CallPost); strings.Count(text, "TestPlacesOfACallback(") != 3 {
		t.Errorf("of Post, and more of them:\n%s", text)
	}
	if text := s.text(session.CallSend); !strings.HasPrefix(text, "none: ") {
		t.Errorf("of OnSend:\n%s", text)
	}
}
