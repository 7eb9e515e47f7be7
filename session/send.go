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
	if err := s.admit(len(p)); err != nil {
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
// Nobody may write to b.B from here on. As long as it waits it holds all of b's memory, at least 512 bytes, though SendLimit
// counts the bytes of b.B only: what is shorter costs less with Send. With a framer it is Send and Release. Any goroutine.
func (s *Session) SendBuffer(b *pool.Buffer) error {
	n := len(b.B) // a nil buffer panics here, not under the lock
	if f := s.framing(); f != nil {
		defer b.Release()
		return s.sendFramed(f, b.B)
	}
	s.mu.Lock()
	if s.framing() != nil { // bound meanwhile
		s.mu.Unlock()
		return s.SendBuffer(b)
	}
	if err := s.admit(n); err != nil {
		s.mu.Unlock()
		b.Release()
		if err == ErrSendLimit {
			s.tooSlow()
		}
		return err
	}
	if n == 0 {
		s.mu.Unlock()
		b.Release()
		return nil
	}
	s.q.extend(b, false)
	s.q.size += n
	s.queued(n)
	return nil
}

// admit decides whether n more bytes may be queued. The caller holds mu.
func (s *Session) admit(n int) error {
	if !s.open {
		return ErrClosed
	}
	if n > s.room() {
		return ErrSendLimit
	}
	if !s.reserve(n) {
		return ErrSendBudget
	}
	return nil
}

// room returns how many bytes may still be queued. The caller holds mu.
func (s *Session) room() int {
	if limit := s.loop.Limits.SendLimit; limit > 0 {
		return limit - s.q.size
	}
	return math.MaxInt
}

// queued ends a Send that queued n bytes: it unlocks mu and sees to it that the loop knows.
func (s *Session) queued(n int) {
	if s.counted(n) {
		s.schedule()
	}
}

// counted unlocks mu after n bytes were queued, and returns whether the loop has to know.
func (s *Session) counted(n int) (visit bool) {
	s.messages++
	// A blocked session gains nothing from a visit, but for the one that acts on a mark that was passed.
	visit = n > 0 && !s.blocked
	if s.q.size > s.loop.unmarked && s.rose(n) {
		visit = true
	}
	s.account()
	s.mu.Unlock()
	s.afford()
	return visit
}

// share queues one more reference to b: a payload of that many bytes as f has framed it, or as it is if f is nil. It leaves
// to the caller what follows: to claim the session if the loop has to know, and what happens to one that is too slow.
func (s *Session) share(f *framed, b *pool.Buffer, payload int) (visit bool, err error) {
	n := len(b.B)
	s.mu.Lock()
	if err := s.admit(n); err != nil {
		s.mu.Unlock()
		return false, err
	}
	s.q.share(b, s.room())
	if f != nil {
		f.sizes.push(n, payload)
	}
	return s.counted(n), nil
}

func (s *Session) tooSlow() {
	if s.loop.Limits.EndSlow {
		s.kill(ErrSendLimit)
	}
}
