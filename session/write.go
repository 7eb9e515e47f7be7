package session

// writeOut writes once what v offers, which a layer seals before. It returns false if nothing came of it: the layer has failed.
func (s *Session) writeOut(v view) (wrote bool) {
	if v.wire != nil && !s.seal(&v) {
		return false
	}
	s.write(v.iov, v.wire)
	return true
}

// write makes one gathered write, of the wire of l if l is not nil, and calls OnSend if the kernel took any of it. What the kernel did not take of
// the scratch memory moves into segments; OnSend gets the scratch anew.
func (s *Session) write(iov [][]byte, l *layered) {
	n, err := s.conn.Write(iov)
	if t := s.tap(); t != nil && n > 0 {
		t.Sent(iov, n)
	}
	if len(iov) == 1 {
		iov[0] = nil
	} else {
		clear(iov)
	}
	told, tell := n, n > 0
	f, scratch := s.framed(), s.conn.Scratch()
	var sampledAt uint32
	var sampled bool
	s.mu.Lock()
	if l != nil {
		told, sampledAt, sampled = l.wire.Sent(n)
		tell = told > 0
		l.wire.Reclaim()
	} else if sampledAt, sampled = s.q.Consume(n); f != nil {
		var packets int
		packets, told = f.packets.Sent(n)
		tell = packets > 0
	}
	s.q.Reclaim()
	messages := s.takeMessages()
	if n > 0 {
		s.addTotal(bytesOut, uint32(n))
		s.active = activeAt(s.recent())
	}
	s.blocked = err == ErrWouldBlock || err == ErrNoMemory
	s.checkLowWater(n, err)
	if n > 0 && !s.aborted {
		s.q.UseScratch(&scratch.send, nil)
	}
	s.mu.Unlock()
	if n > 0 {
		s.noteTaken(n)
	}
	if err != nil {
		s.noteRefused(err)
	}
	c := &s.loop.Counters
	c.MessagesOut.Add(messages)
	if sampled {
		s.recordSample(sampledAt)
	}
	if n > 0 {
		c.Writes.Add(1)
		c.BytesOut.Add(n)
		s.wakeup.hold()
	}
	if tell {
		s.callSend(told)
	}
}

// noteTaken notes that the kernel has taken n bytes, for the deadlines that depend on it.
func (s *Session) noteTaken(n int) {
	if s.halfOpen {
		s.lastActive = s.conn.Now()
	}
	if r := s.rare.Load(); r != nil {
		r.stallAt = 0
		r.wrote += n
	}
}

// noteRefused notes why the kernel did not take everything.
func (s *Session) noteRefused(err error) {
	if err != ErrWouldBlock && err != ErrNoMemory {
		s.sever(err, s.conn.Received())
		return
	}
	s.loop.Counters.WouldBlock.Add(1)
	s.retryWrite = err == ErrNoMemory
	if r := s.ensureRare(); r.stallAt == 0 && s.loop.Limits.Write > 0 {
		r.startMeasuring()
		r.stallAt = s.conn.Now() + s.loop.Limits.Write
	}
}

// unblock notes that the kernel may take bytes again.
func (s *Session) unblock() {
	s.mu.Lock()
	s.blocked, s.retryWrite = false, false
	s.mu.Unlock()
}

// tryWrite writes once what can be sent, and returns false if there was nothing. After unblock it precedes an end for which the peer would be
// blamed: the loop may be late (a busy callback, a stopped process) with the news that the kernel takes bytes.
func (s *Session) tryWrite() bool {
	v := s.look(false)
	return (len(v.iov) > 0 || v.own) && s.writeOut(v)
}

// lendScratch gives the callback that is about to run scratch memory to send into.
func (s *Session) lendScratch() {
	scratch := s.conn.Scratch()
	s.mu.Lock()
	if s.phase != phaseClosed && !s.aborted {
		s.q.UseScratch(&scratch.send, nil)
	}
	s.mu.Unlock()
}

// reclaimScratch takes the scratch memory back when what is in it has to wait.
func (s *Session) reclaimScratch() {
	s.mu.Lock()
	s.q.Reclaim()
	s.updateBudget()
	s.mu.Unlock()
	s.conn.Scratch().send.ForgetSlices()
}
