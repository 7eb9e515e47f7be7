package websocket

import (
	"fmt"
	"unicode/utf8"

	"github.com/servercore-go/servercore/frame"
)

// framer makes a message of each payload: one frame, not fragmented. It is the sending side of a layer, as a frame.Framer without a state.
type framer struct {
	text, client bool
	bits         uint8 // window of a peer with permessage-deflate, else noBits
}

// Split is not used: what Open returns is a message.
func (framer) Split([]byte) (packet []byte, n int, err error) { return nil, 0, errSendOnly }

// Append appends payload as a message. A text message that is not UTF-8 is refused: the peer would end the connection for it.
func (f framer) Append(dst, payload []byte) ([]byte, error) {
	first := byte(bitFin | opBinary)
	if f.text {
		if !utf8.Valid(payload) {
			return dst, fmt.Errorf("websocket: a text message of %d bytes is not UTF-8: %w", len(payload), frame.ErrMalformed)
		}
		first = bitFin | opText
	}
	if f.bits == noBits || len(payload) < compressAbove {
		return appendFrame(dst, first, payload, f.client), nil
	}
	d := deflaters.Get().(*deflater)
	defer d.put()
	if err := d.deflate(payload, f.bits); err != nil {
		return dst, err
	}
	if len(d.out) < len(payload) {
		first, payload = first|bitRSV1, d.out
	}
	return appendFrame(dst, first, payload, f.client), nil
}
