package session

import "runtime/debug"

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

// callback names what content is doing, for the log.
type callback uint8

const (
	inConnected callback = iota
	inRecv
	inSend
	inDisconnected
	inPost
	inSplit
	inHalfClose
	inTimer
	inWritable
)

var callbackNames = [...]string{"OnConnected", "OnRecv", "OnSend", "OnDisconnected", "Post", "Framer.Split", "OnHalfClose",
	"AfterFunc", "OnWritable"}

func (s *Session) callConnected() {
	defer s.contain()
	s.calling, s.callback = true, inConnected
	s.handler.OnConnected(s.remote)
	s.calling = false
}

func (s *Session) callRecv(data []byte) {
	defer s.contain()
	s.calling, s.callback = true, inRecv
	s.handler.OnRecv(data)
	s.calling = false
}

func (s *Session) callSend(n int) {
	defer s.contain()
	s.calling, s.callback = true, inSend
	s.handler.OnSend(n)
	s.calling = false
}

func (s *Session) callWritable(writable bool) {
	defer s.contain()
	s.calling, s.callback = true, inWritable
	s.handler.(Writability).OnWritable(writable)
	s.calling = false
}

func (s *Session) callDisconnected() {
	defer s.contain()
	s.calling, s.callback = true, inDisconnected
	s.handler.OnDisconnected(s.remote)
	s.calling = false
}

func (s *Session) callPost(f func()) {
	defer s.contain()
	s.calling, s.callback = true, inPost
	f()
	s.calling = false
}

func (s *Session) callHalfClose(h HalfCloser) {
	defer s.contain()
	s.calling, s.callback = true, inHalfClose
	h.OnHalfClose()
	s.calling = false
}

func (s *Session) callTimer(f func()) {
	defer s.contain()
	s.calling, s.callback = true, inTimer
	f()
	s.calling = false
}

// contain ends the session, and it alone, when content panicked or left by runtime.Goexit (L4). Goexit cannot
// be stopped: the frames above unwind too, so the rest of the turn is asked for anew.
func (s *Session) contain() {
	if !s.calling {
		return
	}
	s.calling = false
	value := recover()
	s.mu.Lock()
	s.open, s.aborted = false, true
	s.because(panicked(callbackNames[s.callback], value))
	dropped := s.dropQueue()
	s.mu.Unlock()
	s.loop.Counters.BytesDropped.Add(dropped)
	s.conn.Failed(callbackNames[s.callback], value, debug.Stack())
	if value == nil {
		s.conn.Again()
	}
}
