package engine_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
)

// listenNet returns a listener of package net, whose path, if it is a unix socket, stays.
func listenNet(t *testing.T, network string) net.Listener {
	t.Helper()
	ln, err := net.Listen(network, kit.FreeAddress(t, network))
	kit.Must(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	return ln
}

func TestFrom(t *testing.T) {
	kit.OnNetworks(t, func(t *testing.T, network string, loops int) {
		ln := listenNet(t, network)
		early, err := net.Dial(network, ln.Addr().String())
		kit.Must(t, err)
		defer early.Close()
		s := kit.Prepare(t, network, "", engine.Options{Loops: loops}, kit.Hooks{Recv: kit.Echo}, engine.From(ln.(syscall.Conn)))
		if got := s.Listener.Addr(); got.String() != ln.Addr().String() {
			t.Errorf("Addr before Start is %v, want %v", got, ln.Addr())
		}
		kit.Must(t, s.Start())
		kit.Must(t, ln.Close())
		kit.Exchange(t, early, "it waited")
		kit.Exchange(t, s.Client(), "it came later")
		if got := s.Listener.Addr(); got.String() != ln.Addr().String() {
			t.Errorf("Addr is %v, want %v", got, ln.Addr())
		}
		kit.Must(t, s.Close())
		if _, err := os.Stat(ln.Addr().String()); network == "unix" && err != nil {
			t.Errorf("the path of a socket that was handed in: %v", err)
		}
	})
}

// The caller may close what it handed in as soon as Start has returned: clients still reach a unix socket. What is closed without
// having been taken over removes its path as ever.
func TestFromKeepsThePath(t *testing.T) {
	kit.NoLeaks(t)
	type listener struct{ *net.UnixListener } // as a caller may wrap it
	for name, hand := range map[string]func(t *testing.T, ln *net.UnixListener) (syscall.Conn, func() error){
		"listener": func(_ *testing.T, ln *net.UnixListener) (syscall.Conn, func() error) { return ln, ln.Close },
		"wrapped":  func(_ *testing.T, ln *net.UnixListener) (syscall.Conn, func() error) { return listener{ln}, ln.Close },
		"file": func(t *testing.T, ln *net.UnixListener) (syscall.Conn, func() error) {
			f, err := ln.File()
			kit.Must(t, err)
			ln.SetUnlinkOnClose(false)
			kit.Must(t, ln.Close())
			return f, f.Close
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := kit.FreeAddress(t, "unix")
			ln, err := net.Listen("unix", path)
			kit.Must(t, err)
			socket, done := hand(t, ln.(*net.UnixListener))
			s := kit.Prepare(t, "unix", "", engine.Options{Loops: 1}, kit.Hooks{Recv: kit.Echo}, engine.From(socket))
			kit.Must(t, s.Start())
			kit.Must(t, done())
			kit.Exchange(t, s.Client(), "by the path")
			kit.Must(t, s.Close())
			if _, err := os.Lstat(path); err != nil {
				t.Errorf("the path: %v", err)
			}
			e, err := startNamed(path, "next") // the next start takes it over
			kit.Must(t, err)
			kit.Must(t, e.Close())
			wantOnly(t, filepath.Dir(path))
		})
	}
	ln, err := net.Listen("unix", kit.FreeAddress(t, "unix"))
	kit.Must(t, err)
	s := kit.Prepare(t, "unix", "", engine.Options{Loops: 1}, kit.Hooks{}, engine.From(ln.(syscall.Conn)))
	_, err = s.Listen("unix", filepath.Join(t.TempDir(), "none", "s"), newEcho)
	kit.Must(t, err)
	kit.WantError(t, "Start", s.Start(), syscall.ENOENT)
	kit.Must(t, ln.Close())
	if _, err := os.Lstat(ln.Addr().String()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the caller's own listener does not remove its path: %v", err)
	}
}

// A service manager's socket may be in blocking mode: a loop that accepts must not wait for the next connection.
func TestFromBlockingSocket(t *testing.T) {
	kit.NoLeaks(t)
	ln := listenNet(t, "tcp")
	f, err := ln.(*net.TCPListener).File()
	kit.Must(t, err)
	defer f.Close()
	kit.Must(t, unix.SetNonblock(int(f.Fd()), false))
	s := kit.Prepare(t, "tcp", "", engine.Options{Loops: 1}, kit.Hooks{Recv: kit.Echo}, engine.From(f))
	kit.Must(t, s.Start())
	c := s.Client()
	kit.Exchange(t, c, "first")
	kit.Exchange(t, s.Client(), "second")
	kit.Exchange(t, c, "first again")
}

func TestFromBadSockets(t *testing.T) {
	kit.NoLeaks(t)
	e, err := engine.New(engine.Options{Logger: kit.Quiet})
	kit.Must(t, err)
	defer e.Close()
	var closers []interface{ Close() error }
	defer func() {
		for _, c := range closers {
			_ = c.Close()
		}
	}()
	keep := func(c interface{ Close() error }, err error) syscall.Conn {
		t.Helper()
		kit.Must(t, err)
		closers = append(closers, c)
		return c.(syscall.Conn)
	}
	tcp4 := keep(net.Listen("tcp4", "127.0.0.1:0"))
	local := keep(net.Listen("unix", kit.FreeAddress(t, "unix")))
	datagrams := keep(net.ListenPacket("udp4", "127.0.0.1:0"))
	connected := keep(net.Dial("tcp4", tcp4.(net.Listener).Addr().String()))
	file := keep(os.Open(os.DevNull))
	shut := listenNet(t, "tcp4")
	kit.Must(t, shut.Close())
	for _, tt := range []struct {
		name, network string
		socket        syscall.Conn
		says          string
	}{
		{"nil", "tcp", nil, "nil"},
		{"a file", "tcp", file, "not a socket"},
		{"datagrams", "tcp", datagrams, "not a stream socket"},
		{"a connection", "tcp", connected, "does not listen"},
		{"another family", "tcp6", tcp4, "an IPv4 socket, not one for tcp6"},
		{"tcp for unix", "unix", tcp4, "an IPv4 socket, not one for unix"},
		{"unix for tcp", "tcp", local, "a unix socket, not one for tcp"},
		{"no such network", "udp", tcp4, "not one for udp"},
		{"closed", "tcp", shut.(syscall.Conn), "closed"},
	} {
		if _, err := e.Listen(tt.network, "", newEcho, engine.From(tt.socket)); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: error %v, want one that says %q", tt.name, err, tt.says)
		}
	}
	if _, err := e.Dial(t.Context(), "tcp", "127.0.0.1:1", newEcho, engine.From(tcp4)); err == nil || !strings.Contains(err.Error(), "From") {
		t.Errorf("Dial with From: %v", err)
	}
}

// One engine hands its listener to another: who connects meanwhile is served by one of them, the old sessions go on, and
// the path of a unix socket outlives the first.
func TestFileHandsTheListenerOn(t *testing.T) {
	kit.OnNetworks(t, func(t *testing.T, network string, loops int) {
		old := kit.Prepare(t, network, kit.FreeAddress(t, network), engine.Options{Loops: loops}, kit.Hooks{Recv: kit.Echo})
		if _, err := old.Listener.File(); err == nil {
			t.Error("File before Start succeeds")
		}
		kit.Must(t, old.Start())
		c, _ := old.Connect()
		kit.Exchange(t, c, "before")

		f, err := old.Listener.File()
		kit.Must(t, err)
		next := kit.Prepare(t, network, "", engine.Options{Loops: loops}, kit.Hooks{Recv: kit.Echo}, engine.From(f))
		kit.Must(t, next.Start())
		kit.Must(t, f.Close())

		stop, callers := make(chan struct{}), sync.WaitGroup{}
		for range 4 {
			callers.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if err := call(network, next.Listener.Addr().String()); err != nil {
						t.Errorf("a caller during the change: %v", err)
						return
					}
				}
			})
		}
		for range 20 {
			if err := call(network, next.Listener.Addr().String()); err != nil {
				t.Error(err)
			}
		}
		kit.Must(t, old.Listener.Close())
		if _, err := old.Listener.File(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("File after Close: %v", err)
		}
		before := old.Stats().Accepted
		for range 20 {
			if err := call(network, next.Listener.Addr().String()); err != nil {
				t.Error(err)
			}
		}
		close(stop)
		callers.Wait()
		if n := old.Stats().Accepted; n > before+4 { // the callers' own, accepted a moment before Close
			t.Errorf("the closed listener accepted %d", n-before)
		}
		kit.Exchange(t, c, "the old session")
		kit.Must(t, c.Close()) // nothing to linger for
		kit.Must(t, old.Shutdown(t.Context()))
		kit.Exchange(t, next.Client(), "after the old one's end")
		for name, s := range map[string]*kit.Server{"old": old, "next": next} {
			if n := s.Stats().AcceptErrors; n != 0 {
				t.Errorf("%s: %d accept errors", name, n)
			}
		}
	})
}

// call connects, has 64 bytes echoed and leaves.
func call(network, address string) error {
	c, err := net.DialTimeout(network, address, kit.Patience)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(kit.Patience)); err != nil {
		return err
	}
	message := []byte(strings.Repeat("x", 64))
	if _, err := c.Write(message); err != nil {
		return err
	}
	for got := 0; got < len(message); {
		n, err := c.Read(message[got:])
		if err != nil {
			return err
		}
		got += n
	}
	return nil
}

// Close, from a callback too, ends one listener and nothing else, also while a storm knocks at it.
func TestListenerClose(t *testing.T) {
	kit.OnNetworks(t, func(t *testing.T, network string, loops int) {
		e, err := engine.New(engine.Options{Loops: loops, Logger: kit.Quiet})
		kit.Must(t, err)
		defer e.Close()
		opts := kit.InMode(t, engine.Options{Loops: loops}, nil)
		storm, err := e.Listen(network, kit.FreeAddress(t, network), newEcho, opts...)
		kit.Must(t, err)
		calm, err := e.Listen(network, kit.FreeAddress(t, network), newEcho, opts...)
		kit.Must(t, err)
		given := kit.FreeAddress(t, network)
		never, err := e.Listen(network, given, newEcho)
		kit.Must(t, err)
		kit.Must(t, never.Close())
		kit.Must(t, e.Start())
		if _, err := os.Lstat(given); never.Addr().String() != given || err == nil {
			t.Error("a listener that was closed before Start is bound")
		}
		address := storm.Addr()
		c, err := net.Dial(network, address.String())
		kit.Must(t, err)
		defer c.Close()
		kit.Exchange(t, c, "before")

		var served atomic.Int64
		var callers sync.WaitGroup
		enough := make(chan struct{})
		once := sync.OnceFunc(func() { close(enough) })
		for range 8 {
			callers.Go(func() { // until refused
				for call(network, address.String()) == nil {
					if served.Add(1) >= 100 {
						once()
					}
				}
				once()
			})
		}
		kit.Await(t, enough, "a hundred callers were served")
		var closers sync.WaitGroup
		for range 3 {
			closers.Go(func() {
				if err := storm.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		closers.Wait()
		callers.Wait()
		if served.Load() < 100 {
			t.Errorf("%d callers were served before Close", served.Load())
		}
		if c, err := net.Dial(network, address.String()); err == nil {
			_ = c.Close()
			t.Error("a closed listener takes connections")
		}
		if storm.Addr() != address {
			t.Errorf("Addr after Close is %v, was %v", storm.Addr(), address)
		}
		kit.Exchange(t, c, "its session goes on")
		if err := call(network, calm.Addr().String()); err != nil {
			t.Errorf("the other listener: %v", err)
		}
		if n := e.Stats().AcceptErrors; n != 0 {
			t.Errorf("%d accept errors", n)
		}
		kit.Must(t, c.Close()) // nothing to linger for
		kit.Must(t, e.Shutdown(t.Context()))
		kit.Must(t, storm.Close())
	})
}

func TestListenerCloseInACallback(t *testing.T) {
	kit.OnNetworks(t, func(t *testing.T, network string, loops int) {
		var s *kit.Server
		s = kit.Prepare(t, network, kit.FreeAddress(t, network), engine.Options{Loops: loops}, kit.Hooks{Recv: func(p *kit.Session, data []byte) {
			if err := s.Listener.Close(); err != nil {
				t.Error(err)
			}
			kit.Echo(p, data)
		}})
		kit.Must(t, s.Start())
		c := s.Client()
		kit.Exchange(t, c, "close it")
		if c, err := net.Dial(network, s.Listener.Addr().String()); err == nil {
			_ = c.Close()
			t.Error("a closed listener takes connections")
		}
		kit.Exchange(t, c, "once more")
	})
}

func TestPing(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		s := kit.Prepare(t, "tcp", kit.FreeAddress(t, "tcp"), engine.Options{Loops: loops}, kit.Hooks{Recv: kit.Echo})
		if err := s.Ping(t.Context()); err == nil {
			t.Error("Ping before Start succeeds")
		}
		kit.Must(t, s.Start())
		kit.Must(t, s.Ping(t.Context()))
		_, p := s.Connect()
		release := p.Hold(t)
		if !strings.HasSuffix(t.Name(), kit.Offloaded) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			err := s.Ping(ctx)
			kit.WantError(t, "Ping of a loop that is held up", err, context.DeadlineExceeded)
			if err != nil && !strings.Contains(err.Error(), "loop") {
				t.Errorf("%v does not name the loop", err)
			}
		}
		release()
		kit.Must(t, s.Ping(t.Context()))
		kit.Must(t, s.Close())
		kit.WantError(t, "Ping after Close", s.Ping(t.Context()), engine.ErrClosed)
	})
}
