package bench

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// WebSocket on top of a connection, or of its TLS. One message of the load is one message of the WebSocket, in one frame. The server may
// answer in several frames. Pings are answered, between two messages. A connection that is closed sends a close frame and does not wait
// for the server's.

// webSocket is the WebSocket of one connection. Only its worker uses it; a publisher's control frames leave by its fan.
type webSocket struct {
	frames
	message framed

	out    []byte // the request, or control frames, that the kernel has not taken yet
	answer []byte // of the upgrade, so far
	since  int64  // when the request was sent
	code   uint16 // of the close frame to send; 0 stands for 1000
}

// takeFrames is take for WebSocket.
func (w *worker) takeFrames(c *conn, b []byte, now int64) {
	s, p, gen := c.ws, w.run.pattern, c.gen
	limit := w.load.limit(c)
	for len(b) > 0 || s.inside && s.left == 0 {
		if !s.inside {
			n, err := s.next(b)
			if err != nil {
				s.code = 1002
				w.end(c, Protocol, err.Error(), now)
				return
			}
			b = b[n:]
			continue
		}
		n := int(min(int64(len(b)), s.left))
		if n > 0 {
			if s.op >= opClose {
				s.control = append(s.control, b[:n]...)
			} else {
				s.message.piece(p, &c.v, b[:n], limit)
			}
			b, s.left = b[n:], s.left-int64(n)
		}
		if s.left > 0 {
			break
		}
		if s.frames.end() {
			w.messageEnd(c, limit, now)
		} else if s.op >= opClose {
			if w.control(c, now); c.gen != gen {
				return
			}
		}
	}
	w.load.received(w, c, now)
}

// messageEnd judges a message of the server that is whole.
func (w *worker) messageEnd(c *conn, limit uint64, now int64) {
	p := w.run.pattern
	// A server that sends to others may make text binary. One that sends back what it got may not.
	ofKind := c.ws.text == p.text || w.run.fan != nil
	v := c.ws.message.end(p, &c.v, limit, ofKind)
	if v.wrong|v.lost != 0 || v.repeated || v.misfit {
		w.blame(c, v, now)
	}
	if v.done && !v.repeated {
		w.load.message(w, c, v.seq, now)
	}
}

// control acts on a control frame.
func (w *worker) control(c *conn, now int64) {
	s := c.ws
	switch s.op {
	case opPing:
		w.load.control(w, c, appendControl(nil, opPong, w.run.pattern.mask, s.control))
	case opClose:
		text, code := closeText(s.control)
		s.code = code
		w.end(c, EarlyEnd, text, now)
	}
}

// misfitText says what is wrong with a message that is not like the one sent.
func (w *worker) misfitText(length int) string {
	if size := w.run.pattern.size; length != size {
		return fmt.Sprintf("a message of %d bytes came in place of %d", length, size)
	}
	if w.run.pattern.text {
		return "a binary message came in place of text"
	}
	return "a text message came in place of a binary one"
}

// sendOwn sends the connection's own frames, or request, as far as the kernel takes them.
func (c *conn) sendOwn() unix.Errno {
	for len(c.ws.out) > 0 {
		n, errno := c.write(c.ws.out)
		switch errno {
		case 0:
			c.ws.out = c.ws.out[:copy(c.ws.out, c.ws.out[n:])]
		case unix.EINTR:
		default:
			return errno
		}
	}
	return 0
}

// sendBetween sends the connection's own frames between two messages. It reports whether they have left.
func (w *worker) sendBetween(c *conn, now int64) bool {
	switch errno := c.sendOwn(); errno {
	case 0:
		return true
	case unix.EAGAIN: // an event tells when to go on
	default:
		w.end(c, classify(errno), errno.Error(), now)
	}
	return false
}

// sendClose sends a close frame, if the last message has left.
func (w *worker) sendClose(c *conn) {
	if c.left > 0 || len(c.ws.out) > 0 {
		return
	}
	code := c.ws.code
	if code == 0 {
		code = 1000
	}
	c.ws.out = appendControl(c.ws.out, opClose, w.run.pattern.mask, binary.BigEndian.AppendUint16(nil, code))
	c.sendOwn()
}

// endText describes the end of a connection that the peer has closed.
func (c *conn) endText() string {
	switch {
	case c.ws == nil:
		return "the peer closed the connection"
	case c.ws.begun || c.ws.inside || c.ws.held > 0:
		return fmt.Sprintf("the peer closed the connection within a message, after %d bytes of it", c.ws.message.off)
	}
	return "the peer closed the connection without a close frame"
}
