package guard

import (
	"hash/maphash"
	"time"
)

// maxIdle bounds the sources without sessions that a table remembers.
const maxIdle = 1 << 16

// Source is what a Guard remembers of the addresses that count as one. It takes 64 bytes, and 8 of the table.
type Source struct {
	guard      *Guard // does not change
	key        key
	fullAt     time.Duration // when its token bucket is full again
	sessions   int32
	prev, next *Source // in table.idle, nil if it is busy
	chain      *Source // the next one of the same hash
}

// isIdle reports whether the source is in the list of those without sessions.
func (s *Source) isIdle() bool { return s.prev != nil }

// table finds sources by their key. Sources with sessions stay. Of the idle ones, those whose bucket is full again are swept out, and
// beyond maxIdle the one whose last connection is longest ago is forgotten. The Guard's lock guards it.
type table struct {
	seed   maphash.Seed
	chains []*Source // all sources, by hash; a map would keep the memory of deleted ones
	known  int       // how many there are
	idle   Source    // head of the list: next has been idle for longest, prev connected last
	idles  int
}

func (t *table) init() {
	t.seed = maphash.MakeSeed()
	t.idle.prev, t.idle.next = &t.idle, &t.idle
}

// get returns the source of that key, a new one if it is not known. A new source is busy: the caller counts a session or calls setIdle.
func (t *table) get(k key, g *Guard) *Source {
	if t.chains == nil {
		t.chains = make([]*Source, maxIdle)
	}
	at := t.find(k)
	if *at == nil {
		*at = &Source{guard: g, key: k}
		t.known++
	}
	return *at
}

// find returns the place in a chain where the source is, or would be. The seed is a secret, so no client can make a chain long.
func (t *table) find(k key) **Source {
	at := &t.chains[maphash.Bytes(t.seed, k[:])%maxIdle]
	for *at != nil && (*at).key != k {
		at = &(*at).chain
	}
	return at
}

// setIdle appends a source to the list of idle ones.
func (t *table) setIdle(s *Source) {
	last := t.idle.prev
	s.prev, s.next = last, &t.idle
	last.next, t.idle.prev = s, s
	if t.idles++; t.idles > maxIdle {
		t.forget(t.idle.next)
	}
}

// setBusy takes a source out of the list of idle ones.
func (t *table) setBusy(s *Source) {
	s.prev.next, s.next.prev = s.next, s.prev
	s.prev, s.next = nil, nil
	t.idles--
}

// forget removes an idle source.
func (t *table) forget(s *Source) {
	t.setBusy(s)
	*t.find(s.key) = s.chain
	t.known--
}

// sweep forgets up to two idle sources whose bucket is full. Each connection adds one source at most, so the idle ones become fewer.
func (t *table) sweep(now time.Duration) {
	for range 2 {
		if s := t.idle.next; s != &t.idle && s.fullAt <= now {
			t.forget(s)
		}
	}
}
