package goroutines

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"
)

const (
	// fewGoroutines is how many stacks are written down at once, while the world stands still: that takes some milliseconds.
	fewGoroutines = 256

	// manyGoroutines is of how many a profile is taken at most: 60 MB for a moment, and half a second of one processor.
	manyGoroutines = 1 << 17

	// profileShare says how much time goes into profiles: a tenth of one processor's at most.
	profileShare = 10
)

// Finder finds the stack of a loop that is held in a callback, so that nobody else waits for it. Among few goroutines it writes
// down all stacks and takes the one by its number. Among many it takes the runtime's profile of goroutines, which lets them run on, but does
// not tell their numbers: then it tells where loops are in that kind of callback. One goroutine uses a Finder.
type Finder[C comparable] struct {
	Names *Names[C]

	most   int           // among more goroutines none is looked for; 0 means manyGoroutines
	taken  time.Duration // when the last profile was taken
	cost   time.Duration // how long that took
	places []place[C]    // what it has found
}

// place is where a loop was in a callback.
type place[C comparable] struct {
	callback C
	stack    runtime.StackRecord
}

// Target is the loop whose stack is looked for.
type Target[C comparable] struct {
	ID       string        // of its goroutine, "" if it does not run
	Callback C             // that it runs
	Since    time.Duration // by the clock that Find is given
	Running  func() bool   // reports whether it still runs the callback
}

// Find returns the stack of the target, or a text that begins with "none" and says why there is none, or "" if the callback is over. It
// also returns the time that went into a profile, 0 if none was taken.
func (f *Finder[C]) Find(t Target[C], clock func() time.Duration) (stack string, spent time.Duration) {
	most := f.most
	if most == 0 {
		most = manyGoroutines
	}
	n, now := runtime.NumGoroutine(), clock()
	switch {
	case n <= fewGoroutines:
		if text := stackOf(t.ID); t.Running() { // else it may be of what came next
			return text, 0
		}
		return "", 0
	case n > most:
		return fmt.Sprintf("none: the process has %d goroutines, and finding one among more than %d takes too long", n, most), 0
	case f.taken > t.Since: // the last profile has it
		return f.text(t.Callback), 0
	case f.taken > 0 && now < f.taken+profileShare*f.cost:
		return fmt.Sprintf("none: the last one, among %d goroutines, took %v, and a tenth of the time is spent on it at most",
			n, f.cost.Round(time.Millisecond)), 0
	}
	records := make([]runtime.StackRecord, n+n/8+64)
	if !t.Running() {
		return "", 0
	}
	if !f.profile(records) {
		return fmt.Sprintf("none: the process has %d goroutines, and more every moment", n), 0
	}
	f.taken, f.cost = now, clock()-now
	return f.text(t.Callback), f.cost
}

// profile finds the loops that run callbacks. The runtime's profile of goroutines shows all as they are when it begins, and lets
// them run on but for some 0.1 ms. It has the innermost 32 calls of each.
func (f *Finder[C]) profile(records []runtime.StackRecord) bool {
	n, ok := runtime.GoroutineProfile(records)
	if !ok {
		return false
	}
	f.places = nil
	at := f.Names.remember()
	for i := range records[:n] {
		stack := records[i].Stack()
		role := roleOf(stack, at)
		cut := len(stack) == len(records[i].Stack0) // the loop's own call need not be among them
		if p := (place[C]{role.Callback, records[i]}); role.Calls && (role.Loop || cut && !role.Worker) && !slices.Contains(f.places, p) {
			f.places = append(f.places, p)
		}
	}
	return true
}

// text returns where loops were in that callback. A profile does not tell which is which.
func (f *Finder[C]) text(callback C) string {
	const maxPlaces = 3
	var places []string
	for _, p := range f.places {
		if p.callback == callback && len(places) < maxPlaces {
			places = append(places, text(p.stack.Stack()))
		}
	}
	if len(places) == 0 {
		return fmt.Sprintf("none: the callback is more than %d calls deep", len(runtime.StackRecord{}.Stack0))
	}
	return fmt.Sprintf("a profile has %d for loops in %v:\n", len(places), callback) + strings.Join(places, "\n")
}
