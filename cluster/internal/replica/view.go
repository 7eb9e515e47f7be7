package replica

import "time"

// maxUnsettled bounds how often a node begins to settle anew, because new nodes come: nodes that keep coming must not keep it from
// claiming.
const maxUnsettled = 10

// SetUp tells whether the bus is there. While it is not, no node is taken for down, and claims that wait fail. When it is back, each node
// has FailAfter to be heard.
func (m *Machine) SetUp(up bool, now time.Duration) {
	if m.up == up {
		return
	}
	m.up = up
	if !up {
		m.failPending()
		return
	}
	m.restart(now)
	m.lastBeat = now
	m.beat(Hello, 0)
}

// resume notices that this node was stopped, and perhaps taken for down. What the others have said meanwhile waits to be read: an old
// acknowledgement must not grant a claim that somebody else has won since.
func (m *Machine) resume(now time.Duration) {
	if now-m.lastTick > m.cfg.FailAfter/2 {
		m.lastTick = now
		m.restart(now)
	}
}

// restart gives each node FailAfter to be heard, and has this one settle.
func (m *Machine) restart(now time.Duration) {
	m.settled, m.unsettled, m.settleAt = false, 0, now+m.cfg.Settle
	for _, p := range m.peers {
		p.lastHeard = now
	}
}

// Tick is to be called at least twice in each heartbeat.
func (m *Machine) Tick(now time.Duration) {
	m.resume(now)
	m.lastTick = now
	if !m.up {
		return
	}
	for _, p := range m.peers {
		if now-p.lastHeard > m.cfg.FailAfter {
			m.down(p, now)
		}
	}
	if now-m.lastBeat >= m.cfg.Heartbeat {
		m.lastBeat = now
		m.beat(Heartbeat, 0)
	}
	m.grant(now)
}

// beat sends a heartbeat.
func (m *Machine) beat(kind Kind, to NodeID) {
	m.publish() // first: then the version is one that the others should have
	msg := &Message{Kind: kind, To: to, Version: m.version}
	for _, p := range m.peers {
		msg.Acks = append(msg.Acks, Applied{p.id, p.applied})
	}
	m.send(msg)
}

// heard notes that a node is up.
func (m *Machine) heard(msg *Message, now time.Duration) *peer {
	p := m.peers[msg.From]
	if p == nil {
		p = &peer{id: msg.From, need: unknown, claims: make(map[string]uint64), rooms: make(map[string]map[uint64][]byte)}
		m.peers[msg.From] = p
		m.emit(Event{What: NodeUp, Node: p.id})
		if !m.settled && m.unsettled < maxUnsettled {
			m.unsettled++
			m.settleAt = now + m.cfg.Settle
		}
		if msg.Kind != Hello { // Hello is answered anyway
			m.beat(Heartbeat, p.id)
		}
	}
	p.lastHeard, p.draining = now, msg.Draining
	return p
}

// down forgets a node.
func (m *Machine) down(p *peer, now time.Duration) {
	if p == nil {
		return
	}
	delete(m.peers, p.id)
	for room := range p.rooms {
		m.emit(Event{What: Changed, Key: room})
	}
	m.emit(Event{What: NodeDown, Node: p.id})
	m.grant(now)
}

// settle reports whether the nodes that are there are known.
func (m *Machine) settle(now time.Duration) bool {
	if !m.settled && now >= m.settleAt {
		m.settled = true
	}
	return m.settled
}
