package session

import (
	"fmt"
	"sync"

	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/pool"
)

// framed is what a session with a framer has besides. Its bytes travel in frames: OnRecv gets packets, Send makes them,
// and what content is told of (OnSend, Pending) are payloads, while the queue and SendLimit are about what travels.
type framed struct {
	*Framing

	// The loop's own.
	part    *pool.Buffer // the beginning of a packet, nil between packets
	whole   bool         // part has all of it: OnRecv has it
	scanned int          // bytes of part without the packet's end

	sizes *sizes // of the packets queued, nil if there are none; under mu
}

// Framing is a framer that sessions have in common: a Broadcast frames its payload once for all of them.
type Framing struct{ framer frame.Framer }

// NewFraming returns what sessions with this framer have in common.
func NewFraming(f frame.Framer) *Framing { return &Framing{f} }

// framing returns what Bind has set, nil for a session of plain bytes. Any goroutine.
func (s *Session) framing() *framed {
	if r := s.rare.Load(); r != nil {
		return r.framed
	}
	return nil
}

// shared returns what the session has in common with others, nil for plain bytes.
func (f *framed) shared() *Framing {
	if f == nil {
		return nil
	}
	return f.Framing
}

// header returns how many bytes a frame is expected to add, 0 for plain bytes.
func (f *Framing) header() int {
	if f == nil {
		return 0
	}
	return usualHeader
}

// usualHeader is room for what the framers of package frame add. Another may need more: append grows.
const usualHeader = 16

// feed delivers the packets in data and keeps the beginning of the next. It returns how much it has dealt with, which
// is less than all if reading was stopped on the way. lasting is as in deliver.
func (s *Session) feed(f *framed, data, lasting []byte) int {
	scratch := s.conn.Scratch()
	s.mu.Lock()
	s.q.lend(scratch, lasting)
	s.mu.Unlock()
	fed := 0
	for fed < len(data) {
		ended, hungry := s.appetite()
		if ended {
			return len(data) // E1: discarded
		}
		if !hungry {
			break
		}
		if !s.covers(1) { // a packet is not cut: one may overdraw the bucket
			if s.rated().End {
				continue
			}
			break
		}
		packet, n, err := s.callSplit(f, data[fed:])
		if err != nil {
			s.kill(sound(err))
			continue
		}
		fed += n
		s.spend(n, 0)
		if packet != nil {
			s.spend(0, 1)
			s.loop.Counters.MessagesIn.Add(1)
			s.callRecv(packet)
			f.delivered()
		}
	}
	return fed
}

// appetite tells whether the session has ended for its content, and whether it may be given another packet.
func (s *Session) appetite() (ended, hungry bool) {
	above := s.loop.Limits.PauseAbove
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ending || s.aborted, !s.paused.Load() && (above <= 0 || s.waiting() <= above)
}

// callSplit cuts the next packet out of data. The framer may be content's own.
func (s *Session) callSplit(f *framed, data []byte) (packet []byte, n int, err error) {
	defer s.contain()
	began := s.begin(CallSplit)
	packet, n, err = f.next(data)
	s.end(began)
	return packet, n, err
}

// least is the least that is added to a packet's beginning when its size is not known.
const least = 512

// next finds the first packet in what was kept and data behind it. n is how much of data it took; with a nil packet that
// is all of it, and the packet is not whole yet.
func (f *framed) next(data []byte) (packet []byte, n int, err error) {
	if f.part == nil {
		if packet, n, err = f.split(data); n == 0 && err == nil {
			f.part, f.scanned = pool.GetSize(len(data)), len(data)
			f.part.B = append(f.part.B, data...)
			n = len(data)
		}
		return packet, n, err
	}
	sizer, sized := f.framer.(frame.Sizer)
	for n < len(data) {
		had, want := len(f.part.B), 0
		if sized {
			want = sizer.SizeOf(f.part.B) - had
		}
		if want <= 0 { // not known: twice as much as there is, so that nothing is copied or searched often
			want = max(had, least)
		}
		f.keep(data[n:min(n+want, len(data))])
		packet, took, err := f.split(f.part.B)
		switch {
		case err != nil:
			return nil, n, err
		case took > had:
			f.whole = true
			return packet, n + took - had, nil
		case took > 0:
			return nil, n, fmt.Errorf("session: %T.Split found a packet of %d bytes where it had found none in %d: %w",
				f.framer, took, had, frame.ErrMalformed)
		}
		n += len(f.part.B) - had
		f.scanned = len(f.part.B)
	}
	return nil, n, nil
}

// split asks the framer and holds it to what it may answer. A whole packet is not nil.
func (f *framed) split(data []byte) (packet []byte, n int, err error) {
	if r, ok := f.framer.(frame.Resumer); ok {
		packet, n, err = r.SplitFrom(data, f.scanned)
	} else {
		packet, n, err = f.framer.Split(data)
	}
	switch {
	case err != nil:
		return nil, 0, err
	case n < 0 || n > len(data):
		return nil, 0, fmt.Errorf("session: %T.Split took %d of %d bytes: %w", f.framer, n, len(data), frame.ErrMalformed)
	case n == 0:
		return nil, 0, nil
	case packet == nil:
		packet = data[:0:0]
	}
	return packet, n, nil
}

// keep adds to the part. It grows with what has arrived, not with what a header promises.
func (f *framed) keep(data []byte) {
	if need := len(f.part.B) + len(data); need > cap(f.part.B) {
		larger := pool.GetSize(max(need, 2*len(f.part.B)))
		larger.B = append(larger.B, f.part.B...)
		f.part.Release()
		f.part = larger
	}
	f.part.B = append(f.part.B, data...)
}

// delivered follows an OnRecv: a packet that was kept is given up.
func (f *framed) delivered() {
	if f.whole {
		f.drop()
	}
}

func (f *framed) drop() {
	if f.part != nil {
		f.part.Release()
	}
	f.part, f.whole, f.scanned = nil, false, 0
}

// wires lend memory for a packet on its way into the queue.
var wires = sync.Pool{New: func() any { return new([]byte) }}

// sendFramed queues one packet.
func (s *Session) sendFramed(f *framed, payload []byte) error {
	mem := wires.Get().(*[]byte)
	wire, err := f.framer.Append((*mem)[:0], payload) // not under mu: it may be content's own
	if err != nil {
		wires.Put(mem)
		if s.closed() {
			return ErrClosed
		}
		return err
	}
	if cap(wire) <= pool.Large {
		*mem = wire
	}
	s.mu.Lock()
	if err = s.admit(len(wire), given{}, true); err != nil {
		s.mu.Unlock()
		if err == ErrSendLimit {
			s.tooSlow()
		}
	} else {
		s.q.push(wire, s.room())
		f.describe(len(wire), len(payload))
		s.queued(len(wire))
	}
	wires.Put(mem)
	return err
}

// closed reports whether Send takes nothing more.
func (s *Session) closed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.open
}
