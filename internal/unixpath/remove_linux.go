package unixpath

import (
	"os"

	"golang.org/x/sys/unix"
)

// abstractNames: a unix address that begins with "@" is no path.
const abstractNames = true

// putBack moves a file to a path, unless there is something.
func putBack(aside, path string) error {
	err := unix.Renameat2(unix.AT_FDCWD, aside, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	if err == unix.EINVAL || err == unix.ENOSYS { // the file system, or a sandbox, does not know it
		return linkBack(aside, path)
	}
	return os.NewSyscallError("renameat2", err)
}
