package engine

import (
	"time"

	"github.com/servercore-go/servercore/session"
)

// Stats is a snapshot of an engine's counters. Each figure is exact; figures of a busy engine are read one after
// the other and need not belong to the same instant. Counters grow from New on and are never reset.
type Stats struct {
	Sessions     int     // connections admitted and not yet done, those on their way to their loop, being dialled, with their PROXY header or handshake outstanding, or served by net/http included
	MaxSessions  int     // the bound in force, 0 before Start or if there is none
	Accepted     uint64  // sessions of listeners and of Upgrade that got OnConnected
	Dialed       uint64  // sessions of Dial, and those that followed them, that got OnConnected
	Refused      Refused // connections closed without any callback
	AcceptErrors uint64  // errors of accept(2), and of keeping a descriptor in reserve
	DialErrors   uint64  // attempts to connect, those of Reconnect included, that brought no session, or one that Dial did not wait for
	Working      int     // workers of Offload that are serving a session
	Waiting      int     // sessions that are due and wait for one
	Queued       int     // bytes that count for SendBudget: the memory of what is queued, and not on its way out of a callback; 0 without it
	LogDropped   uint64  // log records that were not written: 256 waited for Options.Logger, or its handler panicked
	Total        LoopStats
	Loops        []LoopStats
}

// Refused counts connections that did not become sessions, by cause.
type Refused struct {
	Full        uint64 // MaxSessions; a Dial that finds it reached does not even connect
	Descriptors uint64 // shed because the process or the system ran out of descriptors
	Factory     uint64 // the factory returned nil or a used handler, or panicked
	Closing     uint64 // the engine is shutting down, or the loop has failed
	Failed      uint64 // the event loop could not take it
	Denied      uint64 // Rules.Allow and Rules.Deny
	PerAddress  uint64 // Rules.MaxPerAddress
	AcceptRate  uint64 // Rules.AcceptRate
	Admit       uint64 // the function given to Admit returned an error, or panicked
	Untrusted   uint64 // none of the proxies that ProxyProtocol names
	ProxyHeader uint64 // a PROXY header that was malformed or too large, or ended before it was whole
	ProxyLate   uint64 // a PROXY header that did not come in time
	Handshake   uint64 // the handshake of a layer failed

	HandshakeLate uint64 // it was not done within Options.HandshakeTimeout
}

// Sum returns the refusals of every cause.
func (r Refused) Sum() uint64 {
	return r.Full + r.Descriptors + r.Factory + r.Closing + r.Failed + r.Denied + r.PerAddress + r.AcceptRate + r.Admit +
		r.Untrusted + r.ProxyHeader + r.ProxyLate + r.Handshake + r.HandshakeLate
}

// LoopStats are the counters of one event loop, or their sum.
type LoopStats struct {
	Sessions     int           // open sessions
	BytesIn      uint64        // read from connections, discarded input and what frames add included
	BytesOut     uint64        // taken by the kernel, what frames add included
	BytesDropped uint64        // accepted by Send, lost with the end of their session
	BytesUnacked uint64        // of BytesOut, not acknowledged by the peer when its session was ended with a reset of ours; 0 where the system does not tell
	MessagesIn   uint64        // calls of OnRecv and OnText
	MessagesOut  uint64        // Sends accepted, counted when their session is next flushed
	Writes       uint64        // gathered writes that took bytes: calls of OnSend, but for writes that completed no packet
	WouldBlock   uint64        // gathered writes that found the kernel full (EAGAIN)
	WakeUps      uint64        // times the loop was woken for what other goroutines asked of its sessions
	Pauses       uint64        // times the reading of a session was stopped
	Stalls       uint64        // callbacks that held the loop for longer than StallWarning
	Stalled      time.Duration // how long they did in all, to about a quarter of StallWarning for each; those that last are not in yet
	Ended        Ended
}

// Ended counts sessions that ended, by the gravest reason their Err matches.
type Ended struct {
	PeerClosed, PeerReset, Disconnected, Aborted, SendLimit, SendBudget, RecvRate, Idle, WriteStall, DrainTimeout, Panic, Shutdown uint64

	Other uint64 // a reason given to DisconnectWith
}

// Stats returns the counters as they are now. It costs some 26 atomic reads per loop. Any goroutine, at any
// time.
func (e *Engine) Stats() Stats {
	s := Stats{
		Sessions: int(e.sessions.Load()),
		Accepted: e.accepted.Load(),
		Dialed:   e.dialed.Load(),
		Refused: Refused{
			Full:        e.refused.full.Load(),
			Descriptors: e.refused.descriptors.Load(),
			Factory:     e.refused.factory.Load(),
			Closing:     e.refused.closing.Load(),
			Failed:      e.refused.failed.Load(),
			Denied:      e.refused.denied.Load(),
			PerAddress:  e.refused.perAddress.Load(),
			AcceptRate:  e.refused.acceptRate.Load(),
			Admit:       e.refused.admit.Load(),
			Untrusted:   e.refused.untrusted.Load(),
			ProxyHeader: e.refused.header.Load(),
			ProxyLate:   e.refused.late.Load(),
			Handshake:   e.refused.handshake.Load(),

			HandshakeLate: e.refused.handshakeLate.Load(),
		},
		AcceptErrors: e.acceptErrors.Load(),
		DialErrors:   e.dialErrors.Load(),
		Working:      int(e.offloaded.Working.Load()),
		Waiting:      int(e.offloaded.Waiting.Load()),
		Queued:       e.budget.Held(),
		LogDropped:   e.log.Dropped(),
	}
	if e.mu.Lock(); e.state != fresh {
		s.MaxSessions = max(e.maxSessions, 0)
		s.Loops = make([]LoopStats, len(e.loops))
	}
	loops := e.loops
	e.mu.Unlock()
	for i := range s.Loops {
		s.Loops[i] = loops[i].stats()
		s.Total.Add(s.Loops[i])
	}
	return s
}

func (l *loop) stats() LoopStats {
	s := LoopStatsOf(&l.shared.Counters)
	s.Sessions, s.WakeUps = l.Len(), l.WakeUps()
	s.Stalls, s.Stalled = l.stalls.Load(), time.Duration(l.stalled.Load())
	return s
}

// LoopStatsOf returns what the counters of a loop's sessions tell: all but Sessions, WakeUps, Stalls and Stalled. It is for event loops other
// than the engine's, such as those of package ongnet.
func LoopStatsOf(c *session.Counters) LoopStats {
	ended := func(cause session.Cause) uint64 { return c.Ended[cause].Load() }
	return LoopStats{
		BytesIn:      c.BytesIn.Load(),
		BytesOut:     c.BytesOut.Load(),
		BytesDropped: c.BytesDropped.Load(),
		BytesUnacked: c.BytesUnacked.Load(),
		MessagesIn:   c.MessagesIn.Load(),
		MessagesOut:  c.MessagesOut.Load(),
		Writes:       c.Writes.Load(),
		WouldBlock:   c.WouldBlock.Load(),
		Pauses:       c.Pauses.Load(),
		Ended: Ended{
			PeerClosed:   ended(session.CausePeerClosed),
			PeerReset:    ended(session.CausePeerReset),
			Disconnected: ended(session.CauseDisconnected),
			Aborted:      ended(session.CauseAborted),
			SendLimit:    ended(session.CauseSendLimit),
			SendBudget:   ended(session.CauseSendBudget),
			RecvRate:     ended(session.CauseRecvRate),
			Idle:         ended(session.CauseIdle),
			WriteStall:   ended(session.CauseWriteStall),
			DrainTimeout: ended(session.CauseDrainTimeout),
			Panic:        ended(session.CausePanic),
			Shutdown:     ended(session.CauseShutdown),
			Other:        ended(session.CauseOther),
		},
	}
}

// Add adds each figure of o.
func (s *LoopStats) Add(o LoopStats) {
	s.Sessions += o.Sessions
	s.BytesIn += o.BytesIn
	s.BytesOut += o.BytesOut
	s.BytesDropped += o.BytesDropped
	s.BytesUnacked += o.BytesUnacked
	s.MessagesIn += o.MessagesIn
	s.MessagesOut += o.MessagesOut
	s.Writes += o.Writes
	s.WouldBlock += o.WouldBlock
	s.WakeUps += o.WakeUps
	s.Pauses += o.Pauses
	s.Stalls += o.Stalls
	s.Stalled += o.Stalled
	e, f := &s.Ended, o.Ended
	e.PeerClosed += f.PeerClosed
	e.PeerReset += f.PeerReset
	e.Disconnected += f.Disconnected
	e.Aborted += f.Aborted
	e.SendLimit += f.SendLimit
	e.SendBudget += f.SendBudget
	e.RecvRate += f.RecvRate
	e.Idle += f.Idle
	e.WriteStall += f.WriteStall
	e.DrainTimeout += f.DrainTimeout
	e.Panic += f.Panic
	e.Shutdown += f.Shutdown
	e.Other += f.Other
}
