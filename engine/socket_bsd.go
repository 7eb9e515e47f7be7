//go:build darwin || freebsd

package engine

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// userTimeout: the BSDs have no TCP_USER_TIMEOUT for sent data. Keep-alive and WriteTimeout bound
// a vanished peer.
func userTimeout(time.Duration) []socketOption { return nil }

// neutral are the options that an accepted connection inherits and that would change what a session promises.
var neutral = []socketOption{
	{"SO_RCVLOWAT", unix.SOL_SOCKET, unix.SO_RCVLOWAT, 1},    // no event before so many bytes wait
	{"SO_SNDLOWAT", unix.SOL_SOCKET, unix.SO_SNDLOWAT, 2048}, // no event before there is so much room
	{"SO_OOBINLINE", unix.SOL_SOCKET, unix.SO_OOBINLINE, 0},  // urgent bytes among the others
	{"TCP_NOPUSH", unix.IPPROTO_TCP, unix.TCP_NOPUSH, 0},     // short writes wait
}

// abstractNames: every unix address is a path.
const abstractNames = false

// owner returns the user that a file belongs to.
func owner(info os.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }

// openSpare opens a descriptor that needs no path. A child does not inherit it.
func openSpare() (int, error) {
	fd, err := unix.Kqueue()
	return fd, os.NewSyscallError("kqueue", err)
}

// putBack moves a file to a path, unless there is something.
func putBack(aside, path string) error { return linkBack(aside, path) }

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

// inheritsOptions: accepted connections need not have their listener's options.
const inheritsOptions = false

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
