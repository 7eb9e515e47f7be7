package engine

import "time"

// A loop that works is asked ten times a second whether it looks, and one that rests once a second: ten times a second took more of the
// processor than all else that an idle process does. With StallWarning off nobody sees who works, and each is asked once a second.
const (
	probeEvery     = 100 * time.Millisecond
	restProbeEvery = time.Second
)

// prober asks the loops whether they look, and tells their sessions the time. It belongs to the watchdog's goroutine.
type prober struct {
	engine *Engine
	last   time.Duration // when it has looked last
	rests  bool          // sessions are not told the time
	loops  []probed
}

// probed is what the prober knows of a loop.
type probed struct {
	calls uint64        // callbacks that it had run when it was asked
	asked time.Duration // when that was
}

func newProber(e *Engine) *prober { return &prober{engine: e, loops: make([]probed, len(e.loops))} }

// rest has the sessions read the clock themselves until stir: between two looks a second passes now.
func (p *prober) rest() {
	p.rests = true
	p.tell(-1)
}

// stir tells them the time again.
func (p *prober) stir(now time.Duration) {
	p.rests = false
	p.tell(now)
}

func (p *prober) tell(now time.Duration) {
	for _, l := range p.engine.loops {
		l.shared.Recent.Store(int64(now))
	}
}

// look asks each loop for which that is due. It does nothing if it has looked a moment ago.
func (p *prober) look(now time.Duration) {
	if now-p.last < probeEvery*7/8 { // tickers are early now and then
		return
	}
	p.last = now
	if !p.rests {
		p.tell(now)
	}
	for i, l := range p.engine.loops {
		known, calls := &p.loops[i], l.scratch.Calls()
		if calls == known.calls && now-known.asked < restProbeEvery-probeEvery/2 && l.probe.Waiting(now) == 0 {
			continue
		}
		known.calls, known.asked = calls, now
		if l.probe.Ask(now) {
			l.Wake()
		}
	}
}
