package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/internal/reactor"
	"github.com/servercore-go/servercore/internal/unixpath"
)

// Listener is one address an engine accepts on.
type Listener struct {
	engine  *Engine
	address string
	origin  origin // of its sessions

	acceptMu sync.Mutex        // of the accepting loop and the listener's goroutine; guards the next four
	accepted pendingConn       // what acceptOn has taken, while accept runs: a variable that take sets would be allocated each time
	failed   error             // likewise, its error
	lastAddr *net.TCPAddr      // the local address of the last connection accepted
	zones    map[uint32]string // names of interfaces

	closed bool        // by Close; under the engine's mu
	bound  atomic.Bool // it listens; set under the engine's mu
	shared atomic.Bool // other holders of the socket may change its options and mode: From, or File was called

	// Set by bind, fixed while bound.
	addr   net.Addr // stays
	socket *os.File
	conn   syscall.RawConn   // of socket
	take   func(fd uintptr)  // calls acceptOn
	loop   *loop             // the accepting loop, nil before Start; under acceptMu
	path   *unixpath.Binding // of a unix socket, nil if its path is not to be removed; under the engine's mu
}

// Addr returns the address listened on, the port resolved, once Start has returned; before that, the address as
// given to Listen, unless From told a better one. Any goroutine, at any time.
func (l *Listener) Addr() net.Addr {
	l.engine.mu.Lock()
	defer l.engine.mu.Unlock()
	if l.addr != nil {
		return l.addr
	}
	return givenAddr{l.origin.network, l.address}
}

type givenAddr struct{ network, address string }

func (a givenAddr) Network() string { return a.network }
func (a givenAddr) String() string  { return a.address }

// checkAddress refuses what could never be listened on, nor dialled, without looking anything up.
func checkAddress(network, address string) error {
	switch network {
	case "tcp", "tcp4", "tcp6":
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return fmt.Errorf("engine: address %q: want host:port, for instance \":7777\" or \"[::1]:7777\"", address)
		}
		if strings.ContainsRune(host, 0) || strings.ContainsRune(port, 0) {
			return fmt.Errorf("engine: address %q contains a zero byte", address)
		}
		if n, err := strconv.Atoi(port); err == nil && (n < 0 || n > 65535) {
			return fmt.Errorf("engine: address %q: port %d is not in 0 to 65535", address, n)
		}
		return nil
	case "unix":
		// sun_path is 108 bytes on Linux and 104 on the BSDs, its end included.
		const maxPath = len(unix.RawSockaddrUnix{}.Path) - 1
		switch {
		case address == "":
			return errors.New("engine: the address of a unix socket is a path, got none")
		case len(address) > maxPath:
			return fmt.Errorf("engine: unix path %q is %d bytes long, the system allows %d", address, len(address), maxPath)
		case strings.ContainsRune(address, 0):
			return fmt.Errorf("engine: unix path %q contains a zero byte", address)
		}
		return nil
	}
	return fmt.Errorf("engine: network %q: want tcp, tcp4, tcp6 or unix", network)
}

// bind starts to listen, unless the listener is closed. The caller holds the engine's mu.
func (l *Listener) bind() error {
	l.zones = make(map[uint32]string)
	if l.closed {
		return nil
	}
	if l.origin.from != nil {
		l.shared.Store(true)
		if err := l.adopt(l.origin.from); err != nil {
			return fmt.Errorf("engine: listen %s %s: From: %w%s", l.origin.network, l.addr, err, hint("", err))
		}
		l.bound.Store(true)
		return nil
	}
	ln, err := l.listen()
	if err != nil {
		if op := new(net.OpError); errors.As(err, &op) { // says itself what was tried
			return fmt.Errorf("engine: %w%s", err, hint(l.origin.network, err))
		}
		return fmt.Errorf("engine: listen %s %s: %w%s", l.origin.network, l.address, err, hint(l.origin.network, err))
	}
	defer ln.Close()
	l.addr = ln.Addr()
	if err := l.adopt(ln.(syscall.Conn)); err != nil {
		l.removePath()
		return fmt.Errorf("engine: listen %s %s: %w%s", l.origin.network, l.address, err, hint("", err))
	}
	l.bound.Store(true)
	return nil
}

// listen has package net bind the address.
func (l *Listener) listen() (net.Listener, error) {
	config := net.ListenConfig{
		KeepAlive: -1, // ours is among the options of prepareSocket, once instead of per connection
		Control:   l.engine.prepareSocket,
	}
	config.SetMultipathTCP(false) // its sockets take none of our options
	listen := func() (net.Listener, error) {
		return config.Listen(context.Background(), l.origin.network, l.address)
	}
	if l.origin.network != "unix" || unixpath.IsAbstract(l.address) {
		return listen()
	}
	ln, path, err := unixpath.Listen(l.address, listen)
	l.path = path
	return ln, err
}

// removePath removes the path of a unix socket, while the socket is open. The caller holds the engine's mu.
func (l *Listener) removePath() {
	path := l.path
	l.path = nil
	if err := path.Remove(); err != nil {
		l.engine.log.Error("the path of a unix socket could not be removed", err, "listener", path.Path())
	}
}

// adopt takes a descriptor of its own of what package net listens on: package net's listener allows no accept but its own.
// The Go runtime watches it, so that await needs no thread.
func (l *Listener) adopt(ln syscall.Conn) error {
	fd, err := reactor.Duplicate(ln)
	if err != nil {
		return err
	}
	_ = unix.SetNonblock(fd, true) // as package net has it; what was handed in may not be. If it fails, so does what follows
	if l.origin.from == nil {
		// Package net asks for what /proc says is the most, and for 128 where there is no /proc. The kernel knows. A socket
		// that was handed in has the queue that its owner wants.
		_ = unix.Listen(fd, math.MaxInt32)
	}
	l.socket = os.NewFile(uintptr(fd), "listener")
	l.take = func(fd uintptr) { l.accepted, l.failed = l.acceptOn(int(fd)) }
	if l.conn, err = l.socket.SyscallConn(); err == nil {
		err = l.socket.SetReadDeadline(time.Time{}) // fails if the runtime does not watch it
	}
	if err != nil {
		_ = l.socket.Close()
	}
	return err
}

// await waits until a connection waits, or one has come in since this call, or fails when the listener is closed. It looks
// for itself first: what the runtime was told of before Read it forgets, and the accepting loop, which was told of it once, may have failed.
// Once it has waited it does not look: as a rule the accepting loop is just taking the connection.
func (l *Listener) await() error {
	looked := false
	return l.conn.Read(func(fd uintptr) bool {
		if looked {
			return true
		}
		looked = true
		waiting := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(waiting, 0)
		return n > 0 || err != nil
	})
}

// tryAccept accepts a connection if one waits, EAGAIN if none does. Any goroutine.
func (l *Listener) tryAccept() (pendingConn, error) {
	l.acceptMu.Lock()
	defer l.acceptMu.Unlock()
	return l.accept()
}

// errListenerClosed is what accept returns when the listener is closed.
var errListenerClosed = net.ErrClosed

// accept is tryAccept for a caller that holds acceptMu.
func (l *Listener) accept() (pendingConn, error) {
	if l.conn.Control(l.take) != nil {
		return pendingConn{}, errListenerClosed
	}
	p, err := l.accepted, l.failed
	l.accepted, l.failed = pendingConn{}, nil
	return p, err
}

// descriptor returns the number of what is listened on.
func (l *Listener) descriptor() (fd int) {
	_ = l.conn.Control(func(n uintptr) { fd = int(n) })
	return fd
}

// maxBroken bounds the connections in a row that break before they are accepted. Then it is an error like others, and waits.
const maxBroken = 64

// acceptOn takes a connection that waits on the listener's descriptor; EAGAIN if there is none.
func (l *Listener) acceptOn(listener int) (p pendingConn, err error) {
	shared := l.shared.Load()
	for range maxBroken {
		if shared {
			if err := l.poll(listener); err != nil {
				return pendingConn{}, err
			}
		}
		var fd int
		var sa unix.Sockaddr
		fd, sa, err = l.engine.acceptSocket(listener)
		switch err {
		case nil:
		case unix.EINTR, unix.ECONNABORTED: // the second: it left while it waited
			err = os.NewSyscallError("accept", err)
			continue
		case unix.EAGAIN:
			return pendingConn{}, err
		default:
			return pendingConn{}, os.NewSyscallError("accept", err)
		}
		if shared {
			neverWait(fd)
		}
		p = pendingConn{origin: &l.origin, fd: fd, remote: l.netAddr(sa), shared: shared}
		p.local, err = l.local(fd)
		if err == nil && p.remote == nil {
			err = fmt.Errorf("the peer has an address of an unknown kind (%T)", sa)
		}
		if err == nil {
			return p, nil
		}
		_ = unix.Close(fd) // the BSDs have no address of a connection that was reset
	}
	return pendingConn{}, err
}

// poll returns EAGAIN if no connection waits on a shared socket. Another holder may have ended the non-blocking mode, which belongs
// to the socket, and an accept that waits would hold the loop. So accept is not called in vain, and the mode is set again. One
// case remains: another process ends the mode and takes the connection, both within the microsecond before the accept.
func (l *Listener) poll(listener int) error {
	p := [1]unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
	if n, err := unix.Poll(p[:], 0); n == 0 && err == nil {
		return unix.EAGAIN
	}
	flags, err := unix.FcntlInt(uintptr(listener), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_NONBLOCK != 0 {
		return nil
	}
	l.engine.log.Limited(blockingLine, "another holder of the listening socket has set it to blocking mode; it is set back",
		"listener", l.addr.String())
	return os.NewSyscallError("fcntl", unix.SetNonblock(listener, true))
}

// unbind stops to listen, if it was; what waits to be accepted is reset by the kernel, unless somebody shares the socket. It
// waits for no callback: a goroutine that holds acceptMu accepts a connection and hands it on. The caller holds the engine's mu.
func (l *Listener) unbind() {
	if !l.bound.Swap(false) {
		return
	}
	l.acceptMu.Lock() // see acceptOne
	if l.loop != nil {
		// Closing ends the registration of a socket only when it is the last descriptor of it.
		l.loop.Unlisten(l.descriptor())
		l.loop = nil
	}
	l.removePath() // while the socket is open
	_ = l.socket.Close()
	l.acceptMu.Unlock()
}
