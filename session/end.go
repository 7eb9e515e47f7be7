package session

import (
	"errors"
	"fmt"
)

// Disconnect ends the session in good order: everything Send accepted before is delivered, then FIN. Send
// fails from now on and OnRecv is not called again after the callback now running; input that still arrives is
// read and thrown away until the peer closes too or LingerTimeout ends. What is not out within DrainTimeout is
// dropped and the connection reset. Err is ErrDisconnected. Any goroutine, inside callbacks too, any number of
// times; the first reason wins.
func (s *Session) Disconnect() { s.DisconnectWith(ErrDisconnected) }

// DisconnectWith is Disconnect with a reason of the caller's, which Err then matches. nil means ErrDisconnected. Its Is,
// Unwrap and Error are called here, the first two also later with a lock held: they may not call the session. A reason that cannot
// be asked, for one of them panics (as those of a nil pointer of an error type do), counts as a failure of content's, ErrPanic.
func (s *Session) DisconnectWith(reason error) {
	if reason == nil {
		reason = ErrDisconnected
	}
	if !s.bound.Load() {
		return
	}
	reason = sound(reason)
	s.mu.Lock()
	s.open, s.ending = false, true
	if s.rarely().reason == nil {
		s.record(reason)
	}
	s.mu.Unlock()
	s.schedule()
}

// Abort ends the session at once: what is queued is dropped, the peer sees a reset, the kernel's memory is
// freed. Err is ErrAborted, unless the session was ending for another reason already. Any goroutine, inside
// callbacks too, any number of times.
func (s *Session) Abort() { s.kill(ErrAborted) }

func (s *Session) kill(reason error) {
	if s.bound.Load() && s.condemn(reason) {
		s.schedule()
	}
}

// condemn has the loop reset the session when it looks, and returns whether it has to.
func (s *Session) condemn(reason error) (visit bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phaseClosed() {
		return false
	}
	s.open, s.aborted = false, true
	s.because(reason)
	return true
}

// sound returns a reason of content's, or ErrPanic if it panics when it is asked what is asked of it later, where nobody
// would expect it.
func sound(reason error) (checked error) {
	if reason == ErrDisconnected {
		return reason
	}
	defer func() {
		if value := recover(); value != nil {
			checked = panicked(fmt.Sprintf("%T as a reason", reason), said(value))
		}
	}()
	causeOf(reason)
	_ = reason.Error()
	return reason
}

// because decides the end and records why. The caller holds mu.
func (s *Session) because(reason error) {
	s.ending = true
	s.record(reason)
}

// record notes a reason: the first stands; what then kept the session from ending in good order is added, once,
// and so is a failure of content. The caller holds mu.
func (s *Session) record(reason error) {
	r := s.rarely()
	switch {
	case r.reason == nil:
		r.reason = reason

	case !errors.Is(r.reason, reason):
		_, twice := r.reason.(*chain)
		failed := errors.Is(reason, ErrPanic) && !errors.Is(r.reason, ErrPanic)
		if !twice || failed {
			r.reason = &chain{r.reason, reason}
		}
	}
}
