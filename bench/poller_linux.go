package bench

import (
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poller returns the descriptors that are ready. It is epoll here and kqueue on other systems, with the same methods. It is
// edge-triggered in both directions: after an event, the caller must read until nothing is left, because there is no further event for
// the rest. Closing a descriptor removes it. Only one goroutine may use a poller at a time.
type poller struct {
	fd  int
	raw []unix.EpollEvent
	// The kernel is older than epoll_pwait2 (5.11): waits are rounded up to milliseconds.
	coarse bool
}

func newPoller(events int) (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	return &poller{fd: fd, raw: make([]unix.EpollEvent, events)}, nil
}

func (p *poller) add(fd int, key uint64) error {
	// The binding calls the 64 bits that the kernel keeps for the caller Fd and Pad.
	ev := unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff,
		Fd:     int32(uint32(key)),
		Pad:    int32(uint32(key >> 32)),
	}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &ev))
}

// wait fills events with ready descriptors. If none is ready, it blocks for at most timeout.
func (p *poller) wait(events []event, timeout time.Duration) (int, error) {
	// Under load a descriptor is nearly always ready. So wait first asks without blocking, which bypasses Go's scheduler. Only a call that
	// may block releases the processor.
	max := min(len(events), len(p.raw))
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd), uintptr(unsafe.Pointer(&p.raw[0])), uintptr(max), 0, 0, 0)
	if n == 0 && errno == 0 && timeout > 0 {
		n, errno = p.block(max, timeout)
	}
	if errno == unix.EINTR {
		return 0, nil
	}
	if errno != 0 {
		return 0, os.NewSyscallError("epoll_wait", errno)
	}
	for i := range events[:n] {
		ev := &p.raw[i]
		events[i] = event{
			key:      uint64(uint32(ev.Fd)) | uint64(uint32(ev.Pad))<<32,
			readable: ev.Events&unix.EPOLLIN != 0,
			writable: ev.Events&unix.EPOLLOUT != 0,
			closed:   ev.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0,
		}
	}
	return int(n), nil
}

func (p *poller) block(max int, timeout time.Duration) (uintptr, unix.Errno) {
	if !p.coarse {
		ts := unix.NsecToTimespec(int64(timeout))
		n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(p.fd), uintptr(unsafe.Pointer(&p.raw[0])), uintptr(max),
			uintptr(unsafe.Pointer(&ts)), 0, 0)
		if errno != unix.ENOSYS {
			return n, errno
		}
		p.coarse = true
	}
	ms := (timeout + time.Millisecond - 1).Milliseconds()
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd), uintptr(unsafe.Pointer(&p.raw[0])), uintptr(max), uintptr(ms), 0, 0)
	return n, errno
}

func (p *poller) close() error { return os.NewSyscallError("close", unix.Close(p.fd)) }
