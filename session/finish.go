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
	s.finSent = true
	r := s.rarely()
	r.endBy = 0
	if err := s.conn.CloseWrite(); err != nil {
		r.lost = err
		s.conn.Again()
		return
	}
	if d := s.loop.Limits.Linger; d > 0 {
		r.endBy = s.conn.Now() + d
	}
}

// gotFIN: the peer will send no more. Content may still send until the queue runs empty.
func (s *Session) gotFIN() {
	s.peerFIN = true
	s.mu.Lock()
	if !s.ending {
		s.because(ErrPeerClosed)
	}
	s.mu.Unlock()
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
