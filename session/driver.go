package session

import (
	"errors"
	"net"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/servercore-go/servercore/pool"
)

// Driver is a session as its loop sees it: the same memory with another method set, so that "on the loop only"
// is a type and not a plea. The engine holds Drivers, content never sees one.
type Driver Session

var lastID atomic.Uint64

// ErrHandler: a factory returned nil, or a handler that had a connection before.
var ErrHandler = errors.New("session: the factory must return a new, non-nil handler for each connection")

// Bind ties a fresh handler to its connection. Nothing is called yet.
func Bind(h Handler, conn Transport, loop *Loop, local, remote net.Addr) (*Driver, error) {
	if h == nil {
		return nil, ErrHandler
	}
	s := h.session()
	if s == nil || s.bound.Load() {
		return nil, ErrHandler
	}
	s.id, s.handler, s.conn, s.loop = lastID.Add(1), h, conn, loop
	s.local, s.remote = local, remote
	s.reading = true
	s.scheduled.Store(true) // until Connected has run, nobody needs to wake the loop
	s.mine = true
	s.bound.Store(true)
	s.advance(phaseOpen)
	return (*Driver)(s), nil
}

// Handler returns the content's handler. Any goroutine.
func (d *Driver) Handler() Handler { return d.handler }

// Session returns the same session for any goroutine.
func (d *Driver) Session() *Session { return (*Session)(d) }

// Ended reports whether the session is closed, OnDisconnected has run and Done was called.
func (d *Driver) Ended() bool { return d.done }

// Connected runs OnConnected.
func (d *Driver) Connected() {
	s := (*Session)(d)
	if s.watching() {
		s.heardAt = s.conn.Now()
	}
	s.connected = true
	s.lend()
	s.callConnected()
	s.settle()
}

// Receive delivers bytes read from the connection, or keeps or discards them as the state demands. data is the
// caller's again when it returns.
func (d *Driver) Receive(data []byte) {
	s := (*Session)(d)
	s.loop.Counters.BytesIn.Add(len(data))
	if s.phase != phaseOpen {
		return // E1: after our decision to end, input is discarded
	}
	s.hold()
	if s.watching() {
		s.heard, s.heardAt = true, s.conn.Now()
	}
	if s.paused.Load() || s.choked || s.stashed() || len(data) > s.loop.Limits.safe() {
		s.stash(data)
	} else {
		s.deliver(data)
	}
	s.settle()
}

// PeerClosed tells that nothing more will be read: err nil for the peer's FIN, all bytes before it having been
// given to Receive; otherwise what broke the connection.
func (d *Driver) PeerClosed(err error) {
	s := (*Session)(d)
	if s.phase == phaseClosed {
		return
	}
	s.hold()
	switch {
	case err != nil:
		s.rarely().lost = err
	case s.phase == phaseOpen && s.stashed():
		s.rarely().fin = true
	default:
		s.gotFIN()
	}
	s.settle()
}

// Writable tells that the kernel takes bytes again.
func (d *Driver) Writable() {
	s := (*Session)(d)
	s.hold()
	s.unblock()
	s.settle()
}

// Turn answers Wake.
func (d *Driver) Turn() {
	d.mine = true // the mailbox entry held it
	d.Resume()
}

// Resume answers Again, and carries on wherever a lost goroutine left off.
func (d *Driver) Resume() {
	s := (*Session)(d)
	s.hold()
	s.settle()
}

// Expire answers Arm: it looks which deadline has passed, if any.
func (d *Driver) Expire(now time.Duration) {
	s := (*Session)(d)
	if s.phase == phaseClosed {
		return
	}
	s.hold()
	s.expire(now)
	s.settle()
}

// End is DisconnectWith for the engine, on any goroutine.
func (d *Driver) End(reason error) { (*Session)(d).DisconnectWith(reason) }

// Kill is Abort with a reason, for the engine, on any goroutine.
func (d *Driver) Kill(reason error) { (*Session)(d).kill(reason) }

// hold keeps other goroutines from waking the loop for a session it is at work on (S3).
func (s *Session) hold() {
	if !s.scheduled.Swap(true) {
		s.mine = true
	}
}

// release lets them again. Whatever was asked for before is seen by the look that follows, whatever is asked
// for after it wakes the loop (I4).
func (s *Session) release() {
	if s.mine {
		s.mine = false
		s.scheduled.Store(false)
	}
}

// turnWrites bounds the gathered writes of one turn: a handler that sends in OnSend on a fast link must not keep
// the loop.
const turnWrites = 4

// turnPosts does the same for functions that post functions.
const turnPosts = 4

// settle is the safe point after callbacks and events: it sends what is queued, then carries out what anybody
// asked for. Callbacks made here (OnSend, OnRecv of kept input) are followed by another round, not by recursion.
func (s *Session) settle() {
	for writes, posts := 0, 0; ; {
		s.release()
		if s.phase == phaseClosed {
			s.finish(false)
			return
		}
		v := s.look(posts < turnPosts)
		if v.posted {
			posts++
			s.hold()
			s.runPosts()
			continue
		}
		if len(v.iov) > 0 {
			if writes < turnWrites {
				writes++
				s.write(v.iov)
				continue
			}
			s.reclaim()
			s.conn.Again()
		}
		if !s.conclude(v) {
			break
		}
	}
	s.release()
}

// view is what a look under mu has found.
type view struct {
	aborted, ending, lost bool
	posted                bool     // functions wait to be run, and may be
	size                  int      // bytes queued
	iov                   [][]byte // what the kernel should be offered, nil if nothing
}

// look takes stock of what was asked for and, unless functions are to be run first, gathers what can be sent.
func (s *Session) look(posts bool) (v view) {
	r := s.rare.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	if v.lost = r != nil && r.lost != nil; v.lost {
		s.aborted, s.open = true, false
		s.because(PeerReset(r.lost))
	}
	v.aborted, v.ending, v.size = s.aborted, s.ending, s.q.size
	if r != nil && len(r.posts) > 0 {
		if v.posted = posts; posts {
			return v
		}
		s.conn.Again()
	}
	if v.size > 0 && !s.blocked && !s.aborted {
		v.iov = s.q.gather(s.loop.iov[:0])
		return v
	}
	s.q.reclaim()
	if s.peerFIN && v.size == 0 {
		s.open = false // decided under the lock: no Send slips in between the last byte and the end
	}
	return v
}

// reclaim takes back the scratch memory when what is in it has to wait.
func (s *Session) reclaim() {
	s.mu.Lock()
	s.q.reclaim()
	s.mu.Unlock()
	clear(s.loop.iov[:cap(s.loop.iov)])
}

// write makes one gathered write, and calls OnSend if the kernel took any of it. What the kernel did not take of
// the scratch memory moves into segments; OnSend gets the scratch anew.
func (s *Session) write(iov [][]byte) {
	n, err := s.conn.Write(iov)
	if len(iov) == 1 {
		iov[0] = nil
	} else {
		clear(iov)
	}
	s.mu.Lock()
	s.q.consume(n)
	s.q.reclaim()
	messages := s.messages
	s.messages = 0
	s.blocked = err == ErrWouldBlock || err == ErrNoMemory
	if n > 0 && !s.aborted {
		s.q.lend(&s.loop.scratch)
	}
	s.mu.Unlock()
	if r := s.rare.Load(); r != nil && n > 0 {
		r.stalledAt = 0
	}
	if err != nil {
		s.notWritten(err)
	}
	c := &s.loop.Counters
	c.MessagesOut.Add(int(messages))
	if n > 0 {
		c.Writes.Add(1)
		c.BytesOut.Add(n)
		s.hold()
		s.callSend(n)
	}
}

// notWritten notes why the kernel did not take everything.
func (s *Session) notWritten(err error) {
	r := s.rarely()
	if err != ErrWouldBlock && err != ErrNoMemory {
		r.lost = err
		return
	}
	s.loop.Counters.WouldBlock.Add(1)
	s.retry = err == ErrNoMemory
	if r.stalledAt == 0 {
		r.stalledAt = s.conn.Now()
	}
}

func (s *Session) unblock() {
	s.mu.Lock()
	s.blocked, s.retry = false, false
	s.mu.Unlock()
}

// conclude carries out what was asked for and what follows from the state. It returns true if it called
// content, so that another round must look.
func (s *Session) conclude(v view) bool {
	if v.aborted {
		s.finish(!v.lost)
		return false
	}
	if v.ending && s.phase == phaseOpen {
		s.drain()
	}
	if s.phase == phaseDraining && v.size == 0 {
		if s.peerFIN {
			s.finish(false)
			return false
		}
		if !s.finSent {
			s.linger()
		}
	}
	delivered := s.steer(v.size)
	s.rearm(v.size)
	return delivered
}

// drain begins the end: no more input for content, the clock runs.
func (s *Session) drain() {
	s.advance(phaseDraining)
	if s.stashed() {
		s.peerFIN = s.rare.Load().fin // nobody will tell of it again
		s.unstash()
	}
	if d := s.loop.Limits.Drain; d > 0 {
		s.rarely().endBy = s.conn.Now() + d
	}
}

// linger says FIN and waits for the peer's, so that input on its way does not turn into a reset that would
// destroy our last bytes.
func (s *Session) linger() {
	s.finSent = true
	r := s.rarely()
	r.endBy = 0
	if err := s.conn.CloseWrite(); err != nil {
		r.lost = err
		s.conn.Again()
		return
	}
	if d := s.loop.Limits.Linger; d > 0 {
		r.endBy = s.conn.Now() + d
	}
}

// gotFIN: the peer will send no more. Content may still send until the queue runs empty.
func (s *Session) gotFIN() {
	s.peerFIN = true
	s.mu.Lock()
	if !s.ending {
		s.because(ErrPeerClosed)
	}
	s.mu.Unlock()
}

// finish is the end: reset or close, what was posted, the last callback. It can be entered again where a callback
// took its goroutine down, and carries on where it was (L2).
func (s *Session) finish(reset bool) {
	if s.phase != phaseClosed {
		s.advance(phaseClosed)
		s.mu.Lock()
		dropped := s.q.drop()
		messages := s.messages
		s.messages = 0
		s.mu.Unlock()
		s.loop.Counters.BytesDropped.Add(dropped)
		s.loop.Counters.MessagesOut.Add(int(messages))
		s.unstash()
		s.conn.Close(reset)
	}
	if s.connected {
		s.runPosts()
		s.connected = false
		s.loop.Counters.Ended[causeOf(s.Err())].Add(1)
		s.callDisconnected()
	}
	if !s.done {
		s.done = true
		s.conn.Done()
	}
}

// steer decides whether the connection is read. It returns true if it delivered kept input.
func (s *Session) steer(size int) (delivered bool) {
	want := true
	switch {
	case s.peerFIN:
		return false
	case s.phase == phaseOpen:
		if above := s.loop.Limits.PauseAbove; above > 0 {
			// S7, with hysteresis: stopped above the mark, read again below half of it.
			if s.choked {
				s.choked = size >= max(above/2, 1)
			} else {
				s.choked = size > above
			}
		}
		want = !s.choked && !s.paused.Load()
		if want && s.stashed() {
			s.deliverStash()
			return true
		}
	}
	if want != s.reading {
		s.reading = want
		if !want {
			s.loop.Counters.Pauses.Add(1)
		}
		if err := s.conn.Reading(want); err != nil {
			s.rarely().lost = err
			s.conn.Again()
		}
	}
	return false
}

func (s *Session) stashed() bool {
	r := s.rare.Load()
	return r != nil && r.stash != nil
}

func (s *Session) stash(data []byte) {
	r := s.rarely()
	if r.stash == nil {
		r.stash, r.stashed = pool.GetSize(len(data)), 0
	}
	r.stash.B = append(r.stash.B, data...)
}

func (s *Session) unstash() {
	if s.stashed() {
		r := s.rare.Load()
		r.stash.Release()
		r.stash, r.fin = nil, false
	}
}

// deliverStash delivers the next part of the kept input: no more than the queue has room for, so that whoever
// answers each byte with no more than a byte never meets SendLimit (S7). Behind the last part comes the FIN.
func (s *Session) deliverStash() {
	r := s.rare.Load()
	part := r.stash.B[r.stashed:]
	if !s.loop.Limits.unbounded() {
		part = part[:min(len(part), max(s.loop.Limits.SendLimit-s.Pending(), 1))]
	}
	r.stashed += len(part)
	s.hold()
	s.deliver(part)
	if r.stashed == len(r.stash.B) {
		fin := r.fin
		s.unstash()
		if fin {
			s.gotFIN()
		}
	}
}

// deliver calls OnRecv, unless somebody has asked for the end.
func (s *Session) deliver(data []byte) {
	s.mu.Lock()
	ending := s.ending
	s.q.lend(&s.loop.scratch)
	s.mu.Unlock()
	if !ending {
		s.loop.Counters.MessagesIn.Add(1)
		s.callRecv(data)
	}
}

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

// lend gives the callback about to run the loop's scratch memory to send into.
func (s *Session) lend() {
	s.mu.Lock()
	if s.phase != phaseClosed && !s.aborted {
		s.q.lend(&s.loop.scratch)
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
)

var callbackNames = [...]string{"OnConnected", "OnRecv", "OnSend", "OnDisconnected", "Post"}

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
	dropped := s.q.drop()
	s.mu.Unlock()
	s.loop.Counters.BytesDropped.Add(dropped)
	s.conn.Failed(callbackNames[s.callback], value, debug.Stack())
	if value == nil {
		s.conn.Again()
	}
}
