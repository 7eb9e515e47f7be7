//go:build darwin || freebsd

package bench

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// poller is the poller of Linux, with kqueue.
type poller struct {
	fd   int
	raw  []unix.Kevent_t
	keys []uint64 // by descriptor: kqueue's own place for it is a pointer
}

func newPoller(events int) (*poller, error) {
	fd, err := unix.Kqueue()
	if err != nil {
		return nil, os.NewSyscallError("kqueue", err)
	}
	unix.CloseOnExec(fd)
	return &poller{fd: fd, raw: make([]unix.Kevent_t, events)}, nil
}

func (p *poller) add(fd int, key uint64) error {
	for fd >= len(p.keys) {
		p.keys = append(p.keys, 0)
	}
	p.keys[fd] = key
	var changes [2]unix.Kevent_t
	unix.SetKevent(&changes[0], fd, unix.EVFILT_READ, unix.EV_ADD|unix.EV_CLEAR)
	unix.SetKevent(&changes[1], fd, unix.EVFILT_WRITE, unix.EV_ADD|unix.EV_CLEAR)
	_, err := unix.Kevent(p.fd, changes[:], nil, nil)
	return os.NewSyscallError("kevent", err)
}

// wait fills events with ready descriptors. If none is ready, it blocks for at most timeout.
func (p *poller) wait(events []event, timeout time.Duration) (int, error) {
	ts := unix.NsecToTimespec(int64(max(timeout, 0)))
	n, err := unix.Kevent(p.fd, nil, p.raw[:min(len(events), len(p.raw))], &ts)
	if err == unix.EINTR {
		return 0, nil
	}
	if err != nil {
		return 0, os.NewSyscallError("kevent", err)
	}
	for i := range events[:n] {
		ev := &p.raw[i]
		events[i] = event{
			key:      p.keys[int(ev.Ident)],
			readable: ev.Filter == unix.EVFILT_READ,
			writable: ev.Filter == unix.EVFILT_WRITE,
			closed:   ev.Flags&(unix.EV_EOF|unix.EV_ERROR) != 0,
		}
	}
	return n, nil
}

func (p *poller) close() error { return os.NewSyscallError("close", unix.Close(p.fd)) }
