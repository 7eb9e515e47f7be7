package engine

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/session"
)

// L4: what was to be served after a callback had called runtime.Goexit is served: input, pending connections, and room to write.
func TestGoexitLosesNoEvent(t *testing.T) {
	type client struct {
		net.Conn
		s *recorder
	}
	var leave *recorder
	sessions := make(chan *recorder, 10)
	e, err := New(Options{Loops: 1, SendLimit: 64 << 20, PauseAbove: -1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := e.Listen("tcp", "127.0.0.1:0", func() session.Handler {
		s := &recorder{}
		s.recv = func(data []byte) {
			if s == leave {
				runtime.Goexit()
			}
			_ = s.Send(data)
		}
		s.connected = func() { sessions <- s }
		return s
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		return c
	}
	connect := func() client { return client{dial(), receive(t, sessions)} }
	first, second, full := connect(), connect(), connect()

	const much, some = 32 << 20, 32 << 10
	if err := full.s.Send(make([]byte, much)); err != nil { // more than the kernel takes
		t.Fatal(err)
	}
	held, release := make(chan struct{}), make(chan struct{})
	if err := second.s.Post(func() { close(held); <-release }); err != nil {
		t.Fatal(err)
	}
	<-held
	leave = first.s
	third := make(chan net.Conn, 1)
	for _, c := range []client{first, second} { // the first one's event comes first
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
	}
	go func() { third <- dial() }()
	late := receive(t, third) // connected, by the kernel alone
	if _, err := io.CopyN(io.Discard, full, some); err != nil {
		t.Fatal(err)
	}
	close(release)

	for _, c := range []net.Conn{second, late} {
		if c == late {
			if _, err := c.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
		}
		b := make([]byte, 5)
		if _, err := io.ReadFull(c, b); err != nil || string(b) != "hello" {
			t.Errorf("%q, %v", b, err)
		}
	}
	if _, err := io.CopyN(io.Discard, full, much-some); err != nil {
		t.Errorf("the rest did not come: %v", err)
	}
	if _, err := first.Read(make([]byte, 1)); err == nil {
		t.Error("the session that failed goes on")
	}
	if err := first.s.Err(); !errors.Is(err, session.ErrPanic) {
		t.Errorf("its reason is %v", err)
	}
}

type recorder struct {
	session.Session
	connected func()
	recv      func([]byte)
}

func (r *recorder) OnConnected(net.Addr) { r.connected() }
func (r *recorder) OnRecv(data []byte)   { r.recv(data) }

func receive[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(5 * time.Second):
		t.Fatal("nothing within 5 s")
		panic("unreachable")
	}
}

// A listener whose accepting loop is held up by a callback is served all the same.
func TestAcceptingLoopHeldUp(t *testing.T) {
	e, err := New(Options{Loops: 2, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	sessions := make(chan *recorder, 100)
	l, err := e.Listen("tcp", "127.0.0.1:0", func() session.Handler {
		s := &recorder{}
		s.connected = func() { sessions <- s }
		s.recv = func(data []byte) { _ = s.Send(data) }
		return s
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	accepting := e.loops[0]
	release := make(chan struct{})
	defer close(release)
	for { // until one lives on the accepting loop
		dial()
		s := receive(t, sessions)
		if hasSession(accepting, s) {
			held := make(chan struct{})
			if err := s.Post(func() { close(held); <-release }); err != nil {
				t.Fatal(err)
			}
			<-held
			break
		}
	}
	served := 0
	for range 10 { // every other one goes to the loop that is free
		c := dial()
		_ = c.SetDeadline(time.Now().Add(time.Second))
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err == nil {
			served++
			break
		}
	}
	if served == 0 {
		t.Error("no connection was accepted")
	}
}

// A listener's goroutine is told of a connection that came before it waited: the accepting loop may have tried it and failed.
func TestAwaitTellsOfWhatWaits(t *testing.T) {
	e, err := New(Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return &recorder{} })
	if err != nil {
		t.Fatal(err)
	}
	if err := l.bind(); err != nil { // there is no accepting loop
		t.Fatal(err)
	}
	dial(t, l)
	time.Sleep(50 * time.Millisecond) // the runtime has its notice
	told := make(chan error)
	go func() { told <- l.await() }()
	if err := receive(t, told); err != nil {
		t.Error(err)
	}
	go func() { told <- l.await() }()
	if err := receive(t, told); err != nil {
		t.Error("as long as it waits: ", err)
	}
	n, err := l.tryAccept()
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(n.fd)
	go func() { told <- l.await() }()
	select {
	case err := <-told:
		t.Errorf("%v, and none waits", err)
	case <-time.After(50 * time.Millisecond):
	}
	l.unbind()
	if err := receive(t, told); err == nil {
		t.Error("nil, and the listener is closed")
	}
}

// Each goroutine that waits for a loop that can take a connection learns of it, however many notices there were.
func TestAwaitLoopPassesOn(t *testing.T) {
	l := unstarted(t)
	l.engine.loops = []*loop{l}
	l.opening.Store(maxOpening)
	const waiting = 3
	found := make(chan *loop, waiting)
	for range waiting {
		go func() { found <- l.engine.awaitLoop() }()
	}
	time.Sleep(20 * time.Millisecond)
	if len(found) > 0 {
		t.Fatal("a loop that can take none was found")
	}
	l.opening.Store(0)
	l.engine.notifyRoom()
	for range waiting {
		if receive(t, found) != l {
			t.Error("another loop was found")
		}
	}
}

func hasSession(l *loop, s *recorder) bool {
	for _, c := range l.Conns() {
		if c.Context.Handler() == session.Handler(s) {
			return true
		}
	}
	return false
}
