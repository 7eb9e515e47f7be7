package session

import (
	"math"
	"time"
)

// Tally is what one session has carried. Bytes are those of the connection: what frames and layers add is in them.
type Tally struct {
	Listener     string        // the name of its Loop: of the listener that has accepted it
	Opened       time.Duration // when it was bound, on the clock of Transport.Now
	Active       time.Duration // when bytes came or were taken last, to within a step of Loop.Recent; Opened if none were
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
		Active:      max(s.active, s.opened),
		BytesIn:     s.bytesIn,
		BytesOut:    s.bytesOut,
		MessagesIn:  s.messagesIn,
		MessagesOut: s.messagesOut + uint64(s.messages),
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

// noteInput adds what has come in since the last call. The loop counts that without a lock, and takes mu for other reasons soon afterwards. The
// caller is the loop and holds mu.
func (s *Session) noteInput() {
	if s.arrived > 0 {
		s.bytesIn += uint64(s.arrived)
		s.active = s.loop.recent()
		s.arrived = 0
	}
	s.messagesIn += uint64(s.delivered)
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
	s.messagesOut += uint64(n)
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

// maxSampled is the most bytes in front of a sample that are counted. A longer queue is not sampled.
const maxSampled = math.MaxInt32 - 1

// isSampled reports whether the Send that was counted last is to be timed. Sessions of different numbers begin at different Sends, so that those
// who send little are timed too. The caller holds mu.
func (s *Session) isSampled() bool {
	return (uint32(s.messagesOut)+s.messages+uint32(s.id))%sampledEvery == 0 && s.sampleLeft == 0
}

// startSample times what is at the end of the queue. The caller holds mu.
func (s *Session) startSample() {
	if n := s.q.Size(); n <= maxSampled {
		s.sampleLeft, s.sampledAt = uint32(n)+1, sampleTime(s.conn.Now())
	}
}

// sampleTime is a time in microseconds. It begins anew after 71 minutes.
func sampleTime(now time.Duration) uint32 { return uint32(now / time.Microsecond) }

// passSample notes that n bytes have left the queue, to the kernel or to the wire of a layer: one is left of the sample when all of it has. The
// caller holds mu.
func (s *Session) passSample(n int) {
	if s.sampleLeft > 1 {
		s.sampleLeft -= min(uint32(min(n, maxSampled)), s.sampleLeft-1)
	}
}

// takeSample returns whether the sample has left, and when it was queued. The caller holds mu.
func (s *Session) takeSample(l *layered) (sampledAt uint32, left bool) {
	if s.sampleLeft != 1 || l != nil && l.wire.Size() > 0 {
		return 0, false
	}
	s.sampleLeft = 0
	return s.sampledAt, true
}

// recordSample records how long a sample has waited.
func (s *Session) recordSample(sampledAt uint32) {
	waited := sampleTime(s.conn.Now()) - sampledAt
	s.loop.QueueDelay.Record(time.Duration(waited) * time.Microsecond)
}
