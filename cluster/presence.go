package cluster

import (
	"context"

	"github.com/servercore-go/servercore/cluster/internal/replica"
)

// Member is a session in a room, on whatever node.
type Member struct {
	Node    NodeID
	Session uint64 // its ID on that node
	Value   string // what it has joined with
}

// Event is a step of a room's members.
type Event struct {
	Member
	Joined bool // it is in the room now, or has another value; false: it has left
}

// Members returns the members of the room on all nodes, as far as this node knows, in no order. A member of a node that has died is
// gone after FailAfter. Errors are those of Len.
func (r *Room) Members(ctx context.Context) ([]Member, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c := r.cluster
	if err := c.check(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	present := r.present()
	members := make([]Member, 0, len(present))
	for m, value := range present {
		members = append(members, Member{m.Node, m.Session, value})
	}
	return members, nil
}

// present returns who is in the room, and the value of each.
func (r *Room) present() map[replica.Member]string {
	c := r.cluster
	found := make(map[replica.Member][]byte)
	c.mu.Lock()
	c.machine.Members(r.id, found)
	c.mu.Unlock()
	members := make(map[replica.Member]string, len(found))
	for m, value := range found { // no value is ever written to
		members[m] = string(value)
	}
	return members
}

// watch is one Watch.
type watch struct{ changed chan struct{} }

// changed tells those that watch. The caller holds the cluster's mu.
func (f *roomRef) changed() {
	for w := range f.watches {
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
}

// Watch calls f for each member of the room that there is, and then for each that joins or leaves, until ctx ends or the cluster is closed.
// It returns the reason. f runs on the caller's goroutine and may take its time: what happens meanwhile is told as the difference, so that
// a member that has come and gone is not told of. A node that goes down takes its members with it. While the bus is gone nothing is told of
// members on other nodes.
//
// A change costs a look at all members of the room.
func (r *Room) Watch(ctx context.Context, f func(Event)) error {
	c := r.cluster
	w := &watch{make(chan struct{}, 1)}
	w.changed <- struct{}{}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return ErrClosed
	}
	if r.ref.watches == nil {
		r.ref.watches = make(map[*watch]struct{})
	}
	r.ref.watches[w] = struct{}{}
	r.ref.use(r, 1)
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(r.ref.watches, w)
		r.ref.use(r, -1)
	}()
	told := make(map[replica.Member]string)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.done:
			return ErrClosed
		case <-w.changed:
		}
		now := r.present()
		for m, value := range told {
			if _, in := now[m]; !in {
				f(Event{Member{m.Node, m.Session, value}, false})
			}
		}
		for m, value := range now {
			if before, in := told[m]; !in || before != value {
				f(Event{Member{m.Node, m.Session, value}, true})
			}
		}
		told = now
	}
}
