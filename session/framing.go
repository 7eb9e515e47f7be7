package session

import (
	"sync"

	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/internal/reassembly"
	"github.com/servercore-go/servercore/internal/sendqueue"
	"github.com/servercore-go/servercore/pool"
)

// Framing is a framer that sessions share. A Broadcast frames its payload once for all of them.
type Framing struct {
	framer   frame.Framer // makes what is sent
	splitter frame.Framer // cuts what is received
	text     frame.Framer // makes what SendText sends, nil for framer
	sendOnly bool         // what is received is not cut: the layer has messages
}

// NewFraming returns a Framing for f. One is enough for all sessions of a listener.
func NewFraming(f frame.Framer) *Framing { return &Framing{framer: f, splitter: f} }

// NewSendFraming returns a Framing for sessions whose layer has messages, as WebSocket does: f makes what is sent, and OnRecv gets what the
// layer's Open returns.
func NewSendFraming(f frame.Framer) *Framing { return NewMessageFraming(f, f) }

// NewMessageFraming is NewSendFraming for a layer whose messages are of two kinds: text makes those of SendText.
func NewMessageFraming(f, text frame.Framer) *Framing {
	return &Framing{framer: f, splitter: f, text: text, sendOnly: true}
}

// Carry returns a Framing whose packets, those of f, travel as a stream in the messages of m, which comes from NewSendFraming or
// NewMessageFraming: a packet is sent as one message, and received however the peer has cut it.
func (m *Framing) Carry(f frame.Framer) *Framing {
	return &Framing{framer: carrier{f, m.framer}, splitter: f}
}

// carrier makes messages of packets.
type carrier struct{ packets, messages frame.Framer }

// Append makes a packet of payload, and appends a message with it.
func (c carrier) Append(dst, payload []byte) ([]byte, error) {
	mem := framePool.Get().(*[]byte)
	defer framePool.Put(mem)
	packet, err := c.packets.Append((*mem)[:0], payload)
	if err != nil {
		return dst, err
	}
	if cap(packet) <= 2*pool.Large {
		*mem = packet
	}
	return c.messages.Append(dst, packet)
}

// Split is that of the packets.
func (c carrier) Split(data []byte) (packet []byte, n int, err error) { return c.packets.Split(data) }

// framed is what a session with a framer has besides. Its bytes travel in frames: OnRecv gets packets, and Send makes them. OnSend and Pending
// count payload, while the queue and SendLimit count what travels.
type framed struct {
	*Framing
	stream  reassembly.Stream // what has been received of the next packet; the loop's own
	packets sendqueue.Packets // the sizes of those queued; under mu
}

// framed returns what Bind has set, nil for a session of plain bytes. Any goroutine.
func (s *Session) framed() *framed {
	if r := s.rare.Load(); r != nil {
		return r.framed
	}
	return nil
}

// shared returns what the session shares with others, nil for plain bytes. f may be nil.
func (f *framed) shared() *Framing {
	if f == nil {
		return nil
	}
	return f.Framing
}

// held returns the memory of what describes the packets queued, in bytes. f may be nil.
func (f *framed) held() int {
	if f == nil {
		return 0
	}
	return f.packets.Held()
}

// usualHeader is room for what the framers of package frame add, in bytes. Another may need more: append grows.
const usualHeader = 16

// header returns how many bytes a frame is expected to add, 0 for plain bytes. f may be nil.
func (f *Framing) header() int {
	if f == nil {
		return 0
	}
	return usualHeader
}

// deliverPackets delivers the packets in data, and keeps the beginning of the next. It returns how many bytes it has consumed: less than all if
// reading was stopped on the way. lasting is as in deliver.
func (s *Session) deliverPackets(f *framed, data, lasting []byte) (consumed int) {
	scratch := s.conn.Scratch()
	s.mu.Lock()
	s.q.UseScratch(&scratch.send, lasting)
	s.mu.Unlock()
	for consumed < len(data) {
		ended, ready := s.readyForPacket()
		if ended {
			return len(data) // E1: discarded
		}
		if !ready {
			break
		}
		if !s.rateAllows(1) { // a packet is not cut: one may overdraw the bucket
			if s.rated().End {
				continue
			}
			break
		}
		packet, n, err := s.callSplit(f, data[consumed:])
		if err != nil {
			s.abort(checkReason(err))
			continue
		}
		consumed += n
		s.spendTokens(n, 0)
		if packet != nil {
			s.spendTokens(0, 1)
			s.loop.Counters.MessagesIn.Add(1)
			s.delivered++
			s.callRecv(packet)
			f.stream.Delivered()
		}
	}
	return consumed
}

// readyForPacket returns whether the end was decided, and whether the handler may be given another packet.
func (s *Session) readyForPacket() (ended, ready bool) {
	above := s.loop.Limits.PauseAbove
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ending || s.aborted, !s.paused.Load() && (above <= 0 || s.waiting() <= above)
}

// framePool lends memory for a packet on its way into the queue.
var framePool = sync.Pool{New: func() any { return new([]byte) }}

// sendFramed queues one packet.
func (s *Session) sendFramed(f *framed, payload []byte) error {
	return s.sendPacket(f, f.framer, payload)
}

// sendPacket queues one packet that framer makes, which is one of f.
func (s *Session) sendPacket(f *framed, framer frame.Framer, payload []byte) error {
	mem := framePool.Get().(*[]byte)
	wire, err := framer.Append((*mem)[:0], payload) // not under mu: the framer may be the application's (I3)
	if err != nil {
		framePool.Put(mem)
		if s.refusesSends() {
			return ErrClosed
		}
		return err
	}
	if cap(wire) <= 2*pool.Large { // 64 KiB and a header too
		*mem = wire
	}
	s.mu.Lock()
	if err = s.admit(len(wire), sendqueue.Ref{}, true); err != nil {
		s.mu.Unlock()
		s.afterRefusal(err)
	} else {
		s.q.Push(wire, s.room())
		f.packets.Add(len(wire), len(payload))
		s.afterSend(len(wire))
	}
	framePool.Put(mem)
	return err
}

// refusesSends reports whether Send takes nothing more.
func (s *Session) refusesSends() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.open
}
