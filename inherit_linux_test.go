package servercore_test

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

// listenWith returns a TCP listener of package net for From, whose socket somebody has prepared.
func listenWith(t *testing.T, set func(fd int) error) syscall.Conn {
	t.Helper()
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	ln, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	socket := ln.(syscall.Conn)
	raw, err := socket.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) { err = set(int(fd)) }))
	must(t, err)
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
	noLeaks(t)
	const wait = 3 // seconds, for each of the slow
	socket := listenWith(t, lingering(unix.Linger{Onoff: 1, Linger: wait}))
	s := prepare(t, "tcp", "", engine.Options{Loops: 1, LingerTimeout: 50 * time.Millisecond, DrainTimeout: 100 * time.Millisecond},
		hooks{recv: echo}, engine.From(socket))
	must(t, s.Start())
	bystander, _ := s.connect()
	for range 3 {
		c, p := s.session(s.dialSmall())
		defer c.Close()
		must(t, p.Send(make([]byte, 200<<10))) // the kernel takes it all, the peer does not
		eventually(t, "the kernel has it", func() bool { return p.Pending() == 0 })
		p.Disconnect()
		defer await(t, p.ended, "OnDisconnected")
	}
	longest := time.Duration(0)
	for until := time.Now().Add(time.Second); time.Now().Before(until); {
		began := time.Now()
		exchange(t, bystander, "still here")
		longest = max(longest, time.Since(began))
	}
	if longest > wait*time.Second/2 {
		t.Errorf("the loop stood still for %v", longest)
	}
}

// SO_LINGER of zero would make every close(2) a reset. Clients that are refused or disconnected read the end instead.
func TestInheritedLingerResetsNobody(t *testing.T) {
	noLeaks(t)
	socket := listenWith(t, lingering(unix.Linger{Onoff: 1}))
	s := prepare(t, "tcp", "", engine.Options{Loops: 1, MaxSessions: 1, LingerTimeout: 20 * time.Millisecond}, hooks{recv: func(p *peer, data []byte) {
		echo(p, data)
		p.Disconnect()
	}}, engine.From(socket))
	must(t, s.Start())
	c, p := s.connect()
	refused(t, s.dial(), "")
	write(t, c, []byte("bye"))
	refused(t, c, "bye")
	await(t, p.ended, "OnDisconnected")
}

// SO_RCVLOWAT would keep short messages, and PROXY headers, from being told of.
func TestInheritedLowWaterMark(t *testing.T) {
	noLeaks(t)
	socket := listenWith(t, with(unix.SOL_SOCKET, unix.SO_RCVLOWAT, 10_000))
	s := prepare(t, "tcp", "", engine.Options{Loops: 1}, hooks{recv: echo}, engine.From(socket))
	must(t, s.Start())
	c, _ := s.connect() // before it sends: its first look at the socket finds nothing
	exchange(t, c, "short")

	socket = listenWith(t, with(unix.SOL_SOCKET, unix.SO_RCVLOWAT, 10_000))
	s = prepare(t, "tcp", "", engine.Options{Loops: 1}, hooks{recv: echo}, engine.From(socket),
		engine.ProxyProtocol(prefixes("127.0.0.0/8")...))
	must(t, s.Start())
	c = s.dial()
	eventually(t, "its header is awaited", func() bool { return s.Stats().Sessions == 1 })
	write(t, c, []byte("PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\n"))
	exchange(t, c, "short")
}

// TCP_CORK would keep each short answer for 200 ms.
func TestInheritedCork(t *testing.T) {
	noLeaks(t)
	socket := listenWith(t, with(unix.IPPROTO_TCP, unix.TCP_CORK, 1))
	s := prepare(t, "tcp", "", engine.Options{Loops: 1}, hooks{recv: echo}, engine.From(socket))
	must(t, s.Start())
	c, _ := s.connect()
	began := time.Now()
	for range 20 {
		exchange(t, c, "short")
	}
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("20 answers took %v", d)
	}
}

// SO_OOBINLINE would put urgent bytes among the others.
func TestInheritedUrgentInline(t *testing.T) {
	noLeaks(t)
	socket := listenWith(t, with(unix.SOL_SOCKET, unix.SO_OOBINLINE, 1))
	s := prepare(t, "tcp", "", engine.Options{Loops: 1}, hooks{recv: echo}, engine.From(socket))
	must(t, s.Start())
	c, _ := s.connect()
	raw, err := c.(*net.TCPConn).SyscallConn()
	must(t, err)
	write(t, c, []byte("before"))
	must(t, raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), []byte("!"), unix.MSG_OOB, nil) }))
	must(t, err)
	write(t, c, []byte("after"))
	expect(t, c, "beforeafter")
}

// SO_TIMESTAMPING would fill the room for what is received with a note for each write that nobody reads.
func TestInheritedTimestamps(t *testing.T) {
	noLeaks(t)
	socket := listenWith(t, with(unix.SOL_SOCKET, unix.SO_TIMESTAMPING, unix.SOF_TIMESTAMPING_TX_SOFTWARE|unix.SOF_TIMESTAMPING_TX_ACK|
		unix.SOF_TIMESTAMPING_SOFTWARE))
	s := prepare(t, "tcp", "", engine.Options{Loops: 1}, hooks{recv: echo}, engine.From(socket))
	must(t, s.Start())
	c, _ := s.connect()
	message := string(make([]byte, 1000))
	for range 2000 {
		exchange(t, c, message)
	}
}

// Another holder of a listening socket may end its non-blocking mode, again and again: the only loop goes on and accepts.
func TestSharedSocketBecomesBlocking(t *testing.T) {
	noLeaks(t)
	s := serve(t, "tcp", engine.Options{Loops: 1}, hooks{recv: echo})
	f, err := s.listener.File()
	must(t, err)
	defer f.Close()
	raw, err := f.SyscallConn()
	must(t, err)
	established := s.dial()
	for range 50 {
		must(t, raw.Control(func(fd uintptr) { err = unix.SetNonblock(int(fd), false) }))
		must(t, err)
		must(t, call("tcp", s.listener.Addr().String()))
		exchange(t, established, "still here")
	}
	if n := s.Stats().AcceptErrors; n != 0 {
		t.Errorf("%d accept errors", n)
	}
}

// A socket that another holder has shut down costs that listener, and nothing else.
func TestSharedSocketIsShutDown(t *testing.T) {
	noLeaks(t)
	socket := listenWith(t, func(int) error { return nil })
	s := prepare(t, "tcp", "", engine.Options{Loops: 1}, hooks{recv: echo}, engine.From(socket))
	own, err := s.Listen("tcp", "127.0.0.1:0", s.newPeer)
	must(t, err)
	must(t, s.Start())
	established, _ := s.connect()
	raw, err := socket.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) { err = unix.Shutdown(int(fd), unix.SHUT_RD) }))
	must(t, err)
	exchange(t, established, "still here")
	must(t, call("tcp", own.Addr().String()))
	// It is not looked at in a spin.
	before := s.Stats().AcceptErrors
	time.Sleep(300 * time.Millisecond)
	if n := s.Stats().AcceptErrors - before; n > 100 {
		t.Errorf("%d accept errors within 0.3 s", n)
	}
}

// TCP_LINGER2 below zero would make a session that was disconnected end with a reset.
func TestHandedInSessionsEndAsOthers(t *testing.T) {
	noLeaks(t)
	socket := listenWith(t, with(unix.IPPROTO_TCP, unix.TCP_LINGER2, -1))
	s := prepare(t, "tcp", "", engine.Options{Loops: 1, LingerTimeout: 20 * time.Millisecond}, hooks{recv: func(p *peer, data []byte) {
		echo(p, data)
		p.Disconnect()
	}}, engine.From(socket))
	must(t, s.Start())
	c, p := s.connect()
	exchange(t, c, "bye")
	await(t, p.ended, "OnDisconnected")
	wantError(t, "reason", p.Err(), session.ErrDisconnected)
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("%d, %v, want the end", n, err)
	}
	must(t, c.Close())
}
