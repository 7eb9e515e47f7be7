//go:build !race

package engine

import (
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/steady"
	"github.com/servercore-go/servercore/internal/testkit"
)

// K5: the watchdog holds nobody up, however many goroutines the process has, while it looks for a stack. To write down all
// stacks takes seconds here. The race detector does not allow so many.
func TestWatchdogHoldsNobodyUp(t *testing.T) {
	testkit.Crowd(t, 100_000)
	steady.Run(t, func(t testing.TB) {
		e, _ := stuckIn(t, 1, holdHere)
		worst, last := time.Duration(0), time.Now()
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for {
				select {
				case <-stop:
					return
				default:
					time.Sleep(time.Millisecond)
					worst, last = max(worst, time.Since(last)), time.Now()
				}
			}
		}()
		w := newLoopWatch(e, e.now()) // another one, that finds the same stall
		l := e.loops[0]
		stack, _ := w.finder.Find(l.target(l.scratch.Running(), e.now()), e.now)
		close(stop)
		<-done
		if worst > time.Second/2 {
			t.Errorf("others were held up for %v", worst)
		}
		if !strings.Contains(stack, "holdHere") {
			t.Errorf("stack:\n%s", stack)
		}
	})
}
