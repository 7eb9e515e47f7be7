package engine

import (
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	tcpKeepIdle     = unix.TCP_KEEPIDLE
	tcpKeepInterval = unix.TCP_KEEPINTVL
	tcpKeepCount    = unix.TCP_KEEPCNT
)

// userTimeout returns the option for UserTimeout. Off is an option too: a connection may have inherited another value.
func userTimeout(d time.Duration) []socketOption {
	ms := (max(d, 0) + time.Millisecond - 1) / time.Millisecond // 0 is the kernel's own
	return []socketOption{{"TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(ms)}}
}

// neutral are the options that an accepted connection inherits and that would change what a session promises.
var neutral = []socketOption{
	{"SO_RCVLOWAT", unix.SOL_SOCKET, unix.SO_RCVLOWAT, 1},         // no event before so many bytes wait
	{"SO_OOBINLINE", unix.SOL_SOCKET, unix.SO_OOBINLINE, 0},       // urgent bytes among the others
	{"SO_PEEK_OFF", unix.SOL_SOCKET, unix.SO_PEEK_OFF, -1},        // MSG_PEEK looks elsewhere
	{"SO_TIMESTAMPING", unix.SOL_SOCKET, unix.SO_TIMESTAMPING, 0}, // notes for each send fill the receive buffer
	{"TCP_CORK", unix.IPPROTO_TCP, unix.TCP_CORK, 0},              // short writes wait for 200 ms
	{"TCP_LINGER2", unix.IPPROTO_TCP, unix.TCP_LINGER2, 0},        // below 0: close(2) resets
	{"IP_RECVERR", unix.IPPROTO_IP, unix.IP_RECVERR, 0},           // a passing fault of the network breaks the connection
	{"IPV6_RECVERR", unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 0},     // likewise
}

// abstractNames: a unix address that begins with "@" is no path.
const abstractNames = true

// owner returns the user that a file belongs to.
func owner(info os.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }

// openSpare opens a descriptor that needs no path.
func openSpare() (int, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	return fd, os.NewSyscallError("eventfd", err)
}

// putBack moves a file to a path, unless there is something.
func putBack(aside, path string) error {
	err := unix.Renameat2(unix.AT_FDCWD, aside, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	if err == unix.EINVAL || err == unix.ENOSYS { // the file system, or a sandbox, does not know it
		return linkBack(aside, path)
	}
	return os.NewSyscallError("renameat2", err)
}

// accept takes a connection that waits, in non-blocking mode and closed on exec. It has its listener's TCP_NODELAY.
func accept(listener int) (int, unix.Sockaddr, error) {
	return unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
}

// inheritsOptions: accepted connections have the options their listener had when they came in.
const inheritsOptions = true

// unsent asks for the bytes sent and not yet acknowledged (SIOCOUTQ).
func unsent(fd int) int {
	n, err := unix.IoctlGetInt(fd, unix.TIOCOUTQ)
	if err != nil {
		return 0
	}
	return n
}

// received asks for the bytes that wait to be read (SIOCINQ).
func received(fd int) int {
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	if err != nil {
		return 0
	}
	return n
}

// starved reports whether a socket that takes nothing holds nothing: Linux says EAGAIN too when it is over net.ipv4.tcp_mem,
// and tells of room only when what a socket holds was acknowledged.
func starved(fd int) bool {
	n, err := unix.IoctlGetInt(fd, unix.TIOCOUTQ)
	return err == nil && n == 0
}

// finished reports whether the peer has finished, or the connection is broken: what can be read is all there will be.
func finished(fd int) bool {
	p := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(p[:], 0)
	return err == nil && n > 0
}

// read is read(2), and write below write(2) and writev(2), without telling the Go scheduler: they do not wait, and the
// most they move, a quarter of a megabyte, takes less than a tenth of a millisecond. The telling would cost a tenth of a
// short call, and a long one the loop's place on its processor: the scheduler takes that from who is in the kernel for
// more than 20 us, at the price of two changes of threads.
func read(fd int, p []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// gather is a loop's memory for the vector of a gathered write; unix.Writev would allocate one each time.
type gather struct{ vector []unix.Iovec }

// write is write(2) for one buffer and writev(2) for up to IOV_MAX.
func (g *gather) write(fd int, bufs [][]byte) (int, error) {
	var n uintptr
	var errno unix.Errno
	if len(bufs) == 1 {
		b := bufs[0]
		n, _, errno = unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	} else {
		g.vector = g.vector[:0]
		for _, b := range bufs {
			v := unix.Iovec{Base: unsafe.SliceData(b)}
			v.SetLen(len(b))
			g.vector = append(g.vector, v)
		}
		n, _, errno = unix.RawSyscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&g.vector[0])), uintptr(len(g.vector)))
		clear(g.vector)
	}
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
