package checksum

import (
	"errors"
	"fmt"

	"github.com/servercore-go/servercore/frame"
)

// Sealer is the layer of shape Sealing: see session.Sealer. One goroutine at a time may use it.
type Sealer struct {
	Layer

	// Fault, if not nil, is what Seal returns: for a test of a layer that cannot seal any more.
	Fault error
}

// NewSealer returns a layer of shape Sealing.
func NewSealer(o Options) *Sealer {
	s := new(Sealer)
	s.init(Sealing, o)
	return s
}

// Seal appends data records for all of plain, at most 16 KiB. With an error it returns dst unchanged: our hello has not left, or the last word
// is due or said, so the caller is wrong; or Fault is set.
func (s *Sealer) Seal(dst, plain []byte) ([]byte, error) {
	switch {
	case s.Fault != nil:
		return dst, s.Fault
	case s.dropped:
		return dst, errDropped
	case s.finishing:
		return dst, errors.New("checksum: Seal after Finish")
	case s.greet || s.server && !s.established:
		return dst, errors.New("checksum: Seal before our hello has left")
	case len(plain) > MaxSeal:
		return dst, fmt.Errorf("checksum: Seal of %d bytes, at most %d", len(plain), MaxSeal)
	}
	for len(plain) > 0 {
		n := min(len(plain), MaxPayload)
		dst = s.appendOwn(dst, kindData, plain[:n])
		plain = plain[n:]
	}
	return dst, nil
}

// Framer makes messages of shape Framing, and finds them. It is a [frame.Framer] for sessions of one side.
type Framer struct {
	Server bool // the side that sends
}

var _ frame.Framer = Framer{}

// Append appends a message, at most 64 KiB: frame.ErrTooLarge.
func (f Framer) Append(dst, payload []byte) ([]byte, error) {
	if len(payload) > MaxMessage {
		return dst, fmt.Errorf("checksum: a message of %d bytes, at most %d: %w", len(payload), MaxMessage, frame.ErrTooLarge)
	}
	k := kindData
	if f.Server {
		k |= fromServer
	}
	return appendRecord(dst, k, 0, payload), nil
}

// Split finds the first message in data, which has no records but messages; see [frame.Framer].
func (f Framer) Split(data []byte) (packet []byte, n int, err error) {
	size, err := sizeOf(data, MaxMessage)
	switch {
	case err != nil:
		return nil, 0, fmt.Errorf("checksum: %w: %w", err, frame.ErrTooLarge)
	case size == 0 || size > len(data):
		return nil, 0, nil
	}
	r := parse(data[:size])
	if r.sum != r.has || r.kind != kindData || r.server != f.Server || r.number != 0 {
		return nil, 0, fmt.Errorf("checksum: a record (%v, number %d, CRC %08x, want %08x) that is no message: %w", r.kind, r.number, r.sum, r.has, frame.ErrMalformed)
	}
	return r.payload, size, nil
}
