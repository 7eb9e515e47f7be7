package session

import (
	"math"

	"github.com/servercore-go/servercore/pool"
)

// Send queues a copy of p and returns at once. Accepted bytes leave in the order of their acceptance, and
// those of one p stay together whoever else sends. What a callback sends leaves when it returns, in one
// gathered write; what other goroutines send costs at most one wake-up of the loop.
//
// Send returns ErrSendLimit if p does not fit within Options.SendLimit beside what is queued (nothing of p is
// then queued), and ErrClosed after Disconnect, Abort or the end. It is the only bound on a peer that does not
// read: whoever answers what it receives never meets it, whoever pushes on his own account should expect it.
// With Options.SendBudget it also returns ErrSendBudget, which matches ErrSendLimit, as long as all sessions together hold
// too much. Any goroutine.
//
// With a framer p becomes one packet; a payload that the framer refuses (frame.ErrTooLarge, frame.ErrMalformed) is not
// queued, and its error returned.
func (s *Session) Send(p []byte) error {
	if f := s.framing(); f != nil {
		return s.sendFramed(f, p)
	}
	s.mu.Lock()
	if s.framing() != nil { // bound meanwhile
		s.mu.Unlock()
		return s.Send(p)
	}
	if err := s.admit(len(p), given{}, true); err != nil {
		s.mu.Unlock()
		if err == ErrSendLimit {
			s.tooSlow()
		}
		return err
	}
	s.q.push(p, s.room())
	s.queued(len(p))
	return nil
}

// SendBuffer is Send without the copy: it takes the caller's reference over, also when it fails, and releases
// it when the last byte has left or will not leave any more. To send one buffer to many, Retain it for each.
// Nobody may write to b.B from here on. What counts for SendLimit are the bytes of b.B, as for Send; so a buffer with more than
// 4 KiB that is not even half full is copied after all, and so is any whose memory, 512 bytes at least, would
// make the queue hold more than SendLimit and a quarter. With a framer it is Send and Release. Any goroutine.
func (s *Session) SendBuffer(b *pool.Buffer) error {
	n := len(b.B) // a nil buffer panics here, not under the lock
	defer b.Release()
	if f := s.framing(); f != nil {
		return s.sendFramed(f, b.B)
	}
	if n == 0 || !s.bound.Load() {
		return s.Send(b.B)
	}
	g := given{buf: b, alone: !b.Shared()}
	if budget := s.loop.Limits.Budget; budget != nil && !g.alone {
		g.charge = budget.lend(b)
		defer g.charge.release()
	}
	s.mu.Lock()
	if f := s.framing(); f != nil { // bound meanwhile
		s.mu.Unlock()
		return s.sendFramed(f, b.B)
	}
	if err := s.admit(n, g, true); err != nil {
		s.mu.Unlock()
		if err == ErrSendLimit {
			s.tooSlow()
		}
		return err
	}
	s.keep(g)
	s.queued(n)
	return nil
}

// admit decides whether n more bytes may be queued, those of g if there is one, and charges their memory. The caller holds mu. If
// it may wait, stuck sessions are ended to make room, and mu is given up meanwhile.
func (s *Session) admit(n int, g given, wait bool) error {
	for {
		if !s.open {
			return ErrClosed
		}
		if n > s.room() {
			return ErrSendLimit
		}
		budget := s.loop.Limits.Budget
		if budget == nil || n == 0 {
			return nil
		}
		needs := s.charge(budget, n, g)
		if needs == 0 {
			return nil
		}
		if !wait {
			return ErrSendBudget
		}
		wait = false
		most := s.sendBound(budget) - int64(needs)
		s.mu.Unlock()
		made := budget.reap(s.conn.Now(), most)
		s.mu.Lock()
		if s.open && !made {
			return ErrSendBudget
		}
	}
}

// charge charges the memory of what is about to be queued, as for admit. It returns 0, or how much there is no room for. The caller
// holds mu.
func (s *Session) charge(budget *Budget, n int, g given) (needs int) {
	h := g.charge
	switch {
	case !s.q.keeps(g, s.loop.Limits.SendLimit):
		if s.q.spare(n) {
			return 0
		}
		needs = s.q.growth(n, s.room())
	case h == nil:
		needs = g.buf.Memory() + bufferMemory + segmentMemory
	default:
		most := s.sendBound(budget)
		if s.blocked && budget.held.Load() > most || !h.make(most) {
			return int(h.bytes)
		}
		needs = segmentMemory
	}
	if s.reserve(needs) {
		return 0
	}
	return needs
}

// keep queues the bytes of g. The caller holds mu.
func (s *Session) keep(g given) {
	if t := s.q.add(g, s.room(), s.loop.Limits.SendLimit); t != nil && g.charge != nil {
		t.shared, t.slow = g.charge.hold(), s.slowly()
		t.slow.common.Add(g.charge.bytes)
	}
}

// room returns how many bytes may still be queued. The caller holds mu.
func (s *Session) room() int {
	if limit := s.loop.Limits.SendLimit; limit > 0 {
		return limit - s.waiting()
	}
	return math.MaxInt
}

// queued ends a Send that queued n bytes: it unlocks mu and sees to it that the loop knows.
func (s *Session) queued(n int) {
	visit := s.counted(n)
	s.enforceBudget()
	if visit {
		s.schedule()
	}
}

// counted unlocks mu after n bytes were queued, and returns whether the loop has to know.
func (s *Session) counted(n int) (visit bool) {
	s.messages++
	// A blocked session gains nothing from a visit, but for the one that acts on a mark that was passed.
	visit = n > 0 && !s.blocked
	if s.waiting() > s.loop.unmarked && s.rose(n) {
		visit = true
	}
	s.account()
	s.mu.Unlock()
	return visit
}

// share queues g: a payload of that many bytes as f has framed it, or as it is if f is nil. It leaves to the caller what follows: to
// claim the session if the loop has to know, what happens to one that is too slow, and to enforce the budget.
func (s *Session) share(f *framed, g given, payload int) (visit bool, err error) {
	n := len(g.buf.B)
	s.mu.Lock()
	if err := s.admit(n, g, false); err != nil {
		s.mu.Unlock()
		return false, err
	}
	s.keep(g)
	if f != nil {
		f.describe(n, payload)
	}
	return s.counted(n), nil
}

func (s *Session) tooSlow() {
	if s.loop.Limits.EndSlow {
		s.kill(ErrSendLimit)
	}
}
