package engine

import (
	"time"

	"golang.org/x/sys/unix"
)

// Accepting. A listener is watched by the reactor of one loop, its accepting loop, which accepts as part of its work: no goroutine has to be
// woken for a connection. It refuses what is over the limit before anything is built for it, and hands the rest to the loop with the
// fewest sessions. When the accepting loop is held up, by a callback that does not return or by errors, the listener's own goroutine
// accepts in its place. docs/decisions/0002 weighs the ways.

// acceptOne accepts one connection without waiting. It returns false if none waits, if no loop can take one now, or after an error: then
// the listener's goroutine accepts. It is what the accepting loop calls. The goroutine that ends the engine says so first and closes the
// listener under acceptMu then, so that nothing is accepted from there on.
func (l *Listener) acceptOne() bool {
	lp := l.engine.leastLoaded(maxOpening)
	if lp == nil {
		return false
	}
	l.acceptMu.Lock()
	defer l.acceptMu.Unlock()
	if l.engine.stopping() {
		return false
	}
	switch p, err := l.accept(); err {
	case nil:
		l.engine.admit(p, lp)
		return true
	case unix.EAGAIN, errListenerClosed:
	default:
		l.engine.noteAcceptError(l, err)
	}
	return false
}

// acceptGrace is how long a connection is left to the accepting loop before the listener's goroutine accepts it.
const acceptGrace = 5 * time.Millisecond

// acceptFallback is the listener's goroutine.
func (l *Listener) acceptFallback() {
	defer l.engine.acceptors.Done()
	for l.await() == nil {
		for pause := acceptGrace; pause > 0; {
			select {
			case <-time.After(pause):
			case <-l.engine.life.Done():
				return
			}
			pause = l.acceptWaiting(pause)
		}
	}
}

// acceptWaiting accepts whatever waits, and returns after what time to try again, 0 if nothing waits any more.
func (l *Listener) acceptWaiting(pause time.Duration) time.Duration {
	for {
		p, err := l.tryAccept()
		switch {
		case err == nil:
			l.engine.admit(p, l.engine.awaitLoop())
			pause = 0
		case err == unix.EAGAIN || err == errListenerClosed || l.engine.stopping():
			return 0
		default:
			if pause = l.engine.acceptFailed(l, err, pause); pause > 0 {
				return pause
			}
		}
	}
}

const (
	// net/http waits 5 ms, doubling to 1 s; here connections are accepted again a tenth of a second after the trouble.
	minAcceptPause = 5 * time.Millisecond
	maxAcceptPause = 100 * time.Millisecond
)

// acceptFailed deals with an error of accept and returns how long to wait before the next try. Out of
// descriptors, the connection is accepted on the spare one and, unless the shortage has passed, shed, so that the peer learns
// at once and the listener's queue does not fill up.
func (e *Engine) acceptFailed(l *Listener, err error, pause time.Duration) time.Duration {
	e.noteAcceptError(l, err)
	if outOfDescriptors(err) {
		switch p, waiting := e.acceptOnSpare(l); {
		case p.origin != nil:
			e.admit(p, e.awaitLoop())
			return 0
		case waiting:
			return 0
		}
	}
	return min(max(2*pause, minAcceptPause), maxAcceptPause)
}

func (e *Engine) noteAcceptError(l *Listener, err error) {
	e.acceptErrors.Add(1)
	e.log.Limited(acceptLine, "accept failed; established sessions go on", "err", err, "listener", l.addr.String())
}

// maxOpening bounds the pending connections of one loop, give or take one for each listener: a loop held up by a callback
// soon has its share of them, and the others go on.
const maxOpening = 64

// leastLoaded returns the loop with the fewest sessions among those with fewer pending connections than that, nil if there is
// none.
func (e *Engine) leastLoaded(pending int32) (best *loop) {
	var least int32
	for _, lp := range e.loops {
		opening := lp.opening.Load()
		if n := opening + int32(lp.Len()) + lp.awaiting.Load(); opening < pending && (best == nil || n < least) {
			best, least = lp, n
		}
	}
	return best
}

// awaitLoop waits for a loop that can take another connection and returns the one with the fewest sessions, nil if
// the engine is stopping.
func (e *Engine) awaitLoop() *loop {
	waited := false
	for {
		if best := e.leastLoaded(maxOpening); best != nil {
			if waited {
				e.notifyRoom() // this notice may have been meant for another goroutine that waits, or there is room for both
			}
			return best
		}
		select {
		case <-e.room:
			waited = true
		case <-e.life.Done():
			return nil
		}
	}
}

// notifyRoom tells awaitLoop that a loop can take another connection.
func (e *Engine) notifyRoom() { notify(e.room) }

// watchListener makes l the accepting loop of a listener. The loop does not run yet.
func (l *loop) watchListener(listener *Listener) error {
	listener.loop = l
	return l.Listen(listener.descriptor(), listener.acceptOne)
}
