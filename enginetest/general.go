package enginetest

import (
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

// general is what holds of the API, whatever is done with it.
var general = []promise{
	{"A", "echo: every client gets back what it has sent", 0, echo},
	{"A", "the functions of session.Events are called in order", 0, events},
	{"A", "none of the functions of session.Events is needed", 0, eventsNil},
	{"A", "ids are unique and never used again", 0, idsAreUnique},
	{"A", "Sessions is a snapshot", 0, sessionsIsASnapshot},
	{"A", "Stats count sessions, bytes and writes", accepting | counted, stats},
	{"A", "every method may be called from any goroutine", 0, anyGoroutine},
}

func echo(t testing.TB, v *Variant) {
	s := v.serve(t, engine.Options{}, kit.Hooks{Recv: kit.Echo})
	var clients []net.Conn
	for range 20 {
		clients = append(clients, s.client())
	}
	for round := range 10 {
		for i, c := range clients {
			kit.Exchange(t, c, fmt.Sprintf("round %d of client %d", round, i))
		}
	}
	for _, c := range clients {
		kit.CloseWrite(t, c)
		kit.Must(t, kit.ReadAll(c, nil))
	}
	kit.Eventually(t, "every session has ended", func() bool { return s.Stats().Total.Ended.PeerClosed == 20 })
}

func events(t testing.TB, v *Variant) {
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
	c := v.serveUnwatched(t, engine.Options{}, factory).client()
	kit.Exchange(t, c, "hello")
	kit.Must(t, c.Close())

	first := kit.Await(t, events, "the first event")
	remote := first.s.RemoteAddr().String()
	if v.Network != "unix" && v.Client == nil && remote != c.LocalAddr().String() {
		t.Errorf("RemoteAddr is %s, want %v", remote, c.LocalAddr())
	}
	for _, want := range []event{{"connected " + remote, first.s, 0}, {"recv", first.s, 5}, {"send", first.s, 5},
		{"disconnected " + remote, first.s, 0}} {
		if first != want {
			t.Fatalf("event %v, want %v", first, want)
		}
		if want.name[0] != 'd' {
			first = kit.Await(t, events, "the next event")
		}
	}
}

func eventsNil(t testing.TB, v *Variant) {
	s := v.serveUnwatched(t, engine.Options{}, session.Events{}.Factory())
	c := s.client()
	kit.Write(t, c, []byte("hello"))
	kit.CloseWrite(t, c)
	kit.Must(t, kit.ReadAll(c, nil))
	kit.Must(t, c.Close())
	kit.Eventually(t, "the session has ended", func() bool { return s.Stats().Total.Ended.PeerClosed == 1 })
}

func idsAreUnique(t testing.TB, v *Variant) {
	a := v.serve(t, engine.Options{}, kit.Hooks{})
	b := v.serve(t, engine.Options{}, kit.Hooks{})
	seen := make(map[uint64]bool)
	for range 40 { // descriptors are used again, numbers are not
		for _, s := range []*server{a, b} {
			c, p := s.connect()
			if id := p.ID(); id == 0 || seen[id] {
				t.Fatalf("id %d after %d others", id, len(seen))
			}
			seen[p.ID()] = true
			kit.Must(t, c.Close())
			kit.Await(t, p.Ended, "OnDisconnected")
		}
	}
	if id := new(session.Session).ID(); id != 0 {
		t.Errorf("a session without a connection has id %d", id)
	}
}

func sessionsIsASnapshot(t testing.TB, v *Variant) {
	var s *server
	started := make(chan struct{})
	inside := make(chan int, 1)
	s = v.serve(t, engine.Options{}, kit.Hooks{Recv: func(*kit.Session, []byte) {
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
		kit.Write(t, c, []byte("?"))
		if n := kit.Await(t, inside, "OnRecv"); n != 10 {
			t.Errorf("%d sessions seen from a callback, want 10", n)
		}
		kit.Must(t, c.Close())
		kit.Await(t, h.(*kit.Session).Ended, "OnDisconnected")
		kit.Eventually(t, "the session is out of the snapshot", func() bool { return !live()[h] })
		if n := len(live()); n != 9 {
			t.Errorf("%d sessions after one has left, want 9", n)
		}
		break
	}
	// The walk goes on while sessions end under it.
	n := 0
	for h := range s.Sessions() {
		h.(*kit.Session).Abort()
		kit.Await(t, h.(*kit.Session).Ended, "OnDisconnected")
		n++
	}
	if n != 9 {
		t.Errorf("walked over %d sessions, want 9", n)
	}
}

func stats(t testing.TB, v *Variant) {
	s := v.prepare(t, engine.Options{MaxSessions: 50}, kit.Hooks{Recv: kit.Echo})
	if st := s.Stats(); st.Accepted != 0 || st.Loops != nil {
		t.Errorf("before Start: %+v", st)
	}
	kit.Must(t, s.Start())
	const clients, rounds = 8, 5
	message := string(kit.Stream()[:100])
	size := uint64(len(message) + v.header()) // as it travels
	for range clients {
		c, _ := s.connect()
		for range rounds {
			kit.Exchange(t, c, message)
		}
	}
	// The client may be faster than the loop's counting.
	kit.Eventually(t, "everything is counted", func() bool { return s.Stats().Total.BytesOut == clients*rounds*size })
	st := s.Stats()
	if st.Sessions != clients || st.Accepted != clients || st.MaxSessions != 50 || st.Refused.Sum() != 0 || st.AcceptErrors != 0 || len(st.Loops) != v.Loops {
		t.Errorf("engine: %+v", st)
	}
	got := st.Total
	got.WakeUps, got.Unresponsive, got.Lag = 0, 0, engine.Histogram{} // as the machine has it
	want := engine.LoopStats{Sessions: clients, BytesIn: clients * rounds * size, BytesOut: clients * rounds * size,
		MessagesIn: got.MessagesIn, MessagesOut: got.MessagesIn, Writes: got.MessagesIn}
	if got != want || got.MessagesIn < clients*rounds {
		t.Errorf("total %+v, want %+v", got, want)
	}
	for i, l := range st.Loops {
		if l.Sessions != clients/v.Loops {
			t.Errorf("loop %d has %d sessions of %d", i, l.Sessions, clients)
		}
	}
}

// Every method of the engine and of a session may be called from anywhere at any time; nothing must be lost, nor
// hang.
func anyGoroutine(t testing.TB, v *Variant) {
	s := v.serve(t, engine.Options{LingerTimeout: 100 * time.Millisecond}, kit.Hooks{Recv: func(p *kit.Session, data []byte) { _ = p.Send(data) }})
	var wg sync.WaitGroup
	for i := range 20 {
		c, p := s.connect()
		kit.Write(t, c, []byte("hello"))
		go func() { _, _ = io.Copy(io.Discard, c) }() // ends with the session
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
	kit.Eventually(t, "every session has ended", func() bool { return s.Stats().Sessions == 0 })
}
