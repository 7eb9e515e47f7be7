//go:build darwin || freebsd

package reactor

import (
	"os"

	"github.com/panjf2000/gnet/v2/pkg/netpoll"
	"golang.org/x/sys/unix"
)

func translate(filter netpoll.IOEvent, flags netpoll.IOFlags) event {
	return event{
		readable: filter == unix.EVFILT_READ,
		writable: filter == unix.EVFILT_WRITE,
		hangup:   flags&unix.EV_EOF != 0,
	}
}

// survey returns what an event would say of a socket now. It asks by poll(2), which takes nothing from the socket. poll(2) does
// not tell here whether the end follows the bytes that wait, so the end is to be expected.
func survey(fd int) event {
	p := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLOUT}}
	if _, err := unix.Poll(p[:], 0); err != nil {
		return event{readable: true, writable: true, hangup: true}
	}
	is := p[0].Revents
	waits := is&(unix.POLLIN|unix.POLLHUP|unix.POLLERR) != 0
	return event{readable: waits, writable: is&unix.POLLOUT != 0, hangup: waits}
}

// waker interrupts a loop that waits: a pipe.
type waker struct{ r, w int }

func newWaker() (waker, error) {
	var p [2]int
	if err := unix.Pipe(p[:]); err != nil {
		return waker{}, os.NewSyscallError("pipe", err)
	}
	for _, fd := range p {
		unix.CloseOnExec(fd)
		if err := unix.SetNonblock(fd, true); err != nil {
			waker{p[0], p[1]}.close()
			return waker{}, os.NewSyscallError("fcntl", err)
		}
	}
	return waker{p[0], p[1]}, nil
}

func (w waker) descriptor() int { return w.r }

// signal leaves a byte. A pipe that is full has woken the loop already.
func (w waker) signal() {
	for {
		if _, err := unix.Write(w.w, []byte{1}); err != unix.EINTR {
			return
		}
	}
}

func (w waker) drain() {
	var b [64]byte
	for {
		if n, err := unix.Read(w.r, b[:]); n < len(b) && err != unix.EINTR {
			return
		}
	}
}

func (w waker) close() {
	_ = unix.Close(w.r)
	_ = unix.Close(w.w)
}
