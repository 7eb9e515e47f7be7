package descriptors

import (
	"os"

	"golang.org/x/sys/unix"
)

// openSpare opens a descriptor that needs no path.
func openSpare() (int, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	return fd, os.NewSyscallError("eventfd", err)
}
