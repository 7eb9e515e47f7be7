package reactor

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Accept takes a connection that waits at a listening descriptor, in non-blocking mode and closed on exec. The error is EAGAIN if none waits
// and the listener does not block, and otherwise that of accept(2): ECONNABORTED, EMFILE, ENFILE and others. On Linux the connection has
// its listener's TCP_NODELAY. Any goroutine.
func Accept(listener int) (fd int, peer unix.Sockaddr, err error) { return accept(listener) }

// Duplicate returns a second descriptor of a socket of package net, which the caller closes. It does not block, as package net's does not.
// The error says that c is closed, or that descriptors have run out. Any goroutine.
func Duplicate(c syscall.Conn) (fd int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	if e := raw.Control(func(n uintptr) { fd, err = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 0) }); e != nil {
		return -1, e
	}
	return fd, os.NewSyscallError("fcntl F_DUPFD_CLOEXEC", err)
}

// socketError takes the pending error of a socket, nil if there is none.
func socketError(fd int) error {
	n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if n != 0 {
		return unix.Errno(n)
	}
	return nil
}

// closeWrite sends FIN. shutdown(2) knows of a broken connection only that it is not connected any more: why is in the socket's pending error.
func closeWrite(fd int) error {
	err := unix.Shutdown(fd, unix.SHUT_WR)
	if err != unix.ENOTCONN {
		return err
	}
	if why := socketError(fd); why != nil {
		return why
	}
	return err
}

// closeSocket closes a descriptor; reset discards what the kernel still holds and tells the peer so.
func closeSocket(fd int, reset bool) {
	if reset {
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	_ = unix.Close(fd)
}
