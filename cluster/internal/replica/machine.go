package replica

import (
	"maps"
	"time"
)

// Config is what a machine is told once. Times are durations of one monotonic clock, which the caller reads.
type Config struct {
	ID        NodeID
	Heartbeat time.Duration // between two heartbeats
	FailAfter time.Duration // a node that was not heard for that long is down
	Settle    time.Duration // no claim is granted before no new node was heard for that long
	PartSize  int           // bytes of changes in one message, about
}

// Machine is one node. Its methods are not safe for concurrent use.
type Machine struct {
	cfg   Config
	clock uint64 // the highest seen (R4)

	// The view.
	up        bool // the bus is there
	settled   bool
	settleAt  time.Duration
	lastTick  time.Duration
	lastBeat  time.Duration
	peers     map[NodeID]*peer
	draining  bool
	unsettled int // how often settling began anew, see maxUnsettled

	// The node's own log.
	claims  map[string]*claim
	tickets uint64
	pending []*claim // in the order of their versions
	rooms   map[string]map[uint64][]byte
	version uint64   // of the last change
	sent    uint64   // of the last change that was published
	recent  []Change // the last ones up to version
	serial  uint64   // of the last snapshot

	messages []*Message
	events   []Event
}

// Event is what the application's side is to do, in order.
type Event struct {
	What   What
	Key    string // of a claim, or the room
	Ticket uint64 // of a claim
	Node   NodeID
}

// What is a kind of event.
type What uint8

// The kinds of events.
const (
	Granted  What = iota + 1 // the claim holds
	Replaced                 // another claim of the key has won
	Failed                   // the claim was withdrawn, because the bus is gone
	Changed                  // the members of a room have changed
	NodeUp
	NodeDown
)

// New returns a node that knows no other, on a bus that is there. Hello is the first thing it says.
func New(cfg Config, now time.Duration) *Machine {
	m := &Machine{
		cfg: cfg, lastTick: now,
		peers:  make(map[NodeID]*peer),
		claims: make(map[string]*claim),
		rooms:  make(map[string]map[uint64][]byte),
	}
	m.SetUp(true, now)
	return m
}

// SetPartSize bounds the changes in one message from now on.
func (m *Machine) SetPartSize(n int) { m.cfg.PartSize = n }

// Messages returns what is to be sent, in order, and forgets it. What is unpublished of the log is added.
func (m *Machine) Messages() []*Message {
	m.publish()
	m.acknowledge()
	out := m.messages
	m.messages = nil
	return out
}

// Waiting reports whether Messages has something to return.
func (m *Machine) Waiting() bool {
	if len(m.messages) > 0 || m.sent < m.version {
		return true
	}
	for _, p := range m.peers {
		if p.ackDue {
			return true
		}
	}
	return false
}

// Events returns what has happened, in order, and forgets it.
func (m *Machine) Events() []Event {
	out := m.events
	m.events = nil
	return out
}

func (m *Machine) emit(e Event) { m.events = append(m.events, e) }

func (m *Machine) send(msg *Message) {
	msg.From, msg.Clock, msg.Draining = m.cfg.ID, m.clock, m.draining
	m.messages = append(m.messages, msg)
}

// Join enters a member of a room, or gives it another value. It keeps the value.
func (m *Machine) Join(room string, session uint64, value []byte) {
	members := m.rooms[room]
	if members == nil {
		members = make(map[uint64][]byte)
		m.rooms[room] = members
	}
	members[session] = value
	m.log(Change{Op: PutMember, Name: room, ID: session, Value: value})
	m.emit(Event{What: Changed, Key: room})
}

// Leave removes a member of a room, if it is there.
func (m *Machine) Leave(room string, session uint64) {
	members := m.rooms[room]
	if _, ok := members[session]; !ok {
		return
	}
	if delete(members, session); len(members) == 0 {
		delete(m.rooms, room)
	}
	m.log(Change{Op: DeleteMember, Name: room, ID: session})
	m.emit(Event{What: Changed, Key: room})
}

// Member is a session in a room.
type Member struct {
	Node    NodeID
	Session uint64
}

// Members adds the members of a room on all nodes to a map, with their values, which are read-only.
func (m *Machine) Members(room string, to map[Member][]byte) {
	for id, value := range m.rooms[room] {
		to[Member{m.cfg.ID, id}] = value
	}
	for _, p := range m.peers {
		for id, value := range p.rooms[room] {
			to[Member{p.id, id}] = value
		}
	}
}

// Len returns how many members a room has on all nodes.
func (m *Machine) Len(room string) int {
	n := len(m.rooms[room])
	for _, p := range m.peers {
		n += len(p.rooms[room])
	}
	return n
}

// Drain has the others know that this node is about to end.
func (m *Machine) Drain() {
	m.draining = true
	m.beat(Heartbeat, 0)
}

// End says that this node ends.
func (m *Machine) End() { m.send(&Message{Kind: Bye}) }

// Peers returns the nodes that are up, without this one, and whether each is draining.
func (m *Machine) Peers() map[NodeID]bool {
	out := make(map[NodeID]bool, len(m.peers))
	for id, p := range m.peers {
		out[id] = p.draining
	}
	return out
}

// Alone reports whether no other node is up.
func (m *Machine) Alone() bool { return len(m.peers) == 0 }

// Sizes returns how many claims and members this node knows, on all nodes.
func (m *Machine) Sizes() (claims, members int) {
	claims = len(m.claims)
	for room := range maps.Values(m.rooms) {
		members += len(room)
	}
	for _, p := range m.peers {
		claims += len(p.claims)
		for room := range maps.Values(p.rooms) {
			members += len(room)
		}
	}
	return claims, members
}
