package replica

import "time"

// claim is one of this node.
type claim struct {
	key     string
	stamp   Stamp
	ticket  uint64 // of the application's side
	version uint64 // of the log
	granted bool
	over    bool // replaced, released or failed
}

// Claim enters a claim of a key, and returns its ticket. Granted, Replaced or Failed will tell what becomes of it. A claim that this node
// had of the key is replaced at once. wall is the wall clock in milliseconds.
func (m *Machine) Claim(key string, wall uint64, now time.Duration) (ticket uint64) {
	if c := m.claims[key]; c != nil {
		c.over = true
		m.emit(Event{What: Replaced, Key: key, Ticket: c.ticket})
	}
	m.clock = max(m.clock+1, wall<<16) // R4
	m.tickets++
	c := &claim{key: key, stamp: Stamp{m.clock, m.cfg.ID}, ticket: m.tickets}
	m.claims[key] = c
	m.log(Change{Op: PutClaim, Name: key, ID: m.clock})
	c.version = m.version
	m.pending = append(m.pending, c)
	m.grant(now)
	return c.ticket
}

// Release takes a claim back, if it has not been replaced.
func (m *Machine) Release(key string, ticket uint64) {
	if c := m.claims[key]; c != nil && c.ticket == ticket {
		m.remove(c)
	}
}

// remove takes a claim of this node out of its log.
func (m *Machine) remove(c *claim) {
	c.over = true
	delete(m.claims, c.key)
	m.log(Change{Op: DeleteClaim, Name: c.key})
}

// contend compares a claim of another node with our own (R2).
func (m *Machine) contend(key string, theirs Stamp) {
	m.clock = max(m.clock, theirs.Clock)
	if c := m.claims[key]; c != nil && c.stamp.Less(theirs) {
		m.remove(c)
		m.emit(Event{What: Replaced, Key: key, Ticket: c.ticket})
	}
}

// grant grants what all have acknowledged (R3). Nothing is granted before the claims are known that another node was granted before it knew
// this one: its log as it was when it was first heard (R5).
func (m *Machine) grant(now time.Duration) {
	if len(m.pending) == 0 || !m.up || !m.settle(now) {
		return
	}
	acked := m.version
	for _, p := range m.peers {
		if p.applied < p.need {
			return
		}
		acked = min(acked, p.acked)
	}
	n := 0
	for _, c := range m.pending {
		if !c.over && c.version > acked {
			break
		}
		n++
		if !c.over {
			c.granted = true
			m.emit(Event{What: Granted, Key: c.key, Ticket: c.ticket})
		}
	}
	if m.pending = m.pending[n:]; len(m.pending) == 0 {
		m.pending = nil
	}
}

// failPending withdraws the claims that wait.
func (m *Machine) failPending() {
	for _, c := range m.pending {
		if !c.over {
			m.remove(c)
			m.emit(Event{What: Failed, Key: c.key, Ticket: c.ticket})
		}
	}
	m.pending = nil
}

// Holder returns the node whose claim of the key has the highest stamp, granted or not. It is 0 if there is none.
func (m *Machine) Holder(key string) Stamp {
	var best Stamp
	if c := m.claims[key]; c != nil {
		best = c.stamp
	}
	for _, p := range m.peers {
		if clock, ok := p.claims[key]; ok {
			if s := (Stamp{clock, p.id}); best.Less(s) {
				best = s
			}
		}
	}
	return best
}

// Own returns the ticket of this node's claim of the key, and whether it is granted. The ticket is 0 if there is none.
func (m *Machine) Own(key string) (ticket uint64, granted bool) {
	if c := m.claims[key]; c != nil {
		return c.ticket, c.granted
	}
	return 0, false
}
