package engine

import "sync/atomic"

// State is where an engine stands. It moves forward only.
type State uint8

// The states.
const (
	StateNew      State = iota // not started: Start was not called, has not returned, or has failed
	StateRunning               // every listener accepts
	StateDraining              // Shutdown or Close was called, or a loop has failed: nothing is accepted, and sessions end
	StateEnded                 // Done is closed, or about to be
)

var stateNames = [...]string{"new", "running", "draining", "ended"}

// String returns "new", "running", "draining" or "ended".
func (s State) String() string { return stateNames[s] }

// State returns where the engine stands: it is ready for work in StateRunning alone. Any goroutine, at any time. It does not wait.
func (e *Engine) State() State { return e.state.get() }

// stateHolder is a State that any goroutine may read.
type stateHolder struct{ v atomic.Uint32 }

func (h *stateHolder) get() State  { return State(h.v.Load()) }
func (h *stateHolder) set(s State) { h.v.Store(uint32(s)) }

// live is what an engine runs with.
type live struct {
	loops       []*loop
	listeners   []*Listener
	maxSessions int
}

// goLive names the listeners, gives each its part of the loops, and publishes what runs. The caller is Start, the last step before the loops run.
func (e *Engine) goLive() {
	taken := make(map[string]bool)
	for _, l := range e.listeners {
		l.name(taken)
		for _, lp := range e.loops {
			lp.parts = append(lp.parts, lp.shared.Part(l.origin.counts.name))
		}
	}
	e.live.Store(&live{loops: e.loops, listeners: e.listeners, maxSessions: e.maxSessions})
}

// running returns the loops, none before Start. It does not wait.
func (e *Engine) running() []*loop {
	if r := e.live.Load(); r != nil {
		return r.loops
	}
	return nil
}
