package cluster

import "sync/atomic"

// counters are what Stats is made of.
type counters struct {
	published, received, repeated, missed        atomic.Uint64
	dropped, overflowed, unsent, slow, malformed atomic.Uint64
	claims, replaced, sent                       atomic.Uint64
	shown                                        atomic.Uint64 // the most that Dropped has been
	epochs                                       uint64        // of rooms, under the cluster's mu
}

// Stats counts what a node has done since Open, and tells how it is now. Each field is declared here: its tags are the name that Prometheus
// has for it, and what it means. See [Cluster.Metrics].
type Stats struct {
	Published  uint64 `metric:"servercore_cluster_published_messages_total" help:"Messages to rooms that were given to the bus."`
	Received   uint64 `metric:"servercore_cluster_received_messages_total" help:"Messages to rooms that came from other nodes, and were handed to members."`
	Repeated   uint64 `metric:"servercore_cluster_repeated_messages_total" help:"Messages to rooms that had come before, and were dropped."`
	Missed     uint64 `metric:"servercore_cluster_missed_messages_total" help:"Messages to rooms that others have sent and that have not come, as their numbers show."`
	Dropped    uint64 `metric:"servercore_cluster_dropped_messages_total" help:"Messages that came and did not fit, because this node is slow: those to rooms in QueueLimit, and any in what NATS' client keeps."`
	Overflowed uint64 `metric:"servercore_cluster_overflowed_messages_total" help:"Broadcasts that did not fit in QueueLimit, because the bus is slow."`
	Unsent     uint64 `metric:"servercore_cluster_unsent_messages_total" help:"Messages that were to be sent while the bus was gone."`
	Slow       uint64 `metric:"servercore_cluster_slow_consumer_errors_total" help:"How often NATS' client has begun to drop what came; how many messages it were is in the dropped ones."`
	Malformed  uint64 `metric:"servercore_cluster_malformed_messages_total" help:"Messages that were not understood."`
	Claims     uint64 `metric:"servercore_cluster_claims_total" help:"Claims that were begun."`
	Replaced   uint64 `metric:"servercore_cluster_replaced_sessions_total" help:"Sessions of this node that have lost a key to another."`
	Sent       uint64 `metric:"servercore_cluster_answered_sends_total" help:"Sends that were answered by other nodes."`

	Nodes        int  `metric:"servercore_cluster_nodes" help:"Nodes that are up, this one included."`
	KnownClaims  int  `metric:"servercore_cluster_known_claims" help:"Claims of keys on all nodes."`
	KnownMembers int  `metric:"servercore_cluster_known_members" help:"Memberships in rooms on all nodes."`
	Rooms        int  `metric:"servercore_cluster_rooms" help:"Rooms that have members on this node."`
	Sessions     int  `metric:"servercore_cluster_sessions" help:"Sessions of this node that are in a room or hold a key."`
	Available    bool `metric:"servercore_cluster_bus_up" help:"Whether the bus is there, as far as this node can tell: 1 or 0."`
}

// Stats returns the counts. It takes time that grows with the number of rooms.
func (c *Cluster) Stats() Stats {
	n := &c.stats
	s := Stats{
		Published: n.published.Load(), Received: n.received.Load(), Repeated: n.repeated.Load(), Missed: n.missed.Load(),
		Dropped: n.dropped.Load(), Overflowed: n.overflowed.Load(), Unsent: n.unsent.Load(), Slow: n.slow.Load(), Malformed: n.malformed.Load(),
		Claims: n.claims.Load(), Replaced: n.replaced.Load(), Sent: n.sent.Load(),
	}
	s.Dropped = c.neverLess(s.Dropped + c.droppedByNATS())
	s.Available = c.Available()
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Nodes = len(c.gone) + 1
	s.KnownClaims, s.KnownMembers = c.machine.Sizes()
	s.Sessions = c.busy
	for _, ref := range c.rooms {
		if ref.strong != nil && ref.strong.members > 0 {
			s.Rooms++
		}
	}
	return s
}

// neverLess returns n, or what it has returned before if that was more: what NATS has counted for a subscription is out of sight while that
// ends.
func (c *Cluster) neverLess(n uint64) uint64 {
	for {
		before := c.stats.shown.Load()
		if n <= before {
			return before
		}
		if c.stats.shown.CompareAndSwap(before, n) {
			return n
		}
	}
}
