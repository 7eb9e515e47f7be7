package watchdog

import "time"

const (
	rounds   = 4                      // within the warning time, or more
	maxEvery = 100 * time.Millisecond // between two of them
)

// Watch is what was seen of some loops. C tells one call of a loop from every other; its zero value is a loop that runs none. One goroutine uses a Watch.
type Watch[C comparable] struct {
	warning, quiet time.Duration
	last           time.Duration // when the last round was
	late           time.Duration // by how much this round is late
	loops          []loop[C]
}

// loop is what was seen of one loop.
type loop[C comparable] struct {
	call    C             // seen running
	since   time.Duration // when it was seen first, and later by each time that is not held against it
	stalled bool          // it was found as a stall
	told    time.Duration // when a stall of this loop was to be logged last
	hidden  int           // stalls since then that were not
}

// Finding is what one look has found.
type Finding[C comparable] struct {
	What    What
	Call    C             // the stall
	Since   time.Duration // when it began, to a quarter of the warning time
	Log     bool          // Stalled: it is to be logged, as the loop's last line is old enough
	LeftOut int           // with Log: how many stalls of this loop were not logged since its last line
}

// What is the kind of a finding.
type What uint8

// The kinds.
const (
	Nothing What = iota
	Stalled      // a call has just become a stall
	Over         // the stall has ended since the last round
)

// New returns a Watch of n loops. A call that lasts for warning is a stall; the stalls of one loop are logged once in quiet at most. All times are of one
// clock, which has run for quiet or longer.
func New[C comparable](n int, warning, quiet, now time.Duration) *Watch[C] {
	return &Watch[C]{warning: warning, quiet: quiet, last: now, loops: make([]loop[C], n)}
}

// Every returns the time from one round to the next.
func (w *Watch[C]) Every() time.Duration { return min(w.warning/rounds, maxEvery) }

// Begin begins a round, in which Look is called once for each loop. The caller need not come while all loops are idle, as long as it comes when one
// is so no longer.
func (w *Watch[C]) Begin(now time.Duration) {
	w.late = now - w.last - w.Every()
	if w.late < w.Every() {
		w.late = 0 // as tickers are
	}
	w.last = now
}

// Excuse tells that the caller has spent time within a round. The next round is late because of that, while the calls have run on.
func (w *Watch[C]) Excuse(spent time.Duration) { w.last += spent }

// Look notes what loop i runs in the round that began at now.
func (w *Watch[C]) Look(i int, running C, now time.Duration) Finding[C] {
	var idle C
	switch l := &w.loops[i]; {
	case running != l.call:
		f := Finding[C]{Call: l.call, Since: l.since}
		if l.stalled {
			f.What = Over
		}
		l.call, l.since, l.stalled = running, now, false
		return f
	case running == idle || l.stalled:
		return Finding[C]{}
	default:
		if l.since += w.late; now-l.since < w.warning {
			return Finding[C]{}
		}
		l.stalled = true
		f := Finding[C]{What: Stalled, Call: running, Since: l.since}
		f.Log, f.LeftOut = l.tell(now, w.quiet)
		return f
	}
}

// tell reports whether a stall that was found is to be logged, and how many before it were not.
func (l *loop[C]) tell(now, quiet time.Duration) (log bool, leftOut int) {
	if now-l.told < quiet {
		l.hidden++
		return false, 0
	}
	leftOut = l.hidden
	l.told, l.hidden = now, 0
	return true, leftOut
}
