package guard

import (
	"fmt"
	"math"
	"net/netip"
	"sync"
	"time"
)

// Rules say which connections a Guard accepts. The zero value of each field asks nothing. engine.Rules documents the fields.
type Rules struct {
	Allow, Deny   []netip.Prefix
	MaxPerAddress int
	AcceptRate    float64 // per second
	AcceptBurst   int
}

// Guard applies rules to the addresses of accepted connections and counts the sessions of each source. Several listeners may
// share one. Its methods may be called from any goroutine.
type Guard struct {
	allow, deny *Prefixes // allow is nil if there are none
	max         int32     // sessions per source, 0 without a bound
	rate        rate
	start       time.Time // the times in the table count from here

	mu      sync.Mutex
	sources table
}

// New returns a Guard for the rules, or an error that names the field that is wrong. All times that the Guard is given later
// are of the same clock as now, and not before it.
func New(r Rules, now time.Time) (*Guard, error) {
	g := &Guard{start: now}
	g.sources.init()
	var err error
	if g.deny, err = NewPrefixes(r.Deny); err != nil {
		return nil, fmt.Errorf("Rules.Deny: %w", err)
	}
	if len(r.Allow) > 0 {
		if g.allow, err = NewPrefixes(r.Allow); err != nil {
			return nil, fmt.Errorf("Rules.Allow: %w", err)
		}
	}
	if r.MaxPerAddress < 0 || r.MaxPerAddress > math.MaxInt32 {
		return nil, fmt.Errorf("Rules.MaxPerAddress is %d, want at least 1, or 0 for no bound", r.MaxPerAddress)
	}
	g.max = int32(r.MaxPerAddress)
	if g.rate, err = newRate(r.AcceptRate, r.AcceptBurst); err != nil {
		return nil, err
	}
	return g, nil
}

// Verdict is what a Guard says about a connection.
type Verdict uint8

const (
	Accepted        Verdict = iota
	Denied                  // by Allow or Deny
	TooManySessions         // by MaxPerAddress
	TooFast                 // by AcceptRate
)

func (v Verdict) String() string {
	switch v {
	case Accepted:
		return "accepted"
	case Denied:
		return "the address is not allowed"
	case TooManySessions:
		return "too many sessions of one address"
	case TooFast:
		return "too many connections of one address per second"
	}
	return "unknown"
}

// Judge decides about a connection from addr. If it is accepted, the source counts one session more until the caller releases it,
// once. The source is nil for a connection that is refused, and for one that need not be counted.
func (g *Guard) Judge(addr netip.Addr, now time.Time) (*Source, Verdict) {
	if listed(g.deny, addr) || g.allow != nil && !listed(g.allow, addr) {
		return nil, Denied
	}
	if g.max == 0 && g.rate.interval == 0 {
		return nil, Accepted
	}
	at := now.Sub(g.start)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sources.sweep(at)
	s := g.sources.get(keyOf(addr), g)
	if g.max > 0 && s.sessions >= g.max {
		return nil, TooManySessions
	}
	if s.isIdle() {
		g.sources.setBusy(s)
	}
	fullAt, ok := g.rate.take(s.fullAt, at)
	if !ok {
		if s.sessions == 0 {
			g.sources.setIdle(s) // now the one that connected last
		}
		return nil, TooFast
	}
	s.fullAt = fullAt
	s.sessions++
	return s, Accepted
}

// Release takes back what Judge has counted. A nil source counts nothing.
func (s *Source) Release(now time.Time) {
	if s == nil {
		return
	}
	g := s.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	if s.sessions--; s.sessions > 0 {
		return
	}
	g.sources.setIdle(s)
	if s.fullAt <= now.Sub(g.start) {
		g.sources.forget(s) // nothing is left to remember
	}
}

// Known returns how many sources the Guard remembers.
func (g *Guard) Known() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sources.known
}

// listed reports whether the address, or the IPv4 address inside one of NAT64, is in the set.
func listed(set *Prefixes, addr netip.Addr) bool {
	if set.Contains(addr) {
		return true
	}
	v4, ok := fromNAT64(addr)
	return ok && set.Contains(v4)
}
