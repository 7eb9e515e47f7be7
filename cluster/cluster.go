package cluster

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/servercore-go/servercore/cluster/internal/replica"
	"github.com/servercore-go/servercore/session"
)

// NodeID is the identity of a node. It is random, and another one after each Open.
type NodeID = replica.NodeID

// Cluster is this process as a node of a cluster. Its methods may be called from any goroutine.
type Cluster struct {
	id      NodeID
	options Options
	began   time.Time
	server  *server.Server // nil with a URL
	routed  bool           // the embedded server has others beside it
	bus     *nats.Conn
	prefix  string // of all subjects

	up       atomic.Bool  // there is a connection to the bus
	isolated atomic.Bool  // no route, though other nodes are up; renewed by each tick
	payload  atomic.Int64 // the most that the bus takes in one message; asking NATS would wait for a write
	limited  limited
	stats    counters

	out     queue[outgoing] // from loops to the bus
	in      queue[*nats.Msg]
	woken   chan struct{} // for the writer
	control chan *nats.Msg
	arrived chan *nats.Msg // of all rooms
	done    chan struct{}
	written chan struct{} // closed when the writer has ended
	running sync.WaitGroup

	subscribed sync.Map             // subject -> *Room
	own        []*nats.Subscription // what each node has, made by Open
	asked      *nats.Subscription   // one of them: the Sends of other nodes

	// mu guards the group below. A session's and a group's locks may be taken under it. It is not held while anything is written to the
	// bus.
	mu       sync.Mutex
	closed   bool
	draining bool
	machine  *replica.Machine
	sessions map[*session.Session]*tracked
	busy     int               // of sessions, those in a room or with a key
	claims   map[uint64]*claim // by ticket
	waiting  int               // bytes of Sends that wait for a claim
	rooms    map[string]*roomRef
	dirty    []*Room // whose subscription may have to change
	gone     map[NodeID]chan struct{}
	emptied  chan struct{} // closed when no session is tracked, while Drain waits
}

// Open starts a node. It returns when the node is part of the bus: with Routes when another node is connected, or after a second in which
// none was up.
//
// The zero Options are a node by itself, on which everything works. Errors match ErrOptions, ErrRefused, ErrVersion or ErrUnavailable, or
// come from the operating system; nothing is left behind then.
func Open(o Options) (*Cluster, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	var id [8]byte
	_, _ = rand.Read(id[:])
	c := &Cluster{
		id: NodeID(binary.BigEndian.Uint64(id[:]) | 1), options: o, began: time.Now(), prefix: "sc." + o.Name,
		woken: make(chan struct{}, 1), done: make(chan struct{}), written: make(chan struct{}),
		control: make(chan *nats.Msg, 4096), arrived: make(chan *nats.Msg, 8192),
		sessions: make(map[*session.Session]*tracked), claims: make(map[uint64]*claim),
		rooms: make(map[string]*roomRef), gone: make(map[NodeID]chan struct{}),
	}
	c.out.init(o.QueueLimit)
	c.in.init(o.QueueLimit)
	c.out.free = func(o outgoing) { o.data.Release() }
	config := replica.Config{ID: c.id, Heartbeat: o.FailAfter / 6, FailAfter: o.FailAfter, Settle: o.FailAfter / 6, PartSize: 64 << 10}
	var password string
	if o.Embedded != nil {
		if c.server, password, err = startEmbedded(o.Embedded, o.FailAfter, o.Logger); err != nil {
			return nil, err
		}
		if c.routed = o.Embedded.networked(); !c.routed {
			config.Settle = 0 // there is nobody to wait for
		}
	}
	c.machine = replica.New(config, c.now())
	if c.bus, err = c.connect(password); err == nil {
		err = c.subscribe()
	}
	if err != nil {
		c.mu.Lock()
		c.closed = true
		c.mu.Unlock()
		c.release()
		return nil, err
	}
	c.begin()
	return c, nil
}

// begin has the goroutines run. The connection may have been lost since it was made.
func (c *Cluster) begin() {
	c.mu.Lock()
	up := c.bus.IsConnected()
	c.machine.SetUp(false, c.now())
	c.machine.SetUp(up, c.now())
	c.measure(c.bus.MaxPayload())
	c.up.Store(up)
	c.mu.Unlock()
	for _, run := range []func(){c.tick, c.write, c.readControl, c.readRooms, c.deliver, c.readAsked} {
		c.running.Go(run)
	}
	c.wake()
}

// minPayload is the least that the bus may take in one message: twice a change with a room of the longest name and the largest value, and what a
// heartbeat to a hundred nodes has.
const minPayload = 4 << 10

// measure notes what the bus takes in one message. The caller holds mu.
func (c *Cluster) measure(most int64) {
	c.payload.Store(most)
	c.machine.SetPartSize(int(min(64<<10, most/2)))
}

// subscribe makes the subscriptions that each node has.
func (c *Cluster) subscribe() error {
	for _, subject := range []string{c.prefix + ".all", c.prefix + ".n." + c.id.String()} {
		sub, err := c.bus.ChanSubscribe(subject, c.control)
		if err != nil {
			return fmt.Errorf("cluster: subscribing to %s: %w", subject, err)
		}
		c.own = append(c.own, sub)
	}
	var err error
	if c.asked, err = c.bus.SubscribeSync(c.prefix + ".s." + c.id.String()); err == nil {
		err = c.asked.SetPendingLimits(maxAsked, c.options.QueueLimit)
	}
	if err != nil {
		return fmt.Errorf("cluster: subscribing to what is sent to keys: %w", err)
	}
	c.own = append(c.own, c.asked)
	if err := c.bus.FlushTimeout(2 * time.Second); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err := c.bus.LastError(); errors.Is(err, nats.ErrPermissionViolation) {
		return fmt.Errorf("%w by NATS: the user needs to publish and subscribe to %s.> and _INBOX.>: %w", ErrRefused, c.prefix, err)
	}
	return nil
}

// release ends the connection and the server.
func (c *Cluster) release() {
	if c.bus != nil {
		c.bus.Close()
	}
	if c.server != nil {
		c.server.Shutdown()
		c.server.WaitForShutdown()
	}
}

// Close ends the node. The others are told, so that its claims are free and its members gone for them at once. Sessions are not ended, but
// are in no room any more; those that wait in Claim or Send get ErrClosed. See Drain for an end that moves sessions first.
func (c *Cluster) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return ErrClosed
	}
	c.closed = true
	for _, cl := range c.claims {
		c.finish(cl, ErrClosed)
	}
	for s := range c.sessions {
		c.forget(s)
	}
	for _, ref := range c.rooms {
		if r := ref.strong; r != nil && r.intercept.Swap(nil) != nil {
			ref.use(r, -1) // the room refers to this cluster, and the function to whatever it likes
		}
	}
	close(c.done) // before those: a Send has ErrClosed
	for _, gone := range c.gone {
		close(gone)
	}
	clear(c.gone)
	c.mu.Unlock()
	c.in.close()
	c.out.close()
	if c.up.Load() {
		<-c.written // no message may follow Bye
		c.mu.Lock()
		c.machine.End()
		messages := c.machine.Messages()
		c.mu.Unlock()
		c.publish(messages)
		_ = c.bus.FlushTimeout(time.Second)
	}
	c.up.Store(false)
	dropped := c.droppedByNATS() // it has no answer when it is closed
	c.bus.Close()
	c.stats.dropped.Add(dropped)
	c.running.Wait()
	c.in.clear()
	c.out.clear()
	c.subscribed.Clear() // a room that is known from here is not garbage, nor is the cluster then
	c.mu.Lock()
	c.dirty = nil
	c.mu.Unlock()
	c.release()
	return nil
}

// ID returns the identity of this node.
func (c *Cluster) ID() NodeID { return c.id }

// RouteAddr returns the address that other embedded nodes connect to: what Embedded.Listen was, with the real port. It is nil if there is
// none, and after Close.
func (c *Cluster) RouteAddr() net.Addr {
	if c.server == nil || !c.routed {
		return nil
	}
	if addr := c.server.ClusterAddr(); addr != nil {
		return addr
	}
	return nil // it is closed
}

// Nodes returns the nodes that are up, this one included, and whether each is draining.
func (c *Cluster) Nodes() map[NodeID]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	nodes := c.machine.Peers()
	nodes[c.id] = c.draining
	return nodes
}

// Available reports whether the bus is there, as far as this node can tell.
func (c *Cluster) Available() bool { return c.up.Load() && !c.isolated.Load() }

// now is the machine's clock.
func (c *Cluster) now() time.Duration { return time.Since(c.began) }

// wake has the writer look.
func (c *Cluster) wake() {
	select {
	case c.woken <- struct{}{}:
	default:
	}
}

// tick is the goroutine that tells the machine the time.
func (c *Cluster) tick() {
	t := time.NewTicker(c.options.FailAfter / 30)
	defer t.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-t.C:
		}
		c.isolated.Store(c.isIsolated())
		c.mu.Lock()
		c.machine.Tick(c.now())
		c.handleEvents()
		waiting := c.machine.Waiting()
		c.mu.Unlock()
		if waiting {
			c.wake()
		}
	}
}

// isIsolated reports whether the embedded server has lost all others, and they are not yet known to be down.
func (c *Cluster) isIsolated() bool {
	if !c.routed || c.server.NumRoutes() > 0 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.machine.Alone()
}

// isClosed reports whether Close was called.
func (c *Cluster) isClosed() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// check returns why others cannot be reached now, if they cannot.
func (c *Cluster) check() error {
	if c.isClosed() {
		return ErrClosed
	}
	if !c.up.Load() || c.isIsolated() {
		return ErrUnavailable
	}
	return nil
}

// readControl is the goroutine that takes what the other nodes say.
func (c *Cluster) readControl() {
	for {
		select {
		case <-c.done:
			return
		case raw := <-c.control:
			msg, err := replica.Decode(raw.Data)
			if err != nil {
				c.stats.malformed.Add(1)
				c.limited.warn(c.options.Logger, "A message of another node is not understood.", err)
				continue
			}
			c.mu.Lock()
			c.machine.Receive(msg, c.now())
			c.handleEvents()
			waiting := c.machine.Waiting()
			c.mu.Unlock()
			if waiting {
				c.wake()
			}
		}
	}
}

// handleEvents does what the machine's events ask for. The caller holds mu. A session that has lost its key is told here, before the
// acknowledgement can leave.
func (c *Cluster) handleEvents() {
	for _, e := range c.machine.Events() {
		switch e.What {
		case replica.Granted:
			if cl := c.claims[e.Ticket]; cl != nil {
				c.grant(cl)
			}
		case replica.Replaced:
			if cl := c.claims[e.Ticket]; cl != nil {
				c.drop(cl)
				cl.session.DisconnectWith(ErrReplaced)
				c.finish(cl, ErrReplaced)
				c.stats.replaced.Add(1)
			}
		case replica.Failed:
			if cl := c.claims[e.Ticket]; cl != nil {
				c.drop(cl)
				c.finish(cl, ErrUnavailable)
				c.rest(c.sessions[cl.session])
			}
		case replica.Changed:
			if ref := c.rooms[e.Key]; ref != nil {
				ref.changed()
			}
		case replica.NodeUp:
			c.gone[e.Node] = make(chan struct{})
			c.options.Logger.Info("A node is up.", "node", e.Node.String(), "self", c.id.String())
		case replica.NodeDown:
			if gone := c.gone[e.Node]; gone != nil {
				close(gone)
				delete(c.gone, e.Node)
			}
			c.options.Logger.Info("A node is down.", "node", e.Node.String(), "self", c.id.String())
		}
	}
}
