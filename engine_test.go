package servercore_test

import (
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

// These tests see what a user sees: the public API and sockets. There is one for each promise of the contract,
// named after its number; the files follow its chapters.

func TestMain(m *testing.M) {
	// The runtime's own descriptors and the like exist from here on.
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		_ = l.Close()
	}
	code := m.Run()
	if code == 0 {
		if n := pool.Live(); n != 0 {
			fmt.Fprintf(os.Stderr, "%d buffers were not released\n", n)
			code = 1
		}
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func TestEcho(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string, loops int) {
		s := serve(t, network, engine.Options{Loops: loops}, hooks{recv: echo})
		var clients []net.Conn
		for range 20 {
			clients = append(clients, s.dial())
		}
		for round := range 10 {
			for i, c := range clients {
				exchange(t, c, fmt.Sprintf("round %d of client %d", round, i))
			}
		}
		for _, c := range clients {
			closeWrite(t, c)
			must(t, readAll(c, nil))
		}
		eventually(t, "every session has ended", func() bool { return s.Stats().Total.Ended.PeerClosed == 20 })
	})
}

func TestEvents(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		type event struct {
			name string
			s    *session.Session
			n    int
		}
		events := make(chan event, 10)
		factory := session.Events{
			OnConnected:    func(s *session.Session, remote net.Addr) { events <- event{"connected " + remote.String(), s, 0} },
			OnRecv:         func(s *session.Session, data []byte) { events <- event{"recv", s, len(data)}; _ = s.Send(data) },
			OnSend:         func(s *session.Session, n int) { events <- event{"send", s, n} },
			OnDisconnected: func(s *session.Session, remote net.Addr) { events <- event{"disconnected " + remote.String(), s, 0} },
		}.Factory()
		e, err := engine.New(engine.Options{Loops: loops, Logger: quiet})
		must(t, err)
		l, err := e.Listen("tcp", "127.0.0.1:0", factory)
		must(t, err)
		must(t, e.Start())
		defer e.Close()
		c, err := net.Dial("tcp", l.Addr().String())
		must(t, err)
		defer c.Close()
		must(t, c.SetDeadline(time.Now().Add(patience)))
		exchange(t, c, "hello")
		must(t, c.Close())

		local := c.LocalAddr().String()
		first := await(t, events, "the first event")
		for _, want := range []event{{"connected " + local, first.s, 0}, {"recv", first.s, 5}, {"send", first.s, 5}, {"disconnected " + local, first.s, 0}} {
			if first != want {
				t.Fatalf("event %v, want %v", first, want)
			}
			if want.name[0] != 'd' {
				first = await(t, events, "the next event")
			}
		}
	})
}

// None of the functions is needed.
func TestEventsNil(t *testing.T) {
	noLeaks(t)
	e, err := engine.New(engine.Options{Logger: quiet})
	must(t, err)
	l, err := e.Listen("tcp", "127.0.0.1:0", session.Events{}.Factory())
	must(t, err)
	must(t, e.Start())
	c, err := net.Dial("tcp", l.Addr().String())
	must(t, err)
	write(t, c, []byte("hello"))
	closeWrite(t, c)
	must(t, c.SetDeadline(time.Now().Add(patience)))
	must(t, readAll(c, nil))
	must(t, c.Close())
	eventually(t, "the session has ended", func() bool { return e.Stats().Total.Ended.PeerClosed == 1 })
	must(t, e.Close())
}

func TestIDsAreUnique(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		a := serve(t, "tcp", engine.Options{Loops: loops}, hooks{})
		b := serve(t, "unix", engine.Options{Loops: loops}, hooks{})
		seen := make(map[uint64]bool)
		for range 40 { // descriptors are used again, numbers are not
			for _, s := range []*server{a, b} {
				c, p := s.connect()
				if id := p.ID(); id == 0 || seen[id] {
					t.Fatalf("id %d after %d others", id, len(seen))
				}
				seen[p.ID()] = true
				must(t, c.Close())
				await(t, p.ended, "OnDisconnected")
			}
		}
		if id := new(session.Session).ID(); id != 0 {
			t.Errorf("a session without a connection has id %d", id)
		}
	})
}

func TestSessionsIsASnapshot(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		var s *server
		started := make(chan struct{})
		inside := make(chan int, 1)
		s = serve(t, "tcp", engine.Options{Loops: loops}, hooks{recv: func(*peer, []byte) {
			<-started
			inside <- len(slices.Collect(s.Sessions()))
		}})
		close(started)
		clients := make(map[session.Handler]net.Conn)
		for range 10 {
			c, p := s.connect()
			clients[p] = c
		}
		live := func() map[session.Handler]bool {
			m := make(map[session.Handler]bool)
			for h := range s.Sessions() {
				m[h] = true
			}
			return m
		}
		if m := live(); len(m) != 10 {
			t.Fatalf("%d sessions, want 10", len(m))
		}
		for range s.Sessions() {
			break // must not hold anything
		}
		for h, c := range clients {
			write(t, c, []byte("?"))
			if n := await(t, inside, "OnRecv"); n != 10 {
				t.Errorf("%d sessions seen from a callback, want 10", n)
			}
			must(t, c.Close())
			await(t, h.(*peer).ended, "OnDisconnected")
			eventually(t, "the session is out of the snapshot", func() bool { return !live()[h] })
			if n := len(live()); n != 9 {
				t.Errorf("%d sessions after one has left, want 9", n)
			}
			break
		}
		// The walk goes on while sessions end under it.
		n := 0
		for h := range s.Sessions() {
			h.(*peer).Abort()
			await(t, h.(*peer).ended, "OnDisconnected")
			n++
		}
		if n != 9 {
			t.Errorf("walked over %d sessions, want 9", n)
		}
	})
}

func TestStats(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		s := prepare(t, "tcp", "127.0.0.1:0", engine.Options{Loops: loops, MaxSessions: 50}, hooks{recv: echo})
		if st := s.Stats(); st.Accepted != 0 || st.Loops != nil {
			t.Errorf("before Start: %+v", st)
		}
		must(t, s.Start())
		const clients, rounds, size = 8, 5, 100
		message := string(stream()[:size])
		for range clients {
			c, _ := s.connect()
			for range rounds {
				exchange(t, c, message)
			}
		}
		// The client may be faster than the loop's counting.
		eventually(t, "everything is counted", func() bool { return s.Stats().Total.BytesOut == clients*rounds*size })
		st := s.Stats()
		if st.Sessions != clients || st.Accepted != clients || st.MaxSessions != 50 || st.Refused.Sum() != 0 || st.AcceptErrors != 0 || len(st.Loops) != loops {
			t.Errorf("engine: %+v", st)
		}
		got := st.Total
		got.WakeUps = 0
		want := engine.LoopStats{Sessions: clients, BytesIn: clients * rounds * size, BytesOut: clients * rounds * size,
			MessagesIn: got.MessagesIn, MessagesOut: got.MessagesIn, Writes: got.MessagesIn}
		if got != want || got.MessagesIn < clients*rounds {
			t.Errorf("total %+v, want %+v", got, want)
		}
		for i, l := range st.Loops {
			if l.Sessions != clients/loops {
				t.Errorf("loop %d has %d sessions of %d", i, l.Sessions, clients)
			}
		}
	})
}

// Every method of the engine and of a session may be called from anywhere at any time; nothing must be lost, nor
// hang.
func TestAnyGoroutine(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		s := serve(t, "tcp", engine.Options{Loops: loops, LingerTimeout: 100 * time.Millisecond}, hooks{recv: func(p *peer, data []byte) { _ = p.Send(data) }})
		var wg sync.WaitGroup
		for i := range 20 {
			c, p := s.connect()
			write(t, c, []byte("hello"))
			for range 5 {
				wg.Go(func() {
					for range 100 {
						_ = p.Send([]byte("x"))
						_ = p.SendBuffer(pool.Get())
						_ = p.Post(func() { p.PauseRecv() })
						p.ResumeRecv()
						_, _, _, _, _ = p.Pending(), p.Err(), p.ID(), p.RemoteAddr(), p.LocalAddr()
						_ = s.Stats()
					}
					if p.Disconnect(); i%2 == 0 {
						p.Abort()
					}
				})
			}
		}
		wg.Wait()
		eventually(t, "every session has ended", func() bool { return s.Stats().Sessions == 0 })
	})
}
