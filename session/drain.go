package session

// startDrain begins the end: the handler gets no more input, and the clock runs. What the peer takes puts the deadline off (E2b). It returns true
// if it has run the layer.
func (s *Session) startDrain() (ran bool) {
	s.advance(phaseDraining)
	if s.keepsInput() {
		r := s.rare.Load()
		s.peerFIN = r.stashFIN // it will not be told again
		s.dropStash()
		if ran = r.layered != nil; ran {
			s.startLayeredDrain(r.layered)
		}
	}
	r := s.ensureRare() // what the peer takes is measured, without a deadline too
	if d := s.loop.Limits.Drain; d > 0 {
		r.startMeasuring()
		r.endAt = s.conn.Now() + d
	}
	return ran
}

// advanceDrain follows the last queued byte of a draining session: FIN, then the wait until the peer has acknowledged everything (E1, E2),
// then, unless the peer has finished, the linger. It returns true if that was the end.
func (s *Session) advanceDrain() (over bool) {
	switch {
	case s.lingering:
		over = s.peerEnded()
	case s.needsNoDrain():
		over = true
	case !s.finSent && !s.sendFIN():
		over = true
	case s.conn.Unsent() > 0 && !s.onlyWordIsOut(): // measured again soon
	case s.peerEnded():
		over = true
	default:
		s.startLinger()
	}
	if over {
		s.finish(false)
	}
	return over
}

// needsNoDrain reports that nothing is left to wait for once the queue is empty: the peer has finished and has acknowledged everything. close(2) sends
// FIN too.
func (s *Session) needsNoDrain() bool {
	return s.peerFIN && !s.finSent && s.layered() == nil && s.conn.Unsent() == 0
}

// startLinger begins the wait for the peer's FIN. Without it, input on its way would turn into a reset that destroys our last bytes before the
// peer has read them.
func (s *Session) startLinger() {
	s.lingering = true
	r := s.ensureRare()
	r.endAt = 0
	if d := s.loop.Limits.Linger; d > 0 {
		r.endAt = s.conn.Now() + d
	}
}

// sendFIN tells the peer that nothing follows. It returns false if the connection has broken.
func (s *Session) sendFIN() bool {
	s.finSent = true
	if err := s.conn.CloseWrite(); err != nil {
		s.sever(err, s.conn.Received())
		return false
	}
	if t := s.tap(); t != nil {
		t.Finished()
	}
	return true
}
