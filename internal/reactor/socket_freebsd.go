package reactor

import "golang.org/x/sys/unix"

// bytesUnsent asks for the bytes in the send buffer: FIONWRITE of <sys/filio.h>, _IOR('f', 119, int).
func bytesUnsent(fd int) int {
	const fionwrite = 0x40046677
	n, err := unix.IoctlGetInt(fd, fionwrite)
	if err != nil {
		return 0
	}
	return n
}
