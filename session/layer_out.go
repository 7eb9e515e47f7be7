package session

import "github.com/servercore-go/servercore/internal/sendqueue"

// gatherLayered is the part of look that gathers, for a session with a layer, of which v has the size and whether the layer has bytes of its
// own. The caller holds mu, and the kernel can be offered something.
//
// The layer's own bytes may stand only between two messages, unless the layer says otherwise. If they wait and a message has left in part, no
// more than its rest is gathered, and they come next.
func (s *Session) gatherLayered(l *layered, v *view) {
	scratch := s.conn.Scratch()
	if l.wire.Size() > 0 {
		v.own, v.wire = false, l
		v.iov = l.wire.Gather(&scratch.forLayers().wire)
		return
	}
	most := sendqueue.WriteBudget
	if l.seals {
		most, v.wire = sealMost, l
		if b := s.loop.Limits.Budget; b != nil && !b.Fits(b.Bound(true)-sealMost) {
			most = sealUnit // what the kernel does not take of it needs memory of its own
		}
	}
	if f := s.framed(); v.own && f != nil {
		v.rest = f.packets.Rest()
	}
	switch {
	case v.own && v.rest > 0:
		most, v.own = min(most, v.rest), l.seals
	case v.own && !l.seals:
		v.wire = l
		return
	}
	v.iov = s.q.Gather(&scratch.send, most)
}

// seal fills the wire with the layer's own bytes, if v says so, and with what a Sealer makes of the bytes gathered, and has v offer the wire. It
// returns false if nothing came of it. It does nothing if v offers the wire already, or the queue.
func (s *Session) seal(v *view) (ok bool) {
	l := v.wire
	if l == nil || l.wire.Size() > 0 { // only the loop fills it; others only empty it, while the session is blocked
		return len(v.iov) > 0
	}
	m := s.conn.Scratch().forLayers()
	b, units := m.wire.Memory(), m.units[:0]
	if v.own {
		if b, ok = s.callOwn(l, b, v.rest == 0); !ok {
			return false
		}
		units = append(units, unit{wire: len(b)})
	}
	var err error
	gathered := v.iov
	plain := gathered
	for len(plain) > 0 && err == nil {
		var piece []byte
		piece, plain = nextPiece(m.join, plain)
		var sealed []byte
		if sealed, err, ok = s.callSeal(l, b, piece); !ok {
			return false
		}
		if err == nil { // otherwise no record of this piece leaves
			units = append(units, unit{len(sealed) - len(b), len(piece)})
			b = sealed
		}
	}
	m.units = units
	v.iov = s.fillWire(l, m, b)
	clear(gathered)
	if err != nil {
		s.failSeal(err)
	}
	return len(v.iov) > 0
}

// nextPiece takes the next piece to be sealed off plain, whose slices it shortens. Short ones are joined in join, which has room for a whole
// piece.
func nextPiece(join []byte, plain [][]byte) (piece []byte, rest [][]byte) {
	if first := plain[0]; len(plain) == 1 || len(first) >= sealUnit {
		n := min(len(first), sealUnit)
		if plain[0] = first[n:]; n == len(first) {
			plain = plain[1:]
		}
		return first[:n], plain
	}
	piece = join[:0]
	for len(plain) > 0 && len(piece) < sealUnit {
		n := min(len(plain[0]), sealUnit-len(piece))
		piece = append(piece, plain[0][:n]...)
		if plain[0] = plain[0][n:]; len(plain[0]) == 0 {
			plain = plain[1:]
		}
	}
	return piece, plain
}

// fillWire moves what was sealed from the queue to the wire, in one step: no byte is in both or in none of them (I8, I13). It returns what to
// offer.
func (s *Session) fillWire(l *layered, m *layerScratch, b []byte) (iov [][]byte) {
	f := s.framed()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.aborted { // meanwhile: nothing is written any more (E3)
		return nil
	}
	sampledAt, sampled := uint32(0), false
	for _, u := range m.units {
		if at, passed := s.q.Consume(u.plain); passed {
			sampledAt, sampled = at, true
		}
		payload := u.plain
		if f != nil {
			_, payload = f.packets.Sent(u.plain)
		}
		l.wire.Add(u.wire, payload)
	}
	s.q.Reclaim()
	l.wire.Fill(&m.wire, b)
	if sampled {
		l.wire.Mark(sampledAt)
	}
	s.updateBudget()
	return l.wire.Gather(&m.wire)
}

// failSeal ends a session whose layer cannot seal. What is queued is lost. What was sealed before, the layer's own bytes and its last word
// still leave.
func (s *Session) failSeal(err error) {
	s.mu.Lock()
	s.open = false
	dropped := s.emptyPlain()
	s.updateBudget()
	s.mu.Unlock()
	s.countDropped(dropped)
	s.DisconnectWith(err)
}
