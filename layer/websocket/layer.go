package websocket

import (
	"net/http"
	"time"

	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

// Layer is one side of a WebSocket connection. It belongs to one goroutine at a time. See session.Layer for what its methods promise; here
// is what is particular.
type Layer struct {
	config      *config
	handshake   *handshake    // nil once its last byte has been given to Own
	asked       *asked        // the upgrade's request, a server's only; fixed once it is established
	work        *work         // what is under way; nil for an idle layer
	failure     *error        // the last word of Open, which it repeats; nil before
	at          time.Duration // when Expire has something to do; see keepalive.go
	pings       uint32        // how many were made; the last one's payload
	peerCode    uint16        // of the peer's close frame, codeNone if that had none, 0 before
	due         due
	state       state
	bits        uint8 // window of our compressor, noBits for none
	subprotocol uint8 // index into Options.Subprotocols, and 1; 0 for none
}

var _ session.Handshaker = (*Layer)(nil)

// due is a set of own bytes that wait for Own.
type due uint8

const (
	dueHandshake due = 1 << iota
	duePong
	duePing
	dueClose
)

// state is a set of facts about a layer.
type state uint8

const (
	established state = 1 << iota // the upgrade is done
	discarding                    // Discard was called
	lastIsText                    // the message that Open returned last is text
	finished                      // Finish was called
	clockRuns                     // the first Expire was
	pongMissing                   // a ping is out
	progress                      // bytes of a message have come since the last Expire
)

func (l *Layer) is(s state) bool                { return l.state&s != 0 }
func (l *Layer) set(s state)                    { l.state |= s }
func (l *Layer) unset(s state)                  { l.state &^= s }
func (l *Layer) compression() bool              { return l.bits != noBits }
func (l *Layer) framing(k int) *session.Framing { return l.config.framings[k][l.bits] }

// Established reports whether the upgrade is done.
func (l *Layer) Established() bool { return l.is(established) }

// Pending reports whether Own has something to append.
func (l *Layer) Pending() bool { return l.due != 0 }

// Start does nothing: a layer has no news without input.
func (l *Layer) Start(func()) {}

// Text reports whether the message that Open has returned last is text. It is valid until the next Open.
func (l *Layer) Text() bool { return l.is(lastIsText) }

// Framing makes the messages of Send: binary, or text with Options.Text. All established layers of a Server with the same compression share
// it, so a Broadcast frames once for them. It is fixed once the layer is established.
func (l *Layer) Framing() *session.Framing {
	if l.config.Text {
		return l.framing(1)
	}
	return l.framing(0)
}

// TextFraming makes the messages of SendText, as Framing does.
func (l *Layer) TextFraming() *session.Framing { return l.framing(1) }

// Subprotocol returns the subprotocol agreed on, "" for none.
func (l *Layer) Subprotocol() string {
	if l.subprotocol == 0 {
		return ""
	}
	return l.config.Subprotocols[l.subprotocol-1]
}

// Compressed reports whether permessage-deflate was agreed on.
func (l *Layer) Compressed() bool { return l.compression() }

// Request returns the request of the upgrade, the one that Options.Check saw; nil for a client. Its body is empty. It may be called from any
// goroutine once the layer is established, also after Drop, and returns the same request each time.
//
// Without Options.Check, what is kept of the request is its header as it came, until the first call parses it again: the request then is the
// largest part of an idle layer's memory. A caller that has no use for it calls ForgetRequest. prepare is given what was parsed before anybody sees it,
// to set its RemoteAddr and TLS, by several goroutines at once if they are the first ones; nil for none. A request that Check saw was prepared for that.
func (l *Layer) Request(prepare func(*http.Request)) *http.Request {
	if l.asked == nil {
		return nil
	}
	return l.asked.get(prepare)
}

// ForgetRequest drops the request. It is not for several goroutines.
func (l *Layer) ForgetRequest() { l.asked = nil }

// Discard tells that the application gets nothing any more. Open then skips the payload of messages, whatever their size, and still answers
// pings and reads the close frame.
func (l *Layer) Discard() {
	l.set(discarding)
	if l.work != nil {
		l.work.message.drop()
	}
}

// Drop gives back the memory of the layer. Nothing may be called after it but Request.
func (l *Layer) Drop() {
	if l.handshake != nil {
		l.handshake.drop()
		l.handshake = nil
	}
	if l.work != nil {
		l.release()
		l.work.message.drop()
		l.work.dropPongs()
		l.putWork()
	}
	l.due = 0
}

// release gives back the message that Open has returned last, if it lay in the layer's memory.
func (l *Layer) release() {
	if l.work != nil && l.work.delivered != nil {
		l.work.delivered.Release()
		l.work.delivered = nil
	}
}

// grow returns b with room for size bytes, in another buffer if need be. most bounds what is taken for the future; size may be more.
func grow(b *pool.Buffer, size, most int) *pool.Buffer {
	if b == nil {
		return pool.GetSize(size)
	}
	if size <= cap(b.B) {
		return b
	}
	larger := pool.GetSize(max(size, min(2*len(b.B), most)))
	larger.B = append(larger.B, b.B...)
	b.Release()
	return larger
}
