package engine

import (
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// setBounds derives the limits that depend on the process's descriptors. A MaxSessions that they do not allow is lowered, with a
// warning, as Redis does: the server serves as many as it can, and refuses the others in order. It is an error if that is none.
func (e *Engine) setBounds() error {
	limit, used, err := descriptors()
	if err != nil {
		return fmt.Errorf("engine: descriptor limit: %w", err)
	}
	floor, ceiling := 8+e.options.Loops, 64+e.options.Loops
	reserve := min(max(limit/10, floor), ceiling)
	asked, most := e.options.MaxSessions, limit-used-reserve
	switch {
	case asked < 0:
		e.maxSessions = asked
	case most < 1:
		return fmt.Errorf("engine: Options.MaxSessions: the descriptor limit of %d leaves no room for sessions (%d in use, %d reserved); %s",
			limit, used, reserve, raiseLimit)
	case asked == 0:
		e.maxSessions = most
	case asked <= most:
		e.maxSessions = asked
	default:
		e.maxSessions = most
		e.log.warn("Options.MaxSessions is more than the descriptor limit allows and was lowered; "+raiseLimit,
			"asked", asked, "max", most, "limit", limit, "in_use", used, "reserve", reserve)
	}
	return nil
}

// descriptors returns how many the process may have and how many it has.
func descriptors() (limit, used int, err error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, 0, os.NewSyscallError("getrlimit", err)
	}
	limit = int(min(uint64(r.Cur), 1<<30))
	if used, ok := listDescriptors("/dev/fd"); ok {
		return limit, used, nil
	}
	return limit, countDescriptors(limit), nil
}

// listDescriptors counts them where the system lists them. Not every /dev/fd is such a list: in a chroot it may be missing or
// any folder, and FreeBSD's has the first three alone. A true one has the descriptor it is read with.
func listDescriptors(folder string) (n int, ok bool) {
	f, err := os.Open(folder)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil || !slices.Contains(names, strconv.Itoa(int(f.Fd()))) {
		return 0, false
	}
	return len(names) - 1, true
}

// maxCounted bounds the numbers that are tried one by one, a tenth of a second's worth. The system gives out the lowest that is free.
const maxCounted = 1 << 20

func countDescriptors(limit int) (n int) {
	for fd := range min(limit, maxCounted) {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			n++
		}
	}
	return n
}
