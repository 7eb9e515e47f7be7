// Package reassembly cuts packets out of a stream that arrives in pieces. It holds a framer to its contract and copies no packet that
// arrives whole.
package reassembly

import (
	"fmt"

	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/pool"
)

// Stream keeps the beginning of a packet until the rest arrives. The zero value is between two packets. It belongs to one goroutine at a
// time.
//
// A caller calls Next for each packet, hands it on, and calls Delivered. At the end it calls Drop.
type Stream struct {
	part    *pool.Buffer // the beginning of a packet, nil between packets
	scanned int          // bytes of part in which the framer has found no end
	whole   bool         // part holds the whole packet, which Next has returned
}

// minGrowth is the least, in bytes, that is added to a packet's beginning while its size is not known.
const minGrowth = 512

// Next returns the first packet in what was kept and in data behind it, and how many bytes of data it has consumed. A nil packet means
// that the packet is not complete: all of data is consumed then. packet is valid until Delivered is called or data changes.
func (s *Stream) Next(f frame.Framer, data []byte) (packet []byte, consumed int, err error) {
	if s.part == nil {
		packet, consumed, err = s.split(f, data)
		if consumed == 0 && err == nil {
			s.part, s.scanned = pool.GetSize(len(data)), len(data)
			s.part.B = append(s.part.B, data...)
			consumed = len(data)
		}
		return packet, consumed, err
	}
	for consumed < len(data) {
		kept := len(s.part.B)
		chunk := min(s.missing(f), len(data)-consumed)
		s.keep(data[consumed : consumed+chunk])
		packet, size, err := s.split(f, s.part.B)
		switch {
		case err != nil:
			return nil, consumed, err
		case size > kept: // the packet ends within the chunk; the rest of the chunk is the next packet's
			s.whole = true
			return packet, consumed + size - kept, nil
		case size > 0:
			return nil, consumed, fmt.Errorf("session: %T.Split found a packet of %d bytes where it had found none in %d: %w",
				f, size, kept, frame.ErrMalformed)
		}
		consumed += chunk
		s.scanned = len(s.part.B)
	}
	return nil, consumed, nil
}

// missing returns how many bytes to add to the part before the framer is asked again: what its Sizer says is missing. If that is not
// known, it is as much as there is, so that no byte is copied or searched often.
func (s *Stream) missing(f frame.Framer) int {
	kept := len(s.part.B)
	if sizer, ok := f.(frame.Sizer); ok {
		if n := sizer.SizeOf(s.part.B) - kept; n > 0 {
			return n
		}
	}
	return max(kept, minGrowth)
}

// split asks the framer, and checks its answer. The packet is nil only if there is none.
func (s *Stream) split(f frame.Framer, data []byte) (packet []byte, size int, err error) {
	if r, ok := f.(frame.Resumer); ok {
		packet, size, err = r.SplitFrom(data, s.scanned)
	} else {
		packet, size, err = f.Split(data)
	}
	switch {
	case err != nil:
		return nil, 0, err
	case size < 0 || size > len(data):
		return nil, 0, fmt.Errorf("session: %T.Split took %d of %d bytes: %w", f, size, len(data), frame.ErrMalformed)
	case size == 0:
		return nil, 0, nil
	case packet == nil:
		packet = data[:0:0]
	}
	return packet, size, nil
}

// keep adds data to the part. The part grows with what has arrived, not with what a header promises.
func (s *Stream) keep(data []byte) {
	if need := len(s.part.B) + len(data); need > cap(s.part.B) {
		larger := pool.GetSize(max(need, 2*len(s.part.B)))
		larger.B = append(larger.B, s.part.B...)
		s.part.Release()
		s.part = larger
	}
	s.part.B = append(s.part.B, data...)
}

// Delivered tells that the packet of the last Next is not used any more.
func (s *Stream) Delivered() {
	if s.whole {
		s.Drop()
	}
}

// Drop gives up what was kept. The Stream is between two packets then.
func (s *Stream) Drop() {
	if s.part != nil {
		s.part.Release()
	}
	s.part, s.whole, s.scanned = nil, false, 0
}
