package session

import (
	"runtime/debug"
	"time"
)

// runPosts runs what was posted before it began.
func (s *Session) runPosts() {
	r := s.rare.Load()
	if r == nil {
		return
	}
	s.mu.Lock()
	n := len(r.posts)
	s.mu.Unlock()
	for ; n > 0; n-- {
		s.mu.Lock()
		f := r.posts[0]
		r.posts[0] = nil
		if r.posts = r.posts[1:]; len(r.posts) == 0 {
			r.posts = nil
		}
		s.mu.Unlock()
		s.lend()
		s.callPost(f)
	}
}

// lend gives the callback about to run scratch memory to send into.
func (s *Session) lend() {
	scratch := s.conn.Scratch()
	s.mu.Lock()
	if s.phase != phaseClosed && !s.aborted {
		s.q.lend(scratch, nil)
	}
	s.mu.Unlock()
}

func (s *Session) callConnected() {
	defer s.contain()
	began := s.begin(CallConnected)
	s.handler.OnConnected(s.remote)
	s.end(began)
}

func (s *Session) callRecv(data []byte) {
	defer s.contain()
	began := s.begin(CallRecv)
	s.handler.OnRecv(data)
	s.end(began)
}

func (s *Session) callSend(n int) {
	defer s.contain()
	began := s.begin(CallSend)
	s.handler.OnSend(n)
	s.end(began)
}

func (s *Session) callWritable(writable bool) {
	defer s.contain()
	began := s.begin(CallWritable)
	s.handler.(Writability).OnWritable(writable)
	s.end(began)
}

func (s *Session) callDisconnected() {
	defer s.contain()
	began := s.begin(CallDisconnected)
	s.handler.OnDisconnected(s.remote)
	s.end(began)
}

func (s *Session) callPost(f func()) {
	defer s.contain()
	began := s.begin(CallPost)
	f()
	s.end(began)
}

func (s *Session) callHalfClose(h HalfCloser) {
	defer s.contain()
	began := s.begin(CallHalfClose)
	h.OnHalfClose()
	s.end(began)
}

func (s *Session) callTimer(f func()) {
	defer s.contain()
	began := s.begin(CallTimer)
	f()
	s.end(began)
}

// begin precedes content and returns when it began, 0 if this call is not timed.
func (s *Session) begin(c Callback) (began time.Duration) {
	s.calling, s.callback = true, c
	if s.conn.Scratch().Enter(c, s) {
		return s.conn.Now()
	}
	return 0
}

// end follows it.
func (s *Session) end(began time.Duration) {
	s.calling = false
	s.conn.Scratch().Leave()
	if began > 0 {
		s.loop.Times[s.callback].Record(s.conn.Now() - began)
	}
}

// contain ends the session, and it alone, when content panicked or left by runtime.Goexit (L4). Goexit cannot
// be stopped: the frames above unwind too, so the rest of the turn is asked for anew.
func (s *Session) contain() {
	if !s.calling {
		return
	}
	s.calling = false
	s.conn.Scratch().Leave()
	value := said(recover()) // asks it for its text: not under mu (I3)
	reason := panicked(s.callback.String(), value)
	s.mu.Lock()
	s.open, s.aborted = false, true
	s.because(reason)
	dropped := s.dropQueue()
	s.mu.Unlock()
	s.loop.Counters.BytesDropped.Add(dropped)
	s.conn.Failed(s.callback.String(), value, debug.Stack())
	if value == nil {
		s.conn.Again()
	}
}
