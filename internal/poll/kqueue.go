//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package poll

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// queue is a kqueue, and a pipe whose only byte is written by close. wait
// blocks its thread in kevent, see the package comment.
type queue struct {
	fd     int
	wakeRd int // registered, level-triggered, in fd
	wakeWr int

	// Held by wait for as long as it uses the descriptors, so that close can
	// wait until nobody does.
	waiting sync.Mutex
	closed  bool // under waiting

	raw []uintptr // memory for events, see kevents; under waiting
}

func (q *queue) open() error {
	var pipe [2]int
	// No child may be forked between the opening of a descriptor and its
	// close-on-exec mark.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := unix.Pipe(pipe[:]); err != nil {
		return os.NewSyscallError("pipe", err)
	}
	unix.CloseOnExec(pipe[0])
	unix.CloseOnExec(pipe[1])
	fd, err := unix.Kqueue()
	if err != nil {
		return errors.Join(os.NewSyscallError("kqueue", err), unix.Close(pipe[0]), unix.Close(pipe[1]))
	}
	unix.CloseOnExec(fd)

	q.fd, q.wakeRd, q.wakeWr = fd, pipe[0], pipe[1]
	if err := q.change(q.wakeRd, unix.EVFILT_READ, unix.EV_ADD, 0); err != nil {
		return errors.Join(err, q.free())
	}
	return nil
}

// filters are the two halves of an interest, a kevent each.
var filters = [...]struct {
	in     Interest
	filter int
}{{Read, unix.EVFILT_READ}, {Write, unix.EVFILT_WRITE}}

// add relies on EV_ADD where a filter exists already: its key is replaced and
// the state looked at afresh.
func (q *queue) add(fd int, key uint64, in Interest) error {
	for _, f := range filters {
		if in&f.in == 0 {
			continue
		}
		if err := q.change(fd, f.filter, unix.EV_ADD|unix.EV_CLEAR, key); err != nil {
			_ = q.drop(fd, in)
			return err
		}
	}
	return nil
}

func (q *queue) modify(fd int, key uint64, in Interest) error {
	if err := q.drop(fd, ReadWrite&^in); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return q.add(fd, key, in)
}

func (q *queue) remove(fd int) error { return q.drop(fd, ReadWrite) }

// drop deletes filters. It returns ENOENT if there was none of them.
func (q *queue) drop(fd int, in Interest) error {
	found := false
	for _, f := range filters {
		if in&f.in == 0 {
			continue
		}
		switch err := q.change(fd, f.filter, unix.EV_DELETE, 0); {
		case err == nil:
			found = true
		case !errors.Is(err, unix.ENOENT):
			return err
		}
	}
	if !found {
		return os.NewSyscallError("kevent", unix.ENOENT)
	}
	return nil
}

func (q *queue) change(fd, filter, flags int, key uint64) error {
	var mem [keventWords]uintptr
	changes := kevents(mem[:])
	unix.SetKevent(&changes[0], fd, filter, flags)
	setKey(&changes[0], key)
	for {
		_, err := unix.Kevent(q.fd, changes, nil, nil)
		if err != unix.EINTR {
			return os.NewSyscallError("kevent", err)
		}
	}
}

func (q *queue) wait(events []Event) (int, error) {
	q.waiting.Lock()
	defer q.waiting.Unlock()
	if q.closed {
		return 0, errClosed
	}
	if len(events) == 0 {
		return 0, os.NewSyscallError("kevent", unix.EINVAL)
	}
	if want := len(events) * keventWords; want > cap(q.raw) {
		q.raw = make([]uintptr, want)
	}
	raw := kevents(q.raw[:len(events)*keventWords])

	n, err := unix.Kevent(q.fd, nil, raw, nil)
	for err == unix.EINTR {
		n, err = unix.Kevent(q.fd, nil, raw, nil)
	}
	if err != nil {
		return 0, os.NewSyscallError("kevent", err)
	}
	for i := range raw[:n] {
		ev := &raw[i]
		if int(ev.Ident) == q.wakeRd {
			return 0, errClosed
		}
		events[i] = Event{
			Key:      keyOf(ev),
			Readable: ev.Filter == unix.EVFILT_READ,
			Writable: ev.Filter == unix.EVFILT_WRITE,
			Hangup:   ev.Flags&unix.EV_EOF != 0,
		}
	}
	return n, nil
}

func (q *queue) close() error {
	// The byte stays in the pipe, so wait finds it whenever it comes. If it
	// cannot be written, nothing is freed under the feet of wait: the next
	// event makes it leave.
	_, err := unix.Write(q.wakeWr, []byte{0})
	for err == unix.EINTR {
		_, err = unix.Write(q.wakeWr, []byte{0})
	}
	q.waiting.Lock()
	defer q.waiting.Unlock()
	q.closed = true
	return errors.Join(os.NewSyscallError("write", err), q.free())
}

func (q *queue) free() error {
	return errors.Join(unix.Close(q.fd), unix.Close(q.wakeRd), unix.Close(q.wakeWr))
}

// The binding declares the caller's field of a kevent as a pointer. A key is
// not one, and the garbage collector must not come across it in a place where
// it expects one. So kevents live in memory that it does not search, and the
// field is read and written as the number it is.

const keventWords = int(unsafe.Sizeof(unix.Kevent_t{}) / unsafe.Sizeof(uintptr(0)))

// kevents views mem, a whole number of keventWords, as kevents.
func kevents(mem []uintptr) []unix.Kevent_t {
	return unsafe.Slice((*unix.Kevent_t)(unsafe.Pointer(&mem[0])), len(mem)/keventWords)
}

func setKey(ev *unix.Kevent_t, key uint64) {
	*(*uintptr)(unsafe.Pointer(&ev.Udata)) = uintptr(key)
}

func keyOf(ev *unix.Kevent_t) uint64 {
	return uint64(*(*uintptr)(unsafe.Pointer(&ev.Udata)))
}
