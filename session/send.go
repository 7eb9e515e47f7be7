package session

import (
	"math"

	"github.com/servercore-go/servercore/internal/budget"
	"github.com/servercore-go/servercore/internal/sendqueue"
	"github.com/servercore-go/servercore/pool"
)

// Send queues a copy of p and returns at once. Accepted bytes leave in the order of their acceptance, and those of one p stay together
// whatever other goroutines send. What a callback sends leaves when it returns, in one gathered write. What other goroutines send costs one
// wake-up of the loop at most. Any goroutine.
//
// Send returns ErrSendLimit if p does not fit within Options.SendLimit beside what is queued; nothing of p is queued then. It returns
// ErrClosed after Disconnect, Abort or the end. With Options.SendBudget it returns ErrSendBudget, which matches ErrSendLimit, while all
// sessions together hold too much.
//
// SendLimit is the only bound on a peer that does not read. An application that answers what it receives never meets it. One that sends of
// its own accord should expect it.
//
// With a framer p becomes one packet. A payload that the framer refuses (frame.ErrTooLarge, frame.ErrMalformed) is not queued, and the
// framer's error is returned.
func (s *Session) Send(p []byte) error {
	if f := s.framed(); f != nil {
		return s.sendFramed(f, p)
	}
	s.mu.Lock()
	if s.framed() != nil { // bound meanwhile
		s.mu.Unlock()
		return s.Send(p)
	}
	if err := s.admit(len(p), sendqueue.Ref{}, true); err != nil {
		s.mu.Unlock()
		s.afterRefusal(err)
		return err
	}
	s.q.Push(p, s.room())
	s.afterSend(len(p))
	return nil
}

// SendText is Send for a text message of a WebSocket: p must be UTF-8, or else an error that matches frame.ErrMalformed is returned and nothing is
// queued. Without WebSocket, and with a framer, it is Send. Any goroutine.
func (s *Session) SendText(p []byte) error {
	if !s.wakeup.isBound() {
		return ErrClosed
	}
	if f := s.framed(); f != nil && f.text != nil {
		return s.sendPacket(f, f.text, p)
	}
	return s.Send(p)
}

// SendBuffer is Send without the copy. It takes over the caller's reference, also when it fails, and releases it when the last byte has left or
// will not leave any more. To send one buffer to many sessions, Retain it for each. Nobody may write to b.B from here on. Any goroutine.
//
// The bytes of b.B count for SendLimit, as with Send. So that memory stays bounded too, some buffers are copied all the same: one of more than
// 4 KiB that is not even half full and that nobody else holds, and one whose memory, 512 bytes at least, would make the queue hold more
// than SendLimit and a quarter. With a framer, SendBuffer is Send and Release.
func (s *Session) SendBuffer(b *pool.Buffer) error {
	n := len(b.B) // a nil buffer panics here, not under the lock
	defer b.Release()
	if f := s.framed(); f != nil {
		return s.sendFramed(f, b.B)
	}
	if n == 0 || !s.wakeup.isBound() {
		return s.Send(b.B)
	}
	ref := sendqueue.Ref{Buf: b, Exclusive: !b.Shared()}
	if budget := s.loop.Limits.Budget; budget != nil && !ref.Exclusive {
		ref.Charge = budget.CommonCharge(b)
		defer ref.Charge.Release()
	}
	s.mu.Lock()
	if f := s.framed(); f != nil { // bound meanwhile
		s.mu.Unlock()
		return s.sendFramed(f, b.B)
	}
	if err := s.admit(n, ref, true); err != nil {
		s.mu.Unlock()
		s.afterRefusal(err)
		return err
	}
	s.enqueue(ref)
	s.afterSend(n)
	return nil
}

// sendShared queues ref for one member of a group: a payload of that many bytes as f has framed it, or as it is if f is nil. It leaves to the
// caller what follows: to request the wake-up if the loop has to be told, to end a session that is too slow, and to enforce the budget.
func (s *Session) sendShared(f *framed, ref sendqueue.Ref, payload int) (visit bool, err error) {
	n := len(ref.Buf.B)
	s.mu.Lock()
	if err := s.admit(n, ref, false); err != nil {
		s.mu.Unlock()
		return false, err
	}
	s.enqueue(ref)
	if f != nil {
		f.packets.Add(n, payload)
	}
	return s.noteQueued(n), nil
}

// admit decides whether n more bytes may be queued, those of ref if it has a buffer, and charges their memory. The caller holds mu. If it may
// wait, stuck sessions are ended to make room, and mu is given up meanwhile.
func (s *Session) admit(n int, ref sendqueue.Ref, wait bool) error {
	for {
		if !s.open {
			return ErrClosed
		}
		if n > max(s.room(), 0) { // negative by what a layer has added
			return ErrSendLimit
		}
		budget := s.loop.Limits.Budget
		if budget == nil || n == 0 {
			return nil
		}
		missing := s.charge(budget, n, ref)
		if missing == 0 {
			return nil
		}
		if !wait {
			return ErrSendBudget
		}
		wait = false
		most := budget.Bound(s.blocked) - int64(missing)
		s.mu.Unlock()
		made := budget.MakeRoom(s.conn.Now(), most)
		s.mu.Lock()
		if s.open && !made {
			return ErrSendBudget
		}
	}
}

// charge charges the memory of what is about to be queued, as for admit. It returns 0, or how many bytes there is no room for. The caller holds
// mu.
func (s *Session) charge(b *budget.Budget, n int, ref sendqueue.Ref) (missing int) {
	most, needs := b.Bound(s.blocked), 0
	switch {
	case s.q.Keeps(ref, s.loop.Limits.SendLimit):
		if c := ref.Charge; c != nil && (s.blocked && !b.Fits(most) || !c.Make(most)) {
			return int(c.Bytes())
		}
		needs = ref.Cost()
	case s.q.FitsScratch(n):
		return 0
	default:
		needs = s.q.Growth(n, s.room())
	}
	if needs == 0 || b.Reserve(&s.ensureSlow().account, int64(needs), most) {
		return 0
	}
	return needs
}

// enqueue queues the bytes of ref. The caller holds mu.
func (s *Session) enqueue(ref sendqueue.Ref) {
	if s.q.Add(ref, s.room(), s.loop.Limits.SendLimit) && ref.Charge != nil {
		s.q.AttachCharge(ref.Charge, &s.ensureSlow().account)
	}
}

// room returns how many bytes may still be queued. The caller holds mu.
func (s *Session) room() int {
	if limit := s.loop.Limits.SendLimit; limit > 0 {
		return limit - s.waiting()
	}
	return math.MaxInt
}

// waiting returns the bytes that wait, as limits and marks count them: those of packets as they travel, and the memory of what describes them
// where that is more than an eighth of theirs. The caller holds mu.
func (s *Session) waiting() int {
	n, r := s.q.Size(), s.rare.Load()
	if r == nil {
		return n
	}
	if f := r.framed; f != nil {
		n += f.packets.Excess(n)
	}
	if l := r.layered; l != nil {
		n += l.wire.Waiting()
	}
	return n
}

// queued returns the bytes that wait: those in the queue, and those that a layer has sealed. The caller holds mu.
func (s *Session) queued() int {
	if l := s.layered(); l != nil {
		return s.q.Size() + l.wire.Waiting()
	}
	return s.q.Size()
}

// afterSend ends a Send that has queued n bytes: it unlocks mu and sees to it that the loop is told.
func (s *Session) afterSend(n int) {
	visit := s.noteQueued(n)
	s.enforceBudget()
	if visit {
		s.schedule()
	}
}

// noteQueued unlocks mu after n bytes were queued, and returns whether the loop has to be told.
func (s *Session) noteQueued(n int) (visit bool) {
	s.messages++
	if s.isSampled() && n > 0 {
		s.startSample()
	}
	// A blocked session gains nothing from a visit, but for the one that acts on a mark that was passed.
	visit = n > 0 && !s.blocked
	if s.backlog() > s.loop.leastMark && s.checkHighWater(n) {
		visit = true
	}
	s.updateBudget()
	s.mu.Unlock()
	return visit
}

// afterRefusal ends a session that SlowPeer says so of, after a Send was refused.
func (s *Session) afterRefusal(err error) {
	if err == ErrSendLimit && s.loop.Limits.EndSlow {
		s.abort(ErrSendLimit)
	}
}
