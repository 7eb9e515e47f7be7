package session

import (
	"math"
	"time"
)

// Tally is what one session has carried. Bytes are those of the connection: what frames and layers add is in them.
type Tally struct {
	Listener     string        // the name of its Loop: of the listener that has accepted it
	Opened       time.Duration // when it was bound, on the clock of Transport.Now
	Active       time.Duration // when bytes came or were taken last, to within a step of Loop.Recent and activeStep; Opened if none were
	BytesIn      uint64        // received, discarded input included
	BytesOut     uint64        // taken by the kernel
	BytesDropped uint64        // accepted by Send, and kept from leaving by the end
	MessagesIn   uint64        // calls of OnRecv and OnText
	MessagesOut  uint64        // Sends accepted
	Pending      int           // as of Session.Pending
	Paused       bool          // PauseRecv without ResumeRecv
	Ending       bool          // its end was decided
	Slow         bool          // bytes wait, and the kernel has not taken all that it was offered last
}

// Tally returns what the session has carried up to now. It takes the session's lock for some 50 ns. Any goroutine, after Bind.
func (d *Driver) Tally() Tally {
	s := (*Session)(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := Tally{
		Listener:    s.loop.Name,
		Opened:      s.opened,
		Active:      max(s.active.time(), s.opened),
		BytesIn:     s.total(bytesIn),
		BytesOut:    s.total(bytesOut),
		MessagesIn:  s.total(messagesIn),
		MessagesOut: s.total(messagesOut) + uint64(s.messages),
		Pending:     s.pending(),
		Paused:      s.paused.Load(),
		Ending:      s.ending || s.isClosed(),
		Slow:        s.blocked && s.queued() > 0,
	}
	if r := s.rare.Load(); r != nil {
		t.BytesDropped = uint64(r.dropped.Load())
	}
	return t
}

// total is a number that a session counts. Each is 64 bits wide: the lower half is in Session.totals, and the upper half, which few sessions ever need,
// in slow.carries.
type total uint8

const (
	bytesIn total = iota
	bytesOut
	messagesIn
	messagesOut
	totals // how many there are
)

// addTotal adds n. The caller holds mu.
func (s *Session) addTotal(t total, n uint32) {
	s.totals[t] += n
	if s.totals[t] < n {
		s.ensureSlow().carries[t]++
	}
}

// total returns what was added. The caller holds mu.
func (s *Session) total(t total) uint64 {
	n := uint64(s.totals[t])
	if w := s.slow(); w != nil {
		n += uint64(w.carries[t]) << 32
	}
	return n
}

// activeTime is a time on the clock of Transport.Now in steps of 67 ms. It begins anew after nine years.
type activeTime uint32

const activeStep = 1 << 26 // nanoseconds

func activeAt(t time.Duration) activeTime { return activeTime(t / activeStep) }

func (t activeTime) time() time.Duration { return time.Duration(t) * activeStep }

// recent returns Loop.Recent, or the time if nobody keeps that up to date for now.
func (s *Session) recent() time.Duration {
	if t := s.loop.Recent.Load(); t >= 0 {
		return time.Duration(t)
	}
	return s.conn.Now()
}

// noteInput adds what has come in since the last call. The loop counts that without a lock, and takes mu for other reasons soon afterwards. The
// caller is the loop and holds mu.
func (s *Session) noteInput() {
	if s.arrived > 0 {
		s.addTotal(bytesIn, s.arrived)
		s.active = activeAt(s.recent())
		s.arrived = 0
	}
	s.addTotal(messagesIn, s.delivered)
	s.delivered = 0
}

// noteDiscarded counts n bytes that are received after the decision to end, which no look may follow.
func (s *Session) noteDiscarded(n int) {
	s.mu.Lock()
	s.arrived += uint32(n)
	s.noteInput()
	s.mu.Unlock()
}

// takeMessages returns how many Sends were accepted since the last call. The caller is the loop and holds mu.
func (s *Session) takeMessages() int {
	n := s.messages
	s.messages = 0
	s.addTotal(messagesOut, n)
	return int(n)
}

// countDropped counts n bytes that were accepted by Send and will not leave.
func (s *Session) countDropped(n int) {
	if n > 0 {
		s.loop.Counters.BytesDropped.Add(n)
		r := s.ensureRare() // 4 GiB at the most: a queue that long has ended the process before
		r.dropped.Store(uint32(min(uint64(r.dropped.Load())+uint64(n), math.MaxUint32)))
	}
}

// The queue delay is the time from a Send to when the kernel has taken its last byte. It is sampled: in each session one Send of sampledEvery, and
// none while the sample before it is in the queue. A clock is read for a sample only.

// sampledEvery is how many Sends there are for one that is timed. Reading the clock twice is a few per cent of what one Send costs.
const sampledEvery = 256

// isSampled reports whether the Send that was counted last is to be timed. Sessions of different numbers begin at different Sends, so that those
// who send little are timed too. The caller holds mu.
func (s *Session) isSampled() bool {
	if (s.totals[messagesOut]+s.messages+uint32(s.id))%sampledEvery != 0 || s.q.Marked() {
		return false
	}
	l := s.layered()
	return l == nil || !l.wire.Marked()
}

// startSample times what is at the end of the queue: a mark there, and in the wire of a layer that seals it, says when that was queued. The caller holds mu.
func (s *Session) startSample() { s.q.Mark(sampleTime(s.conn.Now())) }

// sampleTime is a time in microseconds. It begins anew after 71 minutes.
func sampleTime(now time.Duration) uint32 { return uint32(now / time.Microsecond) }

// recordSample records how long a sample has waited.
func (s *Session) recordSample(sampledAt uint32) {
	waited := sampleTime(s.conn.Now()) - sampledAt
	s.loop.QueueDelay.Record(time.Duration(waited) * time.Microsecond)
}
