package watchdog_test

import (
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/watchdog"
)

const (
	every   = 25 * time.Millisecond
	warning = 4 * every
	quiet   = time.Second
)

// dog is a Watch of loops that the test makes run.
type dog struct {
	*watchdog.Watch[string]
	t     *testing.T
	now   time.Duration
	runs  []string
	found []watchdog.Finding[string] // in the last round, of each loop
}

func newDog(t *testing.T, loops int) *dog {
	return &dog{
		Watch: watchdog.New[string](loops, warning, quiet, quiet), t: t, now: quiet,
		runs: make([]string, loops), found: make([]watchdog.Finding[string], loops),
	}
}

// round looks at each loop after a pause.
func (d *dog) round(pause time.Duration) {
	d.now += pause
	d.Begin(d.now)
	for i, call := range d.runs {
		d.found[i] = d.Look(i, call, d.now)
	}
}

// silent has n rounds, in which nothing is found.
func (d *dog) silent(n int) {
	d.t.Helper()
	for range n {
		d.round(every)
		for i := range d.runs {
			d.want(i, watchdog.Finding[string]{})
		}
	}
}

// want checks what the last round has found of a loop.
func (d *dog) want(loop int, f watchdog.Finding[string]) {
	d.t.Helper()
	got := d.found[loop]
	if got.What == watchdog.Nothing { // the rest means nothing
		got = watchdog.Finding[string]{}
	}
	if got != f {
		d.t.Errorf("at %v, of loop %d: found %+v, want %+v", d.now, loop, got, f)
	}
}

// stalled is a finding of a stall that began some rounds ago.
func (d *dog) stalled(call string, rounds time.Duration, log bool, leftOut int) watchdog.Finding[string] {
	return watchdog.Finding[string]{What: watchdog.Stalled, Call: call, Since: d.now - rounds*every, Log: log, LeftOut: leftOut}
}

func (d *dog) over(call string, rounds time.Duration) watchdog.Finding[string] {
	return watchdog.Finding[string]{What: watchdog.Over, Call: call, Since: d.now - rounds*every}
}

func TestEvery(t *testing.T) {
	if got := newDog(t, 1).Every(); got != every {
		t.Errorf("a round each %v, want %v", got, every)
	}
	if got := watchdog.New[string](1, time.Minute, time.Minute, time.Minute).Every(); got != 100*time.Millisecond {
		t.Errorf("with a warning time of a minute, a round each %v, want 100 ms", got)
	}
}

// A stall is found when it has been seen for the warning time, not before, once, and once more when it is over.
func TestStall(t *testing.T) {
	d := newDog(t, 1)
	d.silent(100)
	d.runs[0] = "a"
	d.silent(4) // the first has seen it begin
	d.round(every)
	d.want(0, d.stalled("a", 4, true, 0))
	d.silent(100)
	d.runs[0] = ""
	d.round(every)
	d.want(0, d.over("a", 105))
	d.silent(100)
}

// Calls that follow one another are none.
func TestCallsApart(t *testing.T) {
	d := newDog(t, 1)
	for _, call := range []string{"a", "b", "c", "a", "b"} {
		d.runs[0] = call
		d.silent(4)
	}
	d.round(every)
	d.want(0, d.stalled("b", 4, true, 0))
	d.runs[0] = "c" // at once: that is the end of the stall, and no other one
	d.round(every)
	d.want(0, d.over("b", 5))
	d.silent(3)
}

// The stalls of a loop are logged once in the quiet time, and the next one to be logged tells how many were left out.
func TestLogIsBounded(t *testing.T) {
	d := newDog(t, 1)
	stall := func(log bool, leftOut int) {
		t.Helper()
		d.runs[0] = "a"
		d.silent(4)
		d.round(every)
		d.want(0, d.stalled("a", 4, log, leftOut))
		d.runs[0] = ""
		d.round(every)
		d.want(0, d.over("a", 5))
	}
	stall(true, 0)
	for range 6 { // 150 ms each; the last is found 900 ms after the first
		stall(false, 0)
	}
	stall(true, 6)
	d.silent(40)
	stall(true, 0)
}

// Each loop has its own stalls, and its own quiet time.
func TestSeveralLoops(t *testing.T) {
	d := newDog(t, 3)
	d.runs[0] = "a"
	d.silent(2)
	d.runs[2] = "b"
	d.silent(2)
	d.round(every)
	d.want(0, d.stalled("a", 4, true, 0))
	d.want(2, watchdog.Finding[string]{})
	d.silent(1)
	d.round(every)
	d.want(2, d.stalled("b", 4, true, 0))
	d.want(0, watchdog.Finding[string]{})
	d.runs[0] = ""
	d.round(every)
	d.want(0, d.over("a", 7))
	d.want(2, watchdog.Finding[string]{})
	d.want(1, watchdog.Finding[string]{})
}

// A round that comes late was not run, nor was the call perhaps: that is not held against it. A little late is as tickers are.
func TestLateRounds(t *testing.T) {
	for _, c := range []struct {
		name   string
		pauses []time.Duration // the call is seen first before them; the last finds the stall
		took   time.Duration   // then
	}{
		{"in time", []time.Duration{every, every, every, every}, 4 * every},
		{"stopped for an hour", []time.Duration{time.Hour, every, every, every}, 4 * every},
		{"late by a round", []time.Duration{2 * every, every, every, every}, 4 * every},
		{"hardly late", []time.Duration{2*every - 1, every, every, 1}, 4 * every},
		{"always a little late", []time.Duration{every * 19 / 10, every * 19 / 10, every * 19 / 10}, every * 57 / 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDog(t, 1)
			d.runs[0] = "a"
			d.silent(1)
			for i, pause := range c.pauses {
				d.round(pause)
				if want := i == len(c.pauses)-1; (d.found[0].What == watchdog.Stalled) != want {
					t.Fatalf("round %d: found %+v, want a stall: %v", i+1, d.found[0], want)
				}
			}
			if took := d.now - d.found[0].Since; took != c.took {
				t.Errorf("it is said to last for %v, want %v", took, c.took)
			}
		})
	}
}

// A round that is late while a stall lasts does not make two of it, and counts for the stall.
func TestLateInAStall(t *testing.T) {
	d := newDog(t, 1)
	d.runs[0] = "a"
	d.silent(4)
	d.round(every)
	d.want(0, d.stalled("a", 4, true, 0))
	d.round(time.Hour)
	d.want(0, watchdog.Finding[string]{})
	d.runs[0] = ""
	d.round(every)
	d.want(0, watchdog.Finding[string]{What: watchdog.Over, Call: "a", Since: d.now - time.Hour - 5*every})
}

// What the caller itself spends within a round does not make the next one late.
func TestExcuse(t *testing.T) {
	for _, c := range []struct {
		spent time.Duration
		found watchdog.What
	}{{0, watchdog.Nothing}, {time.Hour, watchdog.Stalled}} {
		d := newDog(t, 1)
		d.runs[0] = "a"
		d.silent(3)
		d.Excuse(c.spent)
		d.round(time.Hour + every)
		if got := d.found[0].What; got != c.found {
			t.Errorf("after %v of the caller's: found %v, want %v", c.spent, got, c.found)
		}
	}
}
