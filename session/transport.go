package session

import "time"

// Transport is what a session needs from its connection. The engine implements it on sockets, the tests in memory.
//
// Every method but Wake, WakeAll and Now is called on the session's loop only. After Close the session calls Again, Scratch, Failed and, last
// of all, Done, and nothing else (I6).
type Transport interface {
	// Wake has the loop call Driver.Turn soon. Any goroutine. The session calls it once at most until Turn begins.
	Wake()

	// WakeAll is Wake for several connections of one loop, this one among them, at the cost of one wake-up. all is not kept. Any goroutine.
	WakeAll(all []Transport)

	// Again has the loop call Driver.Resume later, after other sessions that wait have had their turn. Calls before Resume begins count
	// once.
	Again()

	// Now is a monotonic clock. Any goroutine.
	Now() time.Duration

	// Scratch is the memory of the goroutine that works on the session, until it leaves the session alone again.
	Scratch() *Scratch

	// Arm has the loop call Driver.Expire at that time or earlier, on the clock of Now. An earlier call still counts. There is
	// nothing to disarm: an Expire too many does no harm.
	Arm(at time.Duration)

	// Write offers the buffers to the kernel, in order, and returns how many bytes it took. ErrWouldBlock: the kernel is full, and the
	// loop will call Driver.Writable once it takes bytes again. ErrNoMemory: try again in a moment. Any other error: the
	// connection is broken. Write neither keeps the slices nor writes to them.
	Write(bufs [][]byte) (n int, err error)

	// CloseWrite sends FIN.
	CloseWrite() error

	// Reading stops or resumes the reading of the connection. It starts out reading. After Reading(false), Driver.Receive is not called
	// and TCP holds the peer back. Driver.Broken is still called for a reset at once, and Driver.PeerClosed for a FIN that no
	// byte precedes.
	Reading(on bool) error

	// Unread reports whether received bytes, a FIN or a reset wait in the kernel.
	Unread() bool

	// Received returns how many received bytes wait in the kernel.
	Received() int

	// Unsent returns how many bytes the kernel has taken and the peer has not acknowledged. Our FIN counts as one. It is 0 where the
	// system does not tell.
	Unsent() int

	// Close gives up the descriptor. With reset it discards what the kernel still holds, and tells the peer so.
	Close(reset bool)

	// Done tells that OnDisconnected has returned and the session needs nothing more.
	Done()

	// Failed reports that the handler failed in the callback of that name: by a panic with that value, or by runtime.Goexit if
	// value is nil. It is logged with the stack.
	Failed(callback string, value any, stack []byte)
}
