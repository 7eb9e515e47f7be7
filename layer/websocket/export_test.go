package websocket

import "github.com/servercore-go/servercore/frame"

// Framer is what Framing wraps: kind 1 is text.
func (l *Layer) Framer(kind int) frame.Framer {
	return framer{text: kind == 1, bits: l.bits, client: l.config.client}
}

// IsIdle reports whether l keeps nothing for what is under way.
func (l *Layer) IsIdle() bool { return l.work == nil && l.handshake == nil }

const CompressAbove = compressAbove

var (
	Xor         = xor
	ValidPrefix = validPrefix
	CutText     = cutText
)
