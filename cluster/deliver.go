package cluster

import "github.com/nats-io/nats.go"

// syncSubscription subscribes to a room that has members or a function of Intercept, and unsubscribes from one that has neither. Only the
// writer calls it.
func (c *Cluster) syncSubscription(r *Room) {
	c.mu.Lock()
	want := (r.members > 0 || r.intercept.Load() != nil) && !c.closed
	c.mu.Unlock()
	switch sub := r.sub.Load(); {
	case want && sub == nil:
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

// droppedBy returns how many messages NATS' client has dropped of a subscription because its channel was full.
func droppedBy(sub *nats.Subscription) uint64 {
	n, err := sub.Dropped()
	if err != nil {
		return 0 // the connection is closed
	}
	return uint64(n)
}

// droppedByNATS returns what it has dropped of the subscriptions that there are. It grows with Slow, which counts for all of them too.
func (c *Cluster) droppedByNATS() (n uint64) {
	for _, sub := range c.own {
		n += droppedBy(sub)
	}
	c.subscribed.Range(func(_, r any) bool {
		if sub := r.(*Room).sub.Load(); sub != nil {
			n += droppedBy(sub)
		}
		return true
	})
	return n
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
				r.(*Room).receive(m)
			}
			arrived[i] = nil
		}
		spare = arrived
	}
}

// receive hands a message of another node to the members here, unless they have had it (N1). Where a subscription begins is told by the
// messages themselves: those of the one before may still be in the queue when the room is subscribed to again. What was said between
// the two was for nobody here, and is not missed.
func (r *Room) receive(m *nats.Msg) {
	c := r.cluster
	from, at, payload, ok := cutHeader(m.Data)
	if !ok {
		c.stats.malformed.Add(1)
		return
	}
	last, known := r.heard[from]
	switch {
	case !known || at.epoch > last.epoch:
		r.forgetSenders()
	case at.epoch < last.epoch || at.number <= last.number:
		c.stats.repeated.Add(1)
		return
	case last.by == m.Sub:
		c.stats.missed.Add(at.number - last.number - 1)
	}
	r.heard[from] = heard{at, m.Sub}
	c.stats.received.Add(1)
	r.hand(payload)
}

// forgetSenders forgets nodes that are gone, now and then.
func (r *Room) forgetSenders() {
	if len(r.heard) < 64 {
		return
	}
	nodes := r.cluster.Nodes()
	for id := range r.heard {
		if _, up := nodes[id]; !up {
			delete(r.heard, id)
		}
	}
}
