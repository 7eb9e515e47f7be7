package ongnet

import (
	"sync"

	"github.com/panjf2000/gnet/v2/pkg/errors"
	"github.com/panjf2000/gnet/v2/pkg/netpoll"
	"github.com/panjf2000/gnet/v2/pkg/queue"
)

// watcher tells loops of connections that were full and have room again, or that gnet has given up and that have broken. It is a poller of
// gnet's with a goroutine of its own, edge-triggered. A connection is added the first time it is full, and stays.
type watcher struct {
	mu     sync.Mutex
	poller *netpoll.Poller // nil before the first connection
	ended  chan struct{}
	conns  map[int]*conn // by descriptor
}

// add begins with an event if the connection has room.
func (w *watcher) add(c *conn) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.watched {
		return nil
	}
	if w.poller == nil {
		poller, err := netpoll.OpenPoller()
		if err != nil {
			return err
		}
		w.poller, w.ended, w.conns = poller, make(chan struct{}), make(map[int]*conn)
		go func() {
			defer close(w.ended)
			_ = poller.Polling(w.event)
		}()
	}
	err := w.poller.AddWrite(&netpoll.PollAttachment{FD: int(c.Socket)}, true)
	if c.watched = err == nil; c.watched {
		w.conns[int(c.Socket)] = c
	}
	return err
}

// remove comes before the descriptor is closed.
func (w *watcher) remove(c *conn) {
	if c.watched {
		w.mu.Lock()
		defer w.mu.Unlock()
		c.watched = false
		delete(w.conns, int(c.Socket))
		_ = w.poller.Delete(int(c.Socket))
	}
}

// event may be late, and about a descriptor that is another connection's by now: that one is looked at without need.
func (w *watcher) event(fd int, _ netpoll.IOEvent, _ netpoll.IOFlags) error {
	w.mu.Lock()
	c := w.conns[fd]
	w.mu.Unlock()
	if c != nil {
		c.ask(dueRoom)
	}
	return nil
}

// close follows the last session.
func (w *watcher) close() {
	if w.poller != nil {
		_ = w.poller.Trigger(queue.HighPriority, func(any) error { return errors.ErrEngineShutdown }, nil)
		<-w.ended
		_ = w.poller.Close()
	}
}
