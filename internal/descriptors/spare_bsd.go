//go:build darwin || freebsd

package descriptors

import (
	"os"

	"golang.org/x/sys/unix"
)

// openSpare opens a descriptor that needs no path. A child does not inherit it.
func openSpare() (int, error) {
	fd, err := unix.Kqueue()
	return fd, os.NewSyscallError("kqueue", err)
}
