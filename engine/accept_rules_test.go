package engine

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// Of the errors of accept(2), those that mean a want of descriptors have the connection accepted on the spare one. Others pass, or wait.
func TestOutOfDescriptors(t *testing.T) {
	for err, want := range map[unix.Errno]bool{
		unix.EMFILE: true, unix.ENFILE: true,
		unix.ENOMEM: false, unix.ENOBUFS: false, unix.ECONNABORTED: false, unix.EPERM: false, unix.EPROTO: false, unix.EAGAIN: false,
		unix.EINVAL: false, unix.EBADF: false,
	} {
		if outOfDescriptors(err) != want || outOfDescriptors(fmt.Errorf("accept: %w", err)) != want {
			t.Errorf("%v: want %t, wrapped too", err, want)
		}
	}
}
