package engine

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/internal/asynclog"
	"github.com/servercore-go/servercore/internal/goroutines"
	"github.com/servercore-go/servercore/internal/histogram"
	"github.com/servercore-go/servercore/internal/watchdog"
	"github.com/servercore-go/servercore/session"
)

// The watchdog finds callbacks that hold a loop. Loops show what they run (session.Scratch); the watchdog is the one that
// reads a clock. docs/decisions/0012 weighs the ways.

// loopWatch looks at the loops, and counts and logs what internal/watchdog has found.
type loopWatch struct {
	engine *Engine
	*watchdog.Watch[session.Running]
	finder goroutines.Finder[session.Callback]
	calls  []uint64 // of each loop, at the last round
	still  int      // rounds for which no loop has run a callback
}

func newLoopWatch(e *Engine, now time.Duration) *loopWatch {
	return &loopWatch{
		engine: e,
		Watch:  watchdog.New[session.Running](len(e.loops), e.options.StallWarning, asynclog.Interval, now),
		finder: goroutines.Finder[session.Callback]{Names: &goroutineNames},
		calls:  make([]uint64, len(e.loops)),
	}
}

// restRounds is for how many rounds no loop has run a callback when the watchdog rests. A tick of an idle process takes some 0.2 ms of a processor, with
// all that wakes up for it, and forty a second nearly a hundredth of one.
const restRounds = 10

// watch is the watchdog's goroutine. With StallWarning off it only probes the loops, seldom.
func (e *Engine) watch() {
	defer close(e.unwatched)
	t := time.NewTicker(restProbeEvery)
	defer t.Stop()
	p := newProber(e)
	var w *loopWatch
	if e.options.StallWarning > 0 {
		w = newLoopWatch(e, e.now())
		t.Reset(w.Every())
	}
	for {
		select {
		case <-t.C:
			now := e.now()
			p.look(now)
			if w == nil || p.rests {
				continue
			}
			w.tick(now)
			if w.mayRest() {
				p.rest()
				t.Reset(restProbeEvery)
			}
		case <-e.stirred:
			if !p.rests {
				continue // by a loop that was ready to let it rest, when another was not
			}
			now := e.now()
			p.stir(now)
			w.tick(now)
			t.Reset(w.Every())
		case <-e.unwatch: // the loops have ended: a stall that lasted until then is over
			if w != nil {
				w.tick(e.now())
			}
			return
		}
	}
}

// stir ends the watchdog's rest. Any goroutine.
func (e *Engine) stir() {
	select {
	case e.stirred <- struct{}{}:
	default: // on its way
	}
}

// mayRest follows each round. It reports whether there is nothing to look at until a loop stirs the watchdog: each of them will.
func (w *loopWatch) mayRest() bool {
	w.still++
	for i, l := range w.engine.loops {
		if calls := l.scratch.Calls(); calls != w.calls[i] {
			w.calls[i], w.still = calls, 0
		}
	}
	if w.still < restRounds {
		return false
	}
	w.still = 0
	for i, l := range w.engine.loops {
		if !l.scratch.Rest(w.calls[i]) {
			return false
		}
	}
	return true
}

func (w *loopWatch) tick(now time.Duration) {
	w.Begin(now)
	for i, l := range w.engine.loops {
		switch f := w.Look(i, l.scratch.Running(), now); f.What {
		case watchdog.Stalled:
			l.stalls.Add(1)
			w.engine.traceStall(l, f.Call, now-f.Since)
			if f.Log {
				w.report(l, f, now)
			}
		case watchdog.Over:
			l.stalled.Add(int64(now - f.Since))
			l.shared.Times[f.Call.Callback].Record(now - f.Since)
		}
	}
}

func (w *loopWatch) report(l *loop, f watchdog.Finding[session.Running], now time.Duration) {
	args := []any{"callback", f.Call.Callback.String(), "for", (now - f.Since).Round(time.Millisecond), "loop", l.index}
	var whose *session.Session
	if whose = l.scratch.Whose(f.Call); whose != nil {
		args = append(args, "session", whose.ID(), "remote", whose.RemoteAddr(),
			"handler", fmt.Sprintf("%T", (*session.Driver)(whose).Handler()))
	} else if a := l.making.Load(); a != nil && (f.Call.Callback == session.CallFactory || f.Call.Callback == session.CallAdmit) {
		args = append(args, "remote", a)
	}
	stack, spent := w.finder.Find(l.target(f.Call, f.Since), w.engine.now)
	w.Excuse(spent)
	waiting, sessions := l.waiting(whose)
	if l.scratch.Running() != f.Call { // it has just returned: what waited then is not known
		waiting = 0
	}
	args = append(args, "waiting", waiting, "sessions", sessions)
	if f.LeftOut > 0 {
		args = append(args, "left_out", f.LeftOut)
	}
	w.engine.log.Warn("a callback holds its loop; it should not wait, or be on a listener with Offload",
		append(args, "stack", stack)...)
}

// target is the loop as the one whose stack is looked for, while it runs that call.
func (l *loop) target(call session.Running, since time.Duration) goroutines.Target[session.Callback] {
	t := goroutines.Target[session.Callback]{
		Callback: call.Callback,
		Since:    since,
		Running:  func() bool { return l.scratch.Running() == call },
	}
	if id := l.goroutine.Load(); id != nil {
		t.ID = *id
	}
	return t
}

// waiting returns how many other sessions of the loop have something to do, pending connections included, and how many there are.
func (l *loop) waiting(but *session.Session) (waiting, sessions int) {
	conns := l.Conns()
	var ask []unix.PollFd
	for _, c := range conns {
		switch {
		case c.Offloaded() || c.Context.Session() == but:
		case c.Context.Asked():
			waiting++
		default:
			ask = append(ask, unix.PollFd{Fd: int32(c.Fd()), Events: unix.POLLIN})
		}
	}
	return waiting + unread(ask) + int(l.opening.Load()), len(conns)
}

// unread returns for how many of the descriptors bytes, a FIN or a reset wait. Asking takes nothing from a socket. A descriptor
// may be closed, and be another's, if the loop has gone on: that is one more or less.
func unread(ask []unix.PollFd) (n int) {
	const atOnce = 1024 // some 0.2 ms
	for len(ask) > 0 {
		some := ask[:min(atOnce, len(ask))]
		ask = ask[len(some):]
		if _, err := unix.Poll(some, 0); err != nil {
			continue
		}
		for _, p := range some {
			if p.Revents&unix.POLLIN != 0 {
				n++
			}
		}
	}
	return n
}

// Timing is how long the callbacks of one kind take.
type Timing struct {
	Callback string // "OnRecv", "Post", "Factory", ...
	Timed    uint64 // how many were timed: one in sixteen, and every stall besides
	P50, P90, P99, P999,
	Max time.Duration
}

// Timings returns how long callbacks have taken since Start, for each kind that was called. One call in sixteen of each kind is timed,
// exactly, unless it panics, and each stall besides, to a quarter of StallWarning: one that is among the sixteenth counts twice. Max is the
// longest of these times. A quantile may read up to a quarter too high, and none is below 256 ns unless Max is. All stalls count, and one
// in sixteen of the other calls, so quantiles read slightly high. With StallWarning off nothing is timed. Any goroutine; it takes some ten
// microseconds for each loop.
func (e *Engine) Timings() []Timing {
	var list []Timing
	for kind := range session.Callbacks {
		var h histogram.Histogram
		for _, l := range e.running() {
			l.shared.Times[kind].AddTo(&h)
		}
		if n := h.Count(); n > 0 {
			list = append(list, Timing{kind.String(), n, h.Quantile(0.5), h.Quantile(0.9), h.Quantile(0.99), h.Quantile(0.999),
				h.Longest()})
		}
	}
	return list
}
