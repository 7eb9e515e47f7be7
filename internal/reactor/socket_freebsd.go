package reactor

import "golang.org/x/sys/unix"

// NotSentLowWater is the socket option TCP_NOTSENT_LOWAT, 0 where there is none.
const NotSentLowWater = 0

// bytesUnsent asks for the bytes in the send buffer: FIONWRITE of <sys/filio.h>, _IOR('f', 119, int).
func bytesUnsent(fd int) int {
	const fionwrite = 0x40046677
	n, err := unix.IoctlGetInt(fd, fionwrite)
	if err != nil {
		return 0
	}
	return n
}
