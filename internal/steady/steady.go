// Package steady is for tests whose figures come true only while the machine lets the process run.
package steady

import (
	"fmt"
	"path"
	"runtime"
	"sync"
	"testing"
	"time"
)

// attempts is how often f is run at the most.
const attempts = 4

// long is how late a goroutine that sleeps may wake up on a machine that lets the process run.
const long = 50 * time.Millisecond

// Run runs f on a goroutine of its own, and once more if it has failed while the process got no processor for a while, four times in all. So a
// mistake is found whatever the machine does, and a machine that others use too is no mistake. What f fails with is told then, or at once if the
// process has run all the time. What f has Cleanup do is done at the end of each time, and what that finds counts.
func Run(t *testing.T, f func(t testing.TB)) {
	t.Helper()
	var late func() time.Duration
	lines, failed := run(func(a testing.TB) { late = watch(); f(a) }, func() time.Duration { return late() }, t.Logf, t)
	if failed {
		for _, line := range lines {
			t.Error(line)
		}
	}
}

// run is Run with another measure of how long the process has not run.
func run(f func(testing.TB), late func() time.Duration, logf func(string, ...any), t testing.TB) (lines []string, failed bool) {
	for n := 1; ; n++ {
		a := &attempt{TB: t}
		apart(func() { f(a) })
		a.cleanUp()
		gap := late()
		if !a.Failed() {
			return nil, false
		}
		if gap <= long || n == attempts {
			return a.lines, true
		}
		logf("once more, because this process has not run for %v: %q", gap, a.lines)
	}
}

// apart runs f on a goroutine of its own, which f may end.
func apart(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}

// watch watches whether the process gets to run. The function that it returns ends that, and returns the longest time for which it did not.
func watch() (late func() time.Duration) {
	stop, result := make(chan struct{}), make(chan time.Duration)
	go func() {
		longest := time.Duration(0)
		for {
			before := time.Now()
			select {
			case <-stop:
				result <- longest
				return
			case <-time.After(5 * time.Millisecond):
				longest = max(longest, time.Since(before)-5*time.Millisecond)
			}
		}
	}()
	return func() time.Duration {
		close(stop)
		return <-result
	}
}

// attempt keeps what a test fails with.
type attempt struct {
	testing.TB

	mu       sync.Mutex
	lines    []string
	cleanups []func()
}

// Cleanup is for this attempt: what a later one finds must not come from the one before.
func (a *attempt) Cleanup(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cleanups = append(a.cleanups, f)
}

// cleanUp does what Cleanup was given, the last first.
func (a *attempt) cleanUp() {
	for {
		a.mu.Lock()
		n := len(a.cleanups)
		if n == 0 {
			a.mu.Unlock()
			return
		}
		f := a.cleanups[n-1]
		a.cleanups = a.cleanups[:n-1]
		a.mu.Unlock()
		apart(f)
	}
}

func (a *attempt) fail(line string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, file, at, _ := runtime.Caller(2)
	a.lines = append(a.lines, fmt.Sprintf("%s:%d: %s", path.Base(file), at, line))
}

func (a *attempt) Failed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.lines) > 0
}

func (a *attempt) Error(args ...any)                 { a.fail(fmt.Sprint(args...)) }
func (a *attempt) Errorf(format string, args ...any) { a.fail(fmt.Sprintf(format, args...)) }
func (a *attempt) Fail()                             { a.fail("failed") }
func (a *attempt) FailNow()                          { a.fail("failed"); runtime.Goexit() }
func (a *attempt) Fatal(args ...any)                 { a.fail(fmt.Sprint(args...)); runtime.Goexit() }
func (a *attempt) Fatalf(format string, args ...any) {
	a.fail(fmt.Sprintf(format, args...))
	runtime.Goexit()
}
