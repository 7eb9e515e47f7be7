package engine

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/servercore-go/servercore/session"
)

// stacks finds the stack of a loop's goroutine for the watchdog, so that nobody else waits for it. docs/decisions/0012 has the
// measurements.
type stacks struct {
	most   int           // among more goroutines none is looked for
	taken  time.Duration // when the last profile was taken
	cost   time.Duration // how long that took
	places []place       // what it has found
}

// place is where a loop was in a callback.
type place struct {
	callback session.Callback
	stack    runtime.StackRecord
}

const (
	fewGoroutines  = 256     // so many stacks are written down at once, while the world stands still: some milliseconds
	manyGoroutines = 1 << 17 // of more no profile is taken: 60 MB for a moment, and half a second of one processor
	profileShare   = 10      // profiles take a tenth of one processor's time at most
)

// take returns the stack of the loop, which has run that call since then, or why there is none; "" if the call is over.
func (t *stacks) take(l *loop, call session.Running, since time.Duration, clock func() time.Duration) string {
	running := func() bool { return l.scratch.Running() == call }
	n, now := runtime.NumGoroutine(), clock()
	switch {
	case n <= fewGoroutines:
		if text := l.stack(); running() { // else it may be of what came next
			return text
		}
		return ""
	case n > t.most:
		return fmt.Sprintf("none: the process has %d goroutines, and finding one among more than %d takes too long", n, t.most)
	case t.taken > since: // the last profile has it
	case t.taken > 0 && now < t.taken+profileShare*t.cost:
		return fmt.Sprintf("none: the last one, among %d goroutines, took %v, and a tenth of the time is spent on it at most",
			n, t.cost.Round(time.Millisecond))
	default:
		records := make([]runtime.StackRecord, n+n/8+64)
		if !running() {
			return ""
		}
		if !t.profile(records) {
			return fmt.Sprintf("none: the process has %d goroutines, and more every moment", n)
		}
		t.taken, t.cost = now, clock()-now
	}
	return t.text(call.Callback)
}

// maxStacks bounds what is searched for a goroutine's stack.
const maxStacks = 1 << 20

// stack returns the stack of the loop's goroutine, by its number, out of all. The world stands still while they are written down.
func (l *loop) stack() string {
	id := l.goroutine.Load()
	if id == nil {
		return "none: the loop does not run"
	}
	all := make([]byte, 64<<10)
	for {
		n := runtime.Stack(all, true)
		if n < len(all) || len(all) >= maxStacks {
			all = all[:n]
			break
		}
		all = make([]byte, 4*len(all))
	}
	head := []byte("goroutine " + *id + " ")
	for _, one := range bytes.Split(all, []byte("\n\n")) {
		if bytes.HasPrefix(one, head) {
			return string(one)
		}
	}
	return fmt.Sprintf("none: it is not among the first %d KiB of all", len(all)>>10)
}

// profile finds the loops that run callbacks. The runtime's profile of goroutines shows all as they are when it begins, and lets
// them run on but for some 0.1 ms. It has the innermost 32 calls of each.
func (t *stacks) profile(records []runtime.StackRecord) bool {
	n, ok := runtime.GoroutineProfile(records)
	if !ok {
		return false
	}
	t.places = nil
	reader := make(stackReader)
	for i := range records[:n] {
		stack := records[i].Stack()
		is := roleOf(stack, reader.at)
		cut := len(stack) == len(records[i].Stack0) // the loop's own call need not be among them
		if p := (place{is.callback, records[i]}); is.calls && (is.loop || cut && !is.worker) && !slices.Contains(t.places, p) {
			t.places = append(t.places, p)
		}
	}
	return true
}

// text returns where loops were in that callback. A profile does not tell which is which.
func (t *stacks) text(callback session.Callback) string {
	const maxPlaces = 3
	var places []string
	for _, p := range t.places {
		if p.callback == callback && len(places) < maxPlaces {
			places = append(places, written(p.stack.Stack()))
		}
	}
	if len(places) == 0 {
		return fmt.Sprintf("none: the callback is more than %d calls deep", len(runtime.StackRecord{}.Stack0))
	}
	return fmt.Sprintf("a profile has %d for loops in %v:\n", len(places), callback) + strings.Join(places, "\n")
}

// written returns a stack as text, much as panics have it.
func written(stack []uintptr) string {
	var b strings.Builder
	frames := runtime.CallersFrames(stack)
	for more := true; more; {
		var f runtime.Frame
		if f, more = frames.Next(); f.Function != "" {
			fmt.Fprintf(&b, "%s(...)\n\t%s:%d\n", f.Function, f.File, f.Line)
		}
	}
	return b.String()
}

// present notes which goroutine is the loop's.
func (l *loop) present() {
	id := goroutineID()
	l.goroutine.Store(&id)
}
