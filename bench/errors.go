package bench

import (
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Kind is a kind of error of a message or a connection.
type Kind uint8

// The kinds. Refused, Reset, EarlyEnd, ConnectTimeout, NoPorts, NoDescriptors, Other, Handshake, Upgrade and Protocol are counted once per
// connection, the others once per message. A message that failed has exactly one kind. A message without a reply when its connection ends is not an error of its own;
// it counts as unanswered.
const (
	Refused         Kind = iota // no server listens
	Reset                       // the peer or the network broke the connection
	Timeout                     // no reply within Plan.Timeout, and none later
	WrongBytes                  // bytes that were never sent here: flipped, foreign, cut
	LostMessage                 // skipped: a later message came instead
	RepeatedMessage             // came again, or after one that was sent later
	Late                        // the reply came, after more than Plan.Timeout
	EarlyEnd                    // the peer closed an open connection
	ConnectTimeout              // not connected within Plan.Timeout
	NoPorts                     // no local port was left
	NoDescriptors               // the limit on open files; ends the run
	Other                       // any other error of the system
	Handshake                   // the TLS handshake failed: the certificate, the protocol, or Plan.Timeout
	Upgrade                     // the upgrade to WebSocket failed: refused, not HTTP, or Plan.Timeout
	Protocol                    // the server broke the rules of WebSocket; ends the connection
	WrongMessage                // a WebSocket message of another length, or type, than the one sent
	kinds
)

var kindNames = [kinds]string{"refused", "reset", "timeout", "wrong_bytes", "lost_message", "repeated_message",
	"late", "early_end", "connect_timeout", "no_ports", "no_descriptors", "other", "handshake", "upgrade", "protocol", "wrong_message"}

// String returns the kind's name in the JSON result.
func (k Kind) String() string { return kindNames[k] }

// Kinds returns every kind in the order of its declaration.
func Kinds() []Kind {
	all := make([]Kind, kinds)
	for i := range all {
		all[i] = Kind(i)
	}
	return all
}

// ErrorCounts holds one count per Kind. In JSON it is an object with every kind and their "total".
type ErrorCounts [kinds]uint64

// Total returns the sum.
func (e *ErrorCounts) Total() uint64 {
	var n uint64
	for _, count := range e {
		n += count
	}
	return n
}

// MarshalJSON writes every kind, zero or not.
func (e ErrorCounts) MarshalJSON() ([]byte, error) {
	m := map[string]uint64{"total": e.Total()}
	for k, n := range e {
		m[kindNames[k]] = n
	}
	return json.Marshal(m)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (e *ErrorCounts) UnmarshalJSON(data []byte) error {
	var m map[string]uint64
	if err := json.Unmarshal(data, &m); err != nil {
		return err
	}
	for k, name := range kindNames {
		e[k] = m[name]
	}
	return nil
}

// Errors of Run that mean that there is nothing to report, or that the machine set the limit. Test with errors.Is.
var (
	// ErrNoConnection: not one connection could be made, or none is left.
	ErrNoConnection = errors.New("bench: no connection")
	// ErrNoDescriptors: the limit on open files is too low for the plan.
	ErrNoDescriptors = errors.New("bench: out of file descriptors")
	// ErrNoPorts: the local ports are used up.
	ErrNoPorts = errors.New("bench: out of local ports")
	// ErrNotBroadcast: the server does not send to the subscribers what the publisher sends.
	ErrNotBroadcast = errors.New("bench: not a broadcast server")
)

// classify names the kind of a system error on a connection.
func classify(err error) Kind {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return Other
	}
	switch errno {
	case unix.ECONNREFUSED, unix.ENOENT:
		return Refused
	case unix.ECONNRESET, unix.EPIPE, unix.ECONNABORTED:
		return Reset
	case unix.ETIMEDOUT:
		return Timeout
	case unix.EADDRNOTAVAIL, unix.EADDRINUSE:
		return NoPorts
	case unix.EMFILE, unix.ENFILE:
		return NoDescriptors
	}
	return Other
}

// descriptorAdvice returns the error of a limit on open files that is too low for conns connections.
func descriptorAdvice(conns int) error {
	return fmt.Errorf("%w: %d connections need about %d, this process may open %d; raise the limit with ulimit -n %d, or use fewer -conns",
		ErrNoDescriptors, conns, conns+spareDescriptors, descriptorLimit(), conns+spareDescriptors)
}

// portAdvice returns the error of too few local ports, which says how to get more.
func portAdvice(sources int) error {
	first, last := localPorts()
	return fmt.Errorf("%w: the system has ports %d to %d for each source address, and %d address(es) were used; "+
		"use -sources %d (loopback only), or widen net.ipv4.ip_local_port_range", ErrNoPorts, first, last, max(sources, 1), max(sources, 1)*4)
}

// spareDescriptors are for what is not a connection: standard streams, pollers, files of the result.
const spareDescriptors = 32

// descriptorLimit returns how many files this process may have open; Go has raised it to the hard limit.
func descriptorLimit() uint64 {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return uint64(limit.Cur)
}
