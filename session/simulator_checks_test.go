package session_test

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

// check compares sessions and models, between two steps.
func (s *sim) check() {
	if calls := s.loop.Scratch().Calls(); s.rests && calls != s.rested {
		s.failf("the watchdog has rested since callback %d, and %d have begun", s.rested, calls)
	}
	waiting, accepted, told, taken, shed := 0, 0, 0, 0, 0
	for _, m := range s.sessions {
		m.check()
		waiting += m.h.Pending()
		accepted += m.accepted
		told += m.h.SentSum
		taken += m.c.Took
		if m.shed() && !m.failing && !(m.broken && !m.c.Untold()) { // a failed connection's queue is counted at once
			shed += m.accepted - m.h.SentSum - m.h.Pending()
		}
	}
	k := &s.loop.Shared.Counters
	if sum := told + int(k.BytesDropped.Load()) + waiting + shed; sum != accepted {
		s.failf("accepted %d, but %d told + %d dropped + %d waiting", accepted, told, k.BytesDropped.Load(), waiting)
	}
	if out := int(k.BytesOut.Load()); out != taken {
		s.failf("the kernels took %d bytes, %d are counted", taken, out)
	}
	s.checkTallies()
	s.checkMemory()
	for i := range s.groups {
		var want []session.Handler
		for _, m := range s.sessions {
			if m.member[i] && !m.c.Closed {
				want = append(want, m.handler)
			}
		}
		n := s.groups[i].Len()
		for h := range s.groups[i].All() {
			if n--; !slices.Contains(want, h) {
				s.failf("group %d has a member that left or ended", i)
			}
		}
		if n != 0 || s.groups[i].Len() != len(want) {
			s.failf("group %d has %d members, want %d", i, s.groups[i].Len(), len(want))
		}
	}
	if faults := s.loop.Faults(); faults != nil {
		s.failf("%s", strings.Join(faults, "; "))
	}
}

// checkTallies compares the sum of what the sessions say they have carried with what the loop has counted.
func (s *sim) checkTallies() {
	var sum, flushed session.Tally
	for _, m := range s.sessions {
		t := m.c.Driver.Tally()
		bytes, messages := session.Unnoted(m.handler) // of a goroutine that was lost
		sum.BytesIn += t.BytesIn + bytes
		sum.BytesOut += t.BytesOut
		sum.BytesDropped += t.BytesDropped
		sum.MessagesIn += t.MessagesIn + messages
		sum.MessagesOut += t.MessagesOut
	}
	k := &s.loop.Shared.Counters
	flushed = sum
	flushed.BytesIn, flushed.BytesOut, flushed.BytesDropped = k.BytesIn.Load(), k.BytesOut.Load(), k.BytesDropped.Load()
	flushed.MessagesIn = k.MessagesIn.Load()
	if sum != flushed || sum.MessagesOut < k.MessagesOut.Load() {
		s.failf("the sessions have carried %+v, the loop counts %+v and %d messages out", sum, flushed, k.MessagesOut.Load())
	}
}

// check compares the session with its model.
func (m *simSession) check() {
	s, h, c := m.sim, m.h, m.c
	size, err := h.Pending(), h.Err()
	dropped := m.accepted - h.SentSum - size
	size = m.unsent()
	switch {
	case m.owed() != 0: // S4
		s.failf("%d: OnSend told %d, the kernel took %d", m.n, h.SentSum, c.Took)
	case m.framing == nil && m.layer == nil && h.SentN != c.TookN, h.SentN > c.TookN:
		s.failf("%d: %d OnSend for %d writes", m.n, h.SentN, c.TookN)
	case dropped < 0 || dropped > 0 && !c.Closed && !m.failing && !m.shed() && !m.broken: // S8
		s.failf("%d: accepted %d, sent %d, %d wait, %d lost, Err %v", m.n, m.accepted, h.SentSum, h.Pending(), dropped, err)
	case s.limits.SendLimit > 0 && size > s.limits.SendLimit+m.added(): // S5
		s.failf("%d: %d bytes wait", m.n, size)
	case c.Closed && size > 0:
		s.failf("%d: closed with %d bytes waiting", m.n, size)
	case c.Closed && !c.WasReset && !m.broken && c.Unacked > 0 && (m.layer == nil || c.Unacked > m.layer.lastOwn): // E1, E2, I12
		s.failf("%d: closed with %d bytes that the peer has not", m.n, c.Unacked)
	case h.Begun != 1 || c.Ended && h.Over != 1 || h.Over > 1: // L2
		s.failf("%d: done %t, %d OnConnected, %d OnDisconnected", m.n, c.Ended, h.Begun, h.Over)
	case c.FINSent && size > 0 && !c.Closed:
		s.failf("%d: FIN with %d bytes waiting", m.n, size)
	}
	m.ending = m.ending || m.stopped && errors.Is(err, session.ErrShutdown)
	if m.layer != nil {
		m.layer.check()
	}
	m.mayMiss = m.mayMiss || m.broken && (m.paused || m.rate != nil)
	if errors.Is(err, session.ErrIdle) && !m.idle && !strings.Contains(err.Error(), "no answer to the probe") { // T4
		m.idle = true
		if silent := s.loop.Now() - m.heard(); m.silence() == 0 || silent < m.silence() || c.Backlog() > 0 && m.layer == nil {
			s.failf("%d: idle after %v, of %v, with %d bytes to be read", m.n, silent, m.silence(), c.Backlog())
		}
	}
	if wants := c.Wants(); wants&testkit.Turn == 0 && !c.Closed && !m.failing && m.nextTimer() > 0 && (c.Armed == 0 || c.Armed > m.nextTimer()) {
		s.failf("%d: forgets a timer, busy as it is", m.n) // Resume may be asked for again and again, with nothing but writes between
	} else if wants&(testkit.Turn|testkit.Resume) != 0 {
		return
	}
	m.checkForgotten(size, err)
}

// checkForgotten follows when the loop will not look at the session again, but for events and deadlines. Everything that was asked for must
// have been done (I4).
func (m *simSession) checkForgotten(size int, err error) {
	s, h, c := m.sim, m.h, m.c
	switch {
	case c.Closed && !c.Ended:
		s.failf("%d: closed and not done", m.n)
	case c.Closed:
	case m.closing:
		s.failf("%d: a timer was cancelled with the session, which is open", m.n)
	case m.ran < m.posted:
		s.failf("%d: forgets a Post", m.n)
	case m.stopped && err == nil:
		s.failf("%d: forgets to end", m.n)
	case m.failing && m.nextTimer() > 0 && (c.Armed == 0 || c.Armed > m.nextTimer()):
		s.failf("%d: forgets a timer", m.n)
	case m.finished && size == 0 && !c.FINSent:
		s.failf("%d: forgets the FIN", m.n)
	case m.finished && m.halved && size == 0 && c.Armed == 0 && (m.layer == nil || m.layer.wireFIN && c.Wants()&testkit.FIN == 0): // otherwise it is looked whether the peer has everything
		s.failf("%d: both sides have finished, and it is open", m.n)
	case size > 0 && !c.Full() && (!c.Retry() || c.Armed == 0):
		s.failf("%d: forgets %d bytes", m.n, size)
	case size > 0 && c.Full() && s.limits.Write > 0 && c.Armed == 0:
		s.failf("%d: forgets WriteTimeout", m.n)
	case size > 0 && c.Full() && s.limits.Write > 0 && c.Armed > max(c.Stuck+s.limits.Write, s.loop.Now()+time.Second/2):
		s.failf("%d: WriteTimeout is late", m.n)
	case m.broken && !c.Untold() && err != nil && !m.paused && !c.Reads && (m.rate == nil || m.rate.End):
		s.failf("%d: what was received before the connection failed is not read", m.n)
	case m.broken && !c.Untold() && m.paused && s.limits.Linger > 0 && c.Armed == 0:
		s.failf("%d: a failed connection is held for ever", m.n)
	case err != nil && size > 0 && s.limits.Drain > 0 && c.Armed == 0:
		s.failf("%d: forgets DrainTimeout", m.n)
	case m.queued() > s.limits.SoftLimit && s.limits.SoftLimit > 0 && c.Armed == 0:
		s.failf("%d: forgets the soft limit", m.n)
	case err == nil && c.Reads && size == 0 && !m.halved && m.silence() > 0 && c.Armed == 0:
		s.failf("%d: forgets that the peer is silent", m.n)
	case m.marked && !h.Waits && m.accepts():
		s.failf("%d: forgets OnWritable(false)", m.n)
	case h.Waits && m.backlog() < s.limits.LowWater && m.accepts():
		s.failf("%d: forgets OnWritable(true) with a backlog of %d bytes", m.n, m.backlog())
	case m.ending && size == 0 && !c.FINSent:
		s.failf("%d: forgets the end", m.n)
	case c.FINSent && err != nil && s.limits.Linger > 0 && c.Armed == 0:
		s.failf("%d: forgets LingerTimeout", m.n)
	case err != nil && !c.Reads && m.ending && c.Wants()&testkit.FIN == 0 && !m.fin:
		s.failf("%d: draining and not reading", m.n)
	case m.halved: // there is nothing to read
	case err == nil && m.paused && c.Reads:
		s.failf("%d: reads while paused", m.n)
	case err == nil && s.limits.PauseAbove > 0 && m.queued() > s.limits.PauseAbove && c.Reads: // S7
		s.failf("%d: reads with %d bytes waiting", m.n, size)
	case err == nil && !m.paused && !c.Reads && m.rate != nil && !m.rate.End && c.Armed > 0: // it waits for tokens
		s.stats.waits++
	case err == nil && !m.paused && !c.Reads && (s.limits.PauseAbove <= 0 || m.queued() < max(s.limits.PauseAbove/2, 1)):
		s.failf("%d: does not read with %d bytes waiting", m.n, size)
	}
}

// atRest: closed, or open with nothing to do.
func (m *simSession) atRest() {
	s, c := m.sim, m.c
	switch {
	case c.Ended:
	case c.Closed || c.Wants() != 0:
		s.failf("%d: closed %t, wants %b at rest", m.n, c.Closed, c.Wants())
	case m.h.Pending() > 0:
		s.failf("%d: %d bytes wait at rest", m.n, m.h.Pending())
	case m.layer != nil && !m.layer.answered():
		s.failf("%d: a probe is not answered at rest", m.n)
	case m.ran != m.posted:
		s.failf("%d: %d of %d posts ran", m.n, m.ran, m.posted)
	case m.h.Err() == nil && !m.paused && !m.layer.cut() && m.got < len(m.sent):
		s.failf("%d: OnRecv brought %d of %d bytes", m.n, m.got, len(m.sent))
	case m.h.Err() == nil && !m.paused && m.garbled && !m.layer.cut():
		s.failf("%d: garbage goes unnoticed", m.n)
	case m.nextTimer() > 0:
		s.failf("%d: a timer waits at rest", m.n)
	case m.h.Err() == nil && m.closed && !m.finished:
		s.failf("%d: open, but Send said ErrClosed", m.n)
	case m.h.Err() != nil && !c.FINSent && !(m.broken && m.paused):
		s.failf("%d: ends for ever: %v", m.n, m.h.Err())
	}
}

// atEnd: how it ended is what its reason says.
func (m *simSession) atEnd() {
	s, c, err := m.sim, m.c, m.h.Err()
	if !c.Ended || m.h.Over != 1 || m.ran != m.posted {
		s.failf("%d: done %t, %d OnDisconnected, %d of %d posts ran at the end", m.n, c.Ended, m.h.Over, m.ran, m.posted)
		return
	}
	is := func(of ...error) bool {
		for _, e := range of {
			if errors.Is(err, e) {
				return true
			}
		}
		return false
	}
	late := is(session.ErrDrainTimeout, session.ErrWriteStall)
	cut := late || m.cutShort || is(session.ErrAborted, session.ErrSendLimit, session.ErrRecvRate, frame.ErrMalformed)
	broken := is(session.ErrPeerReset)
	s.stats.bytesOut += c.Took
	if late || is(session.ErrIdle) {
		s.stats.timeouts++
	}
	if len(c.Switched) > 0 {
		s.stats.pauses++
	}
	switch {
	case is(session.ErrSendBudget):
		s.stats.budget++
	case is(session.ErrSendLimit) && strings.Contains(err.Error(), "soft limit"):
		s.stats.soft++
	case is(session.ErrRecvRate):
		s.stats.rate++
	case is(frame.ErrMalformed):
		s.stats.garbled++
	}
	switch {
	case err == nil:
		s.failf("%d: ended without a reason", m.n)
	case m.failing != is(session.ErrPanic):
		s.failf("%d: failed %t, Err %v", m.n, m.failing, err)
	case broken && !m.broken, c.WasReset && !cut && !(m.aborted && m.broken), // an Abort may follow the peer's reset
		cut && !c.WasReset && !m.broken && !c.FINSent && !(m.fin && m.taken == len(m.wire)): // an Abort may come when all is over
		s.failf("%d: reset by us %t, by the peer %t, Err %v", m.n, c.WasReset, m.broken, err)
	case broken && errors.Is(c.Driver.Reason(), session.ErrPeerReset) && !cut && !m.ending && !m.stopped && !m.failing && !m.mayMiss && !m.garbled && !m.layer.cut() && m.got != len(m.sent): // E2c
		s.failf("%d: OnRecv brought %d of %d bytes before the reset", m.n, m.got, len(m.sent))
	case cut || broken:
		s.stats.resets++
	case is(frame.ErrMalformed) && !m.garbled:
		s.failf("%d: no garbage was sent, Err %v", m.n, err)
	case m.taken != len(m.wire): // E1, E2
		s.failf("%d: %d of %d accepted bytes left before an orderly end, Err %v", m.n, m.taken, len(m.wire), err)
	case m.layer != nil && !m.layer.endsWell(err):
	case is(session.ErrPeerClosed, session.ErrTruncated) && !m.layer.cut() && m.got != len(m.sent):
		s.failf("%d: OnRecv brought %d of %d bytes before the peer's FIN", m.n, m.got, len(m.sent))
	default:
		s.stats.orderly++
	}
}
