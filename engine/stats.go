package engine

import (
	"time"

	"github.com/servercore-go/servercore/internal/histogram"
	"github.com/servercore-go/servercore/session"
)

// Stats is a snapshot of an engine's counters. Each figure is exact; figures of a busy engine are read one after
// the other and need not belong to the same instant. Counters grow from New on and are never reset.
//
// Each field is declared here and nowhere else: its tags are the name that Prometheus has for it, and what it means. Metrics and Samples read
// them. The name tells the unit (_seconds, _bytes) and the kind (_total: a counter). A tag label says which label tells the elements apart.
type Stats struct {
	Sessions     int     `metric:"servercore_sessions" help:"Connections admitted and not yet done, those on their way to their loop, being dialled, with their PROXY header or handshake outstanding, or served by net/http included."`
	MaxSessions  int     `metric:"servercore_sessions_max" help:"The bound of open sessions in force, 0 before Start or if there is none."`
	Accepted     uint64  `metric:"servercore_accepted_sessions_total" help:"Sessions of listeners and of Upgrade that got OnConnected."`
	Dialed       uint64  `metric:"servercore_dialed_sessions_total" help:"Sessions of Dial, and those that followed them, that got OnConnected."`
	Refused      Refused `metric:"servercore_refused_connections_total" label:"cause" help:"Connections closed without any callback, by cause."`
	AcceptErrors uint64  `metric:"servercore_accept_errors_total" help:"Errors of accept(2), and of keeping a descriptor in reserve."`
	DialErrors   uint64  `metric:"servercore_dial_errors_total" help:"Attempts to connect, those of Reconnect included, that brought no session, or one that Dial did not wait for."`
	Working      int     `metric:"servercore_offload_workers_busy" help:"Workers of Offload that are serving a session."`
	Waiting      int     `metric:"servercore_offload_sessions_waiting" help:"Sessions that are due and wait for a worker of Offload."`
	Queued       int     `metric:"servercore_send_budget_used_bytes" help:"Bytes that count for SendBudget: the memory of what is queued, and not on its way out of a callback; 0 without it."`
	LogDropped   uint64  `metric:"servercore_log_dropped_records_total" help:"Log records that were not written: 256 waited for Options.Logger, or its handler panicked."`

	QueueDelay Histogram `metric:"servercore_queue_delay_seconds" help:"Time from Send to when the kernel has taken its last byte. One Send of 256 in each session is timed."`

	Total     LoopStats       `metric:"-"` // the sum of Loops
	Loops     []LoopStats     `label:"loop"`
	Listeners []ListenerStats `label:"listener"` // in the order of Listen; none before Start
	Callbacks []CallbackStats `label:"callback"` // those that were called
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
	Sessions     int           `metric:"servercore_loop_sessions" help:"Open sessions."`
	BytesIn      uint64        `metric:"servercore_loop_received_bytes_total" help:"Bytes read from connections, discarded input and what frames add included."`
	BytesOut     uint64        `metric:"servercore_loop_sent_bytes_total" help:"Bytes taken by the kernel, what frames add included."`
	BytesDropped uint64        `metric:"servercore_loop_dropped_bytes_total" help:"Bytes accepted by Send, lost with the end of their session."`
	BytesUnacked uint64        `metric:"servercore_loop_unacknowledged_bytes_total" help:"Of the bytes sent, those that the peer had not acknowledged when its session was ended with a reset of ours; 0 where the system does not tell."`
	MessagesIn   uint64        `metric:"servercore_loop_received_messages_total" help:"Calls of OnRecv and OnText."`
	MessagesOut  uint64        `metric:"servercore_loop_sent_messages_total" help:"Sends accepted, counted when their session is next flushed."`
	Writes       uint64        `metric:"servercore_loop_writes_total" help:"Gathered writes that took bytes: calls of OnSend, but for writes that completed no packet."`
	WouldBlock   uint64        `metric:"servercore_loop_blocked_writes_total" help:"Gathered writes that found the kernel full (EAGAIN)."`
	WakeUps      uint64        `metric:"servercore_loop_wakeups_total" help:"Times the loop was woken for what other goroutines asked of its sessions."`
	Pauses       uint64        `metric:"servercore_loop_read_pauses_total" help:"Times the reading of a session was stopped."`
	Stalls       uint64        `metric:"servercore_loop_stalls_total" help:"Callbacks that held the loop for longer than StallWarning."`
	Stalled      time.Duration `metric:"servercore_loop_stalled_seconds_total" help:"How long stalls held the loop in all, to about a quarter of StallWarning for each; those that last are not in yet."`
	Unresponsive time.Duration `metric:"servercore_loop_unresponsive_seconds" help:"How long the loop has not looked at a probe by now, 0 if none waits. A loop is probed ten times a second while it runs callbacks, once a second otherwise."`
	Lag          Histogram     `metric:"servercore_loop_lag_seconds" help:"How late the loop looked at a probe. A loop is probed ten times a second while it runs callbacks, once a second otherwise."`
	Ended        Ended         `metric:"servercore_loop_ended_sessions_total" label:"reason" help:"Sessions that ended, by the gravest reason their Err matches."`
}

// Ended counts sessions that ended, by the gravest reason their Err matches.
type Ended struct {
	PeerClosed, PeerReset, Disconnected, Aborted, SendLimit, SendBudget, RecvRate, Idle, WriteStall, DrainTimeout, Panic, Shutdown uint64

	Other uint64 // a reason given to DisconnectWith
}

// ListenerStats are the counters of one listener.
type ListenerStats struct {
	// Listener is the network and the address listened on, as in tcp://127.0.0.1:7777 or unix:///run/a.sock. It is the same from Start on. Of several
	// that listen on the same socket, the second has #2 at the end, and so on.
	Listener string `metric:"label"`

	Listening    int     `metric:"servercore_listener_listening" help:"1 while the listener listens, 0 after its Close and during Shutdown."`
	Accepted     uint64  `metric:"servercore_listener_accepted_sessions_total" help:"Sessions of the listener that got OnConnected."`
	Refused      Refused `metric:"servercore_listener_refused_connections_total" label:"cause" help:"Connections of the listener closed without any callback, by cause."`
	Sessions     int     `metric:"servercore_listener_sessions" help:"Open sessions of the listener, from OnConnected on."`
	BytesIn      uint64  `metric:"servercore_listener_received_bytes_total" help:"Bytes read from connections of the listener, discarded input and what frames add included."`
	BytesOut     uint64  `metric:"servercore_listener_sent_bytes_total" help:"Bytes of the listener's sessions taken by the kernel, what frames add included."`
	BytesDropped uint64  `metric:"servercore_listener_dropped_bytes_total" help:"Bytes accepted by Send, lost with the end of their session of the listener."`
	MessagesIn   uint64  `metric:"servercore_listener_received_messages_total" help:"Calls of OnRecv and OnText of the listener's sessions."`
	MessagesOut  uint64  `metric:"servercore_listener_sent_messages_total" help:"Sends of the listener's sessions accepted, counted when their session is next flushed."`
	Ended        Ended   `metric:"servercore_listener_ended_sessions_total" label:"reason" help:"Sessions of the listener that ended, by the gravest reason their Err matches."`
}

// CallbackStats are the times of one kind of callback. With StallWarning off there are none.
type CallbackStats struct {
	Callback string    `metric:"label"` // "OnRecv", "Post", "Factory", ...
	Times    Histogram `metric:"servercore_callback_seconds" help:"How long callbacks take: one in sixteen is timed, and every stall besides."`
}

// Stats returns the counters as they are now. It costs some two thousand atomic reads per loop, 10 to 20 microseconds, waits for nobody, and
// disturbs no loop. Any goroutine, at any time.
func (e *Engine) Stats() Stats {
	s := Stats{
		Sessions:     int(e.sessions.Load()),
		Accepted:     e.accepted.Load(),
		Dialed:       e.dialed.Load(),
		Refused:      e.refused.read(),
		AcceptErrors: e.acceptErrors.Load(),
		DialErrors:   e.dialErrors.Load(),
		Working:      int(e.offloaded.Working.Load()),
		Waiting:      int(e.offloaded.Waiting.Load()),
		Queued:       e.budget.Held(),
		LogDropped:   e.log.Dropped(),
	}
	r := e.live.Load()
	if r == nil {
		return s
	}
	s.MaxSessions = max(r.maxSessions, 0)
	s.Loops = make([]LoopStats, len(r.loops))
	s.Listeners = make([]ListenerStats, len(r.listeners))
	for i, l := range r.loops {
		s.Loops[i] = l.stats()
		s.Total.Add(s.Loops[i])
		s.QueueDelay.add(&l.shared.QueueDelay)
	}
	for i, l := range r.listeners {
		s.Listeners[i] = l.stats(r.loops)
	}
	s.Callbacks = callbackStats(r.loops)
	return s
}

func (l *loop) stats() LoopStats {
	s := LoopStatsOf(&l.shared.Counters)
	for _, part := range l.parts {
		s.Add(LoopStatsOf(&part.Counters))
	}
	s.Sessions, s.WakeUps = l.Len(), l.WakeUps()
	s.Stalls, s.Stalled = l.stalls.Load(), time.Duration(l.stalled.Load())
	s.Unresponsive = l.probe.Waiting(l.Now())
	s.Lag.add(l.probe.Lags())
	return s
}

// stats returns the counters of a listener: the sum of its parts of all loops.
func (l *Listener) stats(loops []*loop) ListenerStats {
	c := l.origin.counts
	var sum LoopStats
	for _, lp := range loops {
		sum.Add(LoopStatsOf(&lp.part(&l.origin).Counters))
	}
	s := ListenerStats{
		Listener:     c.name,
		Accepted:     c.accepted.Load(), // after the sessions that have ended: none is counted there and not here
		Refused:      c.refused.read(),
		BytesIn:      sum.BytesIn,
		BytesOut:     sum.BytesOut,
		BytesDropped: sum.BytesDropped,
		MessagesIn:   sum.MessagesIn,
		MessagesOut:  sum.MessagesOut,
		Ended:        sum.Ended,
	}
	s.Sessions = int(s.Accepted - sum.Ended.sum())
	if l.bound.Load() {
		s.Listening = 1
	}
	return s
}

// sum returns the sessions that ended, for whatever reason.
func (e Ended) sum() uint64 {
	return e.PeerClosed + e.PeerReset + e.Disconnected + e.Aborted + e.SendLimit + e.SendBudget + e.RecvRate + e.Idle + e.WriteStall +
		e.DrainTimeout + e.Panic + e.Shutdown + e.Other
}

// callbackStats returns the times of the callbacks that were timed.
func callbackStats(loops []*loop) (list []CallbackStats) {
	for kind := range session.Callbacks {
		s := CallbackStats{Callback: kind.String()}
		for _, l := range loops {
			s.Times.add(&l.shared.Times[kind])
		}
		if s.Times.Count() > 0 {
			list = append(list, s)
		}
	}
	return list
}

// Histogram counts durations, in buckets whose bounds are the same for all: powers of two, from 1,024 ns to 17 s (HistogramBounds).
type Histogram struct {
	Buckets [26]uint64 // what is less than its bound, and not less than the one before; the last has no bound
	Sum     time.Duration
}

// HistogramBounds returns the upper bounds of the buckets of a Histogram, all but the last, which has none.
func HistogramBounds() []time.Duration {
	bounds := make([]time.Duration, histogram.Octaves)
	for i := range bounds {
		bounds[i] = histogram.OctaveBound(i)
	}
	return bounds
}

// Count returns how many durations were counted.
func (h Histogram) Count() (n uint64) {
	for _, b := range h.Buckets {
		n += b
	}
	return n
}

// add adds what was recorded.
func (h *Histogram) add(from *histogram.Histogram) { h.Sum += from.Coarse(&h.Buckets) }
