package session

import (
	"sync/atomic"

	"github.com/servercore-go/servercore/internal/sendqueue"
)

// Scratch is the memory of a goroutine that drives sessions. The session at work uses it: what the running callback sends collects there, and
// the next write is put together there. It also shows other goroutines which callback runs.
type Scratch struct {
	send   sendqueue.Scratch
	layers *layerScratch // nil until a session with a layer needs it
	running
}

// NewScratch returns scratch memory of about 88 KiB. The first session with a layer adds 152 KiB.
func NewScratch() *Scratch { return &Scratch{send: sendqueue.MakeScratch()} }

// running shows other goroutines what the one with this scratch memory runs. That costs each callback two atomic exchanges, and a store if it is
// another session's than the last. Observers read the clock themselves. An observer that finds nothing going on may rest: then the next
// callback stirs it.
type running struct {
	off   bool   // nobody observes
	calls uint64 // callbacks so far
	kinds [Callbacks]uint32
	last  *Session // what owner has

	mark  atomic.Uint64 // calls, and below them in 8 bits the callback plus one, 0 if none runs, and resting
	owner atomic.Pointer[Session]
	stir  func() // called by the first callback after Rest
}

// resting is in a mark that the observer waits for the end of. It has a bit of the eight that no callback needs.
const resting = 1 << 7

// timedEvery is how many callbacks of a kind there are for one that is timed. Reading the clock twice costs as much as a short callback.
const timedEvery = 16

// Watched says whether callbacks are shown and timed; at first they are. Only the goroutine that drives sessions calls it, between callbacks.
func (r *running) Watched(on bool) { r.off = !on }

// StirredBy sets what is called when a callback begins after Rest. It must not wait. Only the goroutine that drives sessions calls it, before the
// first callback.
func (r *running) StirredBy(stir func()) { r.stir = stir }

// Rest is called by the observer, after StirredBy: it will not look again until it is stirred, by the next callback. It returns false if
// a callback runs, or has begun since Calls was that many: then nobody stirs. Any goroutine.
//
// Nothing is missed: the callback that takes the mark away gets it, with the bit in it, by the same atomic exchange.
func (r *running) Rest(calls uint64) bool {
	return r.mark.CompareAndSwap(calls<<8, calls<<8|resting) || r.mark.Load() == calls<<8|resting
}

// show replaces the mark.
func (r *running) show(mark uint64) {
	if r.mark.Swap(mark)&resting != 0 {
		r.stir()
	}
}

// Enter shows that a callback of s begins. s is nil for one that has no session yet. It returns whether the callback is to be timed. Only the
// goroutine that drives sessions calls Enter and Leave.
func (r *running) Enter(c Callback, s *Session) (timed bool) {
	if r.off {
		return false
	}
	if r.last != s {
		r.last = s
		r.owner.Store(s)
	}
	r.calls++
	r.show(r.calls<<8 | uint64(c+1))
	r.kinds[c]++
	return r.kinds[c]%timedEvery == 1
}

// Leave shows that the callback is over.
func (r *running) Leave() {
	if !r.off {
		r.show(r.calls << 8)
	}
}

// Calls returns how many callbacks have begun, 0 if nobody observes. Any goroutine.
func (r *running) Calls() uint64 { return r.mark.Load() >> 8 }

// Running is a callback that was seen running.
type Running struct {
	Call     uint64 // its number among those of this goroutine, 0 if none runs
	Callback Callback
}

// Running returns what runs now. Any goroutine.
func (r *running) Running() Running {
	mark := r.mark.Load() &^ resting
	if mark&0xff == 0 {
		return Running{}
	}
	return Running{mark >> 8, Callback(mark&0xff - 1)}
}

// Whose returns the session whose callback seen is. It is nil if the callback is over, or has no session. Any goroutine.
func (r *running) Whose(seen Running) *Session {
	s := r.owner.Load()
	if r.Running() != seen { // another callback may have begun in between
		return nil
	}
	return s
}
