package engine

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/internal/reactor"
	"github.com/servercore-go/servercore/session"
)

// Accepted connections have the options of their listener, also where it was handed in without them, and dialled ones the same.
func TestSocketOptions(t *testing.T) {
	for name, tt := range map[string]struct {
		o                                                 Options
		keep, idle, interval, count, user, bound, notSent int // bound: of the send buffer, 0 for one that the kernel tunes
	}{
		"defaults": {Options{}, 1, 15, 5, 3, 30_000, 0, 256 << 10},
		"chosen": {Options{KeepAlive: 30 * time.Second, KeepAliveInterval: 7 * time.Second, KeepAliveCount: 4,
			UserTimeout: 9 * time.Second, SendBuffer: 32 << 10, NotSentLowWater: 99 << 10}, 1, 30, 7, 4, 9_000, 64 << 10, 99 << 10},
		"rounded up": {Options{KeepAlive: 1001 * time.Millisecond, KeepAliveInterval: 2500 * time.Millisecond, UserTimeout: 1500 * time.Microsecond},
			1, 2, 3, 3, 2, 0, 256 << 10},
		"finest": {Options{UserTimeout: 1}, 1, 15, 5, 3, 1, 0, 256 << 10},
		"off":    {Options{KeepAlive: -1, UserTimeout: -1, SendBuffer: -1, NotSentLowWater: -1}, 0, 0, 0, 0, 0, 0, 0},
	} {
		check := func(t *testing.T, c *conn) {
			get := func(level, option int) int {
				return onLoop(t, c, func() int {
					n, err := unix.GetsockoptInt(c.Fd(), level, option)
					if err != nil {
						t.Error(err)
					}
					return n
				})
			}
			if n := get(unix.IPPROTO_TCP, unix.TCP_NODELAY); n != 1 {
				t.Errorf("TCP_NODELAY is %d", n)
			}
			if n := get(unix.SOL_SOCKET, unix.SO_PROTOCOL); n != unix.IPPROTO_TCP {
				t.Errorf("the protocol is %d, want TCP", n)
			}
			if n := get(unix.SOL_SOCKET, unix.SO_KEEPALIVE); n != tt.keep {
				t.Errorf("SO_KEEPALIVE is %d, want %d", n, tt.keep)
			}
			if n := get(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); n != tt.user {
				t.Errorf("TCP_USER_TIMEOUT is %d ms, want %d", n, tt.user)
			}
			fixed := get(unix.SOL_SOCKET, unix.SO_BUF_LOCK)&unix.SOCK_SNDBUF_LOCK != 0
			if n := get(unix.SOL_SOCKET, unix.SO_SNDBUF); fixed != (tt.bound > 0) || fixed && n > tt.bound {
				t.Errorf("SO_SNDBUF is %d, fixed: %v; want at most %d, 0 for one that the kernel tunes", n, fixed, tt.bound)
			}
			if n := get(unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT); n != tt.notSent {
				t.Errorf("TCP_NOTSENT_LOWAT is %d, want %d", n, tt.notSent)
			}
			if tt.keep == 1 {
				idle, interval := get(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE), get(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL)
				if count := get(unix.IPPROTO_TCP, unix.TCP_KEEPCNT); idle != tt.idle || interval != tt.interval || count != tt.count {
					t.Errorf("keep-alive is %d s, %d s, %d probes, want %d, %d, %d", idle, interval, count, tt.idle, tt.interval, tt.count)
				}
			}
			flags := onLoop(t, c, func() int {
				n, err := unix.FcntlInt(uintptr(c.Fd()), unix.F_GETFD, 0)
				if err != nil {
					t.Error(err)
				}
				return n
			})
			if flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("the descriptor would be inherited: flags %x", flags)
			}
		}
		t.Run(name+",accepted", func(t *testing.T) {
			_, c := connect(t, tt.o)
			check(t, c)
		})
		t.Run(name+",handed in", func(t *testing.T) {
			var config net.ListenConfig
			config.SetMultipathTCP(false)
			config.KeepAlive = time.Hour // not ours
			ln, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			_, c := connect(t, tt.o, From(ln.(*net.TCPListener)))
			check(t, c)
		})
		t.Run(name+",dialled", func(t *testing.T) { check(t, dialled(t, tt.o)) })
	}
}

// A listener on every address tells each connection the one it came in at.
func TestLocalAddressOfWildcard(t *testing.T) {
	l := bound(t, "tcp4", "0.0.0.0:0")
	_, port, _ := net.SplitHostPort(l.addr.String())
	for _, host := range []string{"127.0.0.2", "127.0.0.3", "127.0.0.3", "127.0.0.2"} {
		c, err := net.Dial("tcp4", net.JoinHostPort(host, port))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		n, err := l.tryAccept()
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.Close(n.fd)
		if n.local.String() != c.RemoteAddr().String() || n.remote.String() != c.LocalAddr().String() {
			t.Errorf("from %v to %v, want from %v to %v", n.remote, n.local, c.LocalAddr(), c.RemoteAddr())
		}
	}
}

// A listener that is closed is watched no more, though others have its socket: the kernel would tell us of connections that are theirs.
func TestCloseEndsTheNotices(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	shared, err := reactor.Duplicate(ln.(*net.TCPListener)) // one that the Go runtime does not watch
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(shared)
	_, c := connect(t, Options{}, From(ln.(*net.TCPListener)))
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if n := watchers(t, shared); n < 1 {
		t.Fatalf("%d watch the socket before", n)
	}
	if err := loopOf(c).engine.listeners[0].Close(); err != nil {
		t.Fatal(err)
	}
	if n := watchers(t, shared); n != 0 {
		t.Errorf("%d watch the socket still", n)
	}
}

// watchers counts the registrations of a socket with epoll instances of this process.
func watchers(t *testing.T, fd int) (n int) {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir("/proc/self/fdinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := os.ReadFile("/proc/self/fdinfo/" + e.Name())
		if err != nil {
			continue // that of the folder itself
		}
		for line := range strings.Lines(string(info)) {
			if strings.HasPrefix(line, "tfd:") && strings.Contains(line, fmt.Sprintf(" ino:%x ", stat.Ino)) {
				n++
			}
		}
	}
	return n
}

// dialled starts an engine and returns a connection that it has made.
func dialled(t testing.TB, o Options) *conn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	o.Loops, o.Logger = 1, slog.New(slog.DiscardHandler)
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	h, err := e.Dial(t.Context(), "tcp", l.Addr().String(), func() session.Handler { return &plain{connected: make(chan struct{})} })
	if err != nil {
		t.Fatal(err)
	}
	lp := e.loops[0]
	if c := lp.Conns()[0]; c.Context.Handler() == h {
		return c
	}
	t.Fatal("the loop has another session")
	return nil
}

// The whole way of a byte, there and back, with two goroutine switches of the client's in it.
func BenchmarkEcho(b *testing.B) {
	c, _ := connect(b, Options{})
	data := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(data); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, data); err != nil {
			b.Fatal(err)
		}
	}
}

// Sends of another goroutine to a client that reads, wake-ups and writes included.
func BenchmarkSendFromOutside(b *testing.B) {
	c, sc := connect(b, Options{SendLimit: -1, PauseAbove: -1})
	go func() { _, _ = io.Copy(io.Discard, c) }()
	s := sc.Context.Session()
	data := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Send(data); err != nil {
			b.Fatal(err)
		}
		for s.Pending() > 1<<20 {
			time.Sleep(50 * time.Microsecond)
		}
	}
}
