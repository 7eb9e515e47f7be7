package unixpath

import (
	"fmt"
	"math/rand/v2"
	"os"

	"golang.org/x/sys/unix"
)

// removeSocket removes a path if what is there is the right socket. What turns out to be something else after it was moved aside
// is put back. It is no error if the path does not exist, or is something else from the start.
func removeSocket(path string, isRight func(os.FileInfo) bool) error {
	if now, err := os.Lstat(path); err != nil || !isRight(now) {
		return nil
	}
	aside := fmt.Sprintf("%s.%x", path, rand.Uint64())
	if err := unix.Rename(path, aside); err != nil {
		if err == unix.ENOENT {
			return nil
		}
		return &os.LinkError{Op: "rename", Old: path, New: aside, Err: err}
	}
	now, err := os.Lstat(aside)
	if err == nil && isRight(now) {
		return os.NewSyscallError("unlink", unix.Unlink(aside))
	}
	if err := putBack(aside, path); err != nil {
		return fmt.Errorf("the path was changed meanwhile by another process, whose file is at %s now: %w", aside, err)
	}
	return nil
}

// linkBack moves a file to a path that must not exist, in a way that every system has: by a second name. A folder can have
// none, but replaces nothing except an empty folder.
func linkBack(aside, path string) error {
	if info, err := os.Lstat(aside); err == nil && info.IsDir() {
		return os.NewSyscallError("rename", unix.Rename(aside, path))
	}
	if err := unix.Linkat(unix.AT_FDCWD, aside, unix.AT_FDCWD, path, 0); err != nil {
		return os.NewSyscallError("link", err)
	}
	return os.NewSyscallError("unlink", unix.Unlink(aside))
}
