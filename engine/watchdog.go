package engine

import (
	"bytes"
	"fmt"
	"runtime"
	"time"

	"github.com/servercore-go/servercore/session"
)

// The watchdog finds callbacks that hold a loop. Loops show what they run (session.Scratch); the watchdog is the one that
// reads a clock. docs/decisions/0012 weighs the ways.

// watchdog is the goroutine's view of the loops.
type watchdog struct {
	engine *Engine
	every  time.Duration
	last   time.Duration // when it looked last
	loops  []suspicion
}

// suspicion is what it knows of one loop.
type suspicion struct {
	loop   *loop
	call   session.Running // seen running
	since  time.Duration   // when it was seen first
	known  bool            // as a stall
	logged time.Duration   // when a stall of this loop was logged last
	hidden int             // stalls not logged since
}

// looks is how often the watchdog looks within StallWarning: a stall is found when it has lasted that long, or a quarter more.
const looks = 4

func newWatchdog(e *Engine, now time.Duration) *watchdog {
	w := &watchdog{engine: e, every: e.options.StallWarning / looks, last: now}
	for _, l := range e.loops {
		w.loops = append(w.loops, suspicion{loop: l})
	}
	return w
}

// watch is the watchdog's goroutine.
func (e *Engine) watch() {
	defer close(e.unwatched)
	w := newWatchdog(e, e.now())
	t := time.NewTicker(w.every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			w.tick(e.now())
		case <-e.unwatch: // the loops have ended: a stall that lasted until then is over
			w.tick(e.now())
			return
		}
	}
}

func (w *watchdog) tick(now time.Duration) {
	// While the watchdog itself is not run, because the process is stopped or the machine overloaded, the callback may
	// not be either: that time is not held against it.
	late := now - w.last - w.every
	if late < w.every {
		late = 0 // as tickers are
	}
	w.last = now
	for i := range w.loops {
		w.look(&w.loops[i], now, late)
	}
}

func (w *watchdog) look(s *suspicion, now, late time.Duration) {
	call := s.loop.seat.scratch.Running()
	switch {
	case call != s.call:
		if s.known {
			w.over(s, now)
		}
		s.call, s.since, s.known = call, now, false
	case call.Call == 0 || s.known:
	default:
		if s.since += late; now-s.since >= w.engine.options.StallWarning {
			s.known = true
			s.loop.stalls.Add(1)
			w.report(s, now)
		}
	}
}

// over counts the time of a stall that has ended since the last look.
func (w *watchdog) over(s *suspicion, now time.Duration) {
	took := now - s.since
	s.loop.stalled.Add(int64(took))
	s.loop.shared.Times[s.call.Callback].Record(took)
}

func (w *watchdog) report(s *suspicion, now time.Duration) {
	if s.logged > 0 && now-s.logged < lineEvery {
		s.hidden++
		return
	}
	l := s.loop
	args := []any{"callback", s.call.Callback.String(), "for", (now - s.since).Round(time.Millisecond), "loop", l.index}
	var whose *session.Session
	if whose = l.seat.scratch.Whose(s.call); whose != nil {
		args = append(args, "session", whose.ID(), "remote", whose.RemoteAddr())
	} else if a := l.making.Load(); a != nil && (s.call.Callback == session.CallFactory || s.call.Callback == session.CallAdmit) {
		args = append(args, "remote", a)
	}
	stack := l.stack()
	waiting, sessions := l.waiting(whose)
	if l.seat.scratch.Running() != s.call { // it has just returned: what was found out since may be another's
		stack, waiting = nil, 0
	}
	args = append(args, "waiting", waiting, "sessions", sessions)
	if s.hidden > 0 {
		args = append(args, "left_out", s.hidden)
	}
	s.logged, s.hidden = now, 0
	w.engine.log.warn("a callback holds its loop; it should not wait, or be on a listener with Offload",
		append(args, "stack", string(stack))...)
}

// waiting returns how many other sessions of the loop have something to do, newcomers included, and how many there are.
func (l *loop) waiting(but *session.Session) (waiting, sessions int) {
	l.connsMu.Lock()
	conns := append([]*conn(nil), l.conns...)
	l.connsMu.Unlock()
	for _, c := range conns {
		// The descriptor may be closed, and be another's, if the loop has gone on: that is one more or less. Asking takes
		// nothing from the socket.
		if c.seat.strand == nil && c.driver.Session() != but && (c.driver.Asked() || c.Unread()) {
			waiting++
		}
	}
	return waiting + int(l.opening.Load()), len(conns)
}

// maxStacks bounds what is searched for a goroutine's stack. The world stands still while it is written down.
const maxStacks = 1 << 20

// stack returns the stack of the loop's goroutine.
func (l *loop) stack() []byte {
	id := l.goroutine.Load()
	if id == nil {
		return nil
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
	head := append([]byte("goroutine "), *id...)
	head = append(head, ' ')
	for _, one := range bytes.Split(all, []byte("\n\n")) {
		if bytes.HasPrefix(one, head) {
			return one
		}
	}
	return fmt.Appendf(nil, "not among the first %d KiB of all stacks", len(all)>>10)
}

// present notes which goroutine is the loop's.
func (l *loop) present() {
	// "goroutine 18 [running]:"
	var b [64]byte
	fields := bytes.Fields(b[:runtime.Stack(b[:], false)])
	if len(fields) > 1 {
		id := string(fields[1])
		l.goroutine.Store(&id)
	}
}

// Timing is how long the callbacks of one kind take.
type Timing struct {
	Callback string // "OnRecv", "Post", "Factory", ...
	Timed    uint64 // how many were timed: one in sixteen, and every stall besides
	P50, P90, P99, P999,
	Max time.Duration
}

// Timings returns how long callbacks have taken since Start, for each kind that was called. One call in sixteen of each kind
// is timed, exactly, unless it panics, and each stall besides, to a quarter of StallWarning: one that is among the sixteenth
// counts twice. Max is the longest of these times. Quantiles are at most a quarter above them, and not below 256 ns unless
// Max is. Stalls lift the quantiles a little, as all of them are in. With StallWarning off nothing is timed. Any goroutine;
// it takes some ten microseconds for each loop.
func (e *Engine) Timings() []Timing {
	var list []Timing
	for kind := range session.Callbacks {
		var h session.Histogram
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
