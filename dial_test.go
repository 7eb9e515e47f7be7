package servercore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/session"
)

// to dials a server and returns the session, which is one of s's.
func (s *server) to(a net.Addr, opts ...engine.Option) *peer {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	h, err := s.Dial(ctx, a.Network(), a.String(), s.newPeer, opts...)
	must(s.t, err)
	return h.(*peer)
}

// listen returns a listener of package net, for what an engine would never do.
func listen(t testing.TB, network string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, freeAddress(t, network))
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func accept(t testing.TB, l net.Listener) net.Conn {
	t.Helper()
	must(t, l.(interface{ SetDeadline(time.Time) error }).SetDeadline(time.Now().Add(patience)))
	c, err := l.Accept()
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	must(t, c.SetDeadline(time.Now().Add(3*patience)))
	return c
}

// An engine without listeners dials one that has some; the sessions of both are held to the contract.
func TestDialEcho(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string, loops int) {
		s := serve(t, network, engine.Options{Loops: loops}, hooks{recv: echo})
		answers := make(chan string, 1)
		c := dialler(t, engine.Options{Loops: loops}, hooks{recv: func(_ *peer, data []byte) { answers <- string(data) }})
		a := s.listener.Addr()
		for i := range 20 {
			p := c.to(a)
			q := await(t, s.arrivals, "OnConnected of the server's session")
			if p.stage.Load() != open || p.Err() != nil {
				t.Fatalf("Dial returned a session at stage %d, %v", p.stage.Load(), p.Err())
			}
			if p.RemoteAddr().String() != a.String() || p.LocalAddr().String() != q.RemoteAddr().String() {
				t.Errorf("from %v to %v, want from %v to %v", p.LocalAddr(), p.RemoteAddr(), q.RemoteAddr(), a)
			}
			message := fmt.Sprintf("hello %d", i)
			must(t, p.Send([]byte(message)))
			if got := await(t, answers, "the answer"); got != message {
				t.Errorf("got %q, want %q", got, message)
			}
			if i%2 == 0 {
				p.Disconnect()
				wantError(t, "reason", awaitEnd(t, p), session.ErrDisconnected)
				wantError(t, "the server's reason", awaitEnd(t, q), session.ErrPeerClosed)
			} else {
				q.Disconnect()
				wantError(t, "reason", awaitEnd(t, p), session.ErrPeerClosed)
				wantError(t, "the server's reason", awaitEnd(t, q), session.ErrDisconnected)
			}
		}
		if st := c.Stats(); st.Dialed != 20 || st.Accepted != 0 || st.DialErrors != 0 || st.Refused.Sum() != 0 {
			t.Errorf("stats: %+v", st)
		}
	})
}

func awaitEnd(t testing.TB, p *peer) error {
	t.Helper()
	await(t, p.ended, "OnDisconnected")
	return p.Err()
}

// Framed holds for dialled sessions: one Send is one OnRecv, there and back.
func TestDialFramed(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string, loops int) {
		packets := engine.Framed(frame.ServerCore{})
		s := serve(t, network, engine.Options{Loops: loops}, hooks{recv: echo}, packets)
		answers := make(chan string, 3)
		c := dialler(t, engine.Options{Loops: loops}, hooks{recv: func(_ *peer, data []byte) { answers <- string(data) }})
		c.framed = true
		p := c.to(s.listener.Addr(), packets)
		for _, message := range []string{"one", "two", "three"} {
			must(t, p.Send([]byte(message)))
		}
		for _, want := range []string{"one", "two", "three"} {
			if got := await(t, answers, "the answer"); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	})
}

// An engine may dial itself; names are looked up, and no host is this machine.
func TestDialItselfByName(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		s := serve(t, "tcp", engine.Options{Loops: loops}, hooks{})
		_, port, err := net.SplitHostPort(s.listener.Addr().String())
		must(t, err)
		for network, host := range map[string]string{"tcp": "localhost", "tcp4": ""} {
			h, err := s.Dial(t.Context(), network, net.JoinHostPort(host, port), s.newPeer)
			must(t, err)
			h.(*peer).Disconnect()
			await(t, h.(*peer).ended, "OnDisconnected")
		}
	})
}

// L2: Dial returns after OnConnected, whatever that did.
func TestDialReturnsAfterOnConnected(t *testing.T) {
	for name, tt := range map[string]struct {
		connected func(*peer)
		reason    error
	}{
		"Disconnect": {func(p *peer) { p.Disconnect() }, session.ErrDisconnected},
		"Abort":      {func(p *peer) { p.Abort() }, session.ErrAborted},
		"panic":      {func(*peer) { panic("on purpose") }, session.ErrPanic},
		"Goexit":     {func(*peer) { runtime.Goexit() }, session.ErrPanic},
	} {
		t.Run(name, func(t *testing.T) {
			onLoops(t, func(t *testing.T, loops int) {
				s := serve(t, "tcp", engine.Options{Loops: loops}, hooks{})
				var called atomic.Int32
				c := dialler(t, engine.Options{Loops: loops}, hooks{connected: func(p *peer) {
					called.Add(1)
					tt.connected(p)
				}})
				p := c.to(s.listener.Addr())
				if called.Load() != 1 {
					t.Error("Dial returned before OnConnected")
				}
				wantError(t, "reason", awaitEnd(t, p), tt.reason)
			})
		})
	}
}

// E2: a peer that asks, shuts down its writing side and reads slowly gets every byte from a dialled session too.
// E1: what was sent before Disconnect arrives.
func TestDialLosesNothingAtTheEnd(t *testing.T) {
	reply := pattern(8 << 20)
	onNetworks(t, func(t *testing.T, network string, loops int) {
		l := listen(t, network)
		c := dialler(t, engine.Options{Loops: loops, SendLimit: len(reply)}, hooks{recv: func(p *peer, _ []byte) {
			if err := p.Send(reply); err != nil {
				t.Error(err)
			}
		}})
		p := c.to(l.Addr())
		remote := accept(t, l)
		write(t, remote, []byte("please"))
		closeWrite(t, remote)
		must(t, readAll(remote, reply))
		wantError(t, "reason", awaitEnd(t, p), session.ErrPeerClosed)

		p = c.to(l.Addr())
		remote = accept(t, l)
		must(t, p.Send(reply))
		p.Disconnect()
		must(t, readAll(remote, reply))
		must(t, remote.Close())
		wantError(t, "reason", awaitEnd(t, p), session.ErrDisconnected)
		if n := p.sent.Load(); n != int64(len(reply)) {
			t.Errorf("OnSend told of %d bytes, want %d", n, len(reply))
		}
	})
}

// T4: the deadlines hold for dialled sessions.
func TestDialFirstByteTimeout(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		l := listen(t, "tcp")
		c := dialler(t, engine.Options{Loops: loops, FirstByteTimeout: 50 * time.Millisecond, LingerTimeout: 50 * time.Millisecond}, hooks{})
		wantError(t, "reason", awaitEnd(t, c.to(l.Addr())), session.ErrIdle)
	})
}

// T6: what cannot be dialled is an error that says why, and there is no callback.
func TestDialErrors(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string, loops int) {
		l := listen(t, network)
		must(t, l.Close())
		c := dialler(t, engine.Options{Loops: loops}, hooks{})
		_, err := c.Dial(t.Context(), network, l.Addr().String(), c.newPeer)
		want := map[string]error{"tcp": syscall.ECONNREFUSED, "unix": syscall.ENOENT}[network]
		wantError(t, "Dial", err, want)
		if op := new(net.OpError); !errors.As(err, &op) || !strings.Contains(err.Error(), l.Addr().String()) {
			t.Errorf("%v, want a net.OpError that names %v", err, l.Addr())
		}
		if _, err := c.Dial(t.Context(), network, l.Addr().String(), nil); err == nil || !strings.Contains(err.Error(), "factory") {
			t.Errorf("nil factory: %v", err)
		}
		//lint:ignore SA1012 it is what is tested
		if _, err := c.Dial(nil, network, l.Addr().String(), c.newPeer); err == nil || !strings.Contains(err.Error(), "context") {
			t.Errorf("nil context: %v", err)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = c.Dial(gone, network, l.Addr().String(), c.newPeer)
		wantError(t, "Dial with a context that has ended", err, context.Canceled)
		if st := c.Stats(); st.DialErrors != 2 || st.Sessions != 0 || st.Refused.Sum() != 0 {
			t.Errorf("stats: %+v", st)
		}
	})
}

// T6: a factory that fails is Dial's error.
func TestDialFactoryFails(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		s := serve(t, "tcp", engine.Options{Loops: loops}, hooks{})
		c := dialler(t, engine.Options{Loops: loops}, hooks{})
		used := c.to(s.listener.Addr())
		await(t, s.arrivals, "OnConnected")
		tests := []struct {
			name string
			f    session.Factory
			want error
		}{
			{"nil", func() session.Handler { return nil }, session.ErrHandler},
			{"used", func() session.Handler { return used }, session.ErrHandler},
			{"panic", func() session.Handler { panic("on purpose") }, session.ErrPanic},
			{"Goexit", func() session.Handler { runtime.Goexit(); return nil }, session.ErrPanic},
		}
		for _, tt := range tests {
			h, err := c.Dial(t.Context(), "tcp", s.listener.Addr().String(), tt.f)
			wantError(t, tt.name, err, tt.want)
			if h != nil || err == nil {
				t.Errorf("%s: handler %v, error %v", tt.name, h, err)
			}
			q := await(t, s.arrivals, "OnConnected of the server's session")
			wantError(t, tt.name, awaitEnd(t, q), session.ErrPeerClosed)
		}
		if st := c.Stats(); st.Refused.Factory != 4 || st.DialErrors != 4 || st.Dialed != 1 || st.Sessions != 1 {
			t.Errorf("stats: %+v", st)
		}
	})
}

func TestDialOnlyWhileTheEngineRuns(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string, loops int) {
		s := serve(t, network, engine.Options{Loops: loops}, hooks{})
		a := s.listener.Addr()
		c := watched(t, engine.Options{Loops: loops}, hooks{})
		if _, err := c.Dial(t.Context(), network, a.String(), c.newPeer); err == nil || errors.Is(err, engine.ErrClosed) || !strings.Contains(err.Error(), "Start") {
			t.Errorf("before Start: %v", err)
		}
		must(t, c.Start())
		p := c.to(a)
		must(t, c.Shutdown(t.Context()))
		wantError(t, "reason", awaitEnd(t, p), session.ErrShutdown)
		_, err := c.Dial(t.Context(), network, a.String(), c.newPeer)
		wantError(t, "after Shutdown", err, engine.ErrClosed)
	})
}

// T2: outbound sessions count, and one too many is not even connected.
func TestDialT2MaxSessions(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		s := serve(t, "tcp", engine.Options{Loops: loops}, hooks{})
		c := dialler(t, engine.Options{Loops: loops, MaxSessions: 2}, hooks{})
		a := s.listener.Addr()
		first := c.to(a)
		c.to(a)
		_, err := c.Dial(t.Context(), "tcp", a.String(), c.newPeer)
		wantError(t, "one too many", err, engine.ErrFull)
		if st := c.Stats(); st.Refused.Full != 1 || st.DialErrors != 1 || st.Sessions != 2 {
			t.Errorf("stats: %+v", st)
		}
		first.Disconnect()
		await(t, first.ended, "OnDisconnected")
		eventually(t, "there is room", func() bool { return c.Stats().Sessions == 1 })
		c.to(a)
		for range 3 {
			await(t, s.arrivals, "OnConnected of the server's session")
		}
		if n := s.Stats().Accepted; n != 3 {
			t.Errorf("the server has accepted %d connections, want 3", n)
		}
	})
}

// shortQueue returns a TCP listener that accepts when it is told to, its address, and what fills its queue: then SYNs to it
// are dropped.
func shortQueue(t *testing.T) (fd int, a net.Addr, fill func()) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	must(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	must(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(t, unix.Listen(fd, 0))
	sa, err := unix.Getsockname(fd)
	must(t, err)
	a = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: sa.(*unix.SockaddrInet4).Port}
	return fd, a, func() {
		for range 10 {
			c, err := net.DialTimeout("tcp", a.String(), 50*time.Millisecond)
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
		}
		t.Skip("the system queues more than it was asked to")
	}
}

// ctx ends while the peer does not answer: by its deadline, by cancelling. The engine's end does the same.
func TestDialIsInterrupted(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		_, a, fill := shortQueue(t)
		fill()
		address := a.String()
		c := dialler(t, engine.Options{Loops: loops}, hooks{})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err := c.Dial(ctx, "tcp", address, c.newPeer)
		wantError(t, "deadline", err, context.DeadlineExceeded)

		results := make(chan error, 1)
		dial := func(ctx context.Context) {
			_, err := c.Dial(ctx, "tcp", address, c.newPeer)
			results <- err
		}
		ctx, cancel = context.WithCancel(t.Context())
		defer cancel()
		go dial(ctx)
		eventually(t, "the dial is on its way", func() bool { return c.Stats().Sessions == 1 })
		cancel()
		wantError(t, "cancelled", await(t, results, "Dial returns"), context.Canceled)

		go dial(t.Context())
		eventually(t, "the dial is on its way", func() bool { return c.Stats().Sessions == 1 })
		ended := make(chan error, 1)
		go func() { ended <- c.Shutdown(context.Background()) }()
		must(t, await(t, ended, "Shutdown returns"))
		wantError(t, "shut down", await(t, results, "Dial returns"), engine.ErrClosed)
	})
}

// ctx, or the engine, ends after the connection was made and before its loop comes to it: there is no session.
func TestDialGivenUpBeforeOnConnected(t *testing.T) {
	noLeaks(t)
	s := serve(t, "tcp", engine.Options{Loops: 1}, hooks{})
	c := dialler(t, engine.Options{Loops: 1}, hooks{})
	a := s.listener.Addr()
	first := c.to(a)
	await(t, s.arrivals, "OnConnected of the server's session")
	results := make(chan error, 1)
	dial := func(ctx context.Context) {
		_, err := c.Dial(ctx, "tcp", a.String(), func() session.Handler {
			t.Error("the factory is called")
			return nil
		})
		results <- err
	}

	release := first.hold(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go dial(ctx)
	q := await(t, s.arrivals, "OnConnected of the server's session")
	cancel()
	wantError(t, "cancelled", await(t, results, "Dial returns"), context.Canceled)
	release()
	wantError(t, "the server's reason", awaitEnd(t, q), session.ErrPeerClosed)

	release = first.hold(t)
	go dial(t.Context())
	q = await(t, s.arrivals, "OnConnected of the server's session")
	ended := make(chan error, 1)
	go func() { ended <- c.Shutdown(context.Background()) }()
	wantError(t, "shut down", await(t, results, "Dial returns, its loop being held"), engine.ErrClosed)
	release()
	must(t, await(t, ended, "Shutdown returns"))
	wantError(t, "the server's reason", awaitEnd(t, q), session.ErrPeerClosed)
	wantError(t, "reason", awaitEnd(t, first), session.ErrShutdown)
}

// E4: an end in the middle of many dials leaves nothing behind: each returned a session that ended, or an error.
func TestDialE4ShutdownInARush(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string, loops int) {
		for round := range 6 {
			s := serve(t, network, engine.Options{Loops: loops, LingerTimeout: 50 * time.Millisecond}, hooks{})
			c := dialler(t, engine.Options{Loops: loops, LingerTimeout: 50 * time.Millisecond}, hooks{})
			a := s.listener.Addr()
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() {
					for {
						h, err := c.Dial(context.Background(), a.Network(), a.String(), c.newPeer)
						switch {
						case errors.Is(err, engine.ErrClosed):
							return
						case errors.Is(err, unix.EAGAIN): // a unix socket's way to say that its queue is full
							runtime.Gosched()
						case err != nil:
							t.Error(err)
							return
						case h.(*peer).stage.Load() == fresh:
							t.Error("Dial returned before OnConnected")
						default:
							h.(*peer).Disconnect()
						}
					}
				})
			}
			eventually(t, "some are connected", func() bool { return c.Stats().Dialed > 100 })
			if round%2 == 0 {
				must(t, c.Shutdown(t.Context()))
			} else {
				must(t, c.Close())
			}
			wg.Wait()
			if st := c.Stats(); st.Sessions != 0 {
				t.Errorf("%d sessions are left", st.Sessions)
			}
			must(t, s.Close())
		}
	})
}

// The dummy client: thousands of sessions in one process, as many as its descriptors allow, against a server in the
// same process.
func TestDialThousands(t *testing.T) {
	noLeaks(t)
	var limit unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	before := openDescriptors(t)
	sessions := min(2000, (int(min(limit.Cur, 1<<20))-before-200)/2)
	if sessions < 100 {
		t.Skipf("a limit of %d descriptors is too few", limit.Cur)
	}
	s := serve(t, "tcp", engine.Options{}, hooks{recv: echo})
	const message = "hello, hello"
	answered := make(chan *peer, sessions)
	c := dialler(t, engine.Options{}, hooks{
		connected: func(p *peer) { _ = p.Send([]byte(message)) },
		recv: func(p *peer, _ []byte) {
			if p.got.Load() == int64(len(message)) {
				answered <- p
			}
		},
	})
	jobs := make(chan struct{}, sessions)
	for range sessions {
		jobs <- struct{}{}
	}
	close(jobs)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range jobs {
				ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
				if _, err := c.Dial(ctx, "tcp", s.listener.Addr().String(), c.newPeer); err != nil {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	var peers []*peer
	for range sessions {
		peers = append(peers, await(t, answered, "every session has its answer"))
	}
	if st := c.Stats(); st.Sessions != sessions || int(st.Dialed) != sessions {
		t.Errorf("stats: %+v", st)
	}
	if n := openDescriptors(t) - before; n < 2*sessions || n > 2*sessions+100 {
		t.Errorf("%d descriptors for %d sessions, at both ends", n, sessions)
	}
	for _, p := range peers {
		p.Disconnect()
	}
	for _, p := range peers {
		wantError(t, "reason", awaitEnd(t, p), session.ErrDisconnected)
	}
	eventually(t, "the server's sessions have ended", func() bool { return int(s.Stats().Total.Ended.PeerClosed) == sessions })
}
