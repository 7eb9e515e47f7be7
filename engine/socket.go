package engine

import (
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// control has package net prepare a socket it has made, before it listens or connects.
func (o *Options) control(network, _ string, raw syscall.RawConn) (err error) {
	if !strings.HasPrefix(network, "tcp") {
		return nil
	}
	if e := raw.Control(func(fd uintptr) { err = setOptions(int(fd), o) }); e != nil {
		return e
	}
	return err
}

// equip gives an accepted connection what it may not have inherited. Errors are those of a connection already broken,
// which shows itself soon.
func equip(fd int, network string, o *Options) {
	if network != "unix" {
		_ = setOptions(fd, o)
	}
}

// setOptions prepares a TCP socket that will listen or connect, or a connection. Linux and FreeBSD hand a listener's options
// down to accepted connections; equip sees to it elsewhere. SO_REUSEADDR comes from package net.
func setOptions(fd int, o *Options) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return os.NewSyscallError("setsockopt TCP_NODELAY", err)
	}
	keepAlive := 0
	if o.KeepAlive > 0 {
		keepAlive = 1
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, keepAlive); err != nil {
		return os.NewSyscallError("setsockopt SO_KEEPALIVE", err)
	}
	if o.KeepAlive > 0 {
		for _, opt := range []struct {
			name         string
			number, want int
		}{
			{"TCP_KEEPIDLE", tcpKeepIdle, seconds(o.KeepAlive)},
			{"TCP_KEEPINTVL", tcpKeepInterval, seconds(o.KeepAliveInterval)},
			{"TCP_KEEPCNT", tcpKeepCount, o.KeepAliveCount},
		} {
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, opt.number, opt.want); err != nil {
				return os.NewSyscallError("setsockopt "+opt.name, err)
			}
		}
	}
	if o.SendBuffer > 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, o.SendBuffer); err != nil {
			return os.NewSyscallError("setsockopt SO_SNDBUF", err)
		}
	}
	// Last: a multipath connection has all the others.
	if o.UserTimeout > 0 {
		if err := setUserTimeout(fd, o.UserTimeout); err != nil {
			return os.NewSyscallError("setsockopt TCP_USER_TIMEOUT", err)
		}
	}
	return nil
}

// seconds rounds up: an option of 0 would mean the system's default.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// socketError takes the pending error of a socket, nil if there is none.
func socketError(fd int) error {
	n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if n != 0 {
		return unix.Errno(n)
	}
	return nil
}

// duplicate returns a descriptor of our own of what package net has opened, in non-blocking mode as package net has it.
func duplicate(c syscall.Conn) (fd int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	if e := raw.Control(func(n uintptr) { fd, err = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 0) }); e != nil {
		return -1, e
	}
	return fd, os.NewSyscallError("fcntl F_DUPFD_CLOEXEC", err)
}

// descriptors returns how many the process may have and how many it has.
func descriptors() (limit, used int, err error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, 0, os.NewSyscallError("getrlimit", err)
	}
	limit = int(min(uint64(r.Cur), 1<<30))
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		return limit, 32, nil // not to be seen here: assume a small program
	}
	return limit, len(entries), nil
}
