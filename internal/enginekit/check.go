// Package enginekit is what tests of an engine through its public API share: servers whose sessions watch over the contract, clients
// for them, and assertions that wait. Package enginetest is built on it; test files of package engine use it too.
package enginekit

import (
	"errors"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/pool"
)

// Patience bounds every wait. It is long enough for a busy machine under the race detector: only a hang meets it.
const Patience = 20 * time.Second

// Quiet is for engines whose log is not what the test is about.
var Quiet = slog.New(slog.DiscardHandler)

// Eventually waits for something that announces itself on no channel.
func Eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.After(Patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %v: %s", Patience, what)
		}
	}
}

// Await receives from a channel, or fails.
func Await[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(Patience):
		t.Fatalf("not within %v: %s", Patience, what)
		panic("unreachable")
	}
}

// Must ends the test if there is an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// WantError fails unless the error matches all targets.
func WantError(t testing.TB, what string, err error, targets ...error) {
	t.Helper()
	for _, target := range targets {
		if !errors.Is(err, target) {
			t.Errorf("%s: %v, want it to match %q", what, err, target)
		}
	}
}

// NoLeaks checks, after the test and all its subtests, that every buffer, goroutine and descriptor is back. No other test may run at
// the same time.
func NoLeaks(t testing.TB) {
	t.Helper()
	FixedAddress(t, "tcp") // the first call opens a descriptor, which stays
	descriptors, goroutines := OpenDescriptors(t), goroutines()
	t.Cleanup(func() {
		if t.Failed() {
			return // what a failed test leaves behind says nothing
		}
		if n := pool.Live(); n != 0 {
			t.Errorf("%d buffers were not released", n)
		}
		// Errorf, not Fatalf: package testing loses what is said then by a test that has others inside.
		for began := time.Now(); OpenDescriptors(t) > descriptors; time.Sleep(2 * time.Millisecond) {
			if time.Since(began) > Patience {
				t.Errorf("%d descriptors are open, %d were before", OpenDescriptors(t), descriptors)
				break
			}
		}
		var left []string
		for began := time.Now(); time.Since(began) < Patience; time.Sleep(2 * time.Millisecond) {
			left = left[:0]
			for id, stack := range ours() {
				if _, before := goroutines[id]; !before {
					left = append(left, stack)
				}
			}
			if len(left) == 0 {
				return
			}
		}
		t.Errorf("%d goroutines are left:\n%s", len(left), strings.Join(left, "\n\n"))
	})
}

// OpenDescriptors returns how many descriptors the process has.
func OpenDescriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/dev/fd")
	Must(t, err)
	return len(entries)
}

// goroutines returns the stacks of all goroutines by their headline up to the state: "goroutine 17".
func goroutines() map[string]string {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	all := make(map[string]string)
	for stack := range strings.SplitSeq(string(buf), "\n\n") {
		id, _, _ := strings.Cut(stack, " [")
		all[id] = stack
	}
	return all
}

// ours are the goroutines that this module's code runs on or has started, but the one that asks and those of tests.
func ours() map[string]string {
	all := goroutines()
	for id, stack := range all {
		if !strings.Contains(stack, "servercore") || strings.Contains(stack, "testing.tRunner(") || strings.Contains(stack, "enginekit.goroutines(") {
			delete(all, id)
		}
	}
	return all
}
