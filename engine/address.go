package engine

import (
	"net"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// netAddr returns a connection's address as package net would, nil if it is of no kind we listen on. The
// caller holds acceptMu, or nobody accepts yet.
func (l *Listener) netAddr(sa unix.Sockaddr) net.Addr {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return &net.TCPAddr{IP: slices.Clone(sa.Addr[:]), Port: sa.Port}
	case *unix.SockaddrInet6:
		return &net.TCPAddr{IP: slices.Clone(sa.Addr[:]), Port: sa.Port, Zone: l.zone(sa.ZoneId)}
	case *unix.SockaddrUnix:
		return &net.UnixAddr{Net: "unix", Name: sa.Name}
	}
	return nil
}

// zone returns the name of the interface that a link-local address belongs to. Asking for it is slow, so it is
// remembered; a machine has few interfaces.
func (l *Listener) zone(id uint32) string {
	if id == 0 {
		return ""
	}
	name, known := l.zones[id]
	if !known {
		name = strconv.FormatUint(uint64(id), 10)
		if i, err := net.InterfaceByIndex(int(id)); err == nil {
			name = i.Name
		}
		l.zones[id] = name
	}
	return name
}

// local returns the address a connection came in at. A listener on one address has only that one; of the others
// most connections share the last one's.
func (l *Listener) local(fd int) (net.Addr, error) {
	listened, ok := l.addr.(*net.TCPAddr)
	if !ok || !listened.IP.IsUnspecified() {
		return l.addr, nil
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return nil, os.NewSyscallError("getsockname", err)
	}
	addr, ok := l.netAddr(sa).(*net.TCPAddr)
	if !ok {
		return l.addr, nil // cannot be: a TCP listener has TCP connections
	}
	if s := l.lastAddr; s != nil && s.Zone == addr.Zone && s.Port == addr.Port && s.IP.Equal(addr.IP) {
		return s, nil
	}
	l.lastAddr = addr
	return addr, nil
}
