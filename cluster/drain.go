package cluster

import (
	"context"

	"github.com/servercore-go/servercore/session"
)

// Drain moves the sessions of this node to others, before it ends. Call it on SIGTERM, then Shutdown of the engine, then Close.
//
// The other nodes see it as draining (Nodes), and Claim fails here with ErrDraining. tell is called once for each session that is in a room
// or holds a key, on the caller's goroutine: it sends the message of your protocol that has the client connect elsewhere, and must not end
// the session. The client claims its key there, which ends the session here with ErrReplaced, or just disconnects. Until then a Send to the
// key comes to the session here. From then on it comes to the new one, or fails with an error: none is delivered twice, and none is lost
// without one.
//
// Drain returns nil when no such session is left, ctx's error if some are when it ends, or ErrClosed. Sessions may go on joining rooms
// meanwhile; those that come after the call are not told.
func (c *Cluster) Drain(ctx context.Context, tell func(h session.Handler)) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return ErrClosed
	}
	c.draining = true
	c.machine.Drain()
	handlers := make([]session.Handler, 0, c.busy)
	for _, t := range c.sessions {
		if t.busy {
			handlers = append(handlers, t.handler)
		}
	}
	c.mu.Unlock()
	c.wake()
	if tell != nil {
		for _, h := range handlers {
			tell(h)
		}
	}
	c.mu.Lock()
	if c.busy == 0 {
		c.mu.Unlock()
		return nil
	}
	if c.emptied == nil {
		c.emptied = make(chan struct{})
	}
	emptied := c.emptied
	c.mu.Unlock()
	select {
	case <-emptied:
		return nil
	case <-c.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}
