package engine

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
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

	// Farewell is the message to connections that these Rules, Admit or MaxSessions refuse: one write that does not wait, then a
	// FIN and close. What has come in until then is discarded, up to 64 KiB, because closing a connection with unread bytes
	// resets it, and a reset may take the message along. Nothing waits for the peer, so what it sends later is still
	// answered by a reset; peers that speak first may miss the message. At most 4 KiB.
	Farewell []byte
}

// Guard has the listener's connections judged by rules when they are accepted, before anything is built for them; with ProxyProtocol, by
// the client's address in the header. A connection whose header tells of no client is not judged and not counted. Refusals count in
// Stats.Refused.Denied, PerAddress and AcceptRate. One Option given to several listeners counts their sessions together.
//
// MaxPerAddress and AcceptRate need to remember addresses, 72 bytes each: every one that has sessions, and of the
// others, those whose bucket is not full again, up to 65,536 (5 MiB). When there are more than that, the address whose last
// connection is longest ago is forgotten: its bucket is full when it comes back. Sessions are never miscounted, no connection is refused
// for want of memory, and an address that connects all the time stays known.
func Guard(r Rules) Option {
	g, err := newGuard(r)
	return func(o *origin) error {
		if err != nil {
			return err
		}
		en := o.enter()
		return once("Guard", &en.guard, g, en.guard != nil)
	}
}

// maxStrangers bounds the addresses without sessions that a guard remembers.
const maxStrangers = 1 << 16

const (
	minAcceptRate = 1e-6
	maxAcceptRate = 1e6
	maxBurst      = 1_000_000
	maxFarewell   = 4 << 10 // whatever the send buffer, the kernel takes it at once
)

// guard is what a Guard has.
type guard struct {
	allow, deny *prefixes // allow is nil if there are none
	max         int32
	interval    time.Duration // between two tokens, 0 without a rate
	burst       time.Duration // the interval for a whole bucket
	words       []byte
	born        time.Time

	mu      sync.Mutex
	seed    maphash.Seed
	chains  []*visitor // everybody, by hash; a map would keep room for those forgotten
	known   int        // how many there are
	silent  visitor    // the list of those without sessions: next is who has been silent for longest
	silents int
}

// address is what counts as one.
type address [16]byte

var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")   // RFC 6052; the IPv4 address is in the last four bytes
	nat64Local = netip.MustParsePrefix("64:ff9b:1::/48") // RFC 8215; where the IPv4 address is depends
	sixToFour  = netip.MustParsePrefix("2002::/16")      // RFC 3056; behind the prefix
	teredo     = netip.MustParsePrefix("2001::/32")      // RFC 4380; in the last four bytes, inverted
)

func addressOf(a netip.Addr) address {
	b := a.As16()
	last := [4]byte(b[12:])
	switch {
	case a.Is4() || a.IsLinkLocalUnicast() || nat64Local.Contains(a):
		return b
	case nat64.Contains(a):
		return netip.AddrFrom4(last).As16()
	case sixToFour.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:])).As16()
	case teredo.Contains(a):
		return netip.AddrFrom4([4]byte{^last[0], ^last[1], ^last[2], ^last[3]}).As16()
	}
	clear(b[8:])
	return b
}

// visitor is what a guard knows of one address.
type visitor struct {
	guard      *guard
	address    address
	paid       time.Duration // when its bucket is full again
	sessions   int32
	prev, next *visitor // in guard.silent
	chain      *visitor // the next of the same hash
}

func newGuard(r Rules) (g *guard, err error) {
	g = &guard{born: time.Now(), seed: maphash.MakeSeed(), words: slices.Clone(r.Farewell)}
	g.silent.prev, g.silent.next = &g.silent, &g.silent
	if g.deny, err = newPrefixes(r.Deny); err != nil {
		return nil, fmt.Errorf("Guard: Rules.Deny: %w", err)
	}
	if len(r.Allow) > 0 {
		if g.allow, err = newPrefixes(r.Allow); err != nil {
			return nil, fmt.Errorf("Guard: Rules.Allow: %w", err)
		}
	}
	if r.MaxPerAddress < 0 || r.MaxPerAddress > math.MaxInt32 {
		return nil, fmt.Errorf("Guard: Rules.MaxPerAddress is %d, want at least 1, or 0 for no bound", r.MaxPerAddress)
	}
	g.max = int32(r.MaxPerAddress)
	if len(r.Farewell) > maxFarewell {
		return nil, fmt.Errorf("Guard: Rules.Farewell has %d bytes, want at most %d", len(r.Farewell), maxFarewell)
	}
	switch {
	case r.AcceptRate == 0 && r.AcceptBurst != 0:
		return nil, errors.New("Guard: Rules.AcceptBurst is set without Rules.AcceptRate")
	case r.AcceptRate == 0:
		return g, nil
	case !(r.AcceptRate >= minAcceptRate && r.AcceptRate <= maxAcceptRate):
		return nil, fmt.Errorf("Guard: Rules.AcceptRate is %v, want %v to %v, or 0 for no bound", r.AcceptRate, minAcceptRate, maxAcceptRate)
	case r.AcceptBurst < 0 || r.AcceptBurst > maxBurst:
		return nil, fmt.Errorf("Guard: Rules.AcceptBurst is %d, want 1 to %d, or 0 for its default", r.AcceptBurst, maxBurst)
	}
	burst := r.AcceptBurst
	if burst == 0 {
		burst = int(math.Ceil(r.AcceptRate))
	}
	interval := float64(time.Second) / r.AcceptRate
	if float64(burst)*interval > math.MaxInt64/4 {
		return nil, fmt.Errorf("Guard: Rules.AcceptBurst is %d, which takes %v a second more than 70 years to fill", burst, r.AcceptRate)
	}
	g.interval = time.Duration(interval)
	g.burst = time.Duration(float64(burst) * interval)
	return g, nil
}

// now is the guard's clock; it may serve several engines.
func (g *guard) now() time.Duration { return time.Since(g.born) }

type verdict uint8

const (
	welcome verdict = iota
	denied
	tooMany
	tooFast
)

// judge decides about a newcomer from a. A visitor is to leave once for each welcome. Any goroutine.
func (g *guard) judge(a netip.Addr, now time.Duration) (*visitor, verdict) {
	if lists(g.deny, a) || g.allow != nil && !lists(g.allow, a) {
		return nil, denied
	}
	if g.max == 0 && g.interval == 0 {
		return nil, welcome
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for range 2 { // more than one comes
		if v := g.silent.next; v != &g.silent && v.paid <= now {
			g.forget(v)
		}
	}
	v := g.recall(addressOf(a))
	if v.prev != nil {
		g.unlink(v)
	}
	// A full bucket is one whose time has come, and each token taken puts that time off.
	full := max(v.paid, now) + g.interval
	switch {
	case g.max > 0 && v.sessions >= g.max:
		return nil, tooMany
	case full-now > g.burst && g.interval > 0:
		if v.sessions == 0 {
			g.link(v)
		}
		return nil, tooFast
	}
	v.paid = full
	v.sessions++
	return v, welcome
}

// lists reports whether a, or the IPv4 address that NAT64 has made it of, is in the set.
func lists(s *prefixes, a netip.Addr) bool {
	if s.contain(a) {
		return true
	}
	if !nat64.Contains(a) {
		return false
	}
	b := a.As16()
	return s.contain(netip.AddrFrom4([4]byte(b[12:])))
}

// leave takes back a welcome. Any goroutine; nil leaves nothing.
func (v *visitor) leave() {
	if v == nil {
		return
	}
	g := v.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	if v.sessions--; v.sessions == 0 {
		g.link(v)
		if g.interval == 0 || v.paid <= g.now() {
			g.forget(v)
		}
	}
}

// link puts a visitor without sessions at the end of the list.
func (g *guard) link(v *visitor) {
	last := g.silent.prev
	v.prev, v.next = last, &g.silent
	last.next, g.silent.prev = v, v
	if g.silents++; g.silents > maxStrangers {
		g.forget(g.silent.next)
	}
}

func (g *guard) unlink(v *visitor) {
	v.prev.next, v.next.prev = v.next, v.prev
	v.prev, v.next = nil, nil
	g.silents--
}

// recall returns what is known of an address, if only that it has come now.
func (g *guard) recall(a address) *visitor {
	if g.chains == nil {
		g.chains = make([]*visitor, maxStrangers)
	}
	at := g.find(a)
	if *at == nil {
		*at = &visitor{guard: g, address: a}
		g.known++
	}
	return *at
}

// find returns where the visitor hangs, or is to hang. The seed is a secret, so nobody can make a chain long.
func (g *guard) find(a address) **visitor {
	at := &g.chains[maphash.Bytes(g.seed, a[:])%maxStrangers]
	for *at != nil && (*at).address != a {
		at = &(*at).chain
	}
	return at
}

func (g *guard) forget(v *visitor) {
	g.unlink(v)
	*g.find(v.address) = v.chain
	g.known--
}

// judge has the listener's guard, if it has one, decide about an accepted connection, and counts. A connection whose client is not known passes.
func (e *Engine) judge(n *newcomer) bool {
	g := n.origin.entry.guard
	if g == nil || n.clientUnknown {
		return true
	}
	v, is := g.judge(addrPort(n.remote).Addr(), g.now())
	why := ""
	switch is {
	case welcome:
		n.visitor = v
		return true
	case denied:
		e.refused.denied.Add(1)
		why = "the address is not allowed"
	case tooMany:
		e.refused.perAddress.Add(1)
		why = "too many sessions of one address"
	case tooFast:
		e.refused.acceptRate.Add(1)
		why = "too many connections of one address per second"
	}
	e.log.limited(guardLine, "refusing connections", "err", why, "remote", n.remote)
	return false
}

// maxDiscard is how much input of a refused connection is read away: the window that a kernel opens at first.
const maxDiscard = 64 << 10

// farewell says a last word to whom the listener refuses, if it has one. The connection is to be closed then.
func (en *entry) farewell(fd int) {
	if en == nil || en.guard == nil || len(en.guard.words) == 0 {
		return
	}
	_, _ = unix.Write(fd, en.guard.words)
	_ = unix.Shutdown(fd, unix.SHUT_WR)
	var b [4 << 10]byte
	for range maxDiscard / len(b) {
		if n, err := unix.Read(fd, b[:]); n <= 0 && err != unix.EINTR {
			return
		}
	}
}
