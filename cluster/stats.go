package cluster

import "sync/atomic"

// counters are what Stats is made of.
type counters struct {
	published, received, repeated, missed        atomic.Uint64
	dropped, overflowed, unsent, slow, malformed atomic.Uint64
	claims, replaced, sent                       atomic.Uint64
	epochs                                       uint64 // of rooms, under the cluster's mu
}

// Stats counts what a node has done since Open, but for the last four.
type Stats struct {
	Published  uint64 // messages to rooms that were given to the bus
	Received   uint64 // messages to rooms that came from other nodes, and were handed to members
	Repeated   uint64 // those that had come before, and were dropped
	Missed     uint64 // those that others have sent and that have not come, as their numbers show
	Dropped    uint64 // messages that came and did not fit, because this node is slow: those to rooms in QueueLimit, and any in what NATS' client keeps
	Overflowed uint64 // Broadcasts that did not fit in QueueLimit, because the bus is slow
	Unsent     uint64 // messages that were to be sent while the bus was gone
	Slow       uint64 // how often NATS' client has begun to drop what came; how many it were is in Dropped
	Malformed  uint64 // messages that were not understood
	Claims     uint64 // Claims that were begun
	Replaced   uint64 // sessions of this node that have lost a key to another
	Sent       uint64 // Sends that were answered by other nodes

	Nodes        int // that are up, this one included
	KnownClaims  int // on all nodes
	KnownMembers int // memberships on all nodes
	Sessions     int // of this node that are in a room or hold a key
}

// Stats returns the counts. It takes time that grows with the number of rooms.
func (c *Cluster) Stats() Stats {
	n := &c.stats
	s := Stats{
		Published: n.published.Load(), Received: n.received.Load(), Repeated: n.repeated.Load(), Missed: n.missed.Load(),
		Dropped: n.dropped.Load(), Overflowed: n.overflowed.Load(), Unsent: n.unsent.Load(), Slow: n.slow.Load(), Malformed: n.malformed.Load(),
		Claims: n.claims.Load(), Replaced: n.replaced.Load(), Sent: n.sent.Load(),
	}
	s.Dropped += c.droppedByNATS()
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Nodes = len(c.gone) + 1
	s.KnownClaims, s.KnownMembers = c.machine.Sizes()
	s.Sessions = len(c.sessions)
	return s
}
