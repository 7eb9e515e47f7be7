package session_test

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/session"
)

// A callback is shown while it runs, with its session. The first of sixteen of each kind is timed.
func TestOneCallbackInSixteenIsTimed(t *testing.T) {
	w := session.NewScratch()
	first, second := new(session.Session), new(session.Session)
	timed := make(map[session.Callback]int)
	for i := range 33 {
		s := first
		if i%2 == 1 {
			s = second
		}
		for _, c := range []session.Callback{session.CallRecv, session.CallSend} {
			if w.Enter(c, s) {
				timed[c]++
			}
			r := w.Running()
			if r.Callback != c || r.Call == 0 || w.Whose(r) != s {
				t.Fatalf("call %d: %+v runs, of the right session %t, want %v", i, r, w.Whose(r) == s, c)
			}
			w.Leave()
			if r := w.Running(); r != (session.Running{}) {
				t.Fatalf("call %d: %+v runs when it is over", i, r)
			}
			if w.Whose(r) != nil {
				t.Fatalf("call %d: it has a session when it is over", i)
			}
		}
	}
	if timed[session.CallRecv] != 3 || timed[session.CallSend] != 3 {
		t.Errorf("%v of 33 each are timed, want 3", timed)
	}
	w.Watched(false)
	if w.Enter(session.CallRecv, first) || w.Running() != (session.Running{}) {
		t.Error("callbacks are shown or timed though nobody observes")
	}
}

// An observer that rests is stirred by the next callback, once. It may not rest while one runs, or if one has run since it looked.
func TestRest(t *testing.T) {
	w := session.NewScratch()
	stirred := 0
	w.StirredBy(func() { stirred++ })
	run := func() {
		w.Enter(session.CallRecv, nil)
		w.Leave()
	}
	run()
	seen := w.Calls()
	run()
	if w.Rest(seen) {
		t.Error("it may rest though a callback has run since it looked")
	}
	w.Enter(session.CallRecv, nil)
	if w.Rest(w.Calls()) {
		t.Error("it may rest while a callback runs")
	}
	w.Leave()
	if stirred != 0 {
		t.Errorf("stirred %d times before it rested", stirred)
	}
	for range 2 { // the second one finds that it rests already
		if seen = w.Calls(); !w.Rest(seen) {
			t.Error("it may not rest though no callback runs")
		}
	}
	if w.Calls() != seen || w.Running() != (session.Running{}) {
		t.Errorf("while it rests %d callbacks have begun and %v runs, want %d and none", w.Calls(), w.Running(), seen)
	}
	w.Enter(session.CallSend, nil)
	if r := w.Running(); stirred != 1 || r.Callback != session.CallSend {
		t.Errorf("stirred %d times, %v runs, want once by CallSend", stirred, r)
	}
	w.Leave()
	run()
	if stirred != 1 {
		t.Errorf("stirred %d times, want once", stirred)
	}
	if !w.Rest(w.Calls()) {
		t.Error("it may not rest again")
	}
	w.Leave() // of a callback that has ended its goroutine: the mark is replaced all the same
	if stirred != 2 {
		t.Errorf("stirred %d times by two rests", stirred)
	}
}

// An observer that rests is stirred, whatever the goroutine of the callbacks is at in that moment.
func TestRestIsAlwaysEnded(t *testing.T) {
	w := session.NewScratch()
	stirred := make(chan struct{}, 1)
	w.StirredBy(func() { stirred <- struct{}{} })
	var rests atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); rests.Add(1) {
			for !w.Rest(w.Calls()) {
				runtime.Gosched()
			}
			select {
			case <-stirred:
			case <-time.After(10 * time.Second):
				t.Error("it rests, and nobody stirs it")
				return
			}
		}
	}()
	for {
		select {
		case <-ended:
			t.Logf("it has rested %d times, in %d callbacks", rests.Load(), w.Calls())
			if rests.Load() == 0 {
				t.Error("it has never rested")
			}
			return
		default:
		}
		for range 64 {
			w.Enter(session.CallRecv, nil)
			w.Leave()
		}
		runtime.Gosched() // on one processor the observer has its turn
	}
}
