package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"weak"

	"github.com/nats-io/nats.go"

	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

// MaxValue is how many bytes a member's value may have.
const MaxValue = 512

// Room is a [session.Group] whose members are on all nodes. Get one with [Cluster.Room]. Its methods may be called from any goroutine and
// inside callbacks, but for Len and Members none waits for anything, and those only for a lock.
type Room struct {
	cluster *Cluster
	name    string
	id      string // among nodes, see identity
	subject string
	group   session.Group
	ref     *roomRef

	// send guards the group below, and makes one order of Broadcasts for the members here and for the bus.
	send   sync.Mutex
	epoch  uint64
	number uint64

	members int // under the cluster's mu

	intercept atomic.Pointer[func(p []byte, except ...session.Handler)]

	sub atomic.Pointer[nats.Subscription] // the writer's, read by Stats

	// Of the goroutine that delivers.
	heard map[NodeID]heard // the last message of each
}

// position is a message of a sender.
type position struct{ epoch, number uint64 }

// heard is the last message of a sender, and the subscription by which it came.
type heard struct {
	position
	by *nats.Subscription
}

// roomRef is how a cluster knows a room: weakly, unless it has members or somebody watches.
type roomRef struct {
	weak    weak.Pointer[Room]
	strong  *Room
	uses    int // members, watchers, and a function of Intercept
	watches map[*watch]struct{}
}

// use keeps the room, or lets it go. The caller holds the cluster's mu.
func (f *roomRef) use(r *Room, n int) {
	if f.uses += n; f.uses > 0 {
		f.strong = r
	} else {
		f.strong = nil
	}
}

// Room returns the room of that name, which may be any string. All calls with one name return the same Room, while anybody refers to it or
// it has members. A room that is not used any more is garbage.
func (c *Cluster) Room(name string) *Room {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := identity(name)
	if ref := c.rooms[id]; ref != nil {
		if r := ref.weak.Value(); r != nil {
			return r
		}
	}
	c.stats.epochs++
	r := &Room{cluster: c, name: name, id: id, subject: c.prefix + token(name), epoch: c.stats.epochs,
		heard: make(map[NodeID]heard)}
	r.ref = &roomRef{weak: weak.Make(r)}
	c.rooms[id] = r.ref
	runtime.AddCleanup(r, func(ref *roomRef) { c.forgetRoom(id, ref) }, r.ref)
	return r
}

// forgetRoom is called when nobody refers to a room.
func (c *Cluster) forgetRoom(id string, ref *roomRef) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rooms[id] == ref {
		delete(c.rooms, id)
	}
}

// longName is the length of a name, in bytes, from which other nodes know the room by less.
const longName = 256

// identity is the name, or what stands for it where it is long: what nodes say of a room fits in any message of the bus.
func identity(name string) string {
	if len(name) <= longName {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return name[:longName] + string(sum[:]) // longer than each that is not long
}

// token is the end of the subject of a room.
func token(name string) string {
	if len(name) < 48 && name != "" {
		return ".r." + base64.RawURLEncoding.EncodeToString([]byte(name))
	}
	sum := sha256.Sum256([]byte(name))
	return ".h." + base64.RawURLEncoding.EncodeToString(sum[:])
}

// Name returns the name of the room.
func (r *Room) Name() string { return r.name }

// Local returns the members on this node. Join and leave by the room, not by this group; what is broadcast here reaches this node only.
func (r *Room) Local() *session.Group { return &r.group }

// Join makes h a member, as [session.Group.Join] does. It leaves by itself when its connection is closed, before its OnDisconnected.
// Broadcasts of other nodes reach it once this node has subscribed, in a moment: before another node has it among its Members.
func (r *Room) Join(h session.Handler) { _ = r.JoinWith(h, nil) }

// JoinWith is Join with a value for Members, of MaxValue bytes at most, which is copied. A member gets the new value. Errors match
// ErrTooLarge, ErrClosed, or session.ErrClosed if h has no connection. It panics if h is nil.
func (r *Room) JoinWith(h session.Handler, value []byte) error {
	if h == nil {
		panic("cluster: Join of a nil handler")
	}
	if len(value) > MaxValue {
		return fmt.Errorf("%w: a value has %d bytes at most", ErrTooLarge, MaxValue)
	}
	if len(value) > 0 {
		value = append([]byte(nil), value...)
	}
	c, s := r.cluster, session.Of(h)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	t := c.track(h)
	if t == nil {
		return session.ErrClosed
	}
	if _, in := t.rooms[r]; !in {
		t.rooms[r] = struct{}{}
		r.group.Join(h)
		if r.members++; r.members == 1 {
			c.dirty = append(c.dirty, r)
		}
		r.ref.use(r, 1)
	}
	c.machine.Join(r.id, s.ID(), value)
	c.handleEvents()
	c.wake()
	return nil
}

// Leave ends the membership of h, if there is one.
func (r *Room) Leave(h session.Handler) {
	s := session.Of(h)
	r.cluster.mu.Lock()
	defer r.cluster.mu.Unlock()
	if t := r.cluster.sessions[s]; t != nil {
		r.cluster.leave(r, t, s)
		r.cluster.rest(t)
		r.cluster.handleEvents()
		r.cluster.wake()
	}
}

// leave ends a membership. The caller holds mu.
func (c *Cluster) leave(r *Room, t *tracked, s *session.Session) {
	if _, in := t.rooms[r]; !in {
		return
	}
	delete(t.rooms, r)
	r.group.Leave(s)
	if r.members--; r.members == 0 {
		c.dirty = append(c.dirty, r)
	}
	c.machine.Leave(r.id, s.ID())
	r.ref.use(r, -1)
}

// Broadcast is a Send of p to each member on all nodes, but those excepted (which are sessions of this node). p is the caller's again when
// Broadcast returns.
//
// Members here get it at once, whatever happens to the rest. For the others it is queued, and crosses the bus once for each node that has
// members. All members on a node get the Broadcasts of one node's goroutine in the order in which it made them, each once. There is no
// order between nodes.
//
// nil does not mean that others have got it: what is lost is counted (Stats). ErrUnavailable means that it was queued for members here
// only, ErrTooLarge that it is longer than the bus takes (1 MiB by default), ErrClosed that it was for nobody. For nobody is it kept.
func (r *Room) Broadcast(p []byte, except ...session.Handler) error {
	c := r.cluster
	r.send.Lock()
	defer r.send.Unlock()
	r.hand(p, except...)
	if c.isClosed() {
		return ErrClosed
	}
	if c.server != nil && !c.routed {
		return nil // nobody else can be there
	}
	if !c.Available() {
		c.stats.unsent.Add(1)
		return ErrUnavailable
	}
	if most := int(c.payload.Load()) - headerSize; len(p) > most {
		return fmt.Errorf("%w: %d bytes, and the bus takes %d", ErrTooLarge, len(p), most)
	}
	r.number++
	b := pool.GetSize(len(p) + headerSize)
	b.B = append(appendHeader(b.B, c.id, position{r.epoch, r.number}), p...)
	if !c.out.put(outgoing{r, b}, len(b.B)) {
		b.Release()
		c.stats.overflowed.Add(1)
		return errQueueFull
	}
	return nil
}

// Len returns how many members the room has on all nodes, as far as this node knows. ErrUnavailable: what others have is not known.
func (r *Room) Len(ctx context.Context) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	c := r.cluster
	if err := c.check(); err != nil {
		return 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, ErrClosed
	}
	return c.machine.Len(r.id), nil
}

// headerSize is the most that a header takes: a version, the sender, an epoch, a number.
const headerSize = 1 + 8 + 2*binary.MaxVarintLen64

// roomProtocol is the first byte of a message to a room.
const roomProtocol = 1

func appendHeader(b []byte, from NodeID, at position) []byte {
	b = append(b, roomProtocol)
	b = binary.BigEndian.AppendUint64(b, uint64(from))
	return binary.AppendUvarint(binary.AppendUvarint(b, at.epoch), at.number)
}

// cutHeader returns what the header says, and the rest.
func cutHeader(b []byte) (from NodeID, at position, payload []byte, ok bool) {
	if len(b) < 9 || b[0] != roomProtocol {
		return 0, at, nil, false
	}
	from, b = NodeID(binary.BigEndian.Uint64(b[1:])), b[9:]
	var n [2]uint64
	for i := range n {
		v, size := binary.Uvarint(b)
		if size <= 0 {
			return 0, at, nil, false
		}
		n[i], b = v, b[size:]
	}
	return from, position{n[0], n[1]}, b, true
}
