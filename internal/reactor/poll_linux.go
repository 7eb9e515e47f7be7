package reactor

import (
	"os"

	"github.com/panjf2000/gnet/v2/pkg/netpoll"
	"golang.org/x/sys/unix"
)

func translate(e netpoll.IOEvent, _ netpoll.IOFlags) event {
	return event{
		readable: e&(unix.EPOLLIN|unix.EPOLLPRI) != 0,
		writable: e&unix.EPOLLOUT != 0,
		hangup:   e&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0,
		urgent:   e&unix.EPOLLPRI != 0,
	}
}

// survey returns what an event would say of a socket now. It asks by poll(2), which takes nothing from the socket.
func survey(fd int) event {
	p := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLPRI | unix.POLLOUT | unix.POLLRDHUP}}
	for {
		switch _, err := unix.Poll(p[:], 0); err {
		case nil:
			return translate(netpoll.IOEvent(p[0].Revents), 0) // poll's bits are epoll's
		case unix.EINTR:
		default:
			return event{readable: true, writable: true, hangup: true}
		}
	}
}

// waker interrupts a loop that waits: an eventfd, edge-triggered, so that it need not be read.
type waker struct{ fd int }

func newWaker() (waker, error) {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	return waker{fd}, os.NewSyscallError("eventfd", err)
}

func (w waker) descriptor() int { return w.fd }

// signal adds one to a counter of 64 bits: it cannot fail.
func (w waker) signal() {
	one := [8]byte{1}
	for {
		if _, err := unix.Write(w.fd, one[:]); err != unix.EINTR {
			return
		}
	}
}

func (waker) drain() {}

func (w waker) close() { _ = unix.Close(w.fd) }
