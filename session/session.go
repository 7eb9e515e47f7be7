package session

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/servercore-go/servercore/pool"
)

// Session is one connection, for any goroutine. Embed it by value in the content's own struct; its zero value
// is ready to be handed to the engine by a [Factory]. It must not be copied after that.
//
// Every method is safe at any time. Until the engine has bound it to its connection, some time between the factory's return and
// OnConnected, and after the end, they do nothing, and Send and Post return an error that matches ErrClosed; but a session that
// was told PauseRecv before begins paused.
type Session struct {
	// Fixed by Bind, before any callback.
	id            uint64
	handler       Handler
	conn          Transport
	loop          *Loop
	remote, local net.Addr

	// Any goroutine.
	bound     atomic.Bool // guards the group above for those who come before Bind
	scheduled atomic.Bool // the loop is working on the session or has been woken for it (I4)
	paused    atomic.Bool // PauseRecv without ResumeRecv

	// The loop's own. Nobody else reads or writes these.
	phase      phase // read under mu too, see advance
	callback   Callback
	calling    bool // a callback is running
	mine       bool // this turn holds scheduled and must clear it
	connected  bool // OnConnected has begun, so OnDisconnected is owed
	done       bool // the transport was told that nothing follows
	choked     bool // reading is stopped because of PauseAbove
	reading    bool // what the transport was last told
	peerFIN    bool // the peer will send no more, and all it sent was delivered
	halfOpen   bool // and content goes on sending; read under mu too
	severed    bool // the connection takes nothing more; what was received is still delivered
	finSent    bool // our FIN is out
	lingering  bool // the peer has acknowledged all of it; only its FIN is waited for
	heard      bool // a first byte was received
	retry      bool // blocked for want of kernel memory, no event will come
	marked     bool // the handler has OnWritable; fixed by Bind, read by any goroutine
	lastUnsent int32
	heardAt    time.Duration

	rare atomic.Pointer[rare] // what few sessions need, nil for most

	mu       sync.Mutex // guards the group below; never held while content runs (I3)
	open     bool       // Send accepts
	ending   bool       // the end was decided: no OnRecv any more
	aborted  bool       // end by reset
	blocked  bool       // the kernel was full; waiting for Writable
	messages uint32     // Sends accepted since the last flush
	q        queue
}

// rare is allocated for sessions that use it, so that an idle one fits 192 bytes.
type rare struct {
	// Under mu.
	reason error    // why the session ends
	end    error    // why it is to end, once no callback runs
	posts  []func() // accepted by Post and not yet run
	timers timers   // of AfterFunc, not yet run
	set    uint64   // how many were set
	finish bool     // CloseWrite was called

	framed *framed // fixed before OnConnected, nil for plain bytes
	rated  *rated  // likewise, nil without a rate
	slow   atomic.Pointer[slow]

	// Under mu and that of the group they lead to (I9).
	memberships []*membership

	// The loop's own.
	unread  int          // of a severed session: bytes that the kernel still has for it
	stash   *pool.Buffer // input that came in while reading was being stopped
	stashed int          // bytes of stash that were delivered
	fin     bool         // the peer's FIN, waiting behind the stash
	progress
}

// rarely returns the rare part, making it if need be. Any goroutine.
func (s *Session) rarely() *rare {
	if r := s.rare.Load(); r != nil {
		return r
	}
	s.rare.CompareAndSwap(nil, new(rare))
	return s.rare.Load()
}

func (s *Session) session() *Session { return s }

// OnConnected does nothing; override it.
func (*Session) OnConnected(net.Addr) {}

// OnRecv does nothing; override it.
func (*Session) OnRecv([]byte) {}

// OnSend does nothing; override it.
func (*Session) OnSend(int) {}

// OnDisconnected does nothing; override it.
func (*Session) OnDisconnected(net.Addr) {}

// ID returns the session's number: unique within the process, never reused, never 0 once connected, and not the
// descriptor.
func (s *Session) ID() uint64 {
	if !s.bound.Load() {
		return 0
	}
	return s.id
}

// RemoteAddr returns the peer's address as it was when the connection was made; it stays valid after the end. It must
// not be modified. nil until the session is bound.
func (s *Session) RemoteAddr() net.Addr {
	if !s.bound.Load() {
		return nil
	}
	return s.remote
}

// LocalAddr returns our end's address: the one the peer connected to, not the one listened on, or, of a session that was
// dialled, the one it has there. It stays valid after the end. It must not be modified. nil until the session is bound.
func (s *Session) LocalAddr() net.Addr {
	if !s.bound.Load() {
		return nil
	}
	return s.local
}

// Err returns nil until the session begins to end, then the first reason recorded; see the Err variables for
// what it can match. If the session then could not be drained as that reason promised, Err also matches what
// prevented it (ErrDrainTimeout, ErrWriteStall, ErrPeerReset, ErrAborted), or ErrPanic if its last callbacks failed.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.rare.Load(); r != nil {
		return r.reason
	}
	return nil
}

// Pending returns the bytes accepted by Send and not yet taken by the kernel. With a framer it is the payloads of packets
// that are not out whole.
func (s *Session) Pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.framing(); f != nil {
		return f.pending()
	}
	return s.q.size
}

// dropQueue empties the queue and returns how many bytes content has sent in vain. The caller holds mu.
func (s *Session) dropQueue() int {
	n := s.empty()
	if w := s.slow(); w != nil {
		n, w.dropped = n+w.dropped, 0
	}
	s.account()
	return n
}

// empty is dropQueue without the accounts. The caller holds mu.
func (s *Session) empty() int {
	n := s.q.drop()
	if f := s.framing(); f != nil {
		n = f.forget()
	}
	return n
}

// PauseRecv stops OnRecv, at the latest after the call now running, and lets TCP stop the peer. What was
// received and not yet delivered is kept. The session still sends, and still notices the peer's reset; the
// peer's FIN is acted on after the bytes before it were delivered. Any goroutine.
//
// A session need not be paused merely because its own peer reads slowly: PauseAbove does that.
func (s *Session) PauseRecv() {
	if !s.paused.Swap(true) {
		s.schedule()
	}
}

// ResumeRecv undoes PauseRecv, however often that was called. Any goroutine.
func (s *Session) ResumeRecv() {
	if s.paused.Swap(false) {
		s.schedule()
	}
}

// maxPosts is how many functions may wait.
const maxPosts = 4096

// Post has f run on the session's loop, after the callback that is running, never inside one, and before
// OnDisconnected. If Post returns nil, f runs exactly once; functions run in the order they were posted. f may
// do what a callback may do, and must not wait either. After the end Post returns ErrClosed. As long as 4,096 functions wait, for
// the loop, or for the callback that is running, it returns ErrPostLimit. Any goroutine.
func (s *Session) Post(f func()) error {
	if f == nil {
		panic("session: Post of a nil function")
	}
	s.mu.Lock()
	if !s.bound.Load() || s.phaseClosed() {
		s.mu.Unlock()
		return ErrClosed
	}
	r := s.rarely()
	if len(r.posts) >= maxPosts {
		s.mu.Unlock()
		return ErrPostLimit
	}
	r.posts = append(r.posts, f)
	s.mu.Unlock()
	s.schedule()
	return nil
}

// schedule has the loop look at the session, unless it is about to anyway.
//
// No request is lost: the caller has published what it wants before, and the loop clears scheduled before it
// looks. So either the Swap sees false and wakes the loop, or the loop has yet to look (I4).
func (s *Session) schedule() {
	if s.bound.Load() && s.claim() {
		s.conn.Wake()
	}
}

// claim returns true if it is up to the caller to wake the loop.
func (s *Session) claim() bool { return !s.scheduled.Swap(true) }
