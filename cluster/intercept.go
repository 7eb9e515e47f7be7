package cluster

import "github.com/servercore-go/servercore/session"

// Intercept has f hand the room's Broadcasts to the members on this node. Without f each of them is r.Local().Broadcast(p, except...); f
// calls that itself, or not. So a server reads what is said in a room: for a history, a log or a filter. Members on other nodes are not
// affected.
//
// f is called with the Broadcasts of this node, on the goroutine of each, and with those of other nodes, on one of the cluster's; the two
// may come at the same time. Calls for Broadcasts of one node come one after the other, in its order. p is valid, and read-only, until f
// returns. f must not wait, because that delays other rooms, and must not call Broadcast of the same room.
//
// With f the node is subscribed to the room though it has no members, and the room is kept. Nil takes f away.
func (r *Room) Intercept(f func(p []byte, except ...session.Handler)) {
	c := r.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	var next *func(p []byte, except ...session.Handler)
	if f != nil {
		next = &f
	}
	before := r.intercept.Swap(next)
	if (before == nil) == (next == nil) {
		return
	}
	n := 1
	if next == nil {
		n = -1
	}
	r.ref.use(r, n)
	c.dirty = append(c.dirty, r)
	c.wake()
}

// hand gives a Broadcast to the members here.
func (r *Room) hand(p []byte, except ...session.Handler) {
	if f := r.intercept.Load(); f != nil {
		(*f)(p, except...)
		return
	}
	r.group.Broadcast(p, except...)
}
