package session

import (
	"container/heap"
	"math"
	"time"
)

// AfterFunc has f run once, on the session's loop, when d has passed. It returns a function that cancels it. It panics if f is nil.
//
// f may do what a callback may do. It runs after the callback that is running, never inside one, and after OnConnected. A panic in it ends the
// session. f runs up to 20 ms late, later if the loop is busy, and never early. Functions that are due at the same time run in the order of
// the calls. d of 0 or less means as soon as possible.
//
// f is cancelled with the session: once the connection is closed, before OnDisconnected, nothing runs any more. While the session drains it
// still does. Until the session is bound, and after the end, AfterFunc does nothing.
//
// stop returns true if it was in time: f has not begun and will not. AfterFunc and stop may be called from any goroutine, inside callbacks too.
//
// A timer takes some 100 bytes and no goroutine until it has run or is stopped. Nothing bounds the number of timers: a handler should have few for
// each session. Setting and cancelling one takes time that grows with the logarithm of their number in this session.
func (s *Session) AfterFunc(d time.Duration, f func()) (stop func() bool) {
	if f == nil {
		panic("session: AfterFunc of a nil function")
	}
	if !s.wakeup.isBound() {
		return func() bool { return false }
	}
	now := s.conn.Now()
	t := &timer{at: now + min(max(d, 0), math.MaxInt64-now), f: f, index: -1}
	s.mu.Lock()
	first := false
	if !s.isClosed() {
		r := s.ensureTasks()
		r.timersSet++
		t.seq = r.timersSet
		heap.Push(&r.timers, t)
		first = r.timers[0] == t
	}
	s.mu.Unlock()
	if first {
		s.schedule() // to be armed
	}
	return func() bool { return s.stopTimer(t) }
}

// stopTimer is AfterFunc's stop.
func (s *Session) stopTimer(t *timer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.tasks()
	if t.index < 0 || len(r.timers) == 0 { // it has run, or the session has ended
		return false
	}
	heap.Remove(&r.timers, t.index)
	return true
}

// runTimers runs what is due at now and was set before it began: f may set another one.
func (s *Session) runTimers(now time.Duration) {
	s.mu.Lock()
	r, last := s.tasks(), uint64(0)
	if r != nil {
		last = r.timersSet
	}
	s.mu.Unlock()
	if r == nil {
		return
	}
	for {
		s.mu.Lock()
		if len(r.timers) == 0 || r.timers[0].at > now || r.timers[0].seq > last || s.aborted {
			s.mu.Unlock()
			return
		}
		t := heap.Pop(&r.timers).(*timer)
		s.mu.Unlock()
		s.lendScratch()
		s.callTimer(t.f)
	}
}

// timer is one AfterFunc.
type timer struct {
	at    time.Duration
	seq   uint64 // in the order of the calls
	f     func()
	index int // in the heap, -1 outside of it
}

// timers is a heap, the next first. The session's mu guards it.
type timers []*timer

// next returns when the first is due, 0 if there is none.
func (h timers) next() time.Duration {
	if len(h) == 0 {
		return 0
	}
	return h[0].at
}

// Len implements heap.Interface.
func (h timers) Len() int { return len(h) }

// Less implements heap.Interface.
func (h timers) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].seq < h[j].seq
}

// Swap implements heap.Interface.
func (h timers) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *timers) Push(x any) {
	t := x.(*timer)
	t.index = len(*h)
	*h = append(*h, t)
}

// Pop implements heap.Interface.
func (h *timers) Pop() any {
	t := (*h)[len(*h)-1]
	*h = removeLast(*h)
	t.index = -1
	return t
}
