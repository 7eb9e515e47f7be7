package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/session"
)

// statsOf returns what the engine tells of a session, and whether it does.
func statsOf(e *engine.Engine, s *kit.Session) (engine.SessionStats, bool) {
	for st := range e.SessionStats() {
		if st.ID == s.ID() {
			return st, true
		}
	}
	return engine.SessionStats{}, false
}

// closedOf returns what the engine remembers of a session that has ended, once it does.
func closedOf(t *testing.T, e *engine.Engine, s *kit.Session) (found engine.ClosedSession) {
	t.Helper()
	kit.Eventually(t, "the session is among the closed", func() bool {
		for c := range e.Closed() {
			if c.ID == s.ID() {
				found = c
				return true
			}
		}
		return false
	})
	return found
}

// Of an open session, and of one that has ended, the engine tells what it is and what it has carried.
func TestSessionsAreSeen(t *testing.T) {
	kit.OnNetworks(t, func(t *testing.T, network string, loops int) {
		began := time.Now()
		s := kit.Serve(t, network, engine.Options{Loops: loops}, kit.Hooks{Recv: kit.Echo})
		name := s.Stats().Listeners[0].Listener
		if want := network + "://" + s.Listener.Addr().String(); name != want {
			t.Errorf("the listener is %s, want %s", name, want)
		}
		c, p := s.Connect()
		kit.Exchange(t, c, "hello")
		kit.Exchange(t, c, "world!!")
		var st engine.SessionStats
		kit.Eventually(t, "both messages are counted", func() (ok bool) {
			st, ok = statsOf(s.Engine, p)
			return ok && st.MessagesOut == 2 && st.BytesOut == 12 && st.Pending == 0
		})
		if st.Handler != session.Handler(p) || st.Listener != name || st.Local != p.LocalAddr() || st.Remote != p.RemoteAddr() ||
			st.BytesIn != 12 || st.MessagesIn == 0 || st.BytesDropped != 0 || st.Slow || st.Paused || st.Ending || st.Loop < 0 || st.Loop >= loops {
			t.Errorf("open: %+v", st)
		}
		if st.Opened.Before(began.Add(-time.Second)) || st.Opened.After(time.Now().Add(time.Second)) || st.Active.Before(st.Opened) {
			t.Errorf("opened %v, active %v, now %v", st.Opened, st.Active, time.Now())
		}
		if h, ok := s.Session(p.ID()); !ok || h != session.Handler(p) {
			t.Errorf("Session(%d) is %v, %v", p.ID(), h, ok)
		}
		if h, ok := s.Session(p.ID() + 1_000_000); ok || h != nil {
			t.Errorf("a session that never was: %v", h)
		}
		for range s.Closed() {
			t.Error("a session has ended")
		}

		p.DisconnectWith(errors.New("enough"))
		kit.Must(t, c.Close())
		closed := closedOf(t, s.Engine, p)
		if closed.Listener != name || closed.Local != p.LocalAddr() || closed.Remote != p.RemoteAddr() || closed.BytesIn != 12 ||
			closed.BytesOut != 12 || closed.MessagesIn != st.MessagesIn || closed.MessagesOut != 2 || closed.BytesDropped != 0 ||
			closed.Cause != "other" || closed.Reason == nil || closed.Reason.Error() != p.Err().Error() {
			t.Errorf("closed: %+v", closed)
		}
		if d := closed.Opened.Sub(st.Opened).Abs(); d > time.Second || closed.Closed.Before(closed.Opened) || closed.Closed.After(time.Now().Add(time.Second)) {
			t.Errorf("opened %v, and %v by the other; closed %v", closed.Opened, st.Opened, closed.Closed)
		}
		if _, ok := s.Session(p.ID()); ok {
			t.Error("a session that has ended is still found")
		}
	})
}

// A session whose peer does not read is slow, and one that has called PauseRecv is paused.
func TestSlowSessionsAreSeen(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		s := kit.Serve(t, "tcp", engine.Options{Loops: loops, SendBuffer: 8 << 10}, kit.Hooks{})
		_, slow := s.Accepted(s.SmallClient())
		_, other := s.Connect()
		other.PauseRecv()
		kit.Must(t, slow.Send(bytes.Repeat([]byte{1}, 900_000)))
		kit.Eventually(t, "the session is slow", func() bool {
			st, _ := statsOf(s.Engine, slow)
			return st.Slow && st.Pending > 0 && st.Pending+int(st.BytesOut) == 900_000 && !st.Paused
		})
		if st, ok := statsOf(s.Engine, other); !ok || st.Slow || !st.Paused || st.Pending != 0 {
			t.Errorf("the other one: %+v", st)
		}
		slow.Abort()
		if c := closedOf(t, s.Engine, slow); c.BytesDropped+c.BytesOut != 900_000 || c.BytesDropped == 0 || c.Cause != "aborted" ||
			!errors.Is(c.Reason, session.ErrAborted) {
			t.Errorf("closed: %+v", c)
		}
	})
}

// Closed has the last KeepClosed, the last one first; none if that is off.
func TestKeepClosed(t *testing.T) {
	kit.NoLeaks(t)
	for keep, want := range map[int]int{-1: 0, 3: 3, 0: 5} {
		t.Run(fmt.Sprint(keep), func(t *testing.T) {
			s := kit.Serve(t, "tcp", engine.Options{Loops: 1, KeepClosed: keep}, kit.Hooks{})
			var ids []uint64
			for range 5 {
				c, p := s.Connect()
				kit.Must(t, c.Close())
				_ = kit.AwaitEnd(t, p)
				kit.Eventually(t, "it is released", func() bool { return s.Stats().Sessions == 0 })
				ids = append([]uint64{p.ID()}, ids...)
			}
			var got []uint64
			for c := range s.Closed() {
				got = append(got, c.ID)
				if c.Cause != "peer_closed" {
					t.Errorf("the cause is %s", c.Cause)
				}
			}
			if !slices.Equal(got, ids[:want]) {
				t.Errorf("closed are %v, want %v", got, ids[:want])
			}
			for range s.Closed() {
				break // an iteration may stop
			}
		})
	}
	if _, err := engine.New(engine.Options{KeepClosed: 2_000_000}); err == nil || !strings.Contains(err.Error(), "KeepClosed") {
		t.Errorf("KeepClosed of 2,000,000: %v", err)
	}
}

// What net/http serves is no session: it is not walked, not found and not among the closed.
func TestHTTPIsNotSeen(t *testing.T) {
	kit.NoLeaks(t)
	inside, served := make(chan int, 1), make(chan *kit.Server, 1)
	s, c, url, _ := serveHTTP(t, engine.Options{}, false, func(http.ResponseWriter, *http.Request) {
		s := <-served
		n := 0
		for st := range s.SessionStats() {
			n++
			t.Errorf("the walk meets %+v", st)
		}
		for id := range uint64(1000) { // numbers are given to connections of net/http too
			if h, ok := s.Session(id); ok {
				t.Errorf("Session(%d) is %T", id, h)
			}
		}
		inside <- n
	})
	served <- s
	r, err := c.Get(url)
	kit.Must(t, err)
	_ = r.Body.Close()
	kit.Await(t, inside, "the request")
	c.CloseIdleConnections()
	kit.Eventually(t, "the connection has ended", func() bool { return s.Stats().Sessions == 0 })
	for c := range s.Closed() {
		t.Errorf("closed: %+v", c)
	}
	if l := s.Stats().Listeners[0]; l.Accepted != 0 || l.Sessions != 0 || l.BytesIn != 0 {
		t.Errorf("the listener counts %+v", l)
	}
}

// Each listener counts its own sessions, bytes, messages and refusals; what was dialled counts for none.
func TestListenersAreCountedApart(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		s := kit.Prepare(t, "tcp", "127.0.0.1:0", engine.Options{Loops: loops}, kit.Hooks{Recv: kit.Echo})
		refuses, err := s.Listen("tcp", "127.0.0.1:0", s.New, engine.Guard(engine.Rules{MaxPerAddress: 1}))
		kit.Must(t, err)
		path := kit.FreeAddress(t, "unix")
		_, err = s.Listen("unix", path, s.New)
		kit.Must(t, err)
		if n := len(s.Stats().Listeners); n != 0 {
			t.Errorf("%d listeners before Start", n)
		}
		kit.Must(t, s.Start())

		a, first := s.Connect()
		kit.Exchange(t, a, "12345")
		b := kit.Dial(t, refuses.Addr(), net.Dialer{})
		_, _ = s.Accepted(b)
		kit.Exchange(t, b, "123")
		refused := kit.Dial(t, refuses.Addr(), net.Dialer{})
		if n, err := refused.Read(make([]byte, 1)); err == nil {
			t.Errorf("the third connection reads %d bytes", n)
		}
		u := kit.Dial(t, &net.UnixAddr{Name: path, Net: "unix"}, net.Dialer{})
		s.Accepted(u)
		kit.Exchange(t, u, "1234567")
		kit.Exchange(t, u, "1")
		ctx, cancel := context.WithTimeout(context.Background(), kit.Patience)
		defer cancel()
		sink := kit.Listen(t, "tcp")
		dialed, err := s.Dial(ctx, "tcp", sink.Addr().String(), s.New)
		kit.Must(t, err)
		kit.Must(t, dialed.(*kit.Session).Send([]byte("dialed bytes")))
		far := kit.Accept(t, sink)
		kit.Expect(t, far, "dialed bytes")

		kit.Must(t, a.Close())
		_ = kit.AwaitEnd(t, first)
		want := []engine.ListenerStats{
			{Listener: "tcp://" + s.Listener.Addr().String(), Listening: 1, Accepted: 1, BytesIn: 5, BytesOut: 5, MessagesOut: 1, Ended: engine.Ended{PeerClosed: 1}},
			{Listener: "tcp://" + refuses.Addr().String(), Listening: 1, Accepted: 1, Sessions: 1, Refused: engine.Refused{PerAddress: 1}, BytesIn: 3, BytesOut: 3, MessagesOut: 1},
			{Listener: "unix://" + path, Listening: 1, Accepted: 1, Sessions: 1, BytesIn: 8, BytesOut: 8, MessagesOut: 2},
		}
		var got engine.Stats
		kit.Eventually(t, "all is counted", func() bool {
			got = s.Stats()
			for i := range got.Listeners {
				if m := got.Listeners[i].MessagesIn; m == 0 || m > 12 { // as the network has cut them
					return false
				}
				got.Listeners[i].MessagesIn = 0
			}
			return slices.Equal(got.Listeners, want) && got.Total.BytesOut == 28
		})
		if got.Total.BytesIn != 16 || got.Total.BytesOut != 28 || got.Total.MessagesOut != 5 || got.Refused.Sum() != 1 || got.Accepted != 3 || got.Dialed != 1 {
			t.Errorf("in all: %+v", got)
		}
		for st := range s.SessionStats() {
			if d := dialed.(*kit.Session); st.ID == d.ID() && (st.Listener != "" || st.BytesOut != 12) {
				t.Errorf("what was dialled: %+v", st)
			}
		}
	})
}

// Listeners have names of their own, also when they share a socket or were closed before Start.
func TestListenersHaveNames(t *testing.T) {
	kit.NoLeaks(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	kit.Must(t, err)
	defer ln.Close()
	s := kit.NewServer(t, engine.Options{Loops: 1}, kit.Hooks{})
	for range 2 {
		_, err := s.Listen("tcp", "", s.New, engine.From(ln.(*net.TCPListener)))
		kit.Must(t, err)
	}
	for range 2 {
		l, err := s.Listen("tcp", "127.0.0.1:0", s.New)
		kit.Must(t, err)
		kit.Must(t, l.Close())
	}
	kit.Must(t, s.Start())
	var got []string
	for _, l := range s.Stats().Listeners {
		got = append(got, l.Listener)
	}
	shared := "tcp://" + ln.Addr().String()
	if want := []string{shared, shared + "#2", "tcp://127.0.0.1:0", "tcp://127.0.0.1:0#2"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// The state tells whether the engine is ready for work.
func TestState(t *testing.T) {
	kit.NoLeaks(t)
	s := kit.Prepare(t, "tcp", "127.0.0.1:0", engine.Options{Loops: 1}, kit.Hooks{})
	want := func(want engine.State, text string) {
		t.Helper()
		if got := s.State(); got != want || got.String() != text {
			t.Errorf("the state is %v, want %v", got, text)
		}
	}
	want(engine.StateNew, "new")
	kit.Must(t, s.Start())
	want(engine.StateRunning, "running")
	c, p := s.Connect()
	release := p.Hold(t)
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(t.Context()) }()
	kit.Eventually(t, "the engine drains", func() bool { return s.State() == engine.StateDraining })
	want(engine.StateDraining, "draining")
	release()
	kit.Must(t, c.Close())
	kit.Must(t, kit.Await(t, ended, "Shutdown"))
	want(engine.StateEnded, "ended")

	fresh, err := engine.New(engine.Options{})
	kit.Must(t, err)
	_ = fresh.Close()
	if st := fresh.State(); st != engine.StateEnded {
		t.Errorf("an engine that was closed before Start is %v", st)
	}
}
