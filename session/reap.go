package session

import "time"

// charge is a stuck session as a pass has found it.
type charge struct {
	session *Session
	bytes   int64 // of its own
	common  int64 // of buffers that stand in other queues too
	weight  int64 // what its end gives back: its own bytes, and its part of the others
}

// reap ends sessions that are stuck, those first whose end gives back the most, until 3/4 of the budget are left, or most bytes
// if that is less. It returns whether no more than most are left. It takes time that grows with the number of sessions
// whose kernels are full, so a pass that has found too little is not followed by another at once. No mu is held, of a session or a
// group.
func (b *Budget) reap(now time.Duration, most int64) bool {
	if most < 0 {
		return false
	}
	b.reaping.Lock()
	defer b.reaping.Unlock()
	if b.held.Load() <= most {
		return true
	}
	if now < b.next {
		return false
	}
	goal := min(most, b.limit-b.limit/4)
	b.findStuck()
	for i := len(b.found)/2 - 1; i >= 0; i-- {
		b.sink(i)
	}
	for n := len(b.found); n > 0 && b.held.Load() > goal; n = len(b.found) {
		c := b.found[0]
		b.found[0], b.found[n-1] = b.found[n-1], charge{}
		b.found = b.found[:n-1]
		b.sink(0)
		if c.session.shed(c.bytes + c.common) {
			c.session.schedule()
		}
	}
	clear(b.found)
	b.found = b.found[:0]
	if b.held.Load() > goal {
		b.next = now + passPause
	}
	return b.held.Load() <= most
}

// findStuck fills found with the sessions that are stuck.
func (b *Budget) findStuck() {
	b.mu.Lock()
	b.pass = append(b.pass, b.sessions...)
	b.mu.Unlock()
	sum := int64(0)
	for _, s := range b.pass {
		w := s.slow()
		if !w.stuck.Load() {
			continue
		}
		c := charge{session: s, bytes: w.charged.Load(), common: w.common.Load()}
		sum += c.common
		b.found = append(b.found, c)
	}
	clear(b.pass)
	b.pass = b.pass[:0]
	// A buffer that ten have is given back when the tenth has ended. How many have each is not known, but how many have
	// one on average.
	part := 1.0
	if common := b.common.Load(); sum > common {
		part = float64(common) / float64(sum)
	}
	for i := range b.found {
		c := &b.found[i]
		c.weight = c.bytes + int64(part*float64(c.common))
	}
}

// sink restores the heap, the heaviest first, below i.
func (b *Budget) sink(i int) {
	h := b.found
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && h[child+1].weight > h[child].weight {
			child++
		}
		if h[i].weight >= h[child].weight {
			return
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}

// shed ends a session that is stuck, unless it has got rid of half of what it held, and returns whether the loop has to know. Its
// queue goes at once: its loop has no hand on it, as it gathers only what it can write, and blocked is set when it has written.
func (s *Session) shed(held int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.slow()
	if !s.blocked || s.aborted || !w.stuck.Load() || w.charged.Load()+w.common.Load() <= held/2 {
		return false
	}
	s.open, s.aborted = false, true
	s.because(ErrSendBudget)
	w.dropped += s.empty()
	s.account()
	return true
}
