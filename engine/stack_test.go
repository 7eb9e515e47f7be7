package engine

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

// manyMore goroutines are so many that a profile is taken instead of all stacks.
const manyMore = 512

// stuck is an engine whose only session holds its loop, in the function of that name.
func stuckIn(t testing.TB, loops int, hold func(gate <-chan struct{})) (*Engine, *logBook) {
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
	for _, n := range []int{0, manyMore / 2, 5000} { // the race detector allows 8,128
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			testkit.Crowd(t, n)
			_, log := stuckIn(t, 1, holdHere)
			line := log.all()[0]
			if stack := line["stack"].String(); !strings.Contains(stack, "holdHere") || strings.Contains(stack, "none:") ||
				strings.Contains(stack, "Parked") {
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
func holdDeep(gate <-chan struct{}) { testkit.Parked(20, gate) }

//go:noinline
func holdTooDeep(gate <-chan struct{}) { testkit.Parked(100, gate) }

// A callback that has made many calls is found all the same, unless they are too many to be told from others'.
func TestStackOfADeepCallback(t *testing.T) {
	testkit.Crowd(t, manyMore)
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
	testkit.Crowd(t, manyMore)
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

// The time that a profile takes is not taken for one in which callbacks did not run.
func TestProfileDoesNotMakeTheWatchdogLate(t *testing.T) {
	testkit.Crowd(t, manyMore)
	d := newDog(t, 2)
	d.enter(0, session.CallRecv)
	d.looks(2)
	d.enter(1, session.CallRecv)
	d.looks(3)
	d.want(0, 1, 0, 1)
	if stack := d.log.all()[0]["stack"].String(); !strings.HasPrefix(stack, "none: the callback is more") { // there is a profile, without a loop
		t.Errorf("stack:\n%s", stack)
	}
	d.now += 2 * looksEvery // late by one look, of which the profile has taken a part: what is left is as tickers are
	d.tick(d.now)
	d.want(1, 1, 0, 2)
}
