package cluster

import (
	"errors"
	"os"
	"sync"

	"github.com/servercore-go/servercore/cluster/internal/replica"
	"github.com/servercore-go/servercore/pool"
)

// queue is a queue that is bounded in bytes. Put never waits.
type queue[T any] struct {
	mu     sync.Mutex
	items  []T
	bytes  int
	limit  int
	closed bool
	ready  chan struct{} // has an element if there may be something to take
	free   func(T)       // what to do with an element that is not taken; may be nil
}

// itemOverhead is what an element takes besides its bytes, about.
const itemOverhead = 128

func (q *queue[T]) init(limit int) {
	q.limit, q.ready = limit, make(chan struct{}, 1)
}

// put adds an element of that many bytes, or returns false.
func (q *queue[T]) put(item T, size int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.bytes+size+itemOverhead > q.limit {
		return false
	}
	q.bytes += size + itemOverhead
	q.items = append(q.items, item)
	select {
	case q.ready <- struct{}{}:
	default:
	}
	return true
}

// take returns all elements, in order. spare is the memory for the next ones.
func (q *queue[T]) take(spare []T) []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	q.items, q.bytes = spare[:0], 0
	return items
}

// clear drops all elements.
func (q *queue[T]) clear() {
	for _, item := range q.take(nil) {
		if q.free != nil {
			q.free(item)
		}
	}
}

// close has put refuse.
func (q *queue[T]) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
}

// outgoing is a message to a room.
type outgoing struct {
	room *Room
	data *pool.Buffer // one reference
}

// sayEvery is how many bytes of messages to rooms are written at most before the machine is asked again: a heartbeat must not wait for
// QueueLimit bytes on a slow link (N3), nor Close.
const sayEvery = 64 << 10

// write is the goroutine that talks to the bus: subscriptions first, then what the machine says, so that a node that learns of a member reaches
// it; then what is sent to rooms.
func (c *Cluster) write() {
	defer close(c.written)
	var spare []outgoing
	for {
		select {
		case <-c.done:
			return
		case <-c.woken:
		case <-c.out.ready:
		}
		c.say()
		out := c.out.take(spare)
		said, closed := 0, false
		for i, o := range out {
			if said += len(o.data.B) + itemOverhead; said > sayEvery {
				c.say()
				said, closed = 0, c.isClosed()
			}
			if closed {
				c.stats.unsent.Add(1)
			} else if err := c.bus.Publish(o.room.subject, o.data.B); err != nil {
				c.stats.unsent.Add(1)
				c.writeFailed(err)
			} else {
				c.stats.published.Add(1)
			}
			o.data.Release()
			out[i] = outgoing{}
		}
		spare = out
	}
}

// say makes the subscriptions that have to change, and sends what the machine has. Only the writer calls it.
func (c *Cluster) say() {
	c.mu.Lock()
	dirty := c.dirty
	c.dirty = nil
	messages := c.machine.Messages()
	c.mu.Unlock()
	for _, r := range dirty {
		c.syncSubscription(r)
	}
	c.publish(messages)
}

// publish sends what the machine says. What does not leave is repaired by the next heartbeat.
func (c *Cluster) publish(messages []*replica.Message) {
	var b []byte
	for _, m := range messages {
		subject := c.prefix + ".all"
		if m.To != 0 {
			subject = c.prefix + ".n." + m.To.String()
		}
		b = m.Append(b[:0])
		if err := c.bus.Publish(subject, b); err != nil {
			c.stats.unsent.Add(1)
			c.writeFailed(err)
		}
	}
}

// writeFailed gives up a connection that has taken nothing for half of FailAfter. NATS would find out by its pings, which wait behind such writes.
func (c *Cluster) writeFailed(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		_ = c.bus.ForceReconnect()
	}
}
