package cluster

import (
	"errors"
	"fmt"
)

// What the methods of a cluster return, and the reason of a session that was replaced. Test them with errors.Is. The texts are for people
// and may change.
var (
	// ErrUnavailable: the bus is gone, or it takes less than it is given. What was to reach other nodes has not reached them, unless the
	// method says otherwise.
	ErrUnavailable = errors.New("cluster: the other nodes cannot be reached")

	// ErrReplaced: a later claim has won the key. Err of a session that was ended for it matches it too.
	ErrReplaced = errors.New("cluster: another session has claimed the key")

	// ErrNoHolder: no session holds the key.
	ErrNoHolder = errors.New("cluster: no session holds the key")

	// ErrDraining: the node takes no new claims, because it is about to end.
	ErrDraining = errors.New("cluster: the node is draining")

	// ErrClosed: the cluster was closed.
	ErrClosed = errors.New("cluster: closed")

	// ErrTooLarge: a message, a key or a value is longer than it may be.
	ErrTooLarge = errors.New("cluster: too large")

	// ErrOptions: the options contradict one another, or one of them cannot be. The text names the field.
	ErrOptions = errors.New("cluster: wrong options")

	// ErrRefused: a NATS server, or another node, has refused the name, the secret or the credentials, or TLS with it fails.
	ErrRefused = errors.New("cluster: refused")

	// ErrVersion: the NATS server is too old. 2.2 is the least.
	ErrVersion = errors.New("cluster: the NATS server is too old")
)

// errQueueFull is what a Broadcast returns whose message did not fit.
var errQueueFull = fmt.Errorf("%w: the queue to the bus is full", ErrUnavailable)

func wrong(field, format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", ErrOptions, field, fmt.Sprintf(format, args...))
}
