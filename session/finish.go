package session

// drain begins the end: no more input for content, the clock runs.
func (s *Session) drain() {
	s.advance(phaseDraining)
	if s.stashed() {
		s.peerFIN = s.rare.Load().fin // nobody will tell of it again
		s.unstash()
	}
	if d := s.loop.Limits.Drain; d > 0 {
		s.rarely().endBy = s.conn.Now() + d
	}
}

// linger says FIN and waits for the peer's, so that input on its way does not turn into a reset that would
// destroy our last bytes.
func (s *Session) linger() {
	s.lingering = true
	r := s.rarely()
	r.endBy = 0
	if !s.finSent && !s.sendFIN() {
		return
	}
	if d := s.loop.Limits.Linger; d > 0 {
		r.endBy = s.conn.Now() + d
	}
}

// sendFIN tells the peer that nothing follows, and returns false if the connection has broken.
func (s *Session) sendFIN() bool {
	s.finSent = true
	if err := s.conn.CloseWrite(); err != nil {
		s.rarely().lost = err
		s.conn.Again()
		return false
	}
	return true
}

// gotFIN: the peer will send no more. Content may still send until the queue runs empty, or, if it takes half-closes,
// until it ends its own side.
func (s *Session) gotFIN() {
	s.peerFIN = true
	h, _ := s.handler.(HalfCloser)
	s.mu.Lock()
	if s.halfOpen = h != nil && !s.ending && s.open; !s.halfOpen && !s.ending {
		s.because(ErrPeerClosed)
	}
	s.mu.Unlock()
	if s.halfOpen {
		s.lend()
		s.callHalfClose(h)
	}
}

// finish is the end: reset or close, what was posted, the last callback. It can be entered again where a callback
// took its goroutine down, and carries on where it was (L2).
func (s *Session) finish(reset bool) {
	if s.phase != phaseClosed {
		s.advance(phaseClosed)
		s.mu.Lock()
		dropped := s.dropQueue()
		messages := s.messages
		s.messages = 0
		if r := s.rare.Load(); r != nil {
			r.timers = nil
		}
		s.mu.Unlock()
		s.loop.Counters.BytesDropped.Add(dropped)
		s.loop.Counters.MessagesOut.Add(int(messages))
		s.unstash()
		if f := s.framing(); f != nil {
			f.drop()
		}
		s.conn.Close(reset)
		s.leaveGroups()
	}
	if s.connected {
		s.runPosts()
		s.connected = false
		s.callDisconnected()
	}
	if !s.done {
		s.done = true
		s.loop.Counters.Ended[causeOf(s.Err())].Add(1)
		s.conn.Done()
	}
}
