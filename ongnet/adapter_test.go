package ongnet_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/ongnet"
	"github.com/servercore-go/servercore/session"
)

// serve runs a server on gnet, and has it end and be checked with the test.
func serve(t *testing.T, o engine.Options, h kit.Hooks) (*server, *kit.Watch) {
	t.Helper()
	kit.NoLeaks(t)
	w := kit.NewWatch(t, h)
	if o.Logger == nil {
		o.Logger = kit.Quiet
	}
	o.Loops = 2
	made, _, err := newServer(o, "tcp4", "127.0.0.1:0", w.New)
	kit.Must(t, err)
	s := made.(*server)
	kit.Must(t, s.Start())
	t.Cleanup(func() {
		_ = s.Close()
		w.Check(s.Stats())
	})
	return s, w
}

func connect(t *testing.T, s *server, w *kit.Watch) (net.Conn, *kit.Session) {
	t.Helper()
	return kit.Dial(t, s.addr, net.Dialer{}), kit.Await(t, w.Arrivals, "OnConnected")
}

func TestHandlerNamesWhatCannotWork(t *testing.T) {
	f := func() session.Handler { return new(session.Session) }
	for want, call := range map[string]func(){
		"the session factory is nil": func() { ongnet.Handler(nil, ongnet.Options{}) },
		"Options.PauseAbove":         func() { ongnet.Handler(f, ongnet.Options{SendLimit: 10, PauseAbove: 20}) },
	} {
		func() {
			defer func() {
				if err, _ := recover().(error); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v, want it to name %q", err, want)
				}
			}()
			call()
		}()
	}
}

// gnet reads on while a session is paused: SendLimit bounds what is kept.
func TestPeerThatIsNotHeldIsReset(t *testing.T) {
	const limit = 100_000
	s, w := serve(t, engine.Options{SendLimit: limit}, kit.Hooks{Connected: func(p *kit.Session) { p.PauseRecv() }})
	c, p := connect(t, s, w)
	kit.Eventually(t, "reading is paused", func() bool { return s.Stats().Total.Pauses == 1 })
	kit.Write(t, c, make([]byte, limit))
	p.Run(t, func() {}) // it is kept
	if p.Err() != nil {
		t.Errorf("ended for what may be kept: %v", p.Err())
	}
	go func() { _, _ = c.Write(kit.Stream()) }() // until the reset
	kit.WantError(t, "reason", kit.AwaitEnd(t, p), ongnet.ErrNotHeld)
	if p.Got.Load() != 0 {
		t.Errorf("a paused session got %d bytes", p.Got.Load())
	}
}

// T1, T5: an error of accept ends gnet. Sessions are drained first, and gnet.Run says nothing.
func TestErrorOfAcceptEndsGnet(t *testing.T) {
	s, w := serve(t, engine.Options{LingerTimeout: 10 * time.Millisecond}, kit.Hooks{Recv: kit.Echo})
	c, p := connect(t, s, w)
	kit.Exchange(t, c, "before")
	kit.Must(t, p.Send([]byte("owed")))
	p.Run(t, func() { // on a loop: gnet closes the listener when its loops have ended
		fd, err := s.engine.Dup()
		if err = errors.Join(err, unix.Shutdown(fd, unix.SHUT_RD), unix.Close(fd)); err != nil {
			t.Error(err)
		}
	})
	kit.Must(t, kit.ReadAll(c, []byte("owed")))
	kit.WantError(t, "reason", kit.AwaitEnd(t, p), session.ErrShutdown)
	kit.Await(t, s.ran, "gnet.Run returns")
	if s.err != nil {
		t.Errorf("gnet.Run: %v; it did not tell, when this was written", s.err)
	}
}

// E4: gnet's own Stop drains.
func TestStopDrains(t *testing.T) {
	s, w := serve(t, engine.Options{}, kit.Hooks{})
	c, p := connect(t, s, w)
	reply := kit.Stream()[:900_000]
	kit.Must(t, p.Send(reply))
	go func() { _ = s.engine.Stop(t.Context()) }()
	kit.Must(t, kit.ReadAll(c, reply))
	kit.Must(t, c.Close())
	kit.Await(t, s.ran, "gnet.Run returns")
	kit.WantError(t, "reason", p.Err(), session.ErrShutdown)
}

// With a listener per loop accepting ends with the loops. Connections that come while sessions are drained are closed.
func TestStopWithReusePort(t *testing.T) {
	kit.NoLeaks(t)
	w := kit.NewWatch(t, kit.Hooks{})
	made, _, err := newServer(engine.Options{Loops: 1, Logger: kit.Quiet}, "tcp4", "127.0.0.1:0", w.New)
	kit.Must(t, err)
	s := made.(*server)
	s.options = append(s.options, gnet.WithReusePort(true))
	kit.Must(t, s.Start())
	c, p := connect(t, s, w)
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(t.Context()) }()
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read %v, want the FIN of the drain", err)
	}
	late := kit.Dial(t, s.addr, net.Dialer{})
	if _, err := late.Read(make([]byte, 1)); err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %v, want the end of a connection that came late", err)
	}
	kit.Must(t, c.Close())
	kit.Must(t, kit.Await(t, ended, "Shutdown returns"))
	kit.WantError(t, "reason", kit.AwaitEnd(t, p), session.ErrShutdown)
	if n := s.Stats().Refused.Closing; n != 1 {
		t.Errorf("%d were refused, want the late one", n)
	}
}

// Zero allocations for an echo, but for what gnet does.
func BenchmarkEcho(b *testing.B) {
	made, _, err := newServer(engine.Options{Loops: 1, Logger: kit.Quiet}, "tcp4", "127.0.0.1:0",
		session.Events{OnRecv: func(s *session.Session, data []byte) { _ = s.Send(data) }}.Factory())
	kit.Must(b, err)
	kit.Must(b, made.Start())
	defer made.Close()
	c := kit.Dial(b, made.(*server).addr, net.Dialer{})
	message := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(message); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, message); err != nil {
			b.Fatal(err)
		}
	}
}
