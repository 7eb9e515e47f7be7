package session

import "github.com/servercore-go/servercore/pool"

// steer decides whether the connection is read. It returns true if it delivered kept input.
func (s *Session) steer(size int) (delivered bool) {
	want := true
	switch {
	case s.peerFIN:
		return false
	case s.phase == phaseOpen:
		if above := s.loop.Limits.PauseAbove; above > 0 {
			// S7, with hysteresis: stopped above the mark, read again below half of it.
			if s.choked {
				s.choked = size >= max(above/2, 1)
			} else {
				s.choked = size > above
			}
		}
		held := s.held()
		want = !s.choked && !held && !s.paused.Load()
		if want && s.stashed() {
			s.deliverStash()
			return true
		}
	}
	if want != s.reading {
		s.reading = want
		if !want {
			s.loop.Counters.Pauses.Add(1)
		} else if s.watching() {
			s.heardAt = s.conn.Now() // nobody could say anything meanwhile (T4)
		}
		if err := s.conn.Reading(want); err != nil {
			s.sever(err, s.conn.Received())
			s.conn.Again()
		}
	}
	return false
}

func (s *Session) stashed() bool {
	r := s.rare.Load()
	return r != nil && r.stash != nil
}

func (s *Session) stash(data []byte) {
	r := s.rarely()
	if r.stash == nil {
		r.stash, r.stashed = pool.GetSize(len(data)), 0
	}
	r.stash.B = append(r.stash.B, data...)
}

func (s *Session) unstash() {
	if s.stashed() {
		r := s.rare.Load()
		r.stash.Release()
		r.stash, r.fin = nil, false
	}
}

// deliverStash delivers the next part of the kept input: no more than the queue has room for, so that whoever
// answers each byte with no more than a byte never meets SendLimit (S7). Behind the last part comes the FIN.
func (s *Session) deliverStash() {
	r := s.rare.Load()
	part := r.stash.B[r.stashed:]
	s.hold()
	if r.framed != nil {
		r.stashed += s.feed(r.framed, part, nil)
	} else {
		if !s.loop.Limits.unbounded() {
			part = part[:min(len(part), max(s.loop.Limits.SendLimit-s.Pending(), 1))]
		}
		if r.rated != nil && !r.rated.End { // with End it was paused, and pays later
			part = part[:min(len(part), r.rated.allowance())]
		}
		r.stashed += len(part)
		s.deliver(part, nil)
	}
	if r.stash != nil && r.stashed == len(r.stash.B) {
		fin := r.fin
		s.unstash()
		if fin {
			s.gotFIN()
		}
	}
}

// deliver calls OnRecv, unless somebody has asked for the end. lasting is data if it stays as it is until the turn is
// over, nil if its memory is given up before.
func (s *Session) deliver(data, lasting []byte) {
	scratch := s.conn.Scratch()
	s.mu.Lock()
	ending := s.ending
	s.q.lend(scratch, lasting)
	s.mu.Unlock()
	if !ending {
		s.spend(len(data), 1)
		s.loop.Counters.MessagesIn.Add(1)
		s.callRecv(data)
	}
}
