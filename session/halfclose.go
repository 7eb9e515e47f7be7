package session

// HalfCloser is implemented by a Handler whose connections have two directions that end one by one, as a proxy's do. Without it a peer's FIN
// ends the session as soon as everything queued is sent (E2).
type HalfCloser interface {
	// OnHalfClose tells that the peer has finished: OnRecv is not called any more. It is a callback, comes after the last OnRecv, and is
	// called once at most. It is not called if the session is ending already.
	//
	// The session stays open, and Send accepts, until the handler calls CloseWrite or Disconnect, or the connection breaks. A peer that has
	// gone for good without a reset shows only when something is sent to it. So a session that is sent nothing for
	// Options.HalfCloseTimeout, while its peer takes nothing either, ends with ErrIdle. IdleTimeout does not count any more.
	OnHalfClose()
}

// CloseWrite finishes our side: everything that Send has accepted is delivered, then FIN. Send fails from now on with ErrClosed, and OnRecv
// goes on. The session ends with ErrPeerClosed when the peer has finished too. WriteTimeout holds until the FIN is out, IdleTimeout after
// that. If the peer has finished already, this is the end, and what is queued has DrainTimeout to leave. Any goroutine, inside
// callbacks too, any number of times.
//
// Disconnect sends FIN as well, and discards what the peer answers.
func (s *Session) CloseWrite() {
	if !s.wakeup.isBound() {
		return
	}
	r := s.ensureRare()
	s.mu.Lock()
	s.open, r.closeWrite = false, true
	if s.halfOpen && !s.ending {
		s.decideEnd(s.peerReason())
	}
	s.mu.Unlock()
	s.schedule()
}

// peerReason returns why a session ends that its peer ends. The caller holds mu.
func (s *Session) peerReason() error {
	if l := s.layered(); l != nil && l.peerReason != nil {
		return l.peerReason
	}
	return ErrPeerClosed
}

// takePeerFIN follows the last byte that the peer has sent. The application may still send until the queue runs empty, or, if its handler is a
// HalfCloser, until it ends its own side.
func (s *Session) takePeerFIN() {
	s.peerFIN = true
	h, _ := s.handler.(HalfCloser)
	s.mu.Lock()
	if s.halfOpen = h != nil && !s.ending && s.open; !s.halfOpen && !s.ending && !s.severed {
		s.decideEnd(s.peerReason())
	}
	s.mu.Unlock()
	if s.halfOpen {
		s.lastActive = s.conn.Now() // from here on: when the session was last sent something, or its peer took anything
		s.lendScratch()
		s.callHalfClose(h)
	}
}
