package session_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

// Timers run in the order in which they are due, once, never early, and what they send leaves like any callback's.
func TestAfterFuncRunsOnceAndInOrder(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{}, h)
	set := func(d time.Duration, name string) func() bool {
		return h.AfterFunc(d, h.Posted(name, func() { mustSend(t, h, name) }))
	}
	set(3*time.Second, "c")
	stop := set(2*time.Second, "b")
	set(time.Second, "a")
	set(3*time.Second, "d")
	set(-time.Second, "now")
	l.Run()
	wantLog(t, h, "connected", "post now", "sent 3")
	l.Advance(time.Second - 1)
	wantWire(t, c, "now")
	l.Advance(1)
	wantWire(t, c, "nowa")
	if !stop() || stop() {
		t.Error("stop: want true once, then false")
	}
	l.Advance(time.Minute)
	wantWire(t, c, "nowacd")
	if c.TookN != 3 { // c and d were due together
		t.Errorf("%d writes, want 3", c.TookN)
	}
	if c.Armed != 0 {
		t.Error("armed without a timer")
	}
}

// A timer may set another one. One that is due at once waits for its own visit, so it cannot hold the loop.
func TestAfterFuncMaySetAnother(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{}, h)
	n := 0
	var again func()
	again = func() {
		n++
		h.AfterFunc(0, again)
	}
	h.AfterFunc(0, again)
	for i := 1; i <= 3; i++ {
		c.Serve(testkit.Expire)
		if n != i {
			t.Fatalf("%d calls after %d visits", n, i)
		}
	}
	h.Abort()
	l.Run()
}

// The end of the session cancels its timers. While the session drains they run.
func TestAfterFuncIsCancelledByTheEnd(t *testing.T) {
	h := &testkit.Handler{}
	if h.AfterFunc(0, func() { t.Error("a timer of a session without a connection runs") })() {
		t.Error("stop: true before there is a connection")
	}
	l, c := connect(t, session.Limits{}, h)
	c.Kernel = 1
	mustSend(t, h, "abc")
	h.AfterFunc(time.Second, h.Posted("draining", nil))
	stop := h.AfterFunc(time.Minute, func() { t.Error("a timer runs after the end") })
	h.Disconnect()
	l.Advance(2 * time.Second)
	if !slices.Contains(h.Log, "post draining") {
		t.Errorf("%v: the timer of a session that drains did not run", h.Log)
	}
	h.Abort()
	l.Run()
	wantClosed(t, c, true)
	if stop() {
		t.Error("stop: true after the end")
	}
	if h.AfterFunc(0, func() { t.Error("a timer set after the end runs") })() {
		t.Error("stop: true for a timer set after the end")
	}
	l.Advance(time.Hour)
}

// L4: a timer that fails ends its session, and the others of that moment do not run.
func TestAfterFuncThatPanicsEndsTheSession(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{}, h)
	h.AfterFunc(0, func() { panic("oops") })
	h.AfterFunc(0, func() { t.Error("runs after the failure") })
	l.Run()
	wantClosed(t, c, true)
	if !slices.Equal(c.Failures, []string{"AfterFunc"}) {
		t.Errorf("failures: %v", c.Failures)
	}
}

// A session that always has something to write runs its timers all the same.
func TestAfterFuncRunsForABusySender(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{}, h)
	h.Sent = func(h *testkit.Handler, _ int) {
		if h.SentN < 1000 {
			mustSend(t, h, "more")
		}
	}
	ran, at := false, l.Now()+time.Second
	h.AfterFunc(time.Second, func() { ran = true })
	mustSend(t, h, "first")
	for range 3 {
		c.Serve(c.Wants() & (testkit.Turn | testkit.Resume))
	}
	if h.SentN >= 1000 || c.Armed != at {
		t.Fatalf("armed for %v after %d writes, want %v while they go on", c.Armed, h.SentN, at)
	}
	l.Advance(2 * time.Second)
	if !ran {
		t.Error("the timer did not run")
	}
}

// A timer that is never due does not keep others from running.
func TestAfterFuncOfTheLongestTimeDoesNotOverflow(t *testing.T) {
	h := &testkit.Handler{}
	l, _ := connect(t, session.Limits{}, h)
	l.Advance(time.Second)
	h.AfterFunc(math.MaxInt64, func() { t.Error("it came") })
	h.AfterFunc(math.MaxInt64-time.Second/2, func() { t.Error("it came") })
	ran := false
	h.AfterFunc(time.Second, func() { ran = true })
	l.Advance(2 * time.Second)
	if !ran {
		t.Error("the timer after it did not run")
	}
}
