package engine_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/frame"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/session"
)

// An engine without listeners dials one that has some; the sessions of both are held to the contract.
func TestDialEcho(t *testing.T) {
	kit.OnNetworks(t, func(t *testing.T, network string, loops int) {
		s := kit.Serve(t, network, engine.Options{Loops: loops}, kit.Hooks{Recv: kit.Echo})
		answers := make(chan string, 1)
		c := kit.Dialler(t, engine.Options{Loops: loops}, kit.Hooks{Recv: func(_ *kit.Session, data []byte) { answers <- string(data) }})
		a := s.Listener.Addr()
		for i := range 20 {
			p := c.DialTo(a)
			q := kit.Await(t, s.Arrivals, "OnConnected of the server's session")
			if p.Stage.Load() != kit.Open || p.Err() != nil {
				t.Fatalf("Dial returned a session at stage %d, %v", p.Stage.Load(), p.Err())
			}
			if p.RemoteAddr().String() != a.String() || p.LocalAddr().String() != q.RemoteAddr().String() {
				t.Errorf("from %v to %v, want from %v to %v", p.LocalAddr(), p.RemoteAddr(), q.RemoteAddr(), a)
			}
			message := fmt.Sprintf("hello %d", i)
			kit.Must(t, p.Send([]byte(message)))
			if got := kit.Await(t, answers, "the answer"); got != message {
				t.Errorf("got %q, want %q", got, message)
			}
			if i%2 == 0 {
				p.Disconnect()
				kit.WantError(t, "reason", kit.AwaitEnd(t, p), session.ErrDisconnected)
				kit.WantError(t, "the server's reason", kit.AwaitEnd(t, q), session.ErrPeerClosed)
			} else {
				q.Disconnect()
				kit.WantError(t, "reason", kit.AwaitEnd(t, p), session.ErrPeerClosed)
				kit.WantError(t, "the server's reason", kit.AwaitEnd(t, q), session.ErrDisconnected)
			}
		}
		if st := c.Stats(); st.Dialed != 20 || st.Accepted != 0 || st.DialErrors != 0 || st.Refused.Sum() != 0 {
			t.Errorf("stats: %+v", st)
		}
	})
}

// Framed holds for dialled sessions: one Send is one OnRecv, there and back.
func TestDialFramed(t *testing.T) {
	kit.OnNetworks(t, func(t *testing.T, network string, loops int) {
		packets := engine.Framed(frame.ServerCore{})
		s := kit.Serve(t, network, engine.Options{Loops: loops}, kit.Hooks{Recv: kit.Echo}, packets)
		answers := make(chan string, 3)
		c := kit.Dialler(t, engine.Options{Loops: loops}, kit.Hooks{Recv: func(_ *kit.Session, data []byte) { answers <- string(data) }})
		c.Wire = true
		p := c.DialTo(s.Listener.Addr(), packets)
		for _, message := range []string{"one", "two", "three"} {
			kit.Must(t, p.Send([]byte(message)))
		}
		for _, want := range []string{"one", "two", "three"} {
			if got := kit.Await(t, answers, "the answer"); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	})
}

// An engine may dial itself; names are looked up, and no host is this machine.
func TestDialItselfByName(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		s := kit.Serve(t, "tcp", engine.Options{Loops: loops}, kit.Hooks{})
		_, port, err := net.SplitHostPort(s.Listener.Addr().String())
		kit.Must(t, err)
		for network, host := range map[string]string{"tcp": "localhost", "tcp4": ""} {
			h, err := s.Dial(t.Context(), network, net.JoinHostPort(host, port), s.New)
			kit.Must(t, err)
			h.(*kit.Session).Disconnect()
			kit.Await(t, h.(*kit.Session).Ended, "OnDisconnected")
		}
	})
}

// L2: Dial returns after OnConnected, whatever that did.
func TestDialReturnsAfterOnConnected(t *testing.T) {
	for name, tt := range map[string]struct {
		connected func(*kit.Session)
		reason    error
	}{
		"Disconnect": {func(p *kit.Session) { p.Disconnect() }, session.ErrDisconnected},
		"Abort":      {func(p *kit.Session) { p.Abort() }, session.ErrAborted},
		"panic":      {func(*kit.Session) { panic("on purpose") }, session.ErrPanic},
		"Goexit":     {func(*kit.Session) { runtime.Goexit() }, session.ErrPanic},
	} {
		t.Run(name, func(t *testing.T) {
			kit.OnLoops(t, func(t *testing.T, loops int) {
				s := kit.Serve(t, "tcp", engine.Options{Loops: loops}, kit.Hooks{})
				var called atomic.Int32
				c := kit.Dialler(t, engine.Options{Loops: loops}, kit.Hooks{Connected: func(p *kit.Session) {
					called.Add(1)
					tt.connected(p)
				}})
				p := c.DialTo(s.Listener.Addr())
				if called.Load() != 1 {
					t.Error("Dial returned before OnConnected")
				}
				kit.WantError(t, "reason", kit.AwaitEnd(t, p), tt.reason)
			})
		})
	}
}

// E2: a peer that asks, shuts down its writing side and reads slowly gets every byte from a dialled session too.
// E1: what was sent before Disconnect arrives.
func TestDialLosesNothingAtTheEnd(t *testing.T) {
	reply := kit.Pattern(8 << 20)
	kit.OnNetworks(t, func(t *testing.T, network string, loops int) {
		l := kit.Listen(t, network)
		c := kit.Dialler(t, engine.Options{Loops: loops, SendLimit: len(reply)}, kit.Hooks{Recv: func(p *kit.Session, _ []byte) {
			if err := p.Send(reply); err != nil {
				t.Error(err)
			}
		}})
		p := c.DialTo(l.Addr())
		remote := kit.Accept(t, l)
		kit.Write(t, remote, []byte("please"))
		kit.CloseWrite(t, remote)
		kit.Must(t, kit.ReadAll(remote, reply))
		kit.WantError(t, "reason", kit.AwaitEnd(t, p), session.ErrPeerClosed)

		p = c.DialTo(l.Addr())
		remote = kit.Accept(t, l)
		kit.Must(t, p.Send(reply))
		p.Disconnect()
		kit.Must(t, kit.ReadAll(remote, reply))
		kit.Must(t, remote.Close())
		kit.WantError(t, "reason", kit.AwaitEnd(t, p), session.ErrDisconnected)
		if n := p.Sent.Load(); n != int64(len(reply)) {
			t.Errorf("OnSend told of %d bytes, want %d", n, len(reply))
		}
	})
}

// T4: the deadlines hold for dialled sessions.
func TestDialFirstByteTimeout(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		l := kit.Listen(t, "tcp")
		c := kit.Dialler(t, engine.Options{Loops: loops, FirstByteTimeout: 50 * time.Millisecond, LingerTimeout: 50 * time.Millisecond}, kit.Hooks{})
		kit.WantError(t, "reason", kit.AwaitEnd(t, c.DialTo(l.Addr())), session.ErrIdle)
	})
}

// T6: what cannot be dialled is an error that says why, and there is no callback.
func TestDialErrors(t *testing.T) {
	kit.OnNetworks(t, func(t *testing.T, network string, loops int) {
		addr, want := kit.NoServer(t, network)
		c := kit.Dialler(t, engine.Options{Loops: loops}, kit.Hooks{})
		_, err := c.Dial(t.Context(), network, addr, c.New)
		kit.WantError(t, "Dial", err, want)
		if op := new(net.OpError); !errors.As(err, &op) || !strings.Contains(err.Error(), addr) {
			t.Errorf("%v, want a net.OpError that names %v", err, addr)
		}
		if _, err := c.Dial(t.Context(), network, addr, nil); err == nil || !strings.Contains(err.Error(), "factory") {
			t.Errorf("nil factory: %v", err)
		}
		//lint:ignore SA1012 it is what is tested
		if _, err := c.Dial(nil, network, addr, c.New); err == nil || !strings.Contains(err.Error(), "context") {
			t.Errorf("nil context: %v", err)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = c.Dial(gone, network, addr, c.New)
		kit.WantError(t, "Dial with a context that has ended", err, context.Canceled)
		if st := c.Stats(); st.DialErrors != 2 || st.Sessions != 0 || st.Refused.Sum() != 0 {
			t.Errorf("stats: %+v", st)
		}
	})
}

// T6: a factory that fails is Dial's error.
func TestDialFactoryFails(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		s := kit.Serve(t, "tcp", engine.Options{Loops: loops}, kit.Hooks{})
		c := kit.Dialler(t, engine.Options{Loops: loops}, kit.Hooks{})
		used := c.DialTo(s.Listener.Addr())
		kit.Await(t, s.Arrivals, "OnConnected")
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
			h, err := c.Dial(t.Context(), "tcp", s.Listener.Addr().String(), tt.f)
			kit.WantError(t, tt.name, err, tt.want)
			if h != nil || err == nil {
				t.Errorf("%s: handler %v, error %v", tt.name, h, err)
			}
			q := kit.Await(t, s.Arrivals, "OnConnected of the server's session")
			kit.WantError(t, tt.name, kit.AwaitEnd(t, q), session.ErrPeerClosed)
		}
		if st := c.Stats(); st.Refused.Factory != 4 || st.DialErrors != 4 || st.Dialed != 1 || st.Sessions != 1 {
			t.Errorf("stats: %+v", st)
		}
	})
}

func TestDialOnlyWhileTheEngineRuns(t *testing.T) {
	kit.OnNetworks(t, func(t *testing.T, network string, loops int) {
		s := kit.Serve(t, network, engine.Options{Loops: loops}, kit.Hooks{})
		a := s.Listener.Addr()
		c := kit.NewServer(t, engine.Options{Loops: loops}, kit.Hooks{})
		if _, err := c.Dial(t.Context(), network, a.String(), c.New); err == nil || errors.Is(err, engine.ErrClosed) || !strings.Contains(err.Error(), "Start") {
			t.Errorf("before Start: %v", err)
		}
		kit.Must(t, c.Start())
		p := c.DialTo(a)
		kit.Must(t, c.Shutdown(t.Context()))
		kit.WantError(t, "reason", kit.AwaitEnd(t, p), session.ErrShutdown)
		_, err := c.Dial(t.Context(), network, a.String(), c.New)
		kit.WantError(t, "after Shutdown", err, engine.ErrClosed)
	})
}

// T2: outbound sessions count, and one too many is not even connected.
func TestDialT2MaxSessions(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		s := kit.Serve(t, "tcp", engine.Options{Loops: loops}, kit.Hooks{})
		c := kit.Dialler(t, engine.Options{Loops: loops, MaxSessions: 2}, kit.Hooks{})
		a := s.Listener.Addr()
		first := c.DialTo(a)
		c.DialTo(a)
		_, err := c.Dial(t.Context(), "tcp", a.String(), c.New)
		kit.WantError(t, "one too many", err, engine.ErrFull)
		if st := c.Stats(); st.Refused.Full != 1 || st.DialErrors != 1 || st.Sessions != 2 {
			t.Errorf("stats: %+v", st)
		}
		first.Disconnect()
		kit.Await(t, first.Ended, "OnDisconnected")
		kit.Eventually(t, "there is room", func() bool { return c.Stats().Sessions == 1 })
		c.DialTo(a)
		for range 3 {
			kit.Await(t, s.Arrivals, "OnConnected of the server's session")
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
	kit.Must(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	kit.Must(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	kit.Must(t, unix.Listen(fd, 0))
	sa, err := unix.Getsockname(fd)
	kit.Must(t, err)
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
	kit.OnLoops(t, func(t *testing.T, loops int) {
		_, a, fill := shortQueue(t)
		fill()
		address := a.String()
		c := kit.Dialler(t, engine.Options{Loops: loops}, kit.Hooks{})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err := c.Dial(ctx, "tcp", address, c.New)
		kit.WantError(t, "deadline", err, context.DeadlineExceeded)

		results := make(chan error, 1)
		dial := func(ctx context.Context) {
			_, err := c.Dial(ctx, "tcp", address, c.New)
			results <- err
		}
		ctx, cancel = context.WithCancel(t.Context())
		defer cancel()
		go dial(ctx)
		kit.Eventually(t, "the dial is on its way", func() bool { return c.Stats().Sessions == 1 })
		cancel()
		kit.WantError(t, "cancelled", kit.Await(t, results, "Dial returns"), context.Canceled)

		go dial(t.Context())
		kit.Eventually(t, "the dial is on its way", func() bool { return c.Stats().Sessions == 1 })
		ended := make(chan error, 1)
		go func() { ended <- c.Shutdown(context.Background()) }()
		kit.Must(t, kit.Await(t, ended, "Shutdown returns"))
		kit.WantError(t, "shut down", kit.Await(t, results, "Dial returns"), engine.ErrClosed)
	})
}

// ctx, or the engine, ends after the connection was made and before its loop comes to it: there is no session.
func TestDialGivenUpBeforeOnConnected(t *testing.T) {
	kit.NoLeaks(t)
	s := kit.Serve(t, "tcp", engine.Options{Loops: 1}, kit.Hooks{})
	c := kit.Dialler(t, engine.Options{Loops: 1}, kit.Hooks{})
	a := s.Listener.Addr()
	first := c.DialTo(a)
	kit.Await(t, s.Arrivals, "OnConnected of the server's session")
	results := make(chan error, 1)
	dial := func(ctx context.Context) {
		_, err := c.Dial(ctx, "tcp", a.String(), func() session.Handler {
			t.Error("the factory is called")
			return nil
		})
		results <- err
	}

	release := first.Hold(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go dial(ctx)
	q := kit.Await(t, s.Arrivals, "OnConnected of the server's session")
	cancel()
	kit.WantError(t, "cancelled", kit.Await(t, results, "Dial returns"), context.Canceled)
	release()
	kit.WantError(t, "the server's reason", kit.AwaitEnd(t, q), session.ErrPeerClosed)

	release = first.Hold(t)
	go dial(t.Context())
	q = kit.Await(t, s.Arrivals, "OnConnected of the server's session")
	ended := make(chan error, 1)
	go func() { ended <- c.Shutdown(context.Background()) }()
	kit.WantError(t, "shut down", kit.Await(t, results, "Dial returns, its loop being held"), engine.ErrClosed)
	release()
	kit.Must(t, kit.Await(t, ended, "Shutdown returns"))
	kit.WantError(t, "the server's reason", kit.AwaitEnd(t, q), session.ErrPeerClosed)
	kit.WantError(t, "reason", kit.AwaitEnd(t, first), session.ErrShutdown)
}

// E4: an end in the middle of many dials leaves nothing behind: each returned a session that ended, or an error.
func TestDialE4ShutdownInARush(t *testing.T) {
	kit.OnNetworks(t, func(t *testing.T, network string, loops int) {
		for round := range 6 {
			s := kit.Serve(t, network, engine.Options{Loops: loops, LingerTimeout: 50 * time.Millisecond}, kit.Hooks{})
			c := kit.Dialler(t, engine.Options{Loops: loops, LingerTimeout: 50 * time.Millisecond}, kit.Hooks{})
			a := s.Listener.Addr()
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() {
					for {
						h, err := c.Dial(context.Background(), a.Network(), a.String(), c.New)
						switch {
						case errors.Is(err, engine.ErrClosed):
							return
						case errors.Is(err, unix.EAGAIN): // a unix socket's way to say that its queue is full
							runtime.Gosched()
						case err != nil:
							t.Error(err)
							return
						case h.(*kit.Session).Stage.Load() == kit.Fresh:
							t.Error("Dial returned before OnConnected")
						default:
							h.(*kit.Session).Disconnect()
						}
					}
				})
			}
			kit.Eventually(t, "some are connected", func() bool { return c.Stats().Dialed > 100 })
			if round%2 == 0 {
				kit.Must(t, c.Shutdown(t.Context()))
			} else {
				kit.Must(t, c.Close())
			}
			wg.Wait()
			if st := c.Stats(); st.Sessions != 0 {
				t.Errorf("%d sessions are left", st.Sessions)
			}
			kit.Must(t, s.Close())
		}
	})
}

// The dummy client: thousands of sessions in one process, as many as its descriptors allow, against a server in the
// same process.
func TestDialThousands(t *testing.T) {
	kit.NoLeaks(t)
	var limit unix.Rlimit
	kit.Must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	before := kit.OpenDescriptors(t)
	sessions := min(2000, (int(min(limit.Cur, 1<<20))-before-200)/2)
	if sessions < 100 {
		t.Skipf("a limit of %d descriptors is too few", limit.Cur)
	}
	s := kit.Serve(t, "tcp", engine.Options{}, kit.Hooks{Recv: kit.Echo})
	const message = "hello, hello"
	answered := make(chan *kit.Session, sessions)
	c := kit.Dialler(t, engine.Options{}, kit.Hooks{
		Connected: func(p *kit.Session) { _ = p.Send([]byte(message)) },
		Recv: func(p *kit.Session, _ []byte) {
			if p.Got.Load() == int64(len(message)) {
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
				ctx, cancel := context.WithTimeout(context.Background(), 3*kit.Patience)
				if _, err := c.Dial(ctx, "tcp", s.Listener.Addr().String(), c.New); err != nil {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	var peers []*kit.Session
	for range sessions {
		peers = append(peers, kit.Await(t, answered, "every session has its answer"))
	}
	if st := c.Stats(); st.Sessions != sessions || int(st.Dialed) != sessions {
		t.Errorf("stats: %+v", st)
	}
	if n := kit.OpenDescriptors(t) - before; n < 2*sessions || n > 2*sessions+100 {
		t.Errorf("%d descriptors for %d sessions, at both ends", n, sessions)
	}
	for _, p := range peers {
		p.Disconnect()
	}
	for _, p := range peers {
		kit.WantError(t, "reason", kit.AwaitEnd(t, p), session.ErrDisconnected)
	}
	kit.Eventually(t, "the server's sessions have ended", func() bool { return int(s.Stats().Total.Ended.PeerClosed) == sessions })
}
