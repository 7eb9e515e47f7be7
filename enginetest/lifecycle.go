package enginetest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

// lifecycle is chapter 3 of the contract.
func lifecycle() []promise {
	return slices.Concat(
		[]promise{{"L1", "callbacks of a session run one at a time, never nested", 0, callbacksOneAtATime}},
		firstAndLast(),
		[]promise{{"L3", "nothing touches the connection after OnDisconnected", 0, nothingAfterTheEnd}},
		panics(), factories(),
		[]promise{{"L4", "Goexit in a callback loses no other session's end", 0, goexitLosesNoEnd}},
		reasons(),
	)
}

// The sessions notice callbacks that overlap; here is what tries to provoke it.
func callbacksOneAtATime(t testing.TB, v *Variant) {
	var posted atomic.Int64
	var s *server
	s = v.prepare(t, engine.Options{SendLimit: -1}, kit.Hooks{
		Recv: func(p *kit.Session, data []byte) {
			sent := p.Sent.Load()
			kit.Echo(p, data)
			// What is asked for in a callback happens after it, and no lock is held meanwhile.
			err := p.Post(func() {
				defer p.Enter("Post", kit.Open, kit.Open)()
				posted.Add(1)
			})
			_, _, _ = p.Pending(), p.Err(), s.Stats()
			for range s.Sessions() {
			}
			if err != nil || p.Sent.Load() != sent {
				t.Errorf("Post in a callback: %v; OnSend within OnRecv: %d bytes", err, p.Sent.Load()-sent)
			}
		},
		Sent: func(p *kit.Session, _ int) { _ = p.Pending() },
	})
	kit.Must(t, s.Start())
	const clients, senders, sends, echoes = 4, 4, 200, 50
	var foreign, readers sync.WaitGroup
	for range clients {
		c, p := s.connect()
		for range senders {
			foreign.Go(func() {
				for range sends {
					if err := errors.Join(p.Send([]byte("s")), p.Post(func() { defer p.Enter("Post", kit.Open, kit.Open)() })); err != nil {
						t.Error(err)
					}
				}
			})
		}
		readers.Go(func() {
			if n, err := io.CopyN(io.Discard, c, senders*sends+echoes); err != nil {
				t.Errorf("read %d bytes: %v", n, err)
			}
		})
		for range echoes {
			kit.Write(t, c, []byte("e"))
		}
	}
	foreign.Wait()
	readers.Wait()
	if posted.Load() == 0 {
		t.Error("nothing posted from a callback has run")
	}
}

// firstAndLast are the ways to end a session early; each has its OnConnected and its OnDisconnected.
func firstAndLast() (list []promise) {
	silence := func(testing.TB, *server, net.Conn) {}
	for _, tt := range []struct {
		name    string
		hooks   kit.Hooks
		act     func(testing.TB, *server, net.Conn)
		reasons []error
		needs   trait
	}{
		{"bytes with the handshake", kit.Hooks{Recv: kit.Echo}, func(t testing.TB, _ *server, c net.Conn) {
			kit.Exchange(t, c, "first")
			_ = c.Close()
		}, []error{session.ErrPeerClosed}, 0},
		{"the peer closes at once", kit.Hooks{}, func(_ testing.TB, _ *server, c net.Conn) { _ = c.Close() }, []error{session.ErrPeerClosed}, 0},
		{"the peer resets at once", kit.Hooks{}, func(t testing.TB, _ *server, c net.Conn) { kit.Reset(t, c) }, []error{session.ErrPeerReset}, resets},
		{"Abort in OnConnected", kit.Hooks{Connected: func(p *kit.Session) { p.Abort() }}, silence, []error{session.ErrAborted}, 0},
		{"Disconnect in OnConnected", kit.Hooks{Connected: func(p *kit.Session) { p.Disconnect() }}, func(_ testing.TB, _ *server, c net.Conn) {
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}, []error{session.ErrDisconnected}, 0},
		{"a panic in OnConnected", kit.Hooks{Connected: func(*kit.Session) { panic("no") }}, silence, []error{session.ErrPanic}, 0},
		{"Abort and Disconnect from everywhere", kit.Hooks{Recv: func(p *kit.Session, _ []byte) { p.Abort() },
			Sent: func(p *kit.Session, _ int) { p.Disconnect() },
			Connected: func(p *kit.Session) {
				_ = p.Send([]byte("hello"))
				for range 4 {
					go p.Disconnect()
					go p.Abort()
				}
			}}, func(_ testing.TB, _ *server, c net.Conn) { _, _ = c.Write([]byte("x")) }, nil, 0},
		{"the engine is closed", kit.Hooks{}, func(_ testing.TB, s *server, _ net.Conn) { go s.Close() }, []error{session.ErrShutdown, session.ErrAborted}, 0},
	} {
		list = append(list, promise{"L2", "OnConnected is first, OnDisconnected last, once: " + tt.name, tt.needs, func(t testing.TB, v *Variant) {
			s := v.serve(t, engine.Options{}, tt.hooks)
			const clients = 10
			var conns []net.Conn
			for range clients {
				conns = append(conns, s.client())
			}
			var sessions []*kit.Session
			for range clients {
				sessions = append(sessions, kit.Await(t, s.Arrivals, "OnConnected"))
			}
			for _, c := range conns {
				tt.act(t, s, c)
			}
			for _, p := range sessions {
				kit.WantError(t, "reason", kit.AwaitEnd(t, p), tt.reasons...)
			}
			kit.Eventually(t, "no session is left", func() bool { return s.Stats().Sessions == 0 })
		}})
	}
	return list
}

func nothingAfterTheEnd(t testing.TB, v *Variant) {
	s := v.serve(t, engine.Options{}, kit.Hooks{Recv: kit.Echo})
	var stale []*kit.Session
	for round := range 20 {
		// A session comes and goes. The next one gets its descriptor, as the system gives out the lowest that is free.
		c, p := s.connect()
		kit.Exchange(t, c, "old")
		if round%2 == 0 {
			kit.Must(t, c.Close())
		} else {
			kit.Reset(t, c)
		}
		kit.Await(t, p.Ended, "OnDisconnected")
		stale = append(stale, p)

		c, live := s.connect()
		before := live.Sent.Load()
		for _, p := range stale {
			useStale(t, s, p)
		}
		live.Run(t, func() {}) // what they asked for would have happened before
		kit.Exchange(t, c, "new")
		if n := live.Sent.Load() - before; live.Err() != nil || n > 3 {
			t.Fatalf("a stale session has reached another one: %v, %d bytes sent", live.Err(), n)
		}
		kit.Must(t, c.Close())
		kit.Await(t, live.Ended, "OnDisconnected")
	}
}

// useStale calls the methods of a session that has ended.
func useStale(t testing.TB, s *server, p *kit.Session) {
	t.Helper()
	kit.WantError(t, "late Send", p.Send([]byte("secret")), session.ErrClosed, net.ErrClosed)
	b := pool.Get()
	b.B = append(b.B, "secret"...)
	kit.WantError(t, "late SendBuffer", p.SendBuffer(b), session.ErrClosed, net.ErrClosed)
	kit.WantError(t, "late Post", p.Post(func() { t.Error("a late posted function has run") }), session.ErrClosed)
	err := p.Err()
	p.PauseRecv()
	p.ResumeRecv()
	p.Disconnect()
	p.DisconnectWith(errors.New("late"))
	p.Abort()
	if got := p.Err(); got != err {
		t.Errorf("the reason has changed from %v to %v", err, got)
	}
	if p.RemoteAddr() == nil || p.LocalAddr() == nil || s.addr != nil && p.LocalAddr().String() != s.addr().String() {
		t.Errorf("addresses after the end: %v, %v", p.RemoteAddr(), p.LocalAddr())
	}
}

// panics are the callbacks that can fail, and the ways in which they do.
func panics() (list []promise) {
	for _, where := range []string{"OnConnected", "OnRecv", "OnSend", "OnDisconnected", "Post"} {
		for _, how := range []struct {
			name string
			fail func()
		}{
			{"a panic", func() { panic("on purpose") }},
			{"Goexit", runtime.Goexit},
			{"an index out of range", func() { _ = make([]int, 1)[time.Now().Unix()] }},
		} {
			list = append(list, promise{"L4", fmt.Sprintf("%s in %s ends that session only", how.name, where), 0,
				func(t testing.TB, v *Variant) { panicEndsThatSessionOnly(t, v, where, how.fail) }})
		}
	}
	return list
}

func panicEndsThatSessionOnly(t testing.TB, v *Variant, where string, fail func()) {
	var armed atomic.Bool
	var bad sync.Map // *kit.Session
	maybe := func(callback string, p *kit.Session) {
		if _, b := bad.Load(p); b && callback == where {
			fail()
		}
	}
	s := v.serve(t, engine.Options{}, kit.Hooks{
		Connected: func(p *kit.Session) {
			if armed.Load() {
				bad.Store(p, true)
			}
			maybe("OnConnected", p)
		},
		Recv: func(p *kit.Session, data []byte) {
			if where == "Post" {
				_ = p.Post(func() { maybe("Post", p) })
			}
			maybe("OnRecv", p)
			kit.Echo(p, data)
		},
		Sent:         func(p *kit.Session, _ int) { maybe("OnSend", p) },
		Disconnected: func(p *kit.Session) { maybe("OnDisconnected", p) },
	})
	var bystanders []net.Conn
	for range 2 * v.Loops {
		c, _ := s.connect()
		kit.Exchange(t, c, "hello") // its OnConnected is over
		bystanders = append(bystanders, c)
	}
	armed.Store(true)
	for round := range 5 {
		c, p := s.connect()
		_, told := c.Write([]byte("now")) // it may be reset already; a reset is told once
		if where == "OnDisconnected" {
			kit.Expect(t, c, "now")
			kit.Must(t, c.Close())
			kit.WantError(t, "reason", kit.AwaitEnd(t, p), session.ErrPeerClosed)
		} else {
			kit.WantError(t, "reason", kit.AwaitEnd(t, p), session.ErrPanic)
			_, err := io.Copy(io.Discard, c)
			if err = errors.Join(told, err); v.Network != "unix" && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("the client sees %v, want a reset", err)
			}
		}
		for i, c := range bystanders {
			kit.Exchange(t, c, fmt.Sprintf("bystander %d in round %d", i, round))
		}
	}
	if n := s.Stats().Total.Ended.Panic; where != "OnDisconnected" && n != 5 {
		t.Errorf("stats count %d panics, want 5", n)
	}
}

// factories are those that fail.
func factories() (list []promise) {
	for _, tt := range []struct {
		name string
		make func() session.Handler
	}{
		{"panics", func() session.Handler { panic("on purpose") }},
		{"calls Goexit", func() session.Handler { runtime.Goexit(); return nil }},
		{"returns nil", func() session.Handler { return nil }},
		{"returns a nil session", func() session.Handler { return (*session.Session)(nil) }},
		{"returns a nil handler", func() session.Handler { return (*kit.Session)(nil) }},
		{"returns the same handler twice", nil},
	} {
		list = append(list, promise{"L4", "a factory that " + tt.name + " refuses that connection only", accepting,
			func(t testing.TB, v *Variant) { factoryFails(t, v, tt.make) }})
	}
	return list
}

func factoryFails(t testing.TB, v *Variant, bad func() session.Handler) {
	w := kit.NewWatch(t, kit.Hooks{Recv: kit.Echo})
	var fails atomic.Bool
	once := w.NewSession()
	s := v.prepareWith(t, engine.Options{}, w, func() session.Handler {
		switch {
		case !fails.Load():
			return w.New()
		case bad == nil:
			return once
		}
		return bad()
	})
	kit.Must(t, s.Start())
	good, _ := s.connect()
	kit.Exchange(t, good, "hello")
	fails.Store(true)
	if bad == nil { // the first is fine
		c, _ := s.connect()
		kit.Exchange(t, c, "hello")
	}
	const refused = 5
	for range refused {
		c := s.refused()
		if n, err := c.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read %d bytes, %v, want the end", n, err)
		}
		kit.Must(t, c.Close())
		kit.Exchange(t, good, "still there")
	}
	kit.Eventually(t, "all is counted", func() bool { return s.Stats().Refused.Factory == refused })
	if st := s.Stats(); st.Refused.Sum() != refused {
		t.Errorf("%+v", st.Refused)
	}
}

// A peer's end that the loop had been told of, and not yet served, when Goexit took its goroutine down is not missed (E2).
func goexitLosesNoEnd(t testing.TB, v *Variant) {
	s := v.serve(t, engine.Options{}, kit.Hooks{Recv: func(p *kit.Session, data []byte) {
		if string(data) == "die" {
			runtime.Goexit()
		}
		kit.Echo(p, data)
	}})
	for range 5 {
		dies, p := s.connect()
		var others []net.Conn
		var ends []*kit.Session
		for range 3 {
			c, q := s.connect()
			others, ends = append(others, c), append(ends, q)
		}
		release := p.Hold(t)
		kit.Write(t, dies, []byte("die"))
		for _, c := range others {
			kit.Write(t, c, []byte("last words"))
			kit.CloseWrite(t, c)
		}
		release()
		kit.Await(t, p.Ended, "OnDisconnected")
		for i, c := range others {
			kit.Must(t, kit.ReadAll(c, []byte("last words")))
			kit.Await(t, ends[i].Ended, "OnDisconnected")
		}
	}
}
