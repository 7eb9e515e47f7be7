package reactor

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// NotSentLowWater is the socket option TCP_NOTSENT_LOWAT, 0 where there is none.
const NotSentLowWater = unix.TCP_NOTSENT_LOWAT

// accept takes a connection that waits, in non-blocking mode and closed on exec. It has its listener's TCP_NODELAY.
//
// unix.Accept4 does the same, but allocates 112 bytes for each call, also when no connection waits, and asks the listener for its protocol each time
// (SO_PROTOCOL), to tell L2TP's addresses from those of the others.
func accept(listener int) (int, unix.Sockaddr, error) {
	var raw unix.RawSockaddrAny
	size := uint32(unix.SizeofSockaddrAny)
	fd, _, errno := unix.Syscall6(unix.SYS_ACCEPT4, uintptr(listener), uintptr(unsafe.Pointer(&raw)), uintptr(unsafe.Pointer(&size)),
		unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, nil, errno
	}
	return int(fd), sockaddr(&raw), nil
}

// sockaddr returns the address that the kernel has written, nil if it is of another family than TCP and unix sockets have.
func sockaddr(raw *unix.RawSockaddrAny) unix.Sockaddr {
	switch raw.Addr.Family {
	case unix.AF_INET:
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(raw))
		return &unix.SockaddrInet4{Port: hostOrder(in.Port), Addr: in.Addr}
	case unix.AF_INET6:
		in := (*unix.RawSockaddrInet6)(unsafe.Pointer(raw))
		return &unix.SockaddrInet6{Port: hostOrder(in.Port), ZoneId: in.Scope_id, Addr: in.Addr}
	case unix.AF_UNIX:
		path := (*unix.RawSockaddrUnix)(unsafe.Pointer(raw)).Path
		if path[0] == 0 {
			path[0] = '@' // an abstract name, or none
		}
		var name []byte
		for _, b := range path {
			if b == 0 {
				break
			}
			name = append(name, byte(b))
		}
		return &unix.SockaddrUnix{Name: string(name)}
	}
	return nil
}

// hostOrder returns a port that stands in the order of the network.
func hostOrder(port uint16) int {
	b := (*[2]byte)(unsafe.Pointer(&port))
	return int(b[0])<<8 | int(b[1])
}

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
// short call, and a long one the loop's place on its processor: the scheduler takes that from a goroutine that is in the kernel for
// more than 20 us, at the price of two changes of threads.
func read(fd int, p []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// gather is the memory for the vector of a gathered write; unix.Writev would allocate one each time.
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
