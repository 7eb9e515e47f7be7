package reactor

import "golang.org/x/sys/unix"

// NotSentLowWater is the socket option TCP_NOTSENT_LOWAT, 0 where there is none.
const NotSentLowWater = unix.TCP_NOTSENT_LOWAT

// bytesUnsent asks for the bytes in the send buffer: SO_NWRITE of <sys/socket.h>.
func bytesUnsent(fd int) int {
	const soNWrite = 0x1024
	n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, soNWrite)
	if err != nil {
		return 0
	}
	return n
}
