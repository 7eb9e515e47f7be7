package reactor

import (
	"sync"

	"github.com/panjf2000/gnet/v2/pkg/errors"
	"github.com/panjf2000/gnet/v2/pkg/netpoll"
	"github.com/panjf2000/gnet/v2/pkg/queue"
)

// Watcher tells of descriptors that another event loop reads (package ongnet) when they take bytes again, or have broken: one of gnet's
// pollers, edge-triggered, with a goroutine of its own. Its zero value, with Tell set, is ready, and holds nothing before the first Add.
type Watcher[C any] struct {
	// Tell is called on the watcher's goroutine. It may come late, for a connection that was removed, and without need.
	Tell func(C)

	mu     sync.Mutex
	poller *netpoll.Poller
	ended  chan struct{}
	conns  map[int]C // by descriptor
}

// Add watches a descriptor until Remove. Tell follows at once if it takes bytes. Any goroutine.
func (w *Watcher[C]) Add(fd int, c C) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.poller == nil {
		poller, err := netpoll.OpenPoller()
		if err != nil {
			return err
		}
		w.poller, w.ended, w.conns = poller, make(chan struct{}), make(map[int]C)
		go func() {
			defer close(w.ended)
			_ = poller.Polling(w.event)
		}()
	}
	if err := w.poller.AddWrite(&netpoll.PollAttachment{FD: fd}, true); err != nil {
		return err
	}
	w.conns[fd] = c
	return nil
}

// Remove comes before the descriptor is closed. Any goroutine.
func (w *Watcher[C]) Remove(fd int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, fd)
	_ = w.poller.Delete(fd)
}

// event looks a descriptor up, whose number may be another connection's by now.
func (w *Watcher[C]) event(fd int, _ netpoll.IOEvent, _ netpoll.IOFlags) error {
	w.mu.Lock()
	c, ok := w.conns[fd]
	w.mu.Unlock()
	if ok {
		w.Tell(c)
	}
	return nil
}

// Close ends the goroutine. Nothing is added or removed any more.
func (w *Watcher[C]) Close() {
	if w.poller != nil {
		_ = w.poller.Trigger(queue.HighPriority, func(any) error { return errors.ErrEngineShutdown }, nil)
		<-w.ended
		_ = w.poller.Close()
	}
}
