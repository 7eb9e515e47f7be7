package session

import "sync/atomic"

// wakeup decides which goroutine wakes the loop for a session, so that no request is lost and the loop is woken once (I4). A request is
// anything that a goroutine wants of the loop: bytes sent, a function run, reading paused, the session ended.
//
//	state      meaning
//	unbound    Bind has not run; nothing can be asked
//	idle       the loop does not work on the session, and nothing was asked of it
//	requested  a wake-up is on its way: in the loop's mailbox, or in a Broadcast that hands it over soon
//	working    the loop works on the session, and looks for requests before it leaves
//
//	method   called by                      unbound    idle       requested  working
//	request  any goroutine, after it has    -          requested  -          -
//	         published what it wants        returns true: the caller wakes the loop; false otherwise
//	arrive   the loop, with the wake-up     working    -          working    working
//	         (unbound: Bind)
//	hold     the loop, with another event   -          working    -          working
//	release  the loop, before it looks      -          -          -          idle
//
// No request is lost. The requester publishes first and calls request then; the loop calls release first and looks then. If request finds
// the session idle, the loop is woken. If it finds requested, a wake-up is on its way, and the loop looks when it has arrived. If it finds
// working, the loop has not released yet, so it has yet to look.
//
// A wake-up that is on its way when another event arrives stays requested: the loop may do the work now, and finds nothing when the wake-up
// arrives. A lost goroutine (runtime.Goexit) leaves the session working, and Resume carries on.
type wakeup struct{ state atomic.Uint32 }

const (
	wakeupUnbound uint32 = iota
	wakeupIdle
	wakeupRequested
	wakeupWorking
)

// request returns true if the caller has to wake the loop. Any goroutine.
func (w *wakeup) request() bool { return w.state.CompareAndSwap(wakeupIdle, wakeupRequested) }

// arrive follows a wake-up, and Bind: the loop is at work. The loop only.
func (w *wakeup) arrive() { w.state.Store(wakeupWorking) }

// hold keeps other goroutines from waking the loop for the session it works on (S3). The loop only.
func (w *wakeup) hold() { w.state.CompareAndSwap(wakeupIdle, wakeupWorking) }

// release ends hold and arrive. A look has to follow. The loop only: nobody else leaves the state working.
func (w *wakeup) release() {
	if w.state.Load() == wakeupWorking {
		w.state.Store(wakeupIdle)
	}
}

// isBound reports whether what Bind fixes may be read. Any goroutine.
func (w *wakeup) isBound() bool { return w.state.Load() != wakeupUnbound }

// isIdle reports whether the loop neither works on the session nor is going to be woken for it. Any goroutine.
func (w *wakeup) isIdle() bool { return w.state.Load() == wakeupIdle }

// schedule has the loop look at the session, unless it is going to anyway. The caller has published what it wants (I4).
func (s *Session) schedule() {
	if s.wakeup.request() {
		s.conn.Wake()
	}
}
