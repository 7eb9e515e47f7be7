package session

import "github.com/servercore-go/servercore/pool"

// Memory returns what the queue of s holds, by a look at each segment: memory of its own, and that of buffers that have a
// charge in common with other queues. It fails if the accounts are wrong.
func (s *Session) Memory() (own int, common map[*pool.Buffer]int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	common = make(map[*pool.Buffer]int)
	held := 0
	for t := s.q.head; t != nil; t = t.next {
		buf := t.buf.Memory() + bufferMemory
		own += segmentMemory
		if t.shared != nil {
			common[t.buf] = buf
		} else {
			own += buf
		}
		held += buf + segmentMemory
	}
	tokens := 0
	if f := s.framing(); f != nil && f.sizes != nil {
		for t := f.sizes.tokens.head; t != nil; t = t.next {
			tokens += t.buf.Memory() + bufferMemory + segmentMemory
		}
	}
	return own + tokens, common, held == s.q.held && tokens == s.framing().described()
}

// Ceiling is what a queue with that SendLimit may hold.
func Ceiling(limit int) int { return ceiling(limit) }

// StuckAfter is how long a peer may take next to nothing before its session is stuck.
const StuckAfter = stuckAfter

// Stuck reports whether the session is.
func (s *Session) Stuck() bool { w := s.slow(); return w != nil && w.stuck.Load() }

// MaxPosts is how many functions may wait.
const MaxPosts = maxPosts

// Wrap puts a transport before that of h. Nobody may be at work on the session.
func Wrap(h Handler, wrap func(Transport) Transport) {
	s := h.session()
	s.conn = wrap(s.conn)
}
