//go:build darwin || freebsd

package engine

import (
	"time"

	"golang.org/x/sys/unix"
)

// userTimeout: the BSDs have no TCP_USER_TIMEOUT for sent data. Keep-alive and WriteTimeout bound
// a vanished peer.
func userTimeout(time.Duration) []socketOption { return nil }

// neutral are the options that an accepted connection inherits and that would change what a session promises.
var neutral = []socketOption{
	{"SO_RCVLOWAT", unix.SOL_SOCKET, unix.SO_RCVLOWAT, 1},    // no event before so many bytes wait
	{"SO_SNDLOWAT", unix.SOL_SOCKET, unix.SO_SNDLOWAT, 2048}, // no event before there is so much room
	{"SO_OOBINLINE", unix.SOL_SOCKET, unix.SO_OOBINLINE, 0},  // urgent bytes among the others
	{"TCP_NOPUSH", unix.IPPROTO_TCP, unix.TCP_NOPUSH, 0},     // short writes wait
}

// inheritsOptions: accepted connections need not have their listener's options.
const inheritsOptions = false
