package engine

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime"
	"testing"
	"time"

	gerrors "github.com/panjf2000/gnet/v2/pkg/errors"
	"github.com/panjf2000/gnet/v2/pkg/netpoll"
	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/session"
)

// What the engine relies on in gnet's poller, each fact by itself, so that an upgrade that changes one says so.
func TestGnetPoller(t *testing.T) {
	p, err := netpoll.OpenPoller()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	var told []news
	other := errors.New("not gnet's")
	done := make(chan error, 1)
	steps := []func() error{
		// What is true already is told; an error of another kind does not end Polling.
		func() error { _, err := unix.Write(pair[1], []byte("a")); return errors.Join(err, other) },
		// Each arrival is told, though nothing was read.
		func() error { _, err := unix.Write(pair[1], []byte("b")); return err },
		func() error { return unix.Shutdown(pair[1], unix.SHUT_WR) },
		func() error { return gerrors.ErrEngineShutdown },
	}
	if err := p.AddReadWrite(&netpoll.PollAttachment{FD: pair[0]}, true); err != nil {
		t.Fatal(err)
	}
	go func() {
		done <- p.Polling(func(fd int, e netpoll.IOEvent, flags netpoll.IOFlags) error {
			if fd != pair[0] {
				t.Errorf("event of descriptor %d, want %d", fd, pair[0])
			}
			told = append(told, translate(e, flags))
			return steps[len(told)-1]()
		})
	}()
	select {
	case err = <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("Polling did not end within 5 s")
	}
	if !errors.Is(err, gerrors.ErrEngineShutdown) {
		t.Errorf("Polling returned %v", err)
	}
	want := []news{{writable: true}, {writable: true, readable: true}, {writable: true, readable: true}}
	for i, n := range want {
		if told[i] != n {
			t.Errorf("event %d tells %+v, want %+v", i+1, told[i], n)
		}
	}
	if !told[3].hangup {
		t.Errorf("the peer's end is told as %+v", told[3])
	}
	// A descriptor that is closed leaves by itself.
	if err := unix.Close(pair[0]); err != nil {
		t.Fatal(err)
	}
	again, err := unix.Dup(pair[1])
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(again)
	if err := p.AddReadWrite(&netpoll.PollAttachment{FD: again}, true); err != nil {
		t.Errorf("the number cannot be used again: %v", err)
	}
}

// L4: what was to be served after content had called runtime.Goexit is served: input, newcomers, and room.
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

func receive[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(5 * time.Second):
		t.Fatal("nothing within 5 s")
		panic("unreachable")
	}
}

// An event of a descriptor whose number has passed to another connection does no harm to that one.
func TestStaleEvent(t *testing.T) {
	client, c := connect(t, Options{})
	exchange(t, client, 1)
	ended := onLoop(t, c, func() bool {
		for _, n := range []news{{readable: true}, {writable: true}, {hangup: true}, {readable: true, writable: true, hangup: true, urgent: true}} {
			c.event(n)
		}
		return c.closed()
	})
	if ended {
		t.Fatal("the connection was ended")
	}
	exchange(t, client, 3)
}

// A listener whose door is held up by a callback is attended all the same.
func TestDoorHeldUp(t *testing.T) {
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
	door := e.loops[0]
	release := make(chan struct{})
	defer close(release)
	for { // until one lives on the door
		dial()
		s := receive(t, sessions)
		if hasSession(door, s) {
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
		t.Error("nobody was let in")
	}
}

// A listener's goroutine is told of a newcomer that came before it waited: its door may have tried him and failed.
func TestAwaitTellsOfWhoWaits(t *testing.T) {
	e, err := New(Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return &recorder{} })
	if err != nil {
		t.Fatal(err)
	}
	if err := l.bind(); err != nil { // there is no door
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
		t.Error("as long as he waits: ", err)
	}
	n, err := l.try()
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(n.fd)
	go func() { told <- l.await() }()
	select {
	case err := <-told:
		t.Errorf("%v, and nobody waits", err)
	case <-time.After(50 * time.Millisecond):
	}
	l.unbind()
	if err := receive(t, told); err == nil {
		t.Error("nil, and the listener is closed")
	}
}

// Whoever waits for a loop that can take a newcomer learns of it, however many notices there were.
func TestEmptiestPassesOn(t *testing.T) {
	l := unstarted(t)
	l.engine.loops = []*loop{l}
	l.opening.Store(maxOpening)
	const waiting = 3
	found := make(chan *loop, waiting)
	for range waiting {
		go func() { found <- l.engine.emptiest() }()
	}
	time.Sleep(20 * time.Millisecond)
	if len(found) > 0 {
		t.Fatal("a loop that can take nobody was found")
	}
	l.opening.Store(0)
	l.engine.landed()
	for range waiting {
		if receive(t, found) != l {
			t.Error("another loop was found")
		}
	}
}

func hasSession(l *loop, s *recorder) bool {
	l.connsMu.Lock()
	defer l.connsMu.Unlock()
	for _, c := range l.conns {
		if c.driver.Handler() == session.Handler(s) {
			return true
		}
	}
	return false
}
