// Package freeport finds ports for programs that have to be told where to listen, or where nobody does, in tests and measurements.
package freeport

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// The ports that are tried. Those of clients and of listeners on port 0 are higher (net.ipv4.ip_local_port_range is 32,768 to 60,999 by default), so
// nobody is given one of these by the system.
const first, last = 12_000, 31_999

// blockSize is how many of them a process has for itself. In a test that connects to a server after its end, and wants to be refused, no other
// process has begun a server there meanwhile. The first port of a block is not given away: a socket that does not listen has it as long as the process
// lives, and so says that the block is taken.
const blockSize = 500

var given struct {
	sync.Mutex
	block, next int // the process's block, 0 before the first call; and the port to be tried next
}

// Addr returns an address of host, "" for all, with a port on which nobody listens. No two calls of a process return the same port before all of its
// block were tried, so what listened there before is not in the way. The first call opens a descriptor, which stays.
func Addr(host string) (string, error) {
	given.Lock()
	defer given.Unlock()
	if given.block == 0 {
		given.block, _ = reserve(first, (last-first+1)/blockSize)
		given.next = given.block
	}
	for range blockSize {
		if given.next++; given.next == given.block+blockSize {
			given.next = given.block + 1
		}
		addr := net.JoinHostPort(host, strconv.Itoa(given.next))
		if l, err := net.Listen("tcp", addr); err == nil {
			return addr, l.Close()
		}
	}
	return "", fmt.Errorf("freeport: no port from %d to %d is free at %q", given.block+1, given.block+blockSize-1, host)
}

// reserve returns the first port of a block that no other process has, one of so many from a port on, and the descriptor that keeps it. If all are
// taken the process shares one, and the descriptor is -1.
func reserve(from, blocks int) (block, fd int) {
	for i := range blocks {
		block = from + (os.Getpid()+i)%blocks*blockSize
		if fd, err := bind(block); err == nil {
			return block, fd
		}
	}
	return block, -1
}

// bind returns a socket that has the port of the loopback, 0 for any, and does not listen.
func bind(port int) (fd int, err error) {
	syscall.ForkLock.RLock() // a child begun in between would keep the port
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		_ = unix.Close(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	return fd, nil
}

// Refusing returns an address of the loopback at which connections are refused until free is called. A socket has it that does not listen, so that no
// other program is given the port meanwhile: one that a listener had, and closed, is the next one's who asks, as a listener or for a connection.
func Refusing() (addr string, free func() error, err error) {
	fd, err := bind(0)
	if err != nil {
		return "", nil, err
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		_ = unix.Close(fd)
		return "", nil, os.NewSyscallError("getsockname", err)
	}
	host := at.(*unix.SockaddrInet4)
	return netip.AddrPortFrom(netip.AddrFrom4(host.Addr), uint16(host.Port)).String(), func() error { return unix.Close(fd) }, nil
}
