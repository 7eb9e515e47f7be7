//go:build darwin || freebsd

package reactor

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// accept takes a connection that waits, in non-blocking mode and closed on exec.
func accept(listener int) (int, unix.Sockaddr, error) {
	// No child may be forked between the two calls.
	syscall.ForkLock.RLock()
	fd, sa, err := unix.Accept(listener)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return -1, nil, err
	}
	// Nothing else is kept: O_ASYNC would be the listener's, and signal to its owner.
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_NONBLOCK); err != nil {
		_ = unix.Close(fd)
		return -1, nil, err
	}
	return fd, sa, nil
}

func read(fd int, p []byte) (int, error) { return unix.Read(fd, p) }

// unsent asks for the bytes sent and not yet acknowledged.
func unsent(fd int) int { return bytesUnsent(fd) }

// received asks for the bytes that wait to be read (FIONREAD).
func received(fd int) int {
	n, err := unix.IoctlGetInt(fd, fionread)
	if err != nil {
		return 0
	}
	return n
}

// fionread is FIONREAD of <sys/filio.h>, _IOR('f', 127, int).
const fionread = 0x4004667f

// starved: the BSDs say ENOBUFS.
func starved(int) bool { return false }

// finished: poll(2) does not tell it of a half-closed connection on all of the BSDs; the event has to be believed.
func finished(int) bool { return true }

// gather needs no memory of its own here.
type gather struct{}

// write is write(2) for one buffer and sendmsg(2) for up to IOV_MAX, the gathered write that package unix has on
// every BSD.
func (*gather) write(fd int, bufs [][]byte) (int, error) {
	if len(bufs) == 1 {
		return unix.Write(fd, bufs[0])
	}
	return unix.SendmsgBuffers(fd, bufs, nil, nil, 0)
}
