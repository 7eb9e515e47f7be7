package layer_test

import (
	"errors"
	"strings"

	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/layer/websocket"
	"github.com/servercore-go/servercore/session"
)

// simSession is a session with what the model knows of it.
type simSession struct {
	s       *simWorld
	n       int
	kind    simKind
	handler session.Handler
	h       *session.Session
	c       *testkit.Conn
	peer    *simPeer

	lasting, member, pinged bool

	// Out.
	accepted      []simMessage
	acceptedBytes int
	told          int // sum of OnSend
	compared      int // messages of the peer's that were compared, or bytes without WebSocket
	stream        strings.Builder

	// In.
	sent   []simMessage
	marks  []int // the wire bytes sent when a message is whole
	came   strings.Builder
	gotten int // messages, or bytes without WebSocket

	paused, everPaused bool
	ending             bool // Disconnect and the like were called
	finished           bool // CloseWrite was called
	fin, broken        bool // the peer has sent FIN, or reset
	garbled            bool // and garbage
	halved             bool
	busy               bool
	over               int
}

// inside is a callback.
func (m *simSession) inside(f func()) {
	switch {
	case m.busy:
		m.s.failf("%d: a callback within a callback", m.n)
	case m.over > 0:
		m.s.failf("%d: a callback after OnDisconnected", m.n)
	}
	m.busy = true
	f()
	if m.over == 0 && !m.s.calm && m.s.IntN(6) == 0 {
		m.act()
	}
	m.busy = false
}

// recv is a message that the session was told, in OnText if texts.
func (m *simSession) recv(got simMessage, texts bool) {
	s := m.s
	if !m.kind.webSocket {
		want := m.came.String()
		if len(got.data) == 0 || !strings.HasPrefix(want[m.gotten:], got.data) {
			s.failf("%d: OnRecv of %d bytes, at byte %d of %d, that are not what was sent", m.n, len(got.data), m.gotten, len(want))
			return
		}
		m.gotten += len(got.data)
		s.stats["messages received"]++
		return
	}
	if m.gotten == len(m.sent) {
		s.failf("%d: a message more than was sent", m.n)
		return
	}
	want := m.sent[m.gotten]
	_, apart := m.handler.(session.TextReceiver)
	if m.gotten++; got.data != want.data || texts != (want.text && apart) || m.marks[m.gotten-1] > m.peer.sent {
		s.failf("%d: message %d has %d bytes, in OnText %t, want %d, text %t", m.n, m.gotten, len(got.data), texts, len(want.data), want.text)
	}
	s.stats["messages received"]++
	if texts {
		s.stats["texts received"]++
	}
}

// peerSends makes something of the peer's, and does not send it yet.
func (m *simSession) peerSends() {
	s, p := m.s, m.peer
	if m.fin || m.broken || p.closed || p.alert != nil || m.garbled || m.c.Closed {
		return
	}
	switch r := s.IntN(100); {
	case r < 20 && m.kind.webSocket:
		s.note("%d: the peer pings", m.n)
		p.ping()
	case r < 22:
		m.garbage()
	default:
		n := min(s.size(), simMaxMessage)
		message := simMessage{data: s.some(n)}
		if m.kind.webSocket && s.IntN(2) == 0 {
			message = simMessage{true, s.text(n)}
		}
		s.note("%d: the peer sends %d, text %t", m.n, len(message.data), message.text)
		if !m.kind.webSocket {
			m.came.WriteString(message.data)
		}
		m.sent = append(m.sent, message)
		p.send(message)
		m.marks = append(m.marks, p.sent+len(p.out))
	}
}

// garbage is what no peer may send.
func (m *simSession) garbage() {
	s, p := m.s, m.peer
	s.note("%d: the peer sends garbage", m.n)
	m.garbled = true
	s.stats["garbage"]++
	switch {
	case m.kind.webSocket && s.IntN(3) > 0:
		switch s.IntN(4) {
		case 0:
			p.frame(0x83, nil)
		case 1:
			p.frame(0x81, []byte("\xff\xfe"))
		case 2:
			p.frame(0x82, make([]byte, simMaxMessage+1))
		case 3:
			p.frame(0x88, []byte{0x03, 0xed})
		}
	case p.tls != nil: // a record that was changed on its way
		p.out = append(p.out, 23, 3, 3, 0, 40)
		p.out = append(p.out, make([]byte, 40)...)
	default:
		p.out = append(p.out, strings.Repeat("\xff", 20)...)
	}
}

// flush sends n bytes of what the peer has made, and FIN when the last words are out.
func (m *simSession) flush(n int) (moved bool) {
	s, p := m.s, m.peer
	if m.fin || m.broken || m.c.Closed {
		return false
	}
	if (p.code != 0 || p.tlsEnd || p.alert != nil) && !p.closed && (s.calm || s.IntN(3) == 0) {
		s.note("%d: the peer answers the last word", m.n)
		p.finish()
		moved = true
	}
	if b := p.next(n); len(b) > 0 {
		s.note("%d: %d bytes arrive, %d are left", m.n, len(b), len(p.out))
		m.c.PeerWrite(b)
		moved = true
	}
	if p.closed && len(p.out) == 0 && (s.calm || s.IntN(3) == 0) {
		s.note("%d: FIN", m.n)
		m.fin, moved = true, true
		m.c.PeerFIN()
	}
	return moved
}

// peerEnds ends the peer's side: with its last words, without, or with a reset.
func (m *simSession) peerEnds() {
	s, p := m.s, m.peer
	if m.fin || m.broken || m.c.Closed {
		return
	}
	switch s.IntN(8) {
	case 0:
		s.note("%d: the peer resets", m.n)
		m.broken = true
		m.c.PeerReset(errSimReset)
	case 1:
		s.note("%d: FIN with %d bytes not sent, closed %t", m.n, len(p.out), p.closed)
		m.fin = true
		m.c.PeerFIN()
	case 2, 3:
		s.note("%d: the peer finishes", m.n)
		p.finish()
	}
}

// peerFinishes ends the peer in good order.
func (m *simSession) peerFinishes() {
	if !m.fin && !m.broken && !m.c.Closed {
		m.peer.finish()
	}
}

// check compares the session with its model, between two steps.
func (m *simSession) check() {
	s, h, c, p := m.s, m.h, m.c, m.peer
	pending, err := h.Pending(), h.Err()
	dropped := m.acceptedBytes - m.told - pending
	m.compare()
	switch {
	case p.fault != nil:
		s.failf("%d: the peer: %v", m.n, p.fault)
	case dropped < 0 || dropped > 0 && !c.Closed && !m.broken && !m.mayDrop(err): // S8
		s.failf("%d: accepted %d, told %d, pending %d, Err %v", m.n, m.acceptedBytes, m.told, pending, err)
	case m.told > p.bytes: // S4
		s.failf("%d: OnSend told %d, the peer has %d", m.n, m.told, p.bytes)
	case !c.Closed && p.bytes > m.told && (m.kind.version == 0 || pending == 0) && !m.broken && !m.mayDrop(err):
		s.failf("%d: OnSend told %d, the peer has %d, %d pending", m.n, m.told, p.bytes, pending)
	case c.Closed && pending > 0:
		s.failf("%d: closed with %d bytes pending", m.n, pending)
	case c.FINSent && !m.broken && !m.saidLastWord(): // C3
		s.failf("%d: FIN without the last word: close code %d, close_notify %t, alert %v, Err %v", m.n, p.code, p.tlsEnd, p.alert, err)
	case m.saidAny() && p.bytes != m.acceptedBytes && !m.mayDrop(err):
		s.failf("%d: a last word with %d of %d bytes sent, Err %v", m.n, p.bytes, m.acceptedBytes, err)
	case c.Ended != (m.over == 1):
		s.failf("%d: ended %t, %d OnDisconnected", m.n, c.Ended, m.over)
	case !m.garbled && p.alert != nil:
		s.failf("%d: the peer was told %v", m.n, p.alert)
	case errors.Is(err, session.ErrIdle) && s.limits.Idle == 0 && !m.pinged && (s.limits.HalfClose == 0 || !m.halved):
		s.failf("%d: idle without a limit", m.n)
	}
}

// mayDrop reports whether what was accepted need not arrive.
func (m *simSession) mayDrop(err error) bool {
	for _, e := range []error{session.ErrAborted, session.ErrSendLimit, session.ErrSendBudget, session.ErrWriteStall, session.ErrDrainTimeout, session.ErrPeerReset} {
		if errors.Is(err, e) {
			return true
		}
	}
	return m.garbled && m.kind.version != 0 // behind an alert nothing is sealed
}

// saidLastWord reports whether the peer has every last word.
func (m *simSession) saidLastWord() bool {
	p := m.peer
	return (!m.kind.webSocket || p.code != 0 || p.alert != nil) && (p.tls == nil || p.tlsEnd || p.alert != nil)
}

// saidAny reports whether the peer has one.
func (m *simSession) saidAny() bool { return m.peer.code != 0 || m.peer.tlsEnd }

// compare compares what the peer has received with what Send has accepted.
func (m *simSession) compare() {
	s, p := m.s, m.peer
	if m.kind.webSocket {
		for ; m.compared < len(p.got); m.compared++ {
			if m.compared == len(m.accepted) || p.got[m.compared] != m.accepted[m.compared] {
				s.failf("%d: the peer's message %d is not the one accepted, of %d", m.n, m.compared, len(m.accepted))
				return
			}
			if m.kind.compresses {
				s.stats["compressed"]++
			}
		}
		return
	}
	for ; len(m.accepted) > 0; m.accepted = m.accepted[1:] {
		m.stream.WriteString(m.accepted[0].data)
	}
	for ; len(p.got) > 0; p.got = p.got[1:] {
		if !strings.HasPrefix(m.stream.String()[m.compared:], p.got[0].data) {
			s.failf("%d: the peer's stream is another one from byte %d on", m.n, m.compared)
			return
		}
		m.compared += len(p.got[0].data)
	}
}

// due returns how many messages, or bytes without WebSocket, the session must have been told, if it reads all that was sent to it.
func (m *simSession) due() (n int) {
	for i, mark := range m.marks {
		if mark <= m.peer.sent {
			if n++; !m.kind.webSocket {
				n += len(m.sent[i].data) - 1
			}
		}
	}
	return n
}

// atRest: closed, or open with nothing to do.
func (m *simSession) atRest() {
	s, c, h, p := m.s, m.c, m.h, m.peer
	switch {
	case c.Ended:
	case c.Closed || c.Wants() != 0:
		s.failf("%d: closed %t, wants %b at rest", m.n, c.Closed, c.Wants())
	case h.Pending() > 0 || p.bytes != m.acceptedBytes:
		s.failf("%d: %d bytes wait at rest, the peer has %d of %d", m.n, h.Pending(), p.bytes, m.acceptedBytes)
	case h.Err() == nil && m.gotten < m.due():
		s.failf("%d: told %d messages of %d at rest", m.n, m.gotten, m.due())
	case h.Err() == nil && !m.finished && m.kind.webSocket && len(p.pings) > 0 && len(p.out) == 0 && !p.closed:
		s.failf("%d: pings are not answered at rest: %q", m.n, p.pings)
	case h.Err() == nil && m.garbled && !m.fin:
		s.failf("%d: garbage goes unnoticed", m.n)
	}
	if m.kind.webSocket && p.code == 0 && !m.broken && len(p.pings) == 0 {
		s.stats["pings answered"]++
	}
}

// atEnd: how it ended is what its reason says.
func (m *simSession) atEnd() {
	s, c, p, err := m.s, m.c, m.peer, m.h.Err()
	if !c.Ended || m.over != 1 {
		s.failf("%d: done %t, %d OnDisconnected at the end, Err %v", m.n, c.Ended, m.over, err)
		return
	}
	reason := c.Driver.Reason()
	is := func(e error) bool { return errors.Is(reason, e) }
	cut := m.mayDrop(err)
	m.count(err)
	var wrong *websocket.ProtocolError
	switch {
	case is(session.ErrPeerReset) && !m.broken:
		s.failf("%d: reset by nobody, Err %v", m.n, err)
	case c.WasReset && !cut:
		s.failf("%d: reset by us, Err %v", m.n, err)
	case (errors.As(reason, &wrong) || is(frame.ErrMalformed)) && !m.garbled:
		s.failf("%d: no garbage was sent, Err %v", m.n, err)
	case is(session.ErrPeerReset) && !m.everPaused && !m.ending && !m.garbled && s.limits.Budget == nil && m.gotten < m.due(): // E2c
		s.failf("%d: told %d of %d before the reset", m.n, m.gotten, m.due())
	case cut || m.broken:
		s.stats["resets"]++
	case p.bytes != m.acceptedBytes:
		s.failf("%d: the peer has %d of %d bytes after an orderly end, Err %v", m.n, p.bytes, m.acceptedBytes, err)
	case !m.saidLastWord():
		s.failf("%d: an orderly end without the last word, Err %v", m.n, err)
	case (is(session.ErrPeerClosed) || is(session.ErrTruncated)) && !m.garbled && m.gotten < m.due():
		s.failf("%d: told %d of %d before the end, Err %v", m.n, m.gotten, m.due(), err)
	case is(session.ErrPeerClosed) && !p.closed, is(session.ErrTruncated) && p.closed && len(p.out) == 0:
		s.failf("%d: the peer's last word was made: %t, Err %v", m.n, p.closed, err)
	case m.kind.webSocket && !m.finished && p.alert == nil && m.wantCode(reason) != 0 && p.code != m.wantCode(reason) && !(p.closed && p.code == 1000): // the answer to its own
		s.failf("%d: close code %d, want %d, Err %v", m.n, p.code, m.wantCode(reason), err)
	default:
		s.stats["orderly ends"]++
	}
}

// wantCode returns the close code for a reason, 0 for any.
func (m *simSession) wantCode(reason error) int {
	var wrong *websocket.ProtocolError
	var own *session.CloseError
	switch {
	case errors.As(reason, &wrong):
		return wrong.Code
	case errors.Is(reason, session.ErrTruncated):
		return 1002
	case errors.Is(reason, session.ErrPeerClosed):
		return 1000
	case errors.Is(reason, session.ErrShutdown):
		return 1001
	case errors.As(reason, &own):
		return own.Code
	case errors.Is(reason, session.ErrDisconnected):
		return 1000
	}
	return 0
}

// count counts what the world has met.
func (m *simSession) count(err error) {
	for what, is := range map[string]bool{
		"truncated": errors.Is(err, session.ErrTruncated), "closed by peers": errors.Is(err, session.ErrPeerClosed), "idle": errors.Is(err, session.ErrIdle),
		"close codes": m.peer.code != 0, "half-closes": m.halved, "TLS 1.2": m.kind.version == 0x303,
		"TLS 1.3": m.kind.version == 0x304, "wss": m.kind.version != 0 && m.kind.webSocket,
	} {
		if is {
			m.s.stats[what]++
		}
	}
}
