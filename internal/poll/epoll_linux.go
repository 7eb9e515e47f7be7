package poll

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// queue is an epoll descriptor that the Go runtime watches in turn: it is
// readable while it has events. So the waiting goroutine is parked by the
// runtime, and epoll_wait is only ever called with a timeout of zero.
//
// The price is paid by add: the kernel checks descriptors that are nested in
// this way for cycles, under a lock of the whole system.
type queue struct {
	fd   int // for epoll_ctl; file owns it
	file *os.File
	conn syscall.RawConn

	// Used by the goroutine in wait only. fetchFunc is q.fetch, bound once.
	fetchFunc func(fd uintptr) bool
	raw       []unix.EpollEvent
	n         int
	err       error
}

func (q *queue) open() error {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	// NewFile hands only non-blocking descriptors to the runtime.
	if err := unix.SetNonblock(fd, true); err != nil {
		return errors.Join(os.NewSyscallError("fcntl", err), unix.Close(fd))
	}
	q.fd = fd
	q.file = os.NewFile(uintptr(fd), "epoll")

	// NewFile does not say whether the runtime took the descriptor, but only
	// one that was taken has deadlines.
	if err := q.file.SetReadDeadline(time.Time{}); err != nil {
		return errors.Join(fmt.Errorf("poll: runtime does not watch epoll: %w", err), q.file.Close())
	}
	if q.conn, err = q.file.SyscallConn(); err != nil {
		return errors.Join(err, q.file.Close())
	}
	q.fetchFunc = q.fetch
	return nil
}

func (q *queue) add(fd int, key uint64, in Interest) error {
	return q.control(unix.EPOLL_CTL_ADD, fd, key, in)
}

func (q *queue) modify(fd int, key uint64, in Interest) error {
	return q.control(unix.EPOLL_CTL_MOD, fd, key, in)
}

func (q *queue) control(op, fd int, key uint64, in Interest) error {
	// The kernel keeps 64 bits for the caller and does not look at them. The
	// binding calls their halves Fd and Pad.
	ev := unix.EpollEvent{
		Events: unix.EPOLLET,
		Fd:     int32(uint32(key)),
		Pad:    int32(uint32(key >> 32)),
	}
	if in&Read != 0 {
		ev.Events |= unix.EPOLLIN | unix.EPOLLRDHUP
	}
	if in&Write != 0 {
		ev.Events |= unix.EPOLLOUT
	}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(q.fd, op, fd, &ev))
}

func (q *queue) remove(fd int) error {
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(q.fd, unix.EPOLL_CTL_DEL, fd, nil))
}

func (q *queue) wait(events []Event) (int, error) {
	if len(events) > cap(q.raw) {
		q.raw = make([]unix.EpollEvent, len(events))
	}
	q.raw = q.raw[:len(events)]
	q.n, q.err = 0, nil
	if err := q.conn.Read(q.fetchFunc); err != nil {
		return 0, err
	}
	if q.err != nil {
		return 0, os.NewSyscallError("epoll_wait", q.err)
	}
	for i, ev := range q.raw[:q.n] {
		events[i] = Event{
			Key:      uint64(uint32(ev.Fd)) | uint64(uint32(ev.Pad))<<32,
			Readable: ev.Events&unix.EPOLLIN != 0,
			Writable: ev.Events&unix.EPOLLOUT != 0,
			Hangup:   ev.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0,
		}
	}
	return q.n, nil
}

// fetch takes what is there into q.raw. It returns false when there was
// nothing, upon which the runtime parks the goroutine and calls again later.
// An event that arrives between the two is not lost: the runtime remembers
// readiness from before the first call on.
func (q *queue) fetch(fd uintptr) bool {
	for {
		n, err := unix.EpollWait(int(fd), q.raw, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			q.err = err
			return true
		}
		q.n = n
		return n > 0
	}
}

// close wakes wait, lets it leave and closes the descriptor: File does all
// three.
func (q *queue) close() error {
	return q.file.Close()
}
