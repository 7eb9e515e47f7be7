package session

// HalfCloser is implemented by a Handler whose connections have two directions that end one by one, as a proxy's do.
// Without it a peer's FIN ends the session as soon as everything queued is sent (E2).
type HalfCloser interface {
	// OnHalfClose tells that the peer has finished: OnRecv will not be called any more. It is called once at most, as a
	// callback after the last OnRecv, and not if the session is ending already. The session stays open, and Send accepts,
	// until content calls CloseWrite or Disconnect, or the connection breaks: a peer that has gone for good without
	// a reset shows only when something is sent to it. A session that is sent nothing for Options.HalfCloseTimeout, while its
	// peer takes nothing either, ends with ErrIdle; IdleTimeout does not count any more.
	OnHalfClose()
}

// CloseWrite finishes this side: everything Send accepted before is delivered, then FIN. Send fails from now on with
// ErrClosed, OnRecv goes on, and the session ends with ErrPeerClosed when the peer has finished too; WriteTimeout
// holds until the FIN is out, IdleTimeout after it. If the peer has finished already, this is the end, and what is queued has
// DrainTimeout to leave. Any goroutine, inside callbacks too, any number of times.
//
// Disconnect is the other way to say FIN: it does not want to hear the answer.
func (s *Session) CloseWrite() {
	if !s.bound.Load() {
		return
	}
	r := s.rarely()
	s.mu.Lock()
	s.open, r.finish = false, true
	if s.halfOpen && !s.ending {
		s.because(ErrPeerClosed)
	}
	s.mu.Unlock()
	s.schedule()
}
