package engine

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/internal/guard"
)

// Rules say which connections a Guard accepts. The zero value of each field asks nothing.
//
// MaxPerAddress and AcceptRate count an IPv6 address as the /64 it is in: that is what one subscriber gets, and can use a new address out
// of for each connection. What stands for an IPv4 address counts as that one: an IPv4-mapped address, and those of NAT64 and
// SIIT (64:ff9b::/96), 6to4 (2002::/16) and Teredo (2001::/32), where unrelated clients share a /64, or one client has many.
// A link-local address counts by itself, for all of a link is in the same /64, and so does one of 64:ff9b:1::/48, where each
// network has its own way to put an IPv4 address in. A translator with a prefix of the network's own is not recognized: all its
// clients count as one.
type Rules struct {
	// Deny refuses the addresses in these prefixes, whatever Allow says; Allow refuses the addresses in none of its own.
	// An IPv4 address is in no IPv6 prefix: ::/0 is every IPv6 address, and 0.0.0.0/0 every IPv4 one. An IPv4-mapped
	// address is an IPv4 one. An address of 64:ff9b::/96 is both: 64:ff9b::203.0.113.7 is in 64:ff9b::/96 and in
	// 203.0.113.0/24, for Deny and for Allow. Addresses of 64:ff9b:1::/48, 6to4 and Teredo are IPv6 ones. A look-up
	// takes as long as there are different lengths of prefixes, however many there are.
	Allow, Deny []netip.Prefix

	// MaxPerAddress bounds the open sessions of one address, those being drained included.
	MaxPerAddress int

	// AcceptRate bounds the sessions of one address that are accepted, per second: a token bucket that AcceptBurst fills. A connection
	// that these Rules refuse takes no token. From one in eleven days (1e-6) to a million.
	AcceptRate float64

	// AcceptBurst is how many sessions of one address may come at once after a silence. Default: a second's worth, at least 1.
	// At most a million.
	AcceptBurst int

	// RefusalMessage is sent to connections that these Rules, Admit or MaxSessions refuse: one write that does not wait, then a
	// FIN and close. What has come in until then is discarded, up to 64 KiB, because closing a connection with unread bytes
	// resets it, and a reset may take the message along. Nothing waits for the peer: what it sends later is still
	// answered by a reset, and a peer that speaks first may miss the message. At most 4 KiB.
	RefusalMessage []byte
}

// Guard judges the listener's connections by rules when they are accepted, before anything is built for them; with ProxyProtocol, by
// the client's address in the header. A connection whose header tells of no client is not judged and not counted. Refusals count in
// Stats.Refused.Denied, PerAddress and AcceptRate. One Option given to several listeners counts their sessions together.
//
// MaxPerAddress and AcceptRate need to remember addresses, 72 bytes each: every one that has sessions, and of the
// others, those whose bucket is not full again, up to 65,536 (5 MiB). When there are more than that, the address whose last
// connection is longest ago is forgotten: its bucket is full when it connects again. Sessions are never miscounted, no connection is refused
// for want of memory, and an address that connects all the time stays known.
func Guard(r Rules) Option {
	g, err := guard.New(guard.Rules{
		Allow:         r.Allow,
		Deny:          r.Deny,
		MaxPerAddress: r.MaxPerAddress,
		AcceptRate:    r.AcceptRate,
		AcceptBurst:   r.AcceptBurst,
	}, time.Now())
	if err == nil && len(r.RefusalMessage) > maxRefusalMessage {
		err = fmt.Errorf("Rules.RefusalMessage has %d bytes, want at most %d", len(r.RefusalMessage), maxRefusalMessage)
	}
	message := slices.Clone(r.RefusalMessage)
	return func(o *origin) error {
		if err != nil {
			return fmt.Errorf("Guard: %w", err)
		}
		en := o.enter()
		if err := once("Guard", &en.guard, g, en.guard != nil); err != nil {
			return err
		}
		en.refusalMessage = message
		return nil
	}
}

// maxRefusalMessage is so small that the kernel takes it at once, whatever the send buffer.
const maxRefusalMessage = 4 << 10

// judge asks the listener's Guard, if it has one, about an accepted connection, and counts a refusal. A connection whose client is not
// known passes.
func (e *Engine) judge(n *pendingConn) bool {
	g := n.origin.entry.guard
	if g == nil || n.clientUnknown {
		return true
	}
	source, verdict := g.Judge(addrPort(n.remote).Addr(), time.Now())
	var cause refusal
	switch verdict {
	case guard.Accepted:
		n.source = source
		return true
	case guard.Denied:
		cause = refusedDenied
	case guard.TooManySessions:
		cause = refusedPerAddress
	case guard.TooFast:
		cause = refusedAcceptRate
	}
	e.countRefused(n.origin, cause, n.remote, nil)
	e.log.Limited(guardLine, "refusing connections", "err", verdict.String(), "remote", n.remote)
	return false
}

// maxDiscard is how much input of a refused connection is read away: the window that a kernel opens at first.
const maxDiscard = 64 << 10

// sendRefusal sends the listener's refusal message, if it has one, and a FIN. The caller closes the connection then.
func (en *entry) sendRefusal(fd int) {
	if en == nil || len(en.refusalMessage) == 0 {
		return
	}
	_, _ = unix.Write(fd, en.refusalMessage)
	_ = unix.Shutdown(fd, unix.SHUT_WR)
	var b [4 << 10]byte
	for range maxDiscard / len(b) {
		if n, err := unix.Read(fd, b[:]); n <= 0 && err != unix.EINTR {
			return
		}
	}
}
