package testkit

import (
	"runtime"
	"testing"
	"time"
)

// Parked waits for the gate, depth calls further down. It is what a stack shows of a goroutine of Crowd.
//
//go:noinline
func Parked(depth int, gate <-chan struct{}) {
	if depth == 0 {
		<-gate
		return
	}
	Parked(depth-1, gate)
}

// Crowd adds n goroutines to the process until the test ends.
func Crowd(t testing.TB, n int) {
	t.Helper()
	gate := make(chan struct{})
	before := runtime.NumGoroutine()
	for range n {
		go Parked(8, gate)
	}
	t.Cleanup(func() {
		close(gate)
		for range 5000 {
			if runtime.NumGoroutine() <= before {
				return
			}
			time.Sleep(time.Millisecond) // no event tells that a goroutine has ended
		}
		t.Error("the goroutines do not end")
	})
}
