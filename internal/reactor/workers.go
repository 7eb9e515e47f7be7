package reactor

import (
	"sync"
	"sync/atomic"
)

// Workers serve connections that are offloaded: their handler may wait. There is a worker for each strand that is due, up to the
// limit; a worker that finds none in line ends. So there is nothing to start or to stop. Loops may share them.
type Workers[C any] struct {
	limit   int
	work    func()    // Workers.serve, made once
	memory  sync.Pool // *scratch
	mu      sync.Mutex
	first   *strand[C] // of those in line
	last    *strand[C]
	running int
}

// NewWorkers returns workers of which at most limit are at work at the same time. scratch makes the owner's memory of one: what
// Conn.Scratch returns.
func NewWorkers[C any](limit int, scratch func() any) *Workers[C] {
	w := &Workers[C]{limit: limit}
	w.work = w.serve
	w.memory.New = func() any { return newScratch(scratch()) }
	return w
}

// push puts a strand in line.
func (w *Workers[C]) push(s *strand[C]) {
	s.loop.offloaded.Waiting.Add(1)
	w.mu.Lock()
	if w.last == nil {
		w.first = s
	} else {
		w.last.next = s
	}
	w.last = s
	hire := w.running < w.limit
	if hire {
		w.running++
	}
	w.mu.Unlock()
	if hire {
		go w.work()
	}
}

// pop takes the first of the line. Without one, the worker that asks ends.
func (w *Workers[C]) pop() *strand[C] {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.first
	if s == nil {
		w.running--
		return nil
	}
	if w.first = s.next; w.first == nil {
		w.last = nil
	}
	s.next = nil
	return s
}

// atWork counts the workers, of all loops, that serve a connection.
var atWork atomic.Int64

// AtWork returns how many workers of this process serve a connection. Any goroutine.
func AtWork() int64 { return atWork.Load() }

// serve is a worker. A handler may take its goroutine down, by runtime.Goexit: then another carries on (R5).
func (w *Workers[C]) serve() {
	var s *strand[C]
	defer func() {
		if s != nil {
			s.loop.offloaded.Working.Add(-1)
			atWork.Add(-1)
			s.cutShort()
			w.push(s)
			go w.work() // in this one's place
		}
	}()
	memory := w.memory.Get().(*scratch)
	for s = w.pop(); s != nil; s = w.pop() {
		o := s.loop.offloaded
		o.Waiting.Add(-1)
		o.Working.Add(1)
		atWork.Add(1)
		s.serve(memory)
		o.Working.Add(-1)
		atWork.Add(-1)
	}
	w.memory.Put(memory)
}
