package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Listener is one address an engine accepts on.
type Listener struct {
	engine  *Engine
	address string
	origin  origin // of its sessions

	acceptMu sync.Mutex        // the door's loop or the listener's goroutine; guards the next two
	shared   *net.TCPAddr      // the local address of the last connection accepted
	zones    map[uint32]string // names of interfaces

	closed bool // by Close; under the engine's mu

	// Set by bind, fixed while bound.
	bound  bool
	addr   net.Addr // stays
	socket *os.File
	conn   syscall.RawConn // of socket
	door   *loop           // it accepts, nil before it attends
	file   os.FileInfo     // of a unix socket: removed at the end only if it is still ours; under the engine's mu
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
		if err := l.adopt(l.origin.from); err != nil {
			return fmt.Errorf("engine: listen %s %s: From: %w", l.origin.network, l.addr, err)
		}
		l.bound = true
		return nil
	}
	if l.origin.network == "unix" {
		if err := clearPath(l.address); err != nil {
			return fmt.Errorf("engine: listen unix %s: %w", l.address, err)
		}
	}
	config := net.ListenConfig{
		KeepAlive: -1, // ours is among control's options, once instead of per connection
		Control:   l.engine.options.control,
	}
	config.SetMultipathTCP(false) // its sockets take none of our options
	ln, err := config.Listen(context.Background(), l.origin.network, l.address)
	if err != nil {
		return fmt.Errorf("engine: %w%s", err, hint(err))
	}
	defer ln.Close()
	if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
		l.file, _ = os.Lstat(l.address)
	}
	l.addr = ln.Addr()
	if err := l.adopt(ln.(syscall.Conn)); err != nil {
		l.removePath()
		return fmt.Errorf("engine: listen %s %s: %w", l.origin.network, l.address, err)
	}
	l.bound = true
	return nil
}

// adopt takes a descriptor of its own of what package net listens on, whose listener says EINVAL to whoever wants
// to accept by himself. The Go runtime watches it, so that next waits without a thread.
func (l *Listener) adopt(ln syscall.Conn) error {
	fd, err := duplicate(ln)
	if err != nil {
		return err
	}
	_ = unix.SetNonblock(fd, true) // as package net has it; what was handed in may not be. If it fails, so does what follows
	l.socket = os.NewFile(uintptr(fd), "listener")
	if l.conn, err = l.socket.SyscallConn(); err == nil {
		err = l.socket.SetReadDeadline(time.Time{}) // fails if the runtime does not watch it
	}
	if err != nil {
		_ = l.socket.Close()
	}
	return err
}

// await waits until a connection waits, or one has come in since this call, or fails when the listener is closed. It looks
// for itself first: what the runtime was told of before Read it forgets, and the door, which was told of it once, may have failed.
// Once it has waited it does not look: at the rate at which newcomers come the door is as a rule just taking them.
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

// try takes a connection if one waits, EAGAIN if none does. Any goroutine.
func (l *Listener) try() (newcomer, error) {
	l.acceptMu.Lock()
	defer l.acceptMu.Unlock()
	return l.next()
}

// next is try for who holds acceptMu; net.ErrClosed when the listener is closed.
func (l *Listener) next() (n newcomer, err error) {
	if l.conn.Control(func(fd uintptr) { n, err = l.acceptOn(int(fd)) }) != nil {
		return n, net.ErrClosed
	}
	return n, err
}

// descriptor returns the number of what is listened on.
func (l *Listener) descriptor() (fd int) {
	_ = l.conn.Control(func(n uintptr) { fd = int(n) })
	return fd
}

// acceptOn takes a connection that waits on the listener's descriptor; EAGAIN if there is none.
func (l *Listener) acceptOn(listener int) (newcomer, error) {
	for {
		fd, sa, err := accept(listener)
		switch err {
		case nil:
		case unix.EINTR, unix.ECONNABORTED: // the second: it left while it waited
			continue
		case unix.EAGAIN:
			return newcomer{}, err
		default:
			return newcomer{}, os.NewSyscallError("accept", err)
		}
		n := newcomer{origin: &l.origin, fd: fd, remote: l.netAddr(sa)}
		n.local, err = l.local(fd)
		if err == nil && n.remote == nil {
			err = fmt.Errorf("the peer has an address of an unknown kind (%T)", sa)
		}
		if err != nil {
			_ = unix.Close(fd)
			return newcomer{}, err
		}
		return n, nil
	}
}

func hint(err error) string {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return " (another process, or another listener of this one, has it)"
	case errors.Is(err, unix.EACCES):
		return " (ports below 1024 and this path need a privilege this process lacks)"
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return " (no interface of this machine has that address)"
	}
	return ""
}

// unbind stops to listen, if it was; what waits to be accepted is reset by the kernel, unless somebody shares the socket. It
// waits for nobody's callback: who holds acceptMu takes a connection and hands it on. The caller holds the engine's mu.
func (l *Listener) unbind() {
	if !l.bound {
		return
	}
	l.bound = false
	l.acceptMu.Lock() // see letIn
	if l.door != nil {
		// Closing ends the registration of a socket only when it is the last descriptor of it.
		l.door.ignore(l)
		l.door = nil
	}
	l.removePath() // while the socket is open: nobody can have bound the path anew
	_ = l.socket.Close()
	l.acceptMu.Unlock()
}

// removePath removes a unix socket's path if it is still the socket we made.
func (l *Listener) removePath() {
	if l.file == nil {
		return
	}
	if now, err := os.Lstat(l.address); err == nil && os.SameFile(now, l.file) {
		_ = os.Remove(l.address)
	}
	l.file = nil
}

// clearPath makes way for a unix socket: a path that does not exist is free, and a socket of our own user that
// refuses connections was left behind by a process that died. Anything else stays as it is.
func clearPath(path string) error {
	if strings.HasPrefix(path, "@") { // Linux' abstract names are not files
		return nil
	}
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("the path exists and is not a socket (%s); it is left alone", info.Mode().Type())
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("the path is a socket of user %d, not of ours (%d); it is left alone", stat.Uid, os.Geteuid())
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("%w: a process listens there", unix.EADDRINUSE)
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("the path is a socket that cannot be judged dead (%w); it is left alone", err)
	}
	return os.Remove(path)
}
