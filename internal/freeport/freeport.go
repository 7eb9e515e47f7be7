// Package freeport finds ports for programs that have to be told where to listen, or where nobody does, in tests and measurements.
package freeport

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// The ports that are tried. Those of clients and of listeners on port 0 are higher (net.ipv4.ip_local_port_range is 32,768 to 60,999 by default), so
// nobody is given one of these by the system.
const first, last = 12_000, 31_999

var given struct {
	sync.Mutex
	port int
}

// Addr returns an address of host, "" for all, with a port on which nobody listens. No two calls of a process return the same port before
// all were tried, and two processes begin at different ones. So what listened there before, and its connections in TIME_WAIT, are not in the way.
func Addr(host string) (string, error) {
	given.Lock()
	defer given.Unlock()
	if given.port == 0 {
		given.port = first + os.Getpid()*61%(last-first)
	}
	for range last - first + 1 {
		if given.port++; given.port > last {
			given.port = first
		}
		addr := net.JoinHostPort(host, strconv.Itoa(given.port))
		if l, err := net.Listen("tcp", addr); err == nil {
			return addr, l.Close()
		}
	}
	return "", fmt.Errorf("freeport: no port from %d to %d is free at %q", first, last, host)
}

// Refusing returns an address of the loopback at which connections are refused until free is called. A socket has it that does not listen, so that no
// other program is given the port meanwhile: one that a listener had, and closed, is the next one's who asks, as a listener or for a connection.
func Refusing() (addr string, free func() error, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return "", nil, os.NewSyscallError("socket", err)
	}
	unix.CloseOnExec(fd)
	host := [4]byte{127, 0, 0, 1}
	err = unix.Bind(fd, &unix.SockaddrInet4{Addr: host})
	var at unix.Sockaddr
	if err == nil {
		at, err = unix.Getsockname(fd)
	}
	if err != nil {
		_ = unix.Close(fd)
		return "", nil, os.NewSyscallError("bind", err)
	}
	port := at.(*unix.SockaddrInet4).Port
	return netip.AddrPortFrom(netip.AddrFrom4(host), uint16(port)).String(), func() error { return unix.Close(fd) }, nil
}
