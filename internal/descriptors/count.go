package descriptors

import (
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// RaiseLimit is the advice for a process that has no descriptors left.
const RaiseLimit = "raise it with ulimit -n, or LimitNOFILE= of a systemd unit"

// Count returns how many descriptors the process may have, and how many it has. Where the system does not list them it tries one number
// after the other, which takes up to a tenth of a second.
func Count() (limit, used int, err error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, 0, os.NewSyscallError("getrlimit", err)
	}
	limit = int(min(uint64(r.Cur), 1<<30))
	if used, ok := listed("/dev/fd"); ok {
		return limit, used, nil
	}
	return limit, countEach(limit), nil
}

// listed counts the descriptors in a folder where the system lists them. Not every /dev/fd is such a list: in a chroot it may be missing or
// any folder, and FreeBSD's has the first three alone. A true one has the descriptor it is read with.
func listed(folder string) (n int, ok bool) {
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

// countEach counts the descriptors below the limit by trying each number.
func countEach(limit int) (n int) {
	for fd := range min(limit, maxCounted) {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			n++
		}
	}
	return n
}
