package engine_test

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/session"
)

// listenWith returns a TCP listener of package net for From, whose socket somebody has prepared.
func listenWith(t *testing.T, set func(fd int) error) syscall.Conn {
	t.Helper()
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	ln, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	kit.Must(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	socket := ln.(syscall.Conn)
	raw, err := socket.SyscallConn()
	kit.Must(t, err)
	kit.Must(t, raw.Control(func(fd uintptr) { err = set(int(fd)) }))
	kit.Must(t, err)
	return socket
}

func with(level, option, value int) func(fd int) error {
	return func(fd int) error { return unix.SetsockoptInt(fd, level, option, value) }
}

func lingering(l unix.Linger) func(fd int) error {
	return func(fd int) error { return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &l) }
}

// A listener that was handed in with SO_LINGER does not make close(2) wait: the loop goes on while peers that do not
// read are given up.
func TestInheritedLingerHoldsNobodyUp(t *testing.T) {
	kit.NoLeaks(t)
	const wait = 3 // seconds, for each of the slow
	socket := listenWith(t, lingering(unix.Linger{Onoff: 1, Linger: wait}))
	s := kit.Prepare(t, "tcp", "", engine.Options{Loops: 1, LingerTimeout: 50 * time.Millisecond, DrainTimeout: 100 * time.Millisecond},
		kit.Hooks{Recv: kit.Echo}, engine.From(socket))
	kit.Must(t, s.Start())
	bystander, _ := s.Connect()
	for range 3 {
		c, p := s.Accepted(s.SmallClient())
		defer c.Close()
		kit.Must(t, p.Send(make([]byte, 200<<10))) // the kernel takes it all, the peer does not
		kit.Eventually(t, "the kernel has it", func() bool { return p.Pending() == 0 })
		p.Disconnect()
		defer kit.Await(t, p.Ended, "OnDisconnected")
	}
	longest := time.Duration(0)
	for until := time.Now().Add(time.Second); time.Now().Before(until); {
		began := time.Now()
		kit.Exchange(t, bystander, "still here")
		longest = max(longest, time.Since(began))
	}
	if longest > wait*time.Second/2 {
		t.Errorf("the loop stood still for %v", longest)
	}
}

// SO_LINGER of zero would make every close(2) a reset. Clients that are refused or disconnected read the end instead.
func TestInheritedLingerResetsNobody(t *testing.T) {
	kit.NoLeaks(t)
	socket := listenWith(t, lingering(unix.Linger{Onoff: 1}))
	s := kit.Prepare(t, "tcp", "", engine.Options{Loops: 1, MaxSessions: 1, LingerTimeout: 20 * time.Millisecond}, kit.Hooks{Recv: func(p *kit.Session, data []byte) {
		kit.Echo(p, data)
		p.Disconnect()
	}}, engine.From(socket))
	kit.Must(t, s.Start())
	c, p := s.Connect()
	refused(t, s.Client(), "")
	kit.Write(t, c, []byte("bye"))
	refused(t, c, "bye")
	kit.Await(t, p.Ended, "OnDisconnected")
}

// SO_RCVLOWAT would keep short messages, and PROXY headers, from being told of.
func TestInheritedLowWaterMark(t *testing.T) {
	kit.NoLeaks(t)
	socket := listenWith(t, with(unix.SOL_SOCKET, unix.SO_RCVLOWAT, 10_000))
	s := kit.Prepare(t, "tcp", "", engine.Options{Loops: 1}, kit.Hooks{Recv: kit.Echo}, engine.From(socket))
	kit.Must(t, s.Start())
	c, _ := s.Connect() // before it sends: its first look at the socket finds nothing
	kit.Exchange(t, c, "short")

	socket = listenWith(t, with(unix.SOL_SOCKET, unix.SO_RCVLOWAT, 10_000))
	s = kit.Prepare(t, "tcp", "", engine.Options{Loops: 1}, kit.Hooks{Recv: kit.Echo}, engine.From(socket),
		engine.ProxyProtocol(prefixes("127.0.0.0/8")...))
	kit.Must(t, s.Start())
	c = s.Client()
	kit.Eventually(t, "its header is awaited", func() bool { return s.Stats().Sessions == 1 })
	kit.Write(t, c, []byte("PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\n"))
	kit.Exchange(t, c, "short")
}

// TCP_CORK would keep each short answer for 200 ms.
func TestInheritedCork(t *testing.T) {
	kit.NoLeaks(t)
	socket := listenWith(t, with(unix.IPPROTO_TCP, unix.TCP_CORK, 1))
	s := kit.Prepare(t, "tcp", "", engine.Options{Loops: 1}, kit.Hooks{Recv: kit.Echo}, engine.From(socket))
	kit.Must(t, s.Start())
	c, _ := s.Connect()
	began := time.Now()
	for range 40 { // with it, 8 s
		kit.Exchange(t, c, "short")
	}
	if d := time.Since(began); d > 4*time.Second {
		t.Errorf("40 answers took %v", d)
	}
}

// SO_OOBINLINE would put urgent bytes among the others.
func TestInheritedUrgentInline(t *testing.T) {
	kit.NoLeaks(t)
	socket := listenWith(t, with(unix.SOL_SOCKET, unix.SO_OOBINLINE, 1))
	s := kit.Prepare(t, "tcp", "", engine.Options{Loops: 1}, kit.Hooks{Recv: kit.Echo}, engine.From(socket))
	kit.Must(t, s.Start())
	c, _ := s.Connect()
	raw, err := c.(*net.TCPConn).SyscallConn()
	kit.Must(t, err)
	kit.Write(t, c, []byte("before"))
	kit.Must(t, raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), []byte("!"), unix.MSG_OOB, nil) }))
	kit.Must(t, err)
	kit.Write(t, c, []byte("after"))
	kit.Expect(t, c, "beforeafter")
}

// SO_TIMESTAMPING would fill the room for what is received with a note for each write that nobody reads.
func TestInheritedTimestamps(t *testing.T) {
	kit.NoLeaks(t)
	socket := listenWith(t, with(unix.SOL_SOCKET, unix.SO_TIMESTAMPING, unix.SOF_TIMESTAMPING_TX_SOFTWARE|unix.SOF_TIMESTAMPING_TX_ACK|
		unix.SOF_TIMESTAMPING_SOFTWARE))
	s := kit.Prepare(t, "tcp", "", engine.Options{Loops: 1}, kit.Hooks{Recv: kit.Echo}, engine.From(socket))
	kit.Must(t, s.Start())
	c, _ := s.Connect()
	message := string(make([]byte, 1000))
	for range 2000 {
		kit.Exchange(t, c, message)
	}
}

// Another holder of a listening socket may end its non-blocking mode, again and again: the only loop goes on and accepts.
func TestSharedSocketBecomesBlocking(t *testing.T) {
	kit.NoLeaks(t)
	s := kit.Serve(t, "tcp", engine.Options{Loops: 1}, kit.Hooks{Recv: kit.Echo})
	f, err := s.Listener.File()
	kit.Must(t, err)
	defer f.Close()
	raw, err := f.SyscallConn()
	kit.Must(t, err)
	established := s.Client()
	for range 50 {
		kit.Must(t, raw.Control(func(fd uintptr) { err = unix.SetNonblock(int(fd), false) }))
		kit.Must(t, err)
		kit.Must(t, call("tcp", s.Listener.Addr().String()))
		kit.Exchange(t, established, "still here")
	}
	if n := s.Stats().AcceptErrors; n != 0 {
		t.Errorf("%d accept errors", n)
	}
}

// A socket that another holder has shut down costs that listener, and nothing else.
func TestSharedSocketIsShutDown(t *testing.T) {
	kit.NoLeaks(t)
	socket := listenWith(t, func(int) error { return nil })
	s := kit.Prepare(t, "tcp", "", engine.Options{Loops: 1}, kit.Hooks{Recv: kit.Echo}, engine.From(socket))
	own, err := s.Listen("tcp", "127.0.0.1:0", s.New)
	kit.Must(t, err)
	kit.Must(t, s.Start())
	established, _ := s.Connect()
	raw, err := socket.SyscallConn()
	kit.Must(t, err)
	kit.Must(t, raw.Control(func(fd uintptr) { err = unix.Shutdown(int(fd), unix.SHUT_RD) }))
	kit.Must(t, err)
	kit.Exchange(t, established, "still here")
	kit.Must(t, call("tcp", own.Addr().String()))
	// It is not looked at in a spin.
	before := s.Stats().AcceptErrors
	time.Sleep(300 * time.Millisecond)
	if n := s.Stats().AcceptErrors - before; n > 100 {
		t.Errorf("%d accept errors within 0.3 s", n)
	}
}

// TCP_LINGER2 below zero would make a session that was disconnected end with a reset.
func TestHandedInSessionsEndAsOthers(t *testing.T) {
	kit.NoLeaks(t)
	socket := listenWith(t, with(unix.IPPROTO_TCP, unix.TCP_LINGER2, -1))
	s := kit.Prepare(t, "tcp", "", engine.Options{Loops: 1, LingerTimeout: 20 * time.Millisecond}, kit.Hooks{Recv: func(p *kit.Session, data []byte) {
		kit.Echo(p, data)
		p.Disconnect()
	}}, engine.From(socket))
	kit.Must(t, s.Start())
	c, p := s.Connect()
	kit.Exchange(t, c, "bye")
	kit.Await(t, p.Ended, "OnDisconnected")
	kit.WantError(t, "reason", p.Err(), session.ErrDisconnected)
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("%d, %v, want the end", n, err)
	}
	kit.Must(t, c.Close())
}
