package engine

import (
	"io"
	"log/slog"
	"net"
	"os"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/session"
)

type plain struct {
	session.Session
	connected chan struct{}
}

func (s *plain) OnConnected(net.Addr) { close(s.connected) }
func (s *plain) OnRecv(data []byte)   { _ = s.Send(data) }

// connect starts an engine and returns a client of it and the client's connection as the engine has it.
func connect(t testing.TB, o Options, opts ...Option) (net.Conn, *conn) {
	t.Helper()
	o.Loops, o.Logger = 1, slog.New(slog.DiscardHandler)
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	s := &plain{connected: make(chan struct{})}
	l, err := e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return s }, opts...)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	select {
	case <-s.connected:
	case <-time.After(5 * time.Second):
		t.Fatal("no OnConnected within 5 s")
	}
	lp := e.loops[0]
	return c, lp.Conns()[0]
}

// counterOf returns a counter of the reactor's part of a loop.
func counterOf[T any](l *loop, name string) *T {
	return (*T)(reflect.ValueOf(l.eventLoop).Elem().FieldByName(name).Addr().UnsafePointer())
}

// liveOf returns the number of a loop's sessions.
func liveOf(l *loop) *atomic.Int32 { return counterOf[atomic.Int32](l, "size") }

// onLoop runs ask on the connection's loop: its fields are the loop's.
func onLoop[T any](t testing.TB, c *conn, ask func() T) (v T) {
	t.Helper()
	done := make(chan struct{})
	if err := c.Context.Session().Post(func() { v = ask(); close(done) }); err != nil {
		t.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("a posted function did not run within 5 s")
	}
	return v
}

// exchange sends n messages of one byte, each after the answer to the last.
func exchange(t testing.TB, c net.Conn, n int) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	for i := range n {
		if _, err := c.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, b[:]); err != nil || b[0] != byte(i) {
			t.Fatalf("message %d: %d, %v", i, b[0], err)
		}
	}
}

// folder returns a folder with a short path: those of sockets are short.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
