package session

// finish is the end: reset or close, then what was posted, then the last callback. Where a callback takes its goroutine down, finish is entered
// again and carries on where it was (L2, I2).
func (s *Session) finish(reset bool) {
	if s.phase != phaseClosed {
		s.advance(phaseClosed)
		s.mu.Lock()
		dropped := s.dropQueue()
		messages := s.takeMessages()
		s.noteInput()
		if r := s.tasks(); r != nil {
			r.timers = nil
		}
		s.mu.Unlock()
		s.countDropped(dropped)
		s.loop.Counters.MessagesOut.Add(messages)
		s.dropStash()
		if f := s.framed(); f != nil {
			f.stream.Drop()
		}
		if l := s.layered(); l != nil {
			l.dropInput()
		}
		if reset {
			s.loop.Counters.BytesUnacked.Add(s.unacked())
		}
		if t := s.tap(); t != nil {
			t.Closed(reset, s.Err())
		}
		s.conn.Close(reset)
		s.leaveGroups()
		s.postAtEnd()
	}
	if l := s.layered(); l != nil && !l.dropped {
		l.dropped = true
		s.callDrop(l)
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

// unacked returns the bytes that the kernel took and the peer has not acknowledged, without our FIN.
func (s *Session) unacked() int {
	n := s.conn.Unsent()
	if s.finSent {
		n--
	}
	return max(n, 0)
}

// dropQueue empties the queue and returns how many bytes the application has sent in vain. The caller holds mu.
func (s *Session) dropQueue() int {
	n := s.emptyQueue()
	if w := s.slow(); w != nil {
		n, w.dropped = n+w.dropped, 0
	}
	s.updateBudget()
	return n
}

// emptyQueue is dropQueue without the accounts. The caller holds mu.
func (s *Session) emptyQueue() int {
	n := s.emptyPlain()
	if l := s.layered(); l != nil {
		n += l.wire.Drop()
	}
	return n
}

// emptyPlain is emptyQueue for what no layer has sealed. The caller holds mu.
func (s *Session) emptyPlain() int {
	n := s.q.Drop()
	if f := s.framed(); f != nil {
		n = f.packets.Drop()
	}
	return n
}
