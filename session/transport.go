package session

import (
	"math"
	"time"
)

// Transport is the little a session needs from its connection. The engine implements it on sockets, the tests
// on memory. Every method but Wake, WakeAll and Now is called on the session's loop only; after Close come only Again, Scratch,
// Failed and, last of all, Done.
type Transport interface {
	// Wake has the loop call Turn soon. Any goroutine. The session calls it at most once until Turn begins.
	Wake()

	// WakeAll is Wake for each of several connections of one loop, this one among them, at the cost of one. all is not
	// kept. Any goroutine.
	WakeAll(all []Transport)

	// Again has the loop call Resume later, after other sessions that wait had theirs. Idempotent until Resume begins.
	Again()

	// Now is a monotonic clock. Any goroutine.
	Now() time.Duration

	// Scratch is the memory of the goroutine that is at work on the session, until it leaves the session alone again.
	Scratch() *Scratch

	// Arm has the loop call Expire at that time or earlier, on the clock of Now. An earlier call still counts;
	// there is nothing to disarm, an Expire too many is harmless.
	Arm(at time.Duration)

	// Write offers the kernel the buffers in order and returns how many bytes it took. ErrWouldBlock: the
	// kernel is full, and the loop will call Writable once it takes bytes again. ErrNoMemory: try again in a
	// moment. Any other error: the connection is broken. The slices are not kept, nor written to.
	Write(bufs [][]byte) (n int, err error)

	// CloseWrite sends FIN.
	CloseWrite() error

	// Reading stops or resumes the reading of the connection. After Reading(false), Receive is not called and
	// TCP holds the peer; Broken is still called for a reset at once, and PeerClosed for a FIN that no byte precedes.
	// It starts out reading.
	Reading(on bool) error

	// Unread reports whether received bytes, a FIN or a reset wait in the kernel.
	Unread() bool

	// Received returns how many received bytes wait in the kernel.
	Received() int

	// Unsent returns the bytes the kernel took and the peer has not acknowledged, our FIN being one of them, 0 where that is not
	// known.
	Unsent() int

	// Close gives the descriptor up; reset discards what the kernel still holds and tells the peer so.
	Close(reset bool)

	// Done tells that OnDisconnected has returned and the session needs nothing more.
	Done()

	// Failed reports that content failed in the callback of that name: by a panic with that value, or by
	// runtime.Goexit if it is nil. To be logged with the stack.
	Failed(callback string, value any, stack []byte)
}

// Limits bound what one session may hold and how long it may take. Zero or less is off; the engine applies its
// defaults before.
type Limits struct {
	SendLimit  int  // bytes queued
	PauseAbove int  // bytes queued above which the session is not read
	EndSlow    bool // a Send over SendLimit ends the session

	SoftLimit int           // bytes queued that end the session
	SoftFor   time.Duration // if there are more of them for so long

	HighWater, LowWater int // bytes queued, for OnWritable

	Budget *Budget // of all sessions of an engine together; nil is off

	Idle, FirstByte, HalfClose, Write, Drain, Linger time.Duration
}

// unbounded reports whether an answer can never be refused for want of room, or nothing is done against it.
func (l *Limits) unbounded() bool { return l.SendLimit <= 0 || l.PauseAbove <= 0 }

// safe returns how many bytes can be answered byte for byte by a session that is being read.
func (l *Limits) safe() int {
	if l.unbounded() {
		return math.MaxInt
	}
	return l.SendLimit - l.PauseAbove
}

// Loop is what the sessions of one event loop share.
type Loop struct {
	Limits   Limits
	Counters Counters
	Times    [Callbacks]Histogram // of callbacks, one in sixteen of each kind

	unmarked int // bytes queued up to which no limit looks at a session
}

// NewLoop returns the shared part of one event loop's sessions.
func NewLoop(limits Limits) *Loop {
	l := &Loop{Limits: limits, unmarked: math.MaxInt}
	for _, mark := range []int{limits.PauseAbove, limits.SoftLimit, limits.HighWater} {
		if mark > 0 {
			l.unmarked = min(l.unmarked, mark)
		}
	}
	return l
}
