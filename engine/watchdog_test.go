package engine

import (
	"log/slog"
	"testing"
	"time"

	"github.com/servercore-go/servercore/session"
)

// A watchdog that comes late was not run, nor was the callback perhaps: that is not held against it.
func TestWatchdogThatIsLate(t *testing.T) {
	e, err := New(Options{Loops: 1, StallWarning: 100 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLoop(e, 0, e.options.limits())
	if err != nil {
		t.Fatal(err)
	}
	defer l.release()
	e.loops = []*loop{l}

	now := time.Second
	w := newWatchdog(e, now)
	after := func(d time.Duration, stalls uint64, stalled time.Duration) {
		t.Helper()
		now += d
		w.tick(now)
		if s := l.stats(); s.Stalls != stalls || s.Stalled != stalled {
			t.Errorf("at %v: %d stalls of %v, want %d of %v", now, s.Stalls, s.Stalled, stalls, stalled)
		}
	}
	const every = 25 * time.Millisecond
	l.seat.scratch.Enter(session.CallRecv, nil)
	after(every, 0, 0)
	after(time.Hour, 0, 0) // the process was stopped: it is held responsible for every
	after(every, 0, 0)
	after(every, 0, 0)
	after(every, 1, 0)     // now it has had its time
	after(time.Hour, 1, 0) // a stall does not become two
	l.seat.scratch.Leave()
	after(every, 1, time.Hour+5*every)

	l.seat.scratch.Enter(session.CallRecv, nil)
	after(every, 1, time.Hour+5*every)
	after(2*every, 1, time.Hour+5*every)   // somewhat late: once every
	after(2*every-1, 1, time.Hour+5*every) // hardly late: all of it
	after(every, 1, time.Hour+5*every)
	after(every, 2, time.Hour+5*every)
}
