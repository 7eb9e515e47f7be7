package session

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
)

// The reasons a session ends for, as Err reports them, and the errors of Send. Test with errors.Is; the texts
// are for people and may change.
var (
	// ErrClosed is returned by Send, SendBuffer and Post once the session takes nothing more. It matches
	// net.ErrClosed.
	ErrClosed error = &reason{"session: closed", net.ErrClosed}

	// ErrPeerClosed: the peer sent FIN and everything owed to it was sent. It matches io.EOF.
	ErrPeerClosed error = &reason{"session: closed by the peer", io.EOF}

	// ErrPeerReset: the connection broke, by the peer's reset or because the network gave it up. The system's
	// own error is wrapped. After a keep-alive or TCP_USER_TIMEOUT expiry it also matches
	// os.ErrDeadlineExceeded.
	ErrPeerReset = errors.New("session: connection reset")

	// ErrDisconnected: Disconnect was called.
	ErrDisconnected = errors.New("session: disconnected")

	// ErrAborted: Abort was called.
	ErrAborted = errors.New("session: aborted")

	// ErrSendLimit is returned by a Send that would pass Options.SendLimit, and is the reason of a session that
	// was ended for it.
	ErrSendLimit = errors.New("session: send limit reached, the peer takes less than it is sent")

	// ErrSendBudget: the queues of all sessions together left too little of Options.SendBudget, the peer of this one took next to
	// nothing, and it was among those that held the most. It is also returned by a Send that the budget has no room for. It
	// matches ErrSendLimit.
	ErrSendBudget error = &reason{"session: the budget of queued bytes is used up, the peer takes less than it is sent", ErrSendLimit}

	// ErrPostLimit is returned by Post when too many functions wait to be run.
	ErrPostLimit = errors.New("session: too many posted functions wait, the loop does not come to them")

	// ErrRecvRate: the peer sent more than engine.RecvRate allows.
	ErrRecvRate = errors.New("session: the peer sends faster than it may")

	// ErrIdle: nothing was received for IdleTimeout, or not one byte within FirstByteTimeout. It matches
	// os.ErrDeadlineExceeded.
	ErrIdle error = &reason{"session: idle too long", os.ErrDeadlineExceeded}

	// ErrWriteStall: the peer took nothing for WriteTimeout. It matches os.ErrDeadlineExceeded.
	ErrWriteStall error = &reason{"session: the peer stopped taking bytes", os.ErrDeadlineExceeded}

	// ErrDrainTimeout: what was queued at the end did not leave within DrainTimeout. It matches
	// os.ErrDeadlineExceeded.
	ErrDrainTimeout error = &reason{"session: not drained in time", os.ErrDeadlineExceeded}

	// ErrPanic: a callback panicked or called runtime.Goexit. The panic's value is in the text.
	ErrPanic = errors.New("session: callback panicked")

	// ErrShutdown: the engine was shut down or closed.
	ErrShutdown = errors.New("session: engine shut down")

	// ErrWouldBlock is returned by a Transport whose kernel buffer is full. Content never sees it.
	ErrWouldBlock = errors.New("session: write would block")

	// ErrNoMemory is returned by a Transport when the kernel is short of buffers for the moment. Content never
	// sees it.
	ErrNoMemory = errors.New("session: kernel is short of memory")
)

// reason is a sentinel that also matches an error of the standard library.
type reason struct {
	text string
	is   error
}

func (r *reason) Error() string        { return r.text }
func (r *reason) Is(target error) bool { return target == r.is }

// chain is a first reason and what went wrong while the session ended for it; it matches both.
type chain struct{ first, then error }

func (c *chain) Error() string   { return c.first.Error() + "; then " + c.then.Error() }
func (c *chain) Unwrap() []error { return []error{c.first, c.then} }

// PeerReset wraps what the system said about a broken connection so that it matches ErrPeerReset, and
// os.ErrDeadlineExceeded if the system gave the peer up after a time.
func PeerReset(err error) error {
	if t, ok := err.(interface{ Timeout() bool }); ok && t.Timeout() {
		return fmt.Errorf("%w: %w (%w)", ErrPeerReset, err, os.ErrDeadlineExceeded)
	}
	return fmt.Errorf("%w: %w", ErrPeerReset, err)
}
