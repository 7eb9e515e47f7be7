package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/servercore-go/servercore/cluster/internal/wall"
	"github.com/servercore-go/servercore/session"
)

// MaxKey is how many bytes a key may have.
const MaxKey = 256

// maxWaiting is how many Sends may wait for a claim to be granted. All that wait together have QueueLimit bytes at most.
const maxWaiting = 1024

// errReleased is what a Claim returns that Release has taken back.
var errReleased = errors.New("cluster: Release has taken the claim back")

// errWaiting is what a Send returns that would have to wait for a claim together with too many others.
var errWaiting = fmt.Errorf("%w: too many messages wait for the claim; nothing was delivered", ErrUnavailable)

// claim is a claim of a session of this node. The cluster's mu guards it.
type claim struct {
	key     string
	ticket  uint64
	session *session.Session
	granted bool
	over    bool
	result  chan error // has the outcome of Claim
	waiting map[*waiter]struct{}
}

// waiter is a Send that waits until a claim is granted or over.
type waiter struct {
	claim   *claim
	size    int // bytes
	decided chan struct{}
}

// grant tells that the claim holds. The caller holds mu.
func (c *Cluster) grant(cl *claim) {
	cl.granted = true
	cl.result <- nil
	c.decide(cl)
}

// finish tells that the claim is over. The caller holds mu and has dropped it.
func (c *Cluster) finish(cl *claim, err error) {
	if cl.over {
		return
	}
	cl.over = true
	if !cl.granted {
		cl.result <- err
	}
	c.decide(cl)
}

// decide has those go on that wait for the claim.
func (c *Cluster) decide(cl *claim) {
	for w := range cl.waiting {
		close(w.decided)
		c.waiting -= w.size
	}
	cl.waiting = nil
}

// giveUp ends a wait before that.
func (c *Cluster) giveUp(w *waiter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, waits := w.claim.waiting[w]; waits {
		delete(w.claim.waiting, w)
		c.waiting -= w.size
	}
}

// drop takes a claim out of what this node knows. The caller holds mu.
func (c *Cluster) drop(cl *claim) {
	delete(c.claims, cl.ticket)
	if t := c.sessions[cl.session]; t != nil && t.claims[cl.key] == cl {
		delete(t.claims, cl.key)
	}
}

// Claim makes the session of h the holder of a key, such as a player's name, in the whole cluster. The session that has held it is ended
// with [ErrReplaced], on whatever node it is, and then Claim returns. The key is free again when the session ends, or by [Cluster.Release].
// A session may hold several keys.
//
// Of two claims at a time the later wins. The other session is ended with ErrReplaced too, and its Claim returns it. While the bus is split
// each side may have a holder; after that the later is left.
//
// It costs a message to each node and one back: Claim waits for that, so call it on a goroutine of your own, or in a session with
// engine.Offload. If a node has just died, that is up to FailAfter. When ctx ends the claim is taken back, and Claim returns an error that
// matches ctx's; then, or if the bus is lost meanwhile, the session that held the key may have been ended already, so that nobody holds it.
//
// Errors match ErrUnavailable (at once, if the bus is gone), ErrReplaced, ErrDraining, ErrTooLarge, ErrClosed, session.ErrClosed if the
// session has ended, or ctx's; none of these if Release has taken the claim back meanwhile. It panics if h is nil.
func (c *Cluster) Claim(ctx context.Context, key string, h session.Handler) error {
	if h == nil {
		panic("cluster: Claim for a nil handler")
	}
	if len(key) > MaxKey {
		return fmt.Errorf("%w: a key has %d bytes at most", ErrTooLarge, MaxKey)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	cl, err := c.enter(key, h)
	if err != nil || cl == nil {
		return err
	}
	select {
	case err = <-cl.result:
		return err
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case err = <-cl.result: // it was decided just now
		return err
	default:
	}
	c.machine.Release(key, cl.ticket)
	c.drop(cl)
	c.finish(cl, ctx.Err())
	<-cl.result
	c.rest(c.sessions[cl.session])
	c.wake()
	return fmt.Errorf("cluster: the claim was not acknowledged by all nodes: %w", ctx.Err())
}

// enter begins a claim. It returns nil if the session holds the key already.
func (c *Cluster) enter(key string, h session.Handler) (*claim, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, ErrClosed
	case c.draining:
		return nil, ErrDraining
	}
	s := session.Of(h)
	t := c.track(h)
	if t == nil {
		return nil, session.ErrClosed
	}
	if before := t.claims[key]; before != nil {
		if before.granted {
			return nil, nil
		}
		return nil, fmt.Errorf("%w: by the same session, and that Claim has not returned", ErrReplaced)
	}
	cl := &claim{key: key, session: s, result: make(chan error, 1)}
	cl.ticket = c.machine.Claim(key, wall.Milli(), c.now())
	c.claims[cl.ticket], t.claims[key] = cl, cl
	c.stats.claims.Add(1)
	c.handleEvents()
	c.wake()
	return cl, nil
}

// Release takes back the claim that the session of h has of the key, if it has one.
func (c *Cluster) Release(key string, h session.Handler) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.sessions[session.Of(h)]
	if t == nil || t.claims[key] == nil {
		return
	}
	cl := t.claims[key]
	c.machine.Release(key, cl.ticket)
	c.drop(cl)
	c.finish(cl, errReleased)
	c.rest(t)
	c.wake()
}

// Holder returns the node of the session that holds the key, or is about to. It is 0 if there is none that this node knows of.
func (c *Cluster) Holder(key string) NodeID {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.machine.Holder(key).Node
}

// hand gives p to the session of this node that holds the key. If its claim is not granted yet it returns what to wait for.
func (c *Cluster) hand(key string, p []byte) (wait *waiter, err error) {
	c.mu.Lock()
	ticket, _ := c.machine.Own(key)
	cl := c.claims[ticket]
	switch {
	case c.closed:
		err = ErrClosed
	case cl == nil:
		err = ErrNoHolder
	case !cl.granted && (len(cl.waiting) >= maxWaiting || c.waiting+len(p)+itemOverhead > c.options.QueueLimit):
		err = errWaiting
	case !cl.granted:
		wait = &waiter{cl, len(p) + itemOverhead, make(chan struct{})}
		if cl.waiting == nil {
			cl.waiting = make(map[*waiter]struct{})
		}
		cl.waiting[wait] = struct{}{}
		c.waiting += wait.size
	}
	c.mu.Unlock()
	if wait != nil || err != nil {
		return wait, err
	}
	// The claim may be replaced now. Then Send refuses, or has accepted before that: what is accepted is delivered before the session ends.
	if err = cl.session.Send(p); errors.Is(err, session.ErrClosed) {
		return nil, ErrNoHolder
	}
	return nil, err
}
