package session

import "errors"

// Disconnect ends the session in good order: everything that Send has accepted is delivered, then FIN.
//
// Send fails from now on. OnRecv is not called again after the callback that is running. Input that still arrives is read and thrown away, until
// the peer closes too or LingerTimeout ends. A peer that takes next to nothing for DrainTimeout loses the rest, and the connection is
// reset. Err matches ErrDisconnected; the first reason wins. Any goroutine, inside callbacks too, any number of times.
func (s *Session) Disconnect() { s.DisconnectWith(ErrDisconnected) }

// DisconnectWith is Disconnect with a reason of the caller's, which Err then matches. nil means ErrDisconnected.
//
// The methods Is, Unwrap and Error of the reason are called here, and the first two also later, with a lock held: they must not call
// the session. If one of them panics, as those of a nil pointer of an error type do, that counts as a failure of the handler, and Err
// matches ErrPanic.
func (s *Session) DisconnectWith(reason error) {
	if reason == nil {
		reason = ErrDisconnected
	}
	if !s.wakeup.isBound() {
		return
	}
	reason = checkReason(reason)
	s.mu.Lock()
	s.open, s.ending = false, true
	if s.reason() == nil {
		s.recordReason(reason)
	}
	s.mu.Unlock()
	s.schedule()
}

// Abort ends the session at once: what is queued is dropped, the peer sees a reset, and the kernel's memory is freed. Err matches ErrAborted, or
// the reason for which the session was ending already. Any goroutine, inside callbacks too, any number of times.
func (s *Session) Abort() { s.abort(ErrAborted) }

// abort is Abort with a reason. Any goroutine.
func (s *Session) abort(reason error) {
	if s.wakeup.isBound() && s.markAborted(reason) {
		s.schedule()
	}
}

// markAborted has the session reset when the loop looks, and returns whether the loop has to be told. It takes mu.
func (s *Session) markAborted(reason error) (visit bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed() {
		return false
	}
	s.open, s.aborted = false, true
	s.decideEnd(reason)
	return true
}

// decideEnd decides that the session ends, and records why. The caller holds mu.
func (s *Session) decideEnd(reason error) {
	s.ending = true
	s.recordReason(reason)
}

// recordReason notes why the session ends. The first reason stands. One more is added: what then kept the session from ending in good order;
// and a failure of the handler is always added. The caller holds mu.
func (s *Session) recordReason(reason error) {
	switch first := s.reason(); {
	case first == nil && reason == ErrPeerClosed:
		s.left = true

	case first == nil:
		s.ensureRare().reason = reason

	case !errors.Is(first, reason):
		_, twice := first.(*chain)
		failed := errors.Is(reason, ErrPanic) && !errors.Is(first, ErrPanic)
		if !twice || failed {
			s.ensureRare().reason = &chain{first, reason}
		}
	}
}

// reason returns what was recorded. The commonest reason needs no rare part. The caller holds mu.
func (s *Session) reason() error {
	if r := s.rare.Load(); r != nil && r.reason != nil {
		return r.reason
	}
	if s.left {
		return ErrPeerClosed
	}
	return nil
}
