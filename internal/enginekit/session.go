package enginekit

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

// Hooks are what a test has the sessions of a Watch do; each may be nil.
type Hooks struct {
	Connected    func(*Session)
	Recv         func(*Session, []byte)
	Sent         func(*Session, int)
	Disconnected func(*Session)
}

// Echo answers what it receives.
func Echo(p *Session, data []byte) {
	if err := p.Send(data); err != nil {
		p.Watch.T.Errorf("echo of %d bytes: %v", len(data), err)
	}
}

// Watch watches over the sessions of one engine for what the contract promises of any session.
type Watch struct {
	T        testing.TB
	Hooks    Hooks
	Wire     bool          // more bytes leave than OnSend tells of
	Arrivals chan *Session // in the order of their OnConnected, as far as somebody looks

	mu       sync.Mutex
	sessions []*Session
}

// NewWatch returns a Watch whose sessions do what the hooks say.
func NewWatch(t testing.TB, h Hooks) *Watch {
	return &Watch{T: t, Hooks: h, Arrivals: make(chan *Session, 1024)}
}

// New is the factory: it makes a session that is watched over.
func (w *Watch) New() session.Handler { return w.NewSession() }

// NewSession is New, for handlers that embed the session.
func (w *Watch) NewSession() *Session { return &Session{Watch: w, Ended: make(chan struct{})} }

// Check checks what must be true of every engine that has ended.
func (w *Watch) Check(st engine.Stats) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var sent int64
	for _, p := range w.sessions {
		sent += p.Sent.Load()
		if p.Stage.Load() != Gone {
			w.T.Errorf("session %d: no OnDisconnected", p.ID())
		}
		if p.Err() == nil || p.Pending() != 0 {
			w.T.Errorf("session %d has ended: Err %v, Pending %d", p.ID(), p.Err(), p.Pending())
		}
	}
	if int(st.Accepted+st.Dialed) != len(w.sessions) || st.Sessions != 0 || st.Total.Sessions != 0 {
		w.T.Errorf("stats count %d accepted, %d dialled, %d and %d open, want %d in all, 0 and 0", st.Accepted, st.Dialed,
			st.Sessions, st.Total.Sessions, len(w.sessions))
	}
	if out := int64(st.Total.BytesOut); out != sent && !(w.Wire && out > sent) {
		w.T.Errorf("stats count %d bytes out, OnSend %d", st.Total.BytesOut, sent)
	}
	e := st.Total.Ended
	ends := e.PeerClosed + e.PeerReset + e.Disconnected + e.Aborted + e.SendLimit + e.SendBudget + e.RecvRate + e.Idle + e.WriteStall +
		e.DrainTimeout + e.Panic + e.Shutdown + e.Other
	if ends != st.Accepted+st.Dialed {
		w.T.Errorf("stats count %d ends of %d sessions: %+v", ends, st.Accepted+st.Dialed, e)
	}
}

// Session is a handler that reports callbacks that overlap, come out of order, or twice.
type Session struct {
	session.Session
	Watch     *Watch
	Ended     chan struct{} // closed by OnDisconnected
	Got, Sent atomic.Int64  // bytes of OnRecv and of OnSend
	Stage     atomic.Int32

	inside atomic.Bool
}

// The stages of a session.
const (
	Fresh int32 = iota // before OnConnected
	Open
	Gone // from OnDisconnected on
)

// Enter begins a callback and returns what ends it.
func (s *Session) Enter(callback string, from, to int32) (leave func()) {
	if s.inside.Swap(true) {
		s.Watch.T.Errorf("session %d: %s while another callback runs", s.ID(), callback)
	}
	if !s.Stage.CompareAndSwap(from, to) {
		s.Watch.T.Errorf("session %d: %s at stage %d, want %d", s.ID(), callback, s.Stage.Load(), from)
	}
	return func() { s.inside.Store(false) }
}

// OnConnected implements session.Handler.
func (s *Session) OnConnected(remote net.Addr) {
	defer s.Enter("OnConnected", Fresh, Open)()
	w := s.Watch
	if !sameAddr(remote, s.RemoteAddr()) {
		w.T.Errorf("OnConnected got %v, RemoteAddr is %v", remote, s.RemoteAddr())
	}
	w.mu.Lock()
	w.sessions = append(w.sessions, s)
	w.mu.Unlock()
	select {
	case w.Arrivals <- s:
	default:
	}
	if f := w.Hooks.Connected; f != nil {
		f(s)
	}
}

// OnRecv implements session.Handler.
func (s *Session) OnRecv(data []byte) {
	defer s.Enter("OnRecv", Open, Open)()
	s.Got.Add(int64(len(data)))
	if f := s.Watch.Hooks.Recv; f != nil {
		f(s, data)
	}
}

// OnSend implements session.Handler.
func (s *Session) OnSend(n int) {
	defer s.Enter("OnSend", Open, Open)()
	if s.Sent.Add(int64(n)); n < 0 || n == 0 && !s.Watch.Wire { // a packet may be empty
		s.Watch.T.Errorf("OnSend(%d)", n)
	}
	if f := s.Watch.Hooks.Sent; f != nil {
		f(s, n)
	}
}

// OnDisconnected implements session.Handler.
func (s *Session) OnDisconnected(remote net.Addr) {
	defer close(s.Ended)
	defer s.Enter("OnDisconnected", Open, Gone)()
	t := s.Watch.T
	if !sameAddr(remote, s.RemoteAddr()) {
		t.Errorf("OnDisconnected got %v, RemoteAddr is %v", remote, s.RemoteAddr())
	}
	if err := s.Send([]byte("late")); !errors.Is(err, session.ErrClosed) {
		t.Errorf("Send in OnDisconnected: %v", err)
	}
	if f := s.Watch.Hooks.Disconnected; f != nil {
		f(s)
	}
}

// Run has f run on the session's loop and waits for it.
func (s *Session) Run(t testing.TB, f func()) {
	t.Helper()
	done := make(chan struct{})
	Must(t, s.Post(func() {
		defer close(done)
		defer s.Enter("Post", Open, Open)()
		f()
	}))
	Await(t, done, "a posted function runs")
}

// Hold keeps the session's loop busy until release is called.
func (s *Session) Hold(t testing.TB) (release func()) {
	t.Helper()
	entered, gate := make(chan struct{}), make(chan struct{})
	Must(t, s.Post(func() {
		close(entered)
		<-gate
	}))
	release = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(release)
	Await(t, entered, "the loop is held")
	return release
}

// AwaitEnd waits for OnDisconnected and returns the reason.
func AwaitEnd(t testing.TB, s *Session) error {
	t.Helper()
	Await(t, s.Ended, "OnDisconnected")
	return s.Err()
}

// sameAddr reports whether a and b are the same address, and there is one.
func sameAddr(a, b net.Addr) bool {
	return a != nil && b != nil && a.Network() == b.Network() && a.String() == b.String()
}
