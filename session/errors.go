package session

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
)

// The reasons a session ends for, as Err reports them, and the errors of Send and Post. Test them with errors.Is. The texts are for people
// and may change.
var (
	// ErrClosed is returned by each kind of Send, and by Post, once the session takes nothing more. It matches net.ErrClosed.
	ErrClosed error = &sentinel{"session: closed", net.ErrClosed}

	// ErrPeerClosed: the peer has sent FIN, and everything owed to it was sent. It matches io.EOF.
	ErrPeerClosed error = &sentinel{"session: closed by the peer", io.EOF}

	// ErrPeerReset: the connection broke, by the peer's reset or because the network gave it up. The system's own error is wrapped. After a
	// keep-alive or TCP_USER_TIMEOUT has expired it also matches os.ErrDeadlineExceeded.
	ErrPeerReset = errors.New("session: connection reset")

	// ErrDisconnected: Disconnect was called.
	ErrDisconnected = errors.New("session: disconnected")

	// ErrAborted: Abort was called.
	ErrAborted = errors.New("session: aborted")

	// ErrSendLimit is returned by a Send that would pass Options.SendLimit, and is the reason of a session that was ended for it.
	ErrSendLimit = errors.New("session: send limit reached, the peer takes less than it is sent")

	// ErrSendBudget: the queues of all sessions together left too little of Options.SendBudget, the peer of this one took next to nothing, and
	// this one was among those that held the most. It is also returned by a Send that the budget has no room for. It matches
	// ErrSendLimit.
	ErrSendBudget error = &sentinel{"session: the budget of queued bytes is used up, the peer takes less than it is sent", ErrSendLimit}

	// ErrPostLimit is returned by Post when too many functions wait to be run.
	ErrPostLimit = errors.New("session: too many posted functions wait, the loop does not come to them")

	// ErrRecvRate: the peer has sent more than engine.RecvRate allows.
	ErrRecvRate = errors.New("session: the peer sends faster than it may")

	// ErrIdle: nothing was received for IdleTimeout, or not one byte within FirstByteTimeout. It matches os.ErrDeadlineExceeded.
	ErrIdle error = &sentinel{"session: idle too long", os.ErrDeadlineExceeded}

	// ErrWriteStall: the peer took nothing for WriteTimeout. It matches os.ErrDeadlineExceeded.
	ErrWriteStall error = &sentinel{"session: the peer stopped taking bytes", os.ErrDeadlineExceeded}

	// ErrDrainTimeout: what was queued at the end did not leave within DrainTimeout. It matches os.ErrDeadlineExceeded.
	ErrDrainTimeout error = &sentinel{"session: not drained in time", os.ErrDeadlineExceeded}

	// ErrPanic: a callback panicked or called runtime.Goexit. The text has the panic's value.
	ErrPanic = errors.New("session: callback panicked")

	// ErrShutdown: the engine was shut down or closed.
	ErrShutdown = errors.New("session: engine shut down")

	// ErrHandshake: the handshake of a layer failed or came too late. No session comes of it; Dial returns it.
	ErrHandshake = errors.New("session: handshake failed")

	// ErrTruncated: the peer has sent FIN without the last word of its layer (the close_notify of TLS, the close frame of WebSocket): bytes
	// before it may be missing. It matches io.ErrUnexpectedEOF.
	ErrTruncated error = &sentinel{"session: the peer's stream ends without its close message", io.ErrUnexpectedEOF}

	// ErrWouldBlock is returned by a Transport whose kernel buffer is full. A handler never sees it.
	ErrWouldBlock = errors.New("session: write would block")

	// ErrNoMemory is returned by a Transport when the kernel is short of buffers for the moment. A handler never sees it.
	ErrNoMemory = errors.New("session: kernel is short of memory")
)

// CloseError is the close frame of a WebSocket. DisconnectWith sends one, and Err matches one if the peer has sent one.
type CloseError struct {
	Code   int    // RFC 6455, section 7.4: 1000 is an ordinary end; 3000 to 4999 are the application's
	Reason string // UTF-8, 123 bytes at most
}

func (e *CloseError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("session: close code %d", e.Code)
	}
	return fmt.Sprintf("session: close code %d: %s", e.Code, e.Reason)
}

// sentinel is an error that also matches another one.
type sentinel struct {
	text string
	is   error
}

func (e *sentinel) Error() string        { return e.text }
func (e *sentinel) Is(target error) bool { return target == e.is }

// chain is a first reason and what went wrong while the session ended for it. It matches both.
type chain struct{ first, then error }

func (c *chain) Error() string   { return c.first.Error() + "; then " + c.then.Error() }
func (c *chain) Unwrap() []error { return []error{c.first, c.then} }

// PeerReset wraps what the system said about a broken connection so that it matches ErrPeerReset. It also matches os.ErrDeadlineExceeded if
// the system gave the peer up after a time.
func PeerReset(err error) error {
	if t, ok := err.(interface{ Timeout() bool }); ok && t.Timeout() {
		return fmt.Errorf("%w: %w (%w)", ErrPeerReset, err, os.ErrDeadlineExceeded)
	}
	return fmt.Errorf("%w: %w", ErrPeerReset, err)
}

// checkReason returns a reason of the application's, or of a layer's, or ErrPanic if the reason panics when it is asked what will be asked of it
// later, where nobody would expect a panic.
func checkReason(reason error) (checked error) {
	if reason == ErrDisconnected {
		return reason
	}
	defer func() {
		if value := recover(); value != nil {
			checked = panicReason(fmt.Sprintf("%T as a reason", reason), panicText(value))
		}
	}()
	causeOf(reason)
	_ = reason.Error()
	return reason
}

// panicText returns the text of a panic's value, or its type if it panics when it is asked. It is nil for nil.
func panicText(value any) (text any) {
	if value == nil {
		return nil
	}
	defer func() {
		if recover() != nil {
			text = fmt.Sprintf("%T", value)
		}
	}()
	return fmt.Sprint(value)
}

// panicReason is the reason of a session whose handler failed in the named callback.
func panicReason(callback string, value any) error {
	if value == nil {
		return fmt.Errorf("%w: runtime.Goexit in %s", ErrPanic, callback)
	}
	return fmt.Errorf("%w: %s: %v", ErrPanic, callback, value)
}
