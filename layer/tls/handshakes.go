package tls

import (
	"runtime"
	"sync"
	"time"
)

// Handshakes bounds what the handshakes of many connections take: share one between all listeners and dialled connections of an engine.
// The zero value has the defaults. Set the fields before the first Start.
//
// A handshake is at work, or it waits for its peer. It gets a goroutine when there is work: a server's when the ClientHello is whole. While
// it waits for the client's second flight the goroutine is parked and counts as waiting, not as work.
type Handshakes struct {
	// Running is how many handshakes compute at once; the others wait for their turn, those that have begun before new ones. 0: half of
	// GOMAXPROCS, so that a flood of handshakes leaves the other half to sessions.
	Running int
	// Blocked is how many more may be in a callback of the application that blocks (GetCertificate that asks another server). A handshake
	// that has been at work for 20 ms is taken for one of them, and another one gets its turn. 0: 256.
	Blocked int
	// Waiting is how many handshakes of servers wait for the client's answer. One more, and the one that has waited the longest fails with
	// CauseCrowded. 0: 4,096. docs/decisions/0020-tls.md has what each costs.
	Waiting int

	mu      sync.Mutex
	running queue // oldest first
	blocked int
	resumed queue // parked ones whose input has come
	fresh   queue // without a goroutine so far
	waiting queue // parked servers, oldest first
	timer   *time.Timer
	armed   bool
}

const (
	blockedAfter   = 20 * time.Millisecond
	defaultBlocked = 256
	defaultWaiting = 4096
)

func orDefault(n, otherwise int) int {
	if n > 0 {
		return n
	}
	return otherwise
}

// start puts a handshake on the list of those that get a goroutine. mu is held.
func (h *Handshakes) start(hs *handshake) {
	hs.resume = make(chan struct{}, 1)
	h.fresh.push(hs)
	h.dispatch()
}

// dispatch gives turns, to those that have begun first: each of them holds memory, and they are bounded. mu is held.
func (h *Handshakes) dispatch() {
	limit := orDefault(h.Running, max(1, runtime.GOMAXPROCS(0)/2))
	for h.running.n < limit {
		hs := h.resumed.pop()
		begun := hs != nil
		if !begun {
			if hs = h.fresh.pop(); hs == nil {
				return
			}
		}
		hs.since = time.Now()
		h.running.push(hs)
		if begun {
			hs.resume <- struct{}{}
		} else {
			go hs.run()
		}
	}
	if h.resumed.n+h.fresh.n > 0 && !h.armed && h.blocked < orDefault(h.Blocked, defaultBlocked) {
		h.armed = true
		after := blockedAfter - time.Since(h.running.first.since)
		if h.timer == nil {
			h.timer = time.AfterFunc(after, h.passOver)
		} else {
			h.timer.Reset(after)
		}
	}
}

// passOver gives the turns of handshakes that seem to be blocked to others. It runs on the timer's goroutine.
func (h *Handshakes) passOver() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.armed = false
	limit := orDefault(h.Blocked, defaultBlocked)
	for hs := h.running.first; hs != nil && h.blocked < limit && time.Since(hs.since) >= blockedAfter; hs = h.running.first {
		h.running.remove(hs)
		hs.blocked = true
		h.blocked++
	}
	h.dispatch()
}

// leave takes a handshake's turn away, if it has one, or its place on a list. mu is held.
func (h *Handshakes) leave(hs *handshake) {
	if hs.blocked {
		hs.blocked = false
		h.blocked--
	} else if hs.on != nil {
		hs.on.remove(hs)
	}
	h.dispatch()
}

// park notes that hs waits for its peer. mu is held.
func (h *Handshakes) park(hs *handshake) {
	h.leave(hs)
	hs.parked = true
	if hs.client {
		return // the application dials: it bounds their number, and wants them
	}
	h.waiting.push(hs)
	if h.waiting.n > orDefault(h.Waiting, defaultWaiting) {
		h.stop(h.waiting.first, errCrowded)
	}
}

// unpark gives hs a turn as soon as there is one: it has input. mu is held.
func (h *Handshakes) unpark(hs *handshake) {
	hs.parked = false
	h.leave(hs)
	h.resumed.push(hs)
	h.dispatch()
}

// stop makes the handshake fail. Its goroutine, if it has one, sees err at its next read or write. mu is held.
func (h *Handshakes) stop(hs *handshake, err error) {
	if hs.stopped == nil {
		hs.stopped = err
	}
	idle := hs.parked || hs.on == &h.resumed
	if idle || hs.on == &h.fresh {
		hs.parked = false
		h.leave(hs)
	}
	if idle {
		hs.resume <- struct{}{} // without a turn: what is left to do is to return an error
	}
}

// queue is a list of handshakes. A handshake is on one list at most.
type queue struct {
	first, last *handshake
	n           int
}

func (q *queue) push(hs *handshake) {
	hs.on, hs.prev, hs.next = q, q.last, nil
	if q.last == nil {
		q.first = hs
	} else {
		q.last.next = hs
	}
	q.last = hs
	q.n++
}

func (q *queue) pop() *handshake {
	hs := q.first
	if hs != nil {
		q.remove(hs)
	}
	return hs
}

func (q *queue) remove(hs *handshake) {
	if hs.prev == nil {
		q.first = hs.next
	} else {
		hs.prev.next = hs.next
	}
	if hs.next == nil {
		q.last = hs.prev
	} else {
		hs.next.prev = hs.prev
	}
	hs.on, hs.prev, hs.next = nil, nil, nil
	q.n--
}
