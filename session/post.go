package session

import "slices"

// maxPosts is how many functions may wait.
const maxPosts = 4096

// Post has f run on the session's loop: after the callback that is running, never inside one, and before OnDisconnected. If Post returns
// nil, f runs exactly once. Functions run in the order in which they were posted. f may do what a callback may do, and must not wait
// either.
//
// Post returns ErrClosed after the end, and ErrPostLimit while 4,096 functions wait for the loop or for the callback that is running. It
// panics if f is nil. Any goroutine.
func (s *Session) Post(f func()) error {
	if f == nil {
		panic("session: Post of a nil function")
	}
	s.mu.Lock()
	if !s.wakeup.isBound() || s.isClosed() {
		s.mu.Unlock()
		return ErrClosed
	}
	r := s.ensureTasks()
	if len(r.posts) >= maxPosts {
		s.mu.Unlock()
		return ErrPostLimit
	}
	r.posts = append(r.posts, f)
	s.mu.Unlock()
	s.schedule()
	return nil
}

// runPosts runs the functions that were posted before it began.
func (s *Session) runPosts() {
	s.mu.Lock()
	r, n := s.tasks(), 0
	if r != nil {
		n = len(r.posts)
	}
	s.mu.Unlock()
	for ; n > 0; n-- {
		s.mu.Lock()
		f := r.posts[0]
		r.posts[0] = nil
		if r.posts = r.posts[1:]; len(r.posts) == 0 {
			r.posts = nil
		}
		s.mu.Unlock()
		s.lendScratch()
		s.callPost(f)
	}
}

// AtEnd has f run once when the session ends: when its connection is closed and it has left its groups, after what was posted, and before
// OnDisconnected. It is for code that keeps something for sessions which are not its own, such as a directory of who is connected. AtEnd
// returns false, and f never runs, before the session is bound and after its end. It panics if f is nil.
//
// f may do what a callback may do. Functions run in the order of the calls, and nothing takes one back. Each takes 24 bytes until then. Any
// goroutine.
func (s *Session) AtEnd(f func()) bool {
	if f == nil {
		panic("session: AtEnd of a nil function")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.wakeup.isBound() || s.isClosed() {
		return false
	}
	t := s.ensureTasks()
	t.atEnd = &endFunc{f, t.atEnd}
	return true
}

// endFunc is one AtEnd.
type endFunc struct {
	f      func()
	before *endFunc
}

// postAtEnd posts the functions of AtEnd, whatever waits already. The session is closed, so no other comes.
func (s *Session) postAtEnd() {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tasks()
	if t == nil {
		return
	}
	n := len(t.posts)
	for e := t.atEnd; e != nil; e = e.before {
		t.posts = append(t.posts, e.f)
	}
	t.atEnd = nil
	slices.Reverse(t.posts[n:])
}
