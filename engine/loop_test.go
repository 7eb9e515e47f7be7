package engine

import (
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/reactor"
	"github.com/servercore-go/servercore/session"
)

// oneLoop is an engine that has one loop, for tests of what waits for what.
func oneLoop(t *testing.T, factory func() *recorder) (*Engine, *Listener) {
	t.Helper()
	e, err := New(Options{Loops: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return factory() })
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e, l
}

func dial(t testing.TB, l *Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// write is of a test's goroutine, and to be followed by what the loop does about it.
func write(t *testing.T, c net.Conn, data string) {
	t.Helper()
	if _, err := c.Write([]byte(data)); err != nil {
		t.Fatal(err)
	}
}

// hold stops a session's loop until release is called.
func hold(t *testing.T, s *recorder) (release func()) {
	t.Helper()
	held, released := make(chan struct{}), make(chan struct{})
	if err := s.Post(func() { close(held); <-released }); err != nil {
		t.Fatal(err)
	}
	receive(t, held)
	return func() { close(released) }
}

// T3: however many sessions were told something at once, the events of others are served in between.
func TestMailboxLeavesRoomForEvents(t *testing.T) {
	const many = 2*reactor.TurnWakes + 50
	sessions, received := make(chan *recorder, many+1), make(chan int32, 1)
	var told atomic.Int32
	_, l := oneLoop(t, func() *recorder {
		s := &recorder{}
		s.connected = func() { sessions <- s }
		s.recv = func([]byte) { received <- told.Load() }
		return s
	})
	var all []*recorder
	var client net.Conn
	for range many + 1 {
		client = dial(t, l)
		all = append(all, receive(t, sessions))
	}
	last := make(chan struct{})
	release := hold(t, all[many])
	for _, s := range all[:many] {
		if err := s.Post(func() {
			if told.Add(1) == many {
				close(last)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	write(t, client, "x")
	release()
	if n := receive(t, received); n > reactor.TurnWakes {
		t.Errorf("an event waited for %d sessions of the mailbox, want %d at most", n, reactor.TurnWakes)
	}
	receive(t, last) // and nobody is forgotten
}

// T3: however many have just come in, the events of others are served in between.
func TestNewcomersLeaveRoomForEvents(t *testing.T) {
	const many, more = maxOpening / 2, 20
	sessions, received, last := make(chan *recorder, 1+many+more), make(chan int32, 1), make(chan struct{})
	var served atomic.Int32
	e, l := oneLoop(t, func() *recorder {
		s := &recorder{}
		s.connected = func() {
			sessions <- s
			time.Sleep(reactor.TurnTime)
			if served.Add(1) == 1+many+more {
				close(last)
			}
		}
		s.recv = func([]byte) { received <- served.Load() - 1 }
		return s
	})
	client := dial(t, l)
	release := hold(t, receive(t, sessions))
	for range many {
		dial(t, l)
	}
	for e.loops[0].opening.Load() < many { // the listener's goroutine lets them in
		time.Sleep(time.Millisecond)
	}
	write(t, client, "x")
	release()
	for range more { // who come while the loop is at it are not forgotten
		dial(t, l)
	}
	if n := receive(t, received); n > 2 {
		t.Errorf("an event waited for %d pending connections, want 2 at most", n)
	}
	receive(t, last)
}

// However many pending connections are left for turns to come, a ping is answered in the next.
func TestPingAmongNewcomers(t *testing.T) {
	const many = maxOpening / 2
	sessions, last := make(chan *recorder, 1+many), make(chan struct{})
	var served atomic.Int32
	e, l := oneLoop(t, func() *recorder {
		s := &recorder{}
		s.connected = func() {
			sessions <- s
			time.Sleep(4 * reactor.TurnTime)
			if served.Add(1) == 1+many {
				close(last)
			}
		}
		return s
	})
	dial(t, l)
	release := hold(t, receive(t, sessions))
	for range many {
		dial(t, l)
	}
	for e.loops[0].opening.Load() < many {
		time.Sleep(time.Millisecond)
	}
	release()
	receive(t, sessions) // the first of them is being opened, or has been
	before := served.Load()
	if err := e.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := served.Load() - before; n > many/2 {
		t.Errorf("a ping waited for %d pending connections", n)
	}
	receive(t, last)
}

// T3: however many deadlines are over at once, the events of others are served in between.
func TestDeadlinesLeaveRoomForEvents(t *testing.T) {
	const many, later = 50, 300 * time.Millisecond
	sessions, received, last := make(chan *recorder, many+1), make(chan int32, 1), make(chan struct{})
	var over atomic.Int32
	_, l := oneLoop(t, func() *recorder {
		s := &recorder{}
		s.connected = func() { sessions <- s }
		s.recv = func([]byte) { received <- over.Load() }
		return s
	})
	var all []*recorder
	var client net.Conn
	for range many + 1 {
		client = dial(t, l)
		all = append(all, receive(t, sessions))
	}
	for _, s := range all[:many] {
		s.AfterFunc(later, func() {
			time.Sleep(reactor.TurnTime)
			if over.Add(1) == many {
				close(last)
			}
		})
	}
	release := hold(t, all[many])
	before := over.Load() // all, on a machine that stood still
	time.Sleep(later + 2*reactor.Tick)
	write(t, client, "x")
	release()
	if n := receive(t, received) - before; n > 2 {
		t.Errorf("an event waited for %d deadlines, want 2 at most", n)
	}
	receive(t, last)
}
