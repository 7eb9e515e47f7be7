package session

import "time"

// sayLastWord has the layer make its last word, once, and returns whether settle has to go round for it: it leaves before FIN. Everything that was
// queued is out.
//
// If the peer has acknowledged everything before, nothing of the application's is at stake any more. Then the peer need not acknowledge our last
// word either, and if it closes its socket behind its own last word and so answers ours with a reset, that is an end in good order.
func (s *Session) sayLastWord() bool {
	l := s.layered()
	if l == nil || l.finished || s.severed {
		return false
	}
	l.finished = true
	var reason error
	if s.phase != phaseOpen {
		reason = (*Driver)(s).Reason()
	}
	l.allAcked = s.conn.Unsent() == 0
	return !s.callFinish(l, reason) || l.pending()
}

// onlyWordIsOut reports whether nothing but our last word, and FIN, may be unacknowledged.
func (s *Session) onlyWordIsOut() bool {
	l := s.layered()
	return l != nil && l.finished && l.allAcked
}

// peerEnded reports whether nothing more will be read: the peer's FIN has come. The last word of a layer is not yet that.
func (s *Session) peerEnded() bool {
	if l := s.layered(); l != nil {
		return l.wireFIN
	}
	return s.peerFIN
}

// startLayeredDrain begins the end of a session with a layer: what was kept is opened for what the layer has to answer.
func (s *Session) startLayeredDrain(l *layered) {
	if l.keeps() {
		var in []byte
		if l.input != nil {
			in = l.input.B[l.opened:]
		}
		s.discardInput(l, in)
		l.dropInput()
	}
}

// layerAt returns the layer's next deadline, 0 if there is none. A session that drains has deadlines of its own; one of the layer's that has
// ended it would come again and again.
func (s *Session) layerAt() time.Duration {
	if l := s.layered(); l != nil && s.phase == phaseOpen && !l.finished && !s.severed {
		return l.layer.NextAt()
	}
	return 0
}

// enforceLayer has the layer act on its deadline, unless that is for the peer and the peer cannot be blamed.
func (s *Session) enforceLayer(now time.Duration) {
	l := s.layered()
	moves := s.peerMoves()
	if p, ok := l.layer.(Postponer); ok && (moves || !s.reading || s.conn.Unread()) {
		l.called()
		p.Postpone(now)
		return
	}
	s.expireLayer(l, now)
}

// expireLayer tells the layer the time.
func (s *Session) expireLayer(l *layered, now time.Duration) {
	if err, ok := s.callExpire(l, now); ok && err != nil {
		s.DisconnectWith(err)
	}
}
