package engine

import (
	"log/slog"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/session"
)

// T1, T2: a connection that is shed because the spare descriptor is gone takes no place among the sessions, nor with the Guard, and
// the next ones are served.
func TestShedTakesNoPlace(t *testing.T) {
	e, err := New(Options{Loops: 1, MaxSessions: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := e.Listen("tcp", "127.0.0.1:0", func() session.Handler {
		s := &recorder{connected: func() {}}
		s.recv = func(data []byte) { _ = s.Send(data) }
		return s
	}, Guard(Rules{MaxPerAddress: 1}))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])

	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	e.spare.Close()
	none := unix.Rlimit{Cur: 3, Max: before.Max} // those that are open stay so
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	n := pendingConn{origin: &l.origin, fd: pair[0], remote: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, local: l.Addr()}
	e.admit(n, e.loops[0])
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}

	if s := e.Stats(); s.Refused != (Refused{Descriptors: 1}) || s.Sessions != 0 {
		t.Errorf("refused %+v, %d sessions, want one for want of descriptors, and none", s.Refused, s.Sessions)
	}
	g := l.origin.entry.guard
	if known := g.Known(); known != 0 {
		t.Errorf("the Guard remembers %d addresses", known)
	}
	if n, err := unix.Read(pair[1], make([]byte, 1)); n != 0 {
		t.Errorf("the peer reads %d, %v, want the end", n, err)
	}
	exchange(t, dial(t, l), 3)
}

// A refusal reads away 64 KiB of what has come, and no more: a peer that sends for ever does not hold the loop.
func TestRefusalDiscardsSoMuch(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	if n, err := unix.Write(pair[1], make([]byte, 100<<10)); n != 100<<10 {
		t.Fatalf("the kernel takes %d bytes, %v", n, err)
	}
	(&entry{refusalMessage: []byte("busy")}).sendRefusal(pair[0])
	left := 0
	for b := make([]byte, 4<<10); ; {
		n, err := unix.Read(pair[0], b)
		if err != nil {
			break
		}
		left += n
	}
	if left != 36<<10 {
		t.Errorf("%d bytes are left of %d, want 64 KiB less", left, 100<<10)
	}
	b := make([]byte, 10)
	if n, err := unix.Read(pair[1], b); string(b[:max(n, 0)]) != "busy" {
		t.Errorf("the peer reads %q, %v", b[:max(n, 0)], err)
	}
	if n, err := unix.Read(pair[1], b); n != 0 || err != nil {
		t.Errorf("then the peer reads %d, %v, want the end", n, err)
	}
}
