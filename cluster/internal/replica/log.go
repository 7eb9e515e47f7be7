package replica

// keepRecent is how many of the last changes a node keeps for others that have missed some. With a name of 20 bytes they take some 400 KB.
const keepRecent = 4096

// log adds a change to the node's own log.
func (m *Machine) log(c Change) {
	m.version++
	if len(m.recent) >= 2*keepRecent && m.version-m.sent < keepRecent {
		m.recent = append(make([]Change, 0, 2*keepRecent), m.recent[len(m.recent)-keepRecent:]...)
	}
	m.recent = append(m.recent, c)
}

// since returns the changes after a version, or false if they are not kept any more.
func (m *Machine) since(version uint64) ([]Change, bool) {
	if version > m.version || m.version-version > uint64(len(m.recent)) {
		return nil, false
	}
	return m.recent[uint64(len(m.recent))-(m.version-version):], true
}

// publish sends what is new in the log to all.
func (m *Machine) publish() {
	if m.sent == m.version {
		return
	}
	if changes, ok := m.since(m.sent); ok {
		m.sendDelta(0, m.sent, changes)
	}
	m.sent = m.version
}

// sendDelta sends the changes after a version, in messages of PartSize.
func (m *Machine) sendDelta(to NodeID, after uint64, changes []Change) {
	for len(changes) > 0 {
		n := m.cut(changes)
		after += uint64(n)
		m.send(&Message{Kind: Delta, To: to, Version: after, Changes: changes[:n:n]})
		changes = changes[n:]
	}
}

// cut returns how many changes fit in a message, one at least.
func (m *Machine) cut(changes []Change) int {
	size := 0
	for i := range changes {
		if size += changes[i].size(); size > m.cfg.PartSize && i > 0 {
			return i
		}
	}
	return len(changes)
}

// serve answers a Sync: with the last changes if they are all that is missing, or with the whole log.
func (m *Machine) serve(to NodeID, version uint64) {
	m.publish() // first: what is sent now ends where the next delta begins
	if changes, ok := m.since(version); ok && version > 0 {
		m.sendDelta(to, version, changes)
		return
	}
	var all []Change
	for key, c := range m.claims {
		all = append(all, Change{Op: PutClaim, Name: key, ID: c.stamp.Clock})
	}
	for room, members := range m.rooms {
		for id, value := range members {
			all = append(all, Change{Op: PutMember, Name: room, ID: id, Value: value})
		}
	}
	var parts [][]Change
	for len(all) > 0 {
		n := m.cut(all)
		parts, all = append(parts, all[:n:n]), all[n:]
	}
	if parts == nil {
		parts = [][]Change{nil}
	}
	m.serial++
	for i, part := range parts {
		m.send(&Message{Kind: Snapshot, To: to, Version: m.version, Serial: m.serial, Part: uint32(i), Parts: uint32(len(parts)), Changes: part})
	}
}
