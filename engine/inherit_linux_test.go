package engine

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/internal/reactor"
	"github.com/servercore-go/servercore/session"
)

// strange are values of options that a listening socket may have been given by others, and what a connection of ours has.
var strange = []struct {
	name                           string
	level, option, given, accepted int
}{
	{"SO_RCVLOWAT", unix.SOL_SOCKET, unix.SO_RCVLOWAT, 1000, 1},
	{"SO_OOBINLINE", unix.SOL_SOCKET, unix.SO_OOBINLINE, 1, 0},
	{"SO_TIMESTAMPING", unix.SOL_SOCKET, unix.SO_TIMESTAMPING, unix.SOF_TIMESTAMPING_TX_SOFTWARE | unix.SOF_TIMESTAMPING_SOFTWARE, 0},
	{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0, 1},
	{"SO_SNDBUF", unix.SOL_SOCKET, unix.SO_SNDBUF, 100_000, 200_000}, // the owner's business: it is not in Options
	{"TCP_NOTSENT_LOWAT", unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, 4321, 256 << 10},
	{"TCP_CORK", unix.IPPROTO_TCP, unix.TCP_CORK, 1, 0},
	{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 0, 1},
	{"TCP_LINGER2", unix.IPPROTO_TCP, unix.TCP_LINGER2, -1, 60},
	{"TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 77, 15},
	{"TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 33, 5},
	{"TCP_KEEPCNT", unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9, 3},
	{"TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 4321, 30_000},
	{"IP_RECVERR", unix.IPPROTO_IP, unix.IP_RECVERR, 1, 0},
	{"IP_TOS", unix.IPPROTO_IP, unix.IP_TOS, 16, 16}, // the owner's business
}

// estrange gives a listening socket strange options, by way of another descriptor of it.
func estrange(t *testing.T, socket syscall.Conn) {
	t.Helper()
	raw, err := socket.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		for _, s := range strange {
			if err := unix.SetsockoptInt(int(fd), s.level, s.option, s.given); err != nil {
				t.Errorf("%s: %v", s.name, err)
			}
		}
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PEEK_OFF, 3) // newer kernels only
		if err := unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 3}); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// An engine whose listener's socket others have too: it was handed in, or handed on.
func sharedListeners(t *testing.T, f func(t *testing.T, e *Engine, l *Listener, other syscall.Conn, sessions chan *plain)) {
	for _, way := range []string{"handed in", "handed on"} {
		t.Run(way, func(t *testing.T) {
			e, err := New(Options{Loops: 1, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			sessions := make(chan *plain, 16)
			factory := func() session.Handler {
				s := &plain{connected: make(chan struct{})}
				sessions <- s
				return s
			}
			var config net.ListenConfig
			config.SetMultipathTCP(false)
			ln, err := config.Listen(t.Context(), "tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			var options []Option
			other := ln.(syscall.Conn)
			if way == "handed in" {
				options = append(options, From(other))
			}
			l, err := e.Listen("tcp4", "127.0.0.1:0", factory, options...)
			if err != nil {
				t.Fatal(err)
			}
			if err := e.Start(); err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			if way == "handed on" {
				file, err := l.File()
				if err != nil {
					t.Fatal(err)
				}
				defer file.Close()
				other = file
			}
			f(t, e, l, other, sessions)
		})
	}
}

// Others who have the socket may give it any option at any time. Connections that are accepted then have those that the engine
// relies on.
func TestInheritedOptions(t *testing.T) {
	sharedListeners(t, func(t *testing.T, e *Engine, l *Listener, other syscall.Conn, sessions chan *plain) {
		estrange(t, other)
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		<-receive(t, sessions).connected
		lp := e.loops[0]
		c := lp.Conns()[0]
		for _, s := range strange {
			got := onLoop(t, c, func() int {
				n, err := unix.GetsockoptInt(c.Fd(), s.level, s.option)
				if err != nil {
					t.Error(err)
				}
				return n
			})
			if s.option == unix.TCP_LINGER2 && s.level == unix.IPPROTO_TCP && got > 0 {
				continue // net.ipv4.tcp_fin_timeout
			}
			if got != s.accepted {
				t.Errorf("%s is %d, want %d", s.name, got, s.accepted)
			}
		}
		if n, err := unix.GetsockoptInt(c.Fd(), unix.SOL_SOCKET, unix.SO_PEEK_OFF); err != unix.EOPNOTSUPP && (n != -1 || err != nil) {
			t.Errorf("SO_PEEK_OFF is %d, %v", n, err)
		}
		if linger := onLoop(t, c, func() unix.Linger { return lingerOf(t, c.Fd()) }); linger.Onoff != 0 {
			t.Errorf("SO_LINGER is %+v", linger)
		}
		exchange(t, client, 3)
	})
}

func lingerOf(t *testing.T, fd int) unix.Linger {
	t.Helper()
	v, err := unix.GetsockoptString(fd, unix.SOL_SOCKET, unix.SO_LINGER)
	if err != nil {
		t.Error(err)
	}
	l := unix.Linger{Onoff: 1}
	if len(v) == 0 || v[0] == 0 { // its zero bytes are cut off
		l.Onoff = 0
	}
	return l
}

// close(2) waits for no peer, also of a connection that is refused before anything is built for it.
func TestAcceptedNeverWaits(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		address := "127.0.0.1:0"
		if network == "unix" {
			address = folder(t) + "/s"
		}
		ln, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		raw, err := ln.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.Control(func(fd uintptr) {
			if err := unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 3}); err != nil {
				t.Error(err)
			}
		})
		l := bound(t, network, "", From(ln.(syscall.Conn)))
		client, err := net.Dial(network, ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		n, err := l.tryAccept()
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(n.fd)
		if linger := lingerOf(t, n.fd); linger.Onoff != 0 {
			t.Errorf("%s: SO_LINGER is on", network)
		}
	}
}

// Others may set a socket that is shared to blocking mode at any time. An accept for which nobody waits then would hold the loop.
func TestAcceptNeverWaits(t *testing.T) {
	for _, way := range []string{"handed in", "handed on"} {
		t.Run(way, func(t *testing.T) {
			var l *Listener
			var other syscall.Conn
			if way == "handed in" {
				ln, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer ln.Close()
				other = ln.(syscall.Conn)
				l = bound(t, "tcp", "", From(other))
			} else {
				l = bound(t, "tcp", "127.0.0.1:0")
				file, err := l.File()
				if err != nil {
					t.Fatal(err)
				}
				defer file.Close()
				other = file
			}
			fd, err := reactor.Duplicate(other)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			if err := unix.SetNonblock(fd, false); err != nil {
				t.Fatal(err)
			}
			result := make(chan error, 1)
			go func() { _, err := l.tryAccept(); result <- err }()
			select {
			case err := <-result:
				if err != unix.EAGAIN {
					t.Errorf("%v, want EAGAIN", err)
				}
			case <-time.After(5 * time.Second):
				dial(t, l)
				t.Fatal("accept waits")
			}
			dial(t, l)
			n, err := l.tryAccept()
			if err != nil {
				t.Fatal(err)
			}
			_ = unix.Close(n.fd)
			if flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); flags&unix.O_NONBLOCK == 0 {
				t.Error("the mode was not set back")
			}
		})
	}
}

// How many may wait to be accepted: as many as the system allows, and for a socket that was handed in as many as its owner wants.
func TestBacklog(t *testing.T) {
	backlog := func(l *Listener) uint32 {
		info, err := unix.GetsockoptTCPInfo(l.descriptor(), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			t.Fatal(err)
		}
		return info.Sacked
	}
	b, err := os.ReadFile("/proc/sys/net/core/somaxconn")
	if err != nil {
		t.Fatal(err)
	}
	if n := backlog(bound(t, "tcp4", "127.0.0.1:0")); fmt.Sprintln(n) != string(b) {
		t.Errorf("%d may wait, the system allows %s", n, b)
	}
	var config net.ListenConfig
	config.SetMultipathTCP(false) // it does not tell
	ln, err := config.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	raw, err := ln.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) { err = unix.Listen(int(fd), 7) })
	if err != nil {
		t.Fatal(err)
	}
	shared := bound(t, "tcp4", "", From(ln.(syscall.Conn)))
	if n := backlog(shared); n != 7 {
		t.Errorf("%d may wait, the owner wants 7", n)
	}
}

// Nobody else can change the options of a socket that was made here and not handed on: its connections cost no calls.
func TestOwnListenerSetsOptionsOnce(t *testing.T) {
	e, err := New(Options{Loops: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int32
	e.setsockopt = func(fd, level, option, value int) error {
		calls.Add(1)
		return unix.SetsockoptInt(fd, level, option, value)
	}
	l, err := e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return &plain{connected: make(chan struct{})} })
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	before := calls.Load()
	if before != int32(len(e.tuning)) {
		t.Errorf("%d options were set, want %d", before, len(e.tuning))
	}
	connected := func() {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		exchange(t, c, 1)
	}
	connected()
	if n := calls.Load(); n != before {
		t.Errorf("%d calls for a connection, want none", n-before)
	}
	file, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	connected()
	if n := calls.Load() - before; n != int32(len(e.tuning)) {
		t.Errorf("%d calls for a connection of a socket that others have, want %d", n, len(e.tuning))
	}
}
