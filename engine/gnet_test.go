package engine

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"
)

// What the engine relies on in gnet, each fact by itself, so that an upgrade that changes one says so.

type facts struct {
	gnet.BuiltinEventEngine
	traffic func(gnet.Conn)
	close   func(gnet.Conn, error)
	opened  chan gnet.Conn
}

func (f *facts) OnOpen(c gnet.Conn) ([]byte, gnet.Action) { f.opened <- c; return nil, gnet.None }
func (f *facts) OnTraffic(c gnet.Conn) gnet.Action        { f.traffic(c); return gnet.None }
func (f *facts) OnClose(c gnet.Conn, err error) gnet.Action {
	f.close(c, err)
	return gnet.None
}

// enroll gives gnet one end of a TCP connection, the way the engine does, and returns the other.
func enroll(t *testing.T, f *facts, ctx any) (net.Conn, func()) {
	t.Helper()
	f.opened = make(chan gnet.Conn, 1)
	client, err := gnet.NewClient(f, gnet.WithNumEventLoop(1), gnet.WithLogger(bridge{newLogger(slog.New(slog.DiscardHandler))}))
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() })
	near, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.EnrollContext(near, ctx); err != nil {
		t.Fatal(err)
	}
	return far, func() { _ = client.Stop() }
}

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

func TestGnetClosesWithinClose(t *testing.T) {
	var order []string
	done := make(chan struct{})
	f := &facts{}
	f.traffic = func(c gnet.Conn) {
		fd := c.Fd()
		_ = c.EventLoop().Close(c)
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); errors.Is(err, unix.EBADF) {
			order = append(order, "closed")
		}
		close(done)
	}
	f.close = func(c gnet.Conn, err error) {
		if _, e := unix.FcntlInt(uintptr(c.Fd()), unix.F_GETFD, 0); e == nil && err == nil {
			order = append(order, "OnClose with the descriptor open")
		}
	}
	far, stop := enroll(t, f, nil)
	defer stop()
	_, _ = far.Write([]byte("x"))
	receive(t, done)
	if len(order) != 2 || order[0] != "OnClose with the descriptor open" || order[1] != "closed" {
		t.Errorf("Close did %q", order)
	}
}

func TestGnetDeliversAllBeforeFIN(t *testing.T) {
	var got int
	done := make(chan error, 1)
	f := &facts{traffic: func(c gnet.Conn) {
		b, _ := c.Next(-1)
		got += len(b)
		if c.InboundBuffered() != 0 {
			t.Error("Next(-1) left something")
		}
	}, close: func(_ gnet.Conn, err error) { done <- err }}
	far, stop := enroll(t, f, nil)
	defer stop()
	const total = 1 << 20
	go func() {
		_, _ = far.Write(make([]byte, total))
		_ = far.Close()
	}()
	if err := receive(t, done); !errors.Is(err, io.EOF) {
		t.Errorf("OnClose got %v, want it to match io.EOF", err)
	}
	if got != total {
		t.Errorf("%d of %d bytes came before OnClose", got, total)
	}
}

func TestGnetStopClosesWithoutError(t *testing.T) {
	done := make(chan error, 1)
	mark := new(int)
	f := &facts{traffic: func(gnet.Conn) {}, close: func(c gnet.Conn, err error) {
		if c.Context() != any(mark) {
			t.Error("the context is gone in OnClose")
		}
		done <- err
	}}
	_, stop := enroll(t, f, mark)
	stop()
	if err := receive(t, done); err != nil {
		t.Errorf("OnClose got %v", err)
	}
}
