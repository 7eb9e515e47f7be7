package session_test

import (
	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/session"
)

// simOut is a packet on its way.
type simOut struct{ end, size int } // where it ends in wire; the bytes of its payload

// simFraming is a framing, and bytes that it refuses.
type simFraming struct {
	frame.Framer
	shared  *session.Framing
	garbage string
}

// simFramings have one framer of each kind: the size in front, at once or piece by piece, or a mark at the end.
var simFramings = []*simFraming{
	newSimFraming(frame.ServerCore{}, "\x01\x00"),
	newSimFraming(frame.Varint{Max: 1 << 17}, "\xff\xff\xff\xff\xff\xff"),
	newSimFraming(frame.Delimiter{Delimiter: []byte("not in simSource"), Max: 1 << 17}, ""),
}

func newSimFraming(f frame.Framer, garbage string) *simFraming {
	return &simFraming{f, session.NewFraming(f), garbage}
}

// framed returns p as it travels.
func (m *simSession) framed(p []byte) ([]byte, error) {
	if m.framing == nil {
		return p, nil
	}
	return m.framing.Append(nil, p)
}

// queued returns how many bytes wait as they travel; Pending is about payloads.
func (m *simSession) queued() int {
	if m.layer != nil {
		return m.layer.queued()
	}
	if n := m.h.Pending(); m.framing == nil || n == 0 { // no packet here is empty
		return n
	}
	return len(m.wire) - m.taken + m.leaving
}

// backlog returns how many bytes the marks of OnWritable count: those that wait, or those that are pending if that is more.
func (m *simSession) backlog() int { return max(m.queued(), m.h.Pending()) }

// accepts reports whether Send accepts. Of a session with a framer, to which one cannot send nothing, it may miss that.
func (m *simSession) accepts() bool {
	if m.framing == nil {
		return m.h.Send(nil) == nil
	}
	return m.h.Err() == nil && !m.finished
}

// owed returns the bytes OnSend has to tell of: those the kernel took, or the payloads of packets it took whole.
func (m *simSession) owed() (size int) {
	if m.framing == nil {
		return m.taken - m.h.SentSum
	}
	for _, p := range m.out {
		if p.end > m.taken {
			break
		}
		size += p.size
	}
	return size
}

// took notes what Send has accepted.
func (m *simSession) took(p []byte) {
	wire, _ := m.framed(p)
	m.accepted += len(p)
	m.wire = append(m.wire, wire...)
	if m.layer != nil {
		m.layer.took(wire, p)
	}
	if m.framing != nil {
		m.out = append(m.out, simOut{len(m.wire), len(p)})
	}
}

// peerSends has the peer send something: of a packet at times a part, of which the rest follows later, if it does.
func (m *simSession) peerSends() {
	s := m.sim
	p := s.some(s.size())
	if m.layer != nil && m.layer.peerActs(p) {
		return
	}
	if m.framing != nil && m.rest == nil {
		if m.framing.garbage != "" && s.IntN(50) == 0 {
			s.note("%d: the peer sends garbage", m.n)
			m.garbled = true
			m.peerWrites([]byte(m.framing.garbage))
			return
		}
		m.coming = p
		var err error
		if m.rest, err = m.framed(p); err != nil { // too large
			m.coming = p[:40]
			m.rest, _ = m.framed(m.coming)
		}
	}
	if m.framing == nil {
		m.coming, m.rest = p, p
	}
	n := len(m.rest)
	if m.framing != nil && s.IntN(3) == 0 {
		n = s.IntN(n) + 1
	}
	s.note("%d: the peer sends %d of %d", m.n, n, len(m.rest))
	m.peerWrites(m.rest[:n])
	if m.rest = m.rest[n:]; len(m.rest) == 0 {
		m.rest = nil
		m.sent = append(m.sent, m.coming...)
		if m.framing != nil {
			m.packets = append(m.packets, len(m.coming))
		}
	}
}

// peerWrites has the peer send plain bytes.
func (m *simSession) peerWrites(p []byte) {
	if m.layer != nil {
		m.layer.seal(p)
	} else {
		m.c.PeerWrite(p)
	}
}
