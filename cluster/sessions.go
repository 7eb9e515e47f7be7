package cluster

import "github.com/servercore-go/servercore/session"

// tracked is a session of this node that is in a room or claims a key.
type tracked struct {
	handler session.Handler
	rooms   map[*Room]struct{}
	claims  map[string]*claim
	busy    bool // it is in a room or has a key, or has lost one and is about to end
}

// track returns what is kept of a session, nil if it is not connected. The caller holds mu.
func (c *Cluster) track(h session.Handler) *tracked {
	s := session.Of(h)
	t := c.sessions[s]
	if t == nil {
		if !s.AtEnd(func() { c.ended(s) }) {
			return nil
		}
		t = &tracked{handler: h, rooms: make(map[*Room]struct{}), claims: make(map[string]*claim)}
		c.sessions[s] = t
	}
	if !t.busy {
		t.busy = true
		c.busy++
	}
	return t
}

// rest notes that a session has left a room or given back a key. The caller holds mu.
func (c *Cluster) rest(t *tracked) {
	if t != nil && t.busy && len(t.rooms)+len(t.claims) == 0 {
		c.idle(t)
	}
}

func (c *Cluster) idle(t *tracked) {
	if !t.busy {
		return
	}
	t.busy = false
	if c.busy--; c.busy == 0 && c.emptied != nil {
		close(c.emptied)
		c.emptied = nil
	}
}

// ended is called on the loop of a session that has ended.
func (c *Cluster) ended(s *session.Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(s)
}

// forget ends all that a session has here. The caller holds mu.
func (c *Cluster) forget(s *session.Session) {
	t := c.sessions[s]
	if t == nil {
		return
	}
	delete(c.sessions, s)
	for r := range t.rooms {
		c.leave(r, t, s)
	}
	for _, cl := range t.claims {
		c.machine.Release(cl.key, cl.ticket)
		c.drop(cl)
		c.finish(cl, session.ErrClosed)
	}
	c.handleEvents()
	c.idle(t)
	c.wake()
}
