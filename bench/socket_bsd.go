//go:build darwin || freebsd

package bench

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// read and write are for non-blocking descriptors.
func read(fd int, p []byte) (int, unix.Errno) { return outcome(unix.Read(fd, p)) }

func write(fd int, p []byte) (int, unix.Errno) { return outcome(unix.Write(fd, p)) }

func outcome(n int, err error) (int, unix.Errno) {
	if err == nil {
		return n, 0
	}
	errno, ok := err.(unix.Errno)
	if !ok {
		errno = unix.EIO
	}
	return -1, errno
}

// openSocket returns a non-blocking stream socket.
func openSocket(family int) (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.Socket(family, unix.SOCK_STREAM, 0)
	if err != nil {
		return -1, err
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// bindSource sets the source address.
func bindSource(fd int, source unix.Sockaddr) error { return unix.Bind(fd, source) }

func sharpenTimers() {}

// localPorts returns the range that ports are chosen from by default.
func localPorts() (first, last int) { return 49152, 65535 }
