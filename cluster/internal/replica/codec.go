package replica

import (
	"encoding/binary"
	"errors"
)

// protocol is the first byte of each message. Nodes with another protocol do not understand each other.
const protocol = 1

// ErrProtocol is returned for a message of a node with another protocol.
var ErrProtocol = errors.New("replica: a node speaks another version of the protocol")

// errMalformed is returned for bytes that are no message.
var errMalformed = errors.New("replica: malformed message")

// Append appends the message as bytes.
func (m *Message) Append(b []byte) []byte {
	draining := byte(0)
	if m.Draining {
		draining = 1
	}
	b = append(b, protocol, byte(m.Kind), draining)
	b = binary.BigEndian.AppendUint64(b, uint64(m.From))
	b = binary.BigEndian.AppendUint64(b, uint64(m.To))
	for _, v := range []uint64{m.Version, m.Clock, m.Serial, uint64(m.Part), uint64(m.Parts), uint64(len(m.Acks))} {
		b = binary.AppendUvarint(b, v)
	}
	for _, a := range m.Acks {
		b = binary.BigEndian.AppendUint64(b, uint64(a.Node))
		b = binary.AppendUvarint(b, a.Version)
	}
	b = binary.AppendUvarint(b, uint64(len(m.Changes)))
	for i := range m.Changes {
		c := &m.Changes[i]
		b = append(b, byte(c.Op))
		b = binary.AppendUvarint(b, uint64(len(c.Name)))
		b = append(b, c.Name...)
		b = binary.AppendUvarint(b, c.ID)
		b = binary.AppendUvarint(b, uint64(len(c.Value)))
		b = append(b, c.Value...)
	}
	return b
}

// Decode returns the message that b is. Nothing of it refers to b.
func Decode(b []byte) (*Message, error) {
	if len(b) > 0 && b[0] != protocol {
		return nil, ErrProtocol
	}
	r := reader{b: b}
	r.take(1)
	m := &Message{Kind: Kind(r.byte()), Draining: r.byte() == 1, From: NodeID(r.fixed()), To: NodeID(r.fixed())}
	m.Version, m.Clock, m.Serial = r.varint(), r.varint(), r.varint()
	part, parts := r.varint(), r.varint()
	m.Part, m.Parts = uint32(part), uint32(parts)
	for range r.count(9) {
		m.Acks = append(m.Acks, Applied{NodeID(r.fixed()), r.varint()})
	}
	n := r.count(4)
	if n > 0 {
		m.Changes = make([]Change, 0, n)
	}
	for range n {
		c := Change{Op: Op(r.byte()), Name: string(r.take(r.varint())), ID: r.varint()}
		if value := r.take(r.varint()); len(value) > 0 {
			c.Value = append([]byte(nil), value...)
		}
		if c.Op < PutClaim || c.Op > DeleteMember {
			r.bad = true
		}
		m.Changes = append(m.Changes, c)
	}
	if r.bad || len(r.b) > 0 || m.Kind < Heartbeat || m.Kind > Bye || m.From == 0 || part > maxParts || parts > maxParts {
		return nil, errMalformed
	}
	return m, nil
}

// maxParts bounds the parts of a snapshot: 64 KiB times that is 4 GiB.
const maxParts = 1 << 16

// reader reads fields until something is wrong, and zeros after that.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) byte() byte {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *reader) fixed() uint64 {
	if p := r.take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

func (r *reader) varint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads how many items follow, of that many bytes each at least.
func (r *reader) count(least int) int {
	n := r.varint()
	if n > uint64(len(r.b)/least) {
		r.bad, r.b = true, nil
		return 0
	}
	return int(n)
}
