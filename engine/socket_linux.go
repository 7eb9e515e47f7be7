package engine

import (
	"time"

	"golang.org/x/sys/unix"
)

const (
	tcpKeepIdle     = unix.TCP_KEEPIDLE
	tcpKeepInterval = unix.TCP_KEEPINTVL
	tcpKeepCount    = unix.TCP_KEEPCNT
)

// userTimeout returns the option for UserTimeout. Off is an option too: a connection may have inherited another value.
func userTimeout(d time.Duration) []socketOption {
	ms := (max(d, 0) + time.Millisecond - 1) / time.Millisecond // 0 is the kernel's own
	return []socketOption{{"TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(ms)}}
}

// neutral are the options that an accepted connection inherits and that would change what a session promises.
var neutral = []socketOption{
	{"SO_RCVLOWAT", unix.SOL_SOCKET, unix.SO_RCVLOWAT, 1},         // no event before so many bytes wait
	{"SO_OOBINLINE", unix.SOL_SOCKET, unix.SO_OOBINLINE, 0},       // urgent bytes among the others
	{"SO_PEEK_OFF", unix.SOL_SOCKET, unix.SO_PEEK_OFF, -1},        // MSG_PEEK looks elsewhere
	{"SO_TIMESTAMPING", unix.SOL_SOCKET, unix.SO_TIMESTAMPING, 0}, // notes for each send fill the receive buffer
	{"TCP_CORK", unix.IPPROTO_TCP, unix.TCP_CORK, 0},              // short writes wait for 200 ms
	{"TCP_LINGER2", unix.IPPROTO_TCP, unix.TCP_LINGER2, 0},        // below 0: close(2) resets
	{"IP_RECVERR", unix.IPPROTO_IP, unix.IP_RECVERR, 0},           // a passing fault of the network breaks the connection
	{"IPV6_RECVERR", unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 0},     // likewise
}

// inheritsOptions: accepted connections have the options their listener had when they came in.
const inheritsOptions = true
