package session

// maxPosts is how many functions may wait.
const maxPosts = 4096

// Post has f run on the session's loop: after the callback that is running, never inside one, and before OnDisconnected. If Post returns
// nil, f runs exactly once. Functions run in the order in which they were posted. f may do what a callback may do, and must not wait
// either.
//
// Post returns ErrClosed after the end, and ErrPostLimit while 4,096 functions wait for the loop or for the callback that is running. It panics
// if f is nil. Any goroutine.
func (s *Session) Post(f func()) error {
	if f == nil {
		panic("session: Post of a nil function")
	}
	s.mu.Lock()
	if !s.bound.Load() || s.isClosed() {
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
