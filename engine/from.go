package engine

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/internal/reactor"
)

// From has Listen take a socket that listens already, instead of binding one at Start: a net.Listener of package net, or an
// *os.File, from a service manager or from the process this one replaces. It must be a stream socket of the network given to
// Listen (tcp takes both families), and listen; Listen looks at it and returns an error otherwise. The address given to
// Listen is not looked at and may be empty: Addr tells the real one, at once.
//
// Start takes a descriptor of its own. The caller keeps the one it has, and may close it as soon as Start has returned. The socket is in
// non-blocking mode from then on, and must stay so: the mode belongs to the socket, not to the descriptor. (The
// method Fd of what File of a net.TCPListener or net.UnixListener returned would end it. The engine sets it again when it
// accepts, and logs that.)
//
// The path of a unix socket stays. A net.UnixListener removes its path when it is closed, so Start calls its method
// SetUnlinkOnClose(false); call it with true after Start to have it remove the path at the end. With an *os.File Start cannot do
// that: the net.UnixListener that the file is of, if there is one, is to be told before it is closed.
//
// The engine's options for connections are set on each connection that is accepted, not on the socket, which others may share;
// so those that were waiting already have them too. Accepted connections inherit most options of the socket. Those that change what
// a session promises are reset: SO_LINGER, SO_RCVLOWAT, SO_OOBINLINE, SO_PEEK_OFF, SO_TIMESTAMPING, TCP_CORK, TCP_LINGER2, IP_RECVERR. The
// others stay as the owner of the socket wants them: SO_RCVBUF, IP_TOS, TCP_CONGESTION and the like, and what Options leave
// to the kernel. (What net.Listen makes accepts multipath TCP, where Linux has no
// TCP_USER_TIMEOUT: the engine warns once. With ListenConfig.SetMultipathTCP(false) it does not.) What waits to
// be accepted when the listener closes is left to the other processes that have the socket, if there are any.
func From(socket syscall.Conn) Option {
	return func(o *origin) error {
		if socket == nil {
			return errors.New("From: the socket is nil")
		}
		addr, err := listeningAddr(socket, o.network)
		if err != nil {
			return fmt.Errorf("From: %w", err)
		}
		o.from, o.addr = socket, addr
		return nil
	}
}

// keepPath has the caller's listener, which is to be closed after Start, leave its path in place.
func (l *Listener) keepPath() {
	if u, ok := l.origin.from.(interface{ SetUnlinkOnClose(bool) }); ok {
		u.SetUnlinkOnClose(false)
	}
}

// listeningAddr returns the address of a socket, or why it is not one of that network that listens.
func listeningAddr(socket syscall.Conn, network string) (addr net.Addr, err error) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, err
	}
	if e := raw.Control(func(n uintptr) { addr, err = inspect(int(n), network) }); e != nil {
		return nil, e
	}
	return addr, err
}

func inspect(fd int, network string) (net.Addr, error) {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if errors.Is(err, unix.ENOTSOCK) {
		return nil, errors.New("the descriptor is not a socket")
	}
	if err != nil {
		return nil, os.NewSyscallError("getsockopt SO_TYPE", err)
	}
	if kind != unix.SOCK_STREAM {
		return nil, errors.New("the socket is not a stream socket")
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return nil, os.NewSyscallError("getsockname", err)
	}
	family, fits := "of an unknown family", false
	switch sa.(type) {
	case *unix.SockaddrInet4:
		family, fits = "an IPv4 socket", network == "tcp" || network == "tcp4"
	case *unix.SockaddrInet6:
		family, fits = "an IPv6 socket", network == "tcp" || network == "tcp6"
	case *unix.SockaddrUnix:
		family, fits = "a unix socket", network == "unix"
	}
	if !fits {
		return nil, fmt.Errorf("the socket is %s, not one for %s", family, network)
	}
	// A system or sandbox that does not tell is believed: if the socket does not listen, accept says so.
	if listening, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err == nil && listening == 0 {
		return nil, errors.New("the socket does not listen")
	}
	l := &Listener{zones: make(map[uint32]string)}
	return l.netAddr(sa), nil
}

// File returns a duplicate of the socket listened on, for another process to go on with (From), as package net has it. It is
// the caller's to close; neither it nor the listener notices when the other is closed. It is in non-blocking mode. From
// then on the path of a unix socket is left in place at the end, because a holder of the file may be listening there. It fails
// before Start, and after Close with an error that matches net.ErrClosed. Any goroutine, callbacks included.
func (l *Listener) File() (*os.File, error) {
	l.engine.mu.Lock()
	defer l.engine.mu.Unlock()
	if !l.bound.Load() {
		if l.closed || l.engine.state.get() > StateRunning {
			return nil, fmt.Errorf("engine: file of a listener: %w", net.ErrClosed)
		}
		return nil, errors.New("engine: file of a listener: Start comes first")
	}
	fd, err := reactor.Duplicate(l.socket)
	if err != nil {
		return nil, fmt.Errorf("engine: file of a listener: %w", err)
	}
	l.path = nil
	l.shared.Store(true)
	return os.NewFile(uintptr(fd), l.origin.network+" "+l.addr.String()), nil
}

// Close stops accepting on this listener only: its sessions, the other listeners and the engine go on, and Addr still
// returns the address. Connections that wait to be accepted stay for the processes that share the socket, if any do (From, File);
// otherwise the kernel resets them. A connection accepted a moment before may still become a session a moment after.
// Closing again does nothing; a listener that is closed before Start is never bound. Any goroutine, callbacks included.
func (l *Listener) Close() error {
	l.engine.mu.Lock()
	defer l.engine.mu.Unlock()
	l.closed = true
	l.unbind()
	return nil
}
