package session

import (
	"errors"
	"time"
)

// drain begins the end: no more input for content, the clock runs. What the peer takes puts the deadline off (E2b).
func (s *Session) drain() {
	s.advance(phaseDraining)
	if s.stashed() {
		s.peerFIN = s.rare.Load().fin // nobody will tell of it again
		s.unstash()
	}
	if d := s.loop.Limits.Drain; d > 0 {
		r := s.rarely()
		r.begin()
		r.endBy = s.conn.Now() + d
	}
}

// windUp follows the last queued byte of a draining session: FIN; the wait until the peer has acknowledged everything (E1, E2);
// then, unless the peer has finished, the linger. It returns true if that was the end.
func (s *Session) windUp() (over bool) {
	switch {
	case s.lingering:
		over = s.peerFIN
	case s.peerFIN && !s.finSent && s.conn.Unsent() == 0: // close(2) is FIN enough
		over = true
	case !s.finSent && !s.sendFIN():
		over = true
	case s.conn.Unsent() > 0: // measured again soon
	case s.peerFIN:
		over = true
	default:
		s.linger()
	}
	if over {
		s.finish(false)
	}
	return over
}

// linger waits for the peer's FIN, so that input on its way does not turn into a reset that would destroy our last bytes before
// the peer has read them.
func (s *Session) linger() {
	s.lingering = true
	r := s.rarely()
	r.endBy = 0
	if d := s.loop.Limits.Linger; d > 0 {
		r.endBy = s.conn.Now() + d
	}
}

// sendFIN tells the peer that nothing follows, and returns false if the connection has broken.
func (s *Session) sendFIN() bool {
	s.finSent = true
	if err := s.conn.CloseWrite(); err != nil {
		s.sever(err, s.conn.Received())
		return false
	}
	return true
}

// sever notes that the connection takes nothing more, for a write or shutdown(2) has failed, or the kernel reports an error: Send
// fails and the queue is lost. What the peer sent before is still delivered (E2c): what is kept, and the bytes that the kernel has
// received by now. PauseAbove does not count any more. A session that is paused by hand, or waits for tokens of its RecvRate, has
// LingerTimeout for it.
func (s *Session) sever(err error, unread int) {
	r := s.rarely()
	r.unread = unread
	if s.severed {
		return
	}
	s.severed = true
	r.stallBy, r.endBy = 0, 0
	if d := s.receiveWithin(); d > 0 && s.phase == phaseOpen {
		r.endBy = s.conn.Now() + d
	}
	s.mu.Lock()
	s.open, s.blocked = false, false
	if r.reason == nil || !errors.Is(r.reason, ErrPeerReset) || !errors.Is(r.reason, err) {
		s.record(PeerReset(err))
	}
	dropped, messages := s.dropQueue(), s.messages
	s.messages = 0
	s.fell(0, nil)
	s.mu.Unlock()
	s.retry = false
	s.loop.Counters.BytesDropped.Add(dropped)
	s.loop.Counters.MessagesOut.Add(int(messages))
}

// receiveWithin returns how long a severed session may be paused, 0 for ever.
func (s *Session) receiveWithin() time.Duration {
	if d := s.loop.Limits.Linger; d > 0 {
		return d
	}
	return max(s.loop.Limits.Drain, 0)
}

// drained reports whether a severed session has delivered all that was received.
func (s *Session) drained() bool {
	return s.peerFIN || !s.stashed() && s.rare.Load().unread <= 0
}

// gotFIN: the peer will send no more. Content may still send until the queue runs empty, or, if it takes half-closes,
// until it ends its own side.
func (s *Session) gotFIN() {
	s.peerFIN = true
	h, _ := s.handler.(HalfCloser)
	s.mu.Lock()
	if s.halfOpen = h != nil && !s.ending && s.open; !s.halfOpen && !s.ending && !s.severed {
		s.because(ErrPeerClosed)
	}
	s.mu.Unlock()
	if s.halfOpen {
		s.heardAt = s.conn.Now() // from here on: when the peer was last fed, or took anything
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
		if reset {
			s.loop.Counters.BytesUnacked.Add(s.unacked())
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

// unacked returns the bytes that the kernel took and the peer has not acknowledged; our FIN is none of them.
func (s *Session) unacked() int {
	n := s.conn.Unsent()
	if s.finSent {
		n--
	}
	return max(n, 0)
}
