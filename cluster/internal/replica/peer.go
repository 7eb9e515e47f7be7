package replica

import (
	"math"
	"time"
)

// keepStashed is how many deltas wait for a snapshot that comes before them.
const keepStashed = 256

// unknown is more than any version.
const unknown = math.MaxUint64

// peer is another node that is up, and the replica of its log.
type peer struct {
	id        NodeID
	lastHeard time.Duration
	draining  bool

	applied uint64 // version of the replica (R1)
	need    uint64 // the version that the log had when the node was first heard; unknown until a heartbeat tells
	claims  map[string]uint64
	rooms   map[string]map[uint64][]byte

	acked  uint64 // version of our log that it has applied
	ackDue bool   // it is owed an Ack

	asked    bool // a Sync is out
	askedAt  time.Duration
	snapshot assembly
	stash    []*Message // deltas after a gap
}

// assembly is a snapshot whose parts come in.
type assembly struct {
	version uint64
	serial  uint64
	parts   [][]Change
	missing int
}

// Receive takes a message of another node.
func (m *Machine) Receive(msg *Message, now time.Duration) {
	if msg.From == m.cfg.ID || msg.From == 0 || msg.To != 0 && msg.To != m.cfg.ID {
		return
	}
	m.resume(now)
	if msg.Kind == Bye {
		m.down(m.peers[msg.From], now)
		return
	}
	m.clock = max(m.clock, msg.Clock)
	p := m.heard(msg, now)
	switch msg.Kind {
	case Heartbeat, Hello:
		if p.need == unknown {
			p.need = msg.Version
		}
		for _, a := range msg.Acks {
			if a.Node == m.cfg.ID {
				p.acked = max(p.acked, min(a.Version, m.version))
			}
		}
		if msg.Version > p.applied {
			m.ask(p, now)
		}
		if msg.Kind == Hello {
			m.beat(Heartbeat, p.id)
		}
	case Ack:
		p.acked = max(p.acked, min(msg.Version, m.version))
	case Sync:
		m.serve(p.id, msg.Version)
	case Delta:
		m.delta(p, msg, now)
	case Snapshot:
		m.part(p, msg, now)
	}
	m.grant(now)
}

// ask asks for what is missing of the log of p, unless that was done within half a heartbeat.
func (m *Machine) ask(p *peer, now time.Duration) {
	if p.asked && now-p.askedAt < m.cfg.Heartbeat/2 {
		return
	}
	p.asked, p.askedAt = true, now
	m.send(&Message{Kind: Sync, To: p.id, Version: p.applied})
}

// delta applies the changes that are new, or asks for what is missing before them.
func (m *Machine) delta(p *peer, msg *Message, now time.Duration) {
	n := uint64(len(msg.Changes))
	if n > msg.Version {
		return // no log has it
	}
	switch before := msg.Version - n; {
	case msg.Version <= p.applied: // a repeat
	case before > p.applied:
		if len(p.stash) < keepStashed {
			p.stash = append(p.stash, msg)
		}
		m.ask(p, now)
		return
	default:
		for _, c := range msg.Changes[p.applied-before:] {
			m.apply(p, c)
		}
		p.applied, p.asked = msg.Version, false
	}
	for i := range msg.Changes {
		if msg.Changes[i].Op == PutClaim {
			p.ackDue = true
			break
		}
	}
	m.unstash(p, now)
}

// unstash applies the deltas that have waited.
func (m *Machine) unstash(p *peer, now time.Duration) {
	waiting := p.stash
	p.stash = nil
	for i, msg := range waiting {
		if msg.Version-uint64(len(msg.Changes)) > p.applied {
			p.stash = append(p.stash, waiting[i])
		} else if msg.Version > p.applied {
			m.delta(p, msg, now)
		}
	}
}

// apply makes one change of a replica.
func (m *Machine) apply(p *peer, c Change) {
	switch c.Op {
	case PutClaim:
		p.claims[c.Name] = c.ID
		m.contend(c.Name, Stamp{c.ID, p.id})
	case DeleteClaim:
		delete(p.claims, c.Name)
	case PutMember:
		members := p.rooms[c.Name]
		if members == nil {
			members = make(map[uint64][]byte)
			p.rooms[c.Name] = members
		}
		members[c.ID] = c.Value
		m.emit(Event{What: Changed, Key: c.Name})
	case DeleteMember:
		members := p.rooms[c.Name]
		if delete(members, c.ID); len(members) == 0 {
			delete(p.rooms, c.Name)
		}
		m.emit(Event{What: Changed, Key: c.Name})
	}
}

// part takes a part of a snapshot, and replaces the replica when it was the last one.
func (m *Machine) part(p *peer, msg *Message, now time.Duration) {
	if msg.Version < p.applied || msg.Version == p.applied && p.applied > 0 || msg.Part >= msg.Parts || msg.Parts > maxParts {
		return
	}
	a := &p.snapshot
	if msg.Serial < a.serial {
		return // late
	}
	if a.parts == nil || a.serial != msg.Serial || a.version != msg.Version || len(a.parts) != int(msg.Parts) {
		*a = assembly{msg.Version, msg.Serial, make([][]Change, msg.Parts), int(msg.Parts)}
	}
	if a.parts[msg.Part] != nil {
		return // a repeat
	}
	a.parts[msg.Part] = append(make([]Change, 0, len(msg.Changes)), msg.Changes...) // not nil
	p.askedAt = now
	if a.missing--; a.missing > 0 {
		return
	}
	for room := range p.rooms {
		m.emit(Event{What: Changed, Key: room})
	}
	p.claims, p.rooms = make(map[string]uint64), make(map[string]map[uint64][]byte)
	for _, part := range a.parts {
		for _, c := range part {
			m.apply(p, c)
		}
	}
	p.applied, p.asked, p.ackDue = msg.Version, false, true
	*a = assembly{}
	m.unstash(p, now)
}

// acknowledge sends the acknowledgements that are owed.
func (m *Machine) acknowledge() {
	for _, p := range m.peers {
		if p.ackDue {
			p.ackDue = false
			m.send(&Message{Kind: Ack, To: p.id, Version: p.applied})
		}
	}
}
