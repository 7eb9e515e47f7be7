package websocket

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"
)

// openControl acts on a control frame: RFC 6455, section 5.5.
func (l *Layer) openControl(op byte, payload []byte) error {
	switch op {
	case opPing:
		if !l.is(finished) {
			l.addPong(payload)
		}
		return nil
	case opPong:
		if l.is(pongMissing) && len(payload) == 4 && binary.BigEndian.Uint32(payload) == l.pings {
			l.pongCame()
		}
		return nil
	}
	return l.openClose(payload)
}

// maxPongs is the most bytes of pongs that wait: 16 of the largest.
const maxPongs = 2 << 10

// addPong makes a pong due. Pings that come faster than pongs leave are all answered up to maxPongs; then the latest one is, as RFC 6455,
// section 5.5.3, allows.
func (l *Layer) addPong(payload []byte) {
	w := l.work
	if w.pongs != nil && len(w.pongs.B)+maxHeader+len(payload) > maxPongs {
		w.pongs.B = w.pongs.B[:0]
	}
	had := 0
	if w.pongs != nil {
		had = len(w.pongs.B)
	}
	w.pongs = grow(w.pongs, had+maxHeader+len(payload), maxPongs)
	w.pongs.B = appendFrame(w.pongs.B, bitFin|opPong, payload, l.config.client)
	l.due |= duePong
}

// openClose returns the error that ends receiving: the peer's close frame, or what is wrong with it.
func (l *Layer) openClose(payload []byte) error {
	end := new(peerClose)
	end.frame.Code = codeNone
	switch {
	case len(payload) == 1:
		return protocolErrorf("a close frame has one byte, want none, or a code of two")
	case len(payload) > 1:
		end.frame.Code = int(binary.BigEndian.Uint16(payload))
		if !validCode(end.frame.Code) {
			return protocolErrorf("a close frame has the code %d, which may not be sent", end.frame.Code)
		}
		if !utf8.Valid(payload[2:]) {
			return errReasonUTF8
		}
		end.frame.Reason = string(payload[2:])
	}
	l.peerCode = uint16(end.frame.Code)
	l.due &^= duePing
	l.unset(pongMissing)
	return end
}

// Own appends the layer's own bytes, in this order: the upgrade's, the pongs, a ping, the close frame. Frames stand between frames only, so
// it appends nothing unless between.
func (l *Layer) Own(dst []byte, between bool) []byte {
	if !between || l.due == 0 {
		return dst
	}
	if l.due&dueHandshake != 0 {
		dst = append(dst, l.handshake.out...)
		l.handshake.out = nil
		if l.is(established) {
			l.handshake = nil
		}
	}
	if l.due&duePong != 0 {
		dst = append(dst, l.work.pongs.B...)
		l.work.dropPongs()
	}
	if l.due&duePing != 0 {
		var payload [4]byte
		binary.BigEndian.PutUint32(payload[:], l.pings)
		dst = appendFrame(dst, bitFin|opPing, payload[:], l.config.client)
	}
	if l.due&dueClose != 0 {
		dst = appendFrame(dst, bitFin|opClose, l.work.close[:l.work.closeLen], l.config.client)
	}
	l.due = 0
	l.rest()
	return dst
}

// Finish makes the close frame due. Its code and reason come from reason:
//
//	nil                           1000 (CloseWrite)
//	a *session.CloseError         its own; a reason longer than 123 bytes is cut at a character, a code that may not be sent becomes 1011
//	the peer's close frame        the same code, or none
//	a *ProtocolError              its own
//	session.ErrTruncated          1002
//	session.ErrShutdown           1001
//	session.ErrRecvRate           1008
//	session.ErrPanic              1011
//	any other                     1000
//
// A second call does nothing, and neither does one before the upgrade is done.
func (l *Layer) Finish(reason error) {
	if l.is(finished) || !l.is(established) {
		return
	}
	l.set(finished)
	l.due = l.due&^duePing | dueClose
	l.unset(pongMissing)
	l.at = 0
	w := l.needWork()
	w.closeLen = 0
	code, text := lastCode(reason, int(l.peerCode))
	if code != codeNone {
		binary.BigEndian.PutUint16(w.close[:], uint16(code))
		w.closeLen = uint8(2 + copy(w.close[2:], cutText(strings.ToValidUTF8(text, "\uFFFD"), maxReason)))
	}
}

// Ended returns nil after the peer's close frame. Without one it returns an error that matches session.ErrTruncated, and a
// *session.CloseError with code 1006; within the upgrade one that matches session.ErrHandshake too.
func (l *Layer) Ended() error {
	switch {
	case l.peerCode != 0:
		return nil
	case !l.is(established):
		return errCutUpgrade
	}
	return errNoClose
}
