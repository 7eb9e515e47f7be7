package cluster

import "github.com/nats-io/nats.go"

// syncSubscription subscribes to a room that has members, and unsubscribes from one that has none. Only the writer calls it.
func (c *Cluster) syncSubscription(r *Room) {
	c.mu.Lock()
	want := r.members > 0 && !c.closed
	c.mu.Unlock()
	switch sub := r.sub.Load(); {
	case want && sub == nil:
		select {
		case r.resubscribed <- struct{}{}:
		default:
		}
		c.subscribed.Store(r.subject, r)
		sub, err := c.bus.ChanSubscribe(r.subject, c.arrived)
		if err != nil {
			c.limited.warn(c.options.Logger, "A room cannot be subscribed to; its members receive from this node only.", err)
			return
		}
		r.sub.Store(sub)
	case !want && sub != nil:
		r.sub.Store(nil)
		c.stats.dropped.Add(droppedBy(sub))
		_ = sub.Unsubscribe()
		c.subscribed.Delete(r.subject)
	}
}

// droppedBy returns how many messages NATS' client has dropped because readRooms did not come to them.
func droppedBy(sub *nats.Subscription) uint64 {
	n, err := sub.Dropped()
	if err != nil {
		return 0 // the connection is closed
	}
	return uint64(n)
}

// readRooms is the goroutine that takes what comes for rooms from NATS. It never waits, so that nothing is lost but where a bound in bytes
// says so (N4).
func (c *Cluster) readRooms() {
	for {
		select {
		case <-c.done:
			return
		case m := <-c.arrived:
			if !c.in.put(m, len(m.Data)) {
				c.stats.dropped.Add(1)
			}
		}
	}
}

// deliver is the goroutine that hands what has come to members.
func (c *Cluster) deliver() {
	var spare []*nats.Msg
	for {
		select {
		case <-c.done:
			return
		case <-c.in.ready:
		}
		arrived := c.in.take(spare)
		for i, m := range arrived {
			if r, ok := c.subscribed.Load(m.Subject); ok {
				r.(*Room).receive(m.Data)
			}
			arrived[i] = nil
		}
		spare = arrived
	}
}

// receive hands a message of another node to the members here, unless they have had it (N1).
func (r *Room) receive(data []byte) {
	c := r.cluster
	from, at, payload, ok := cutHeader(data)
	if !ok {
		c.stats.malformed.Add(1)
		return
	}
	select {
	case <-r.resubscribed:
		clear(r.positions)
	default:
	}
	last, known := r.positions[from]
	switch {
	case !known || at.epoch > last.epoch:
		r.forgetSenders()
	case at.epoch < last.epoch || at.number <= last.number:
		c.stats.repeated.Add(1)
		return
	default:
		c.stats.missed.Add(at.number - last.number - 1)
	}
	r.positions[from] = at
	c.stats.received.Add(1)
	r.group.Broadcast(payload)
}

// forgetSenders forgets nodes that are gone, now and then.
func (r *Room) forgetSenders() {
	if len(r.positions) < 64 {
		return
	}
	nodes := r.cluster.Nodes()
	for id := range r.positions {
		if _, up := nodes[id]; !up {
			delete(r.positions, id)
		}
	}
}
