package session

import "github.com/servercore-go/servercore/pool"

// PauseRecv stops OnRecv, at the latest after the call that is running, and lets TCP hold the peer back. What was received and not yet
// delivered is kept. The session still sends, and still notices the peer's reset. The peer's FIN is acted on after the bytes before it
// were delivered. Any goroutine.
//
// A session need not be paused merely because its own peer reads slowly: PauseAbove does that.
func (s *Session) PauseRecv() {
	if !s.paused.Swap(true) {
		s.schedule()
	}
}

// ResumeRecv undoes PauseRecv, however often that was called. Any goroutine.
func (s *Session) ResumeRecv() {
	if s.paused.Swap(false) {
		s.schedule()
	}
}

// deliver calls OnRecv, unless the end was decided. lasting is data if it stays as it is until the turn is over, nil if its memory is given up
// before.
func (s *Session) deliver(data, lasting []byte) {
	if s.beginDelivery(data, lasting) {
		s.callRecv(data)
	}
}

// beginDelivery precedes the callback that gets data. It returns false if the end was decided.
func (s *Session) beginDelivery(data, lasting []byte) bool {
	scratch := s.conn.Scratch()
	s.mu.Lock()
	ending := s.ending
	s.q.UseScratch(&scratch.send, lasting)
	s.mu.Unlock()
	if !ending {
		s.spendTokens(len(data), 1)
		s.loop.Counters.MessagesIn.Add(1)
		s.delivered++
	}
	return !ending
}

// steerReading decides whether the connection is read. If it is and input was kept, that is delivered first, and the result is true.
func (s *Session) steerReading(size int) (delivered bool) {
	read := true
	switch {
	case s.peerEnded() && (s.peerFIN || s.phase != phaseOpen): // otherwise it waits behind what was kept
		return false
	case s.phase == phaseOpen && !s.peerFIN:
		if above := s.loop.Limits.PauseAbove; above > 0 {
			// S7, with hysteresis: stopped above the mark, read again below half of it.
			if s.congested {
				s.congested = size >= max(above/2, 1)
			} else {
				s.congested = size > above
			}
		}
		waits := s.waitsForTokens()
		read = !s.congested && !waits && !s.paused.Load()
		if read && s.keepsInput() {
			s.deliverKept()
			return true
		}
	}
	if read != s.reading {
		s.reading = read
		if !read {
			s.loop.Counters.Pauses.Add(1)
		} else if s.timesSilence() {
			s.lastActive = s.conn.Now() // the peer could not be heard meanwhile (T4)
		}
		if err := s.conn.Reading(read); err != nil {
			s.sever(err, s.conn.Received())
			s.conn.Again()
		}
	}
	return false
}

// keepsInput reports whether input was kept while reading was being stopped: the stash, and behind it what a layer has not opened.
func (s *Session) keepsInput() bool {
	r := s.rare.Load()
	return r != nil && (r.stash != nil || r.layered.keeps())
}

// deliverKept delivers the next part of what was kept. The peer's FIN follows the last part.
func (s *Session) deliverKept() {
	s.wakeup.hold()
	r := s.rare.Load()
	if r.stash != nil {
		s.deliverStash(r)
	} else {
		s.openKept(r.layered)
	}
	if r.stashFIN && !s.keepsInput() && s.phase == phaseOpen {
		s.takeFIN()
	}
}

// takeFIN follows the end of what the peer sends: its FIN, or the last word of its layer. It waits behind what was kept.
func (s *Session) takeFIN() {
	r := s.rare.Load()
	if r != nil {
		if r.stashFIN = s.phase == phaseOpen && s.keepsInput(); r.stashFIN {
			return
		}
		if r.layered != nil {
			s.noteTruncation(r.layered)
		}
	}
	s.takePeerFIN()
}

// hasStash reports whether there is any.
func (s *Session) hasStash() bool {
	r := s.rare.Load()
	return r != nil && r.stash != nil
}

// stash keeps data until reading goes on.
func (s *Session) stash(data []byte) {
	r := s.ensureRare()
	if r.stash == nil {
		r.stash, r.delivered = pool.GetSize(len(data)), 0
	}
	r.stash.B = append(r.stash.B, data...)
}

// dropStash gives up what was kept.
func (s *Session) dropStash() {
	if s.hasStash() {
		r := s.rare.Load()
		r.stash.Release()
		r.stash = nil
	}
}

// deliverStash delivers the next part of the stash: no more than the queue has room for, so that an application that answers each byte with
// no more than a byte never meets SendLimit (S7).
func (s *Session) deliverStash(r *rare) {
	part := r.stash.B[r.delivered:]
	if r.framed != nil {
		r.delivered += int32(s.deliverPackets(r.framed, part, nil))
	} else {
		if !s.loop.Limits.unbounded() {
			part = part[:min(len(part), max(s.loop.Limits.SendLimit-s.Pending(), 1))]
		}
		if rate := r.rated(); rate != nil && !rate.End { // with End it was paused, and pays later
			part = part[:min(len(part), rate.allowance())]
		}
		r.delivered += int32(len(part))
		s.deliver(part, nil)
	}
	if r.stash != nil && int(r.delivered) == len(r.stash.B) {
		s.dropStash()
	}
}
