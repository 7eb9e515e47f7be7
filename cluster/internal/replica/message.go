package replica

import "fmt"

// NodeID is the identity of a node: random, new with each start. 0 is no node.
type NodeID uint64

// String returns 16 hexadecimal digits.
func (n NodeID) String() string { return fmt.Sprintf("%016x", uint64(n)) }

// Stamp orders claims: by a hybrid clock, and by node where that is equal.
type Stamp struct {
	Clock uint64 // milliseconds of the wall clock in the upper 48 bits, or more
	Node  NodeID
}

// Less reports whether s loses against o.
func (s Stamp) Less(o Stamp) bool {
	return s.Clock < o.Clock || s.Clock == o.Clock && s.Node < o.Node
}

// Kind is what a message says.
type Kind uint8

// The kinds of messages.
const (
	Heartbeat Kind = iota + 1 // Version of the log, and Acks
	Hello                     // as Heartbeat, and asks for one in return
	Delta                     // Changes, of which the last has Version
	Sync                      // asks for what is behind Version
	Snapshot                  // the whole log at Version, part Part of Parts
	Ack                       // the receiver's log is applied up to Version
	Bye                       // the node ends
)

// Message is what one node says to another, or to all.
type Message struct {
	Kind     Kind
	From, To NodeID // To is 0 for all
	Version  uint64
	Clock    uint64 // of the sender, see Stamp
	Draining bool
	Serial   uint64 // of Snapshot: two of the same version are cut in different ways
	Part     uint32 // of Snapshot, from 0
	Parts    uint32
	Acks     []Applied
	Changes  []Change
}

// Applied says up to which version the log of a node is applied.
type Applied struct {
	Node    NodeID
	Version uint64
}

// Change is one step of a log, or an entry of a snapshot.
type Change struct {
	Op    Op
	Name  string // the key, or the room
	ID    uint64 // of a claim its clock, of a member the session
	Value []byte // of a member
}

// Op is what a change does.
type Op uint8

// The operations.
const (
	PutClaim Op = iota + 1
	DeleteClaim
	PutMember
	DeleteMember
)

// size is about the memory of a change, in bytes.
func (c *Change) size() int { return len(c.Name) + len(c.Value) + 24 }
