package websocket

import (
	"fmt"
	"unicode/utf8"

	"github.com/servercore-go/servercore/pool"
)

// message is a data message that has come in part.
type message struct {
	open       bool // its first frame has begun, its last one is not complete
	text       bool
	compressed bool
	checked    int          // bytes of buf that are whole characters; for text that is not compressed
	buf        *pool.Buffer // nil while there is no payload
}

// drop gives the payload back. The message stays open.
func (m *message) drop() {
	if m.buf != nil {
		m.buf.Release()
	}
	m.buf, m.checked = nil, 0
}

func (m *message) bytes() []byte {
	if m.buf == nil {
		return nil
	}
	return m.buf.B
}

// empty is a message without a payload, if the caller of Open has brought no memory.
var empty = []byte{}

// checkSize refuses a frame that would make its message longer than MaxMessage.
func (l *Layer) checkSize(h header, had int, compressed bool) error {
	most := l.config.MaxMessage
	if compressed {
		most = l.config.maxCompressed()
	}
	if h.payload > int64(most-had) {
		return &ProtocolError{codeTooBig, fmt.Sprintf("a message is longer than %d bytes", l.config.MaxMessage)}
	}
	return nil
}

// wholeMessage unmasks a message that lies in in, into dst or memory of its own.
func (l *Layer) wholeMessage(dst, in []byte, h header) (data []byte, err error) {
	n := len(in)
	if n > cap(dst) {
		buf := pool.GetSize(n)
		buf.B = buf.B[:n]
		l.needWork().delivered = buf
		data = buf.B
	} else if data = dst[:n]; data == nil {
		data = empty
	}
	if h.masked {
		xor(data, in, h.key)
	} else {
		copy(data, in)
	}
	if h.op == opText && !utf8.Valid(data) {
		return nil, errUTF8
	}
	l.markText(h.op == opText)
	return data, nil
}

func (l *Layer) markText(text bool) {
	l.unset(lastIsText)
	if text {
		l.set(lastIsText)
	}
}

// addPayload unmasks a piece of a frame's payload behind what has come of its message. Text is checked as it comes.
func (w *work) addPayload(piece []byte) error {
	m := &w.message
	had := len(m.bytes())
	if len(piece) > 0 {
		size, most := had+len(piece), had+int(w.left)
		if !w.frame.fin {
			most = 2 * size // more frames follow
		}
		m.buf = grow(m.buf, size, most)
		m.buf.B = m.buf.B[:size]
		if w.frame.masked {
			w.frame.key = xor(m.buf.B[had:], piece, w.frame.key)
		} else {
			copy(m.buf.B[had:], piece)
		}
	}
	if m.text && !m.compressed {
		n, ok := validPrefix(m.bytes()[m.checked:])
		if m.checked += n; !ok {
			return errUTF8
		}
	}
	return nil
}

// endMessage returns the message that is complete now, in dst if it fits.
func (l *Layer) endMessage(dst []byte) (data []byte, err error) {
	w := l.work
	m := w.message
	w.message = message{}
	l.markText(m.text)
	if m.compressed {
		return l.inflateMessage(dst, m)
	}
	payload := m.bytes()
	if m.text && m.checked != len(payload) {
		m.drop()
		return nil, errUTF8
	}
	if len(payload) > cap(dst) {
		w.delivered = m.buf
		return payload, nil
	}
	if data = append(dst[:0], payload...); data == nil {
		data = empty
	}
	m.drop()
	return data, nil
}

// inflateMessage returns what m inflates to.
func (l *Layer) inflateMessage(dst []byte, m message) (data []byte, err error) {
	data, buf, err := inflate(dst, m.bytes(), l.config.MaxMessage)
	m.drop()
	if err == nil && m.text && !utf8.Valid(data) {
		err = errUTF8
	}
	if err != nil {
		if buf != nil {
			buf.Release()
		}
		return nil, err
	}
	l.work.delivered = buf
	return data, nil
}
