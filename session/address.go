package session

import "net"

// peerForm is how a session remembers the address of its peer.
type peerForm uint8

const (
	peerOther peerForm = iota // ends.remote has it
	peerIPv4                  // peerIP has four bytes, and peerPort the port
	peerIPv6                  // peerIP has sixteen
)

// ends has the addresses of a connection. A net.Addr of TCP takes 64 bytes, so that of the peer is made when it is asked for, and most sessions of a
// listener share their ends. They are not changed.
type ends struct {
	local  net.Addr
	remote net.Addr // nil if the session has it in another form, or if there is none
}

// setAddresses is the part of Bind that keeps the addresses.
func (s *Session) setAddresses(local, remote net.Addr) {
	own := ends{local, remote}
	if t, ok := remote.(*net.TCPAddr); ok && t != nil && t.Zone == "" && t.Port == int(uint16(t.Port)) {
		switch len(t.IP) {
		case net.IPv4len:
			s.peerForm, own.remote = peerIPv4, nil
		case net.IPv6len:
			s.peerForm, own.remote = peerIPv6, nil
		}
		copy(s.peerIP[:], t.IP)
		s.peerPort = uint16(t.Port)
	}
	s.ends.Store(s.loop.shareEnds(own))
}

// shareEnds returns ends like own, those of the session before if they are. Any goroutine.
func (c *Common) shareEnds(own ends) *ends {
	if last := c.lastEnds.Load(); last != nil && isSame(last.local, own.local) && isSame(last.remote, own.remote) {
		return last
	}
	kept := own // not own itself, which would be allocated each time
	c.lastEnds.Store(&kept)
	return &kept
}

// isSame reports whether a and b are the same address in memory. It compares pointers only: a type of the application's may be one that cannot be
// compared.
func isSame(a, b net.Addr) bool {
	switch a.(type) {
	case nil, *net.TCPAddr, *net.UnixAddr:
		return a == b
	}
	return false
}

// Addresses are those of both ends of a connection, in a form that takes no memory but its own.
type Addresses struct {
	ends *ends
	ip   [16]byte
	port uint16
	form peerForm
}

// Local returns what Session.LocalAddr does.
func (a *Addresses) Local() net.Addr { return a.ends.local }

// Remote returns an address equal to what Session.RemoteAddr returns. It allocates 64 bytes, unless RemoteAddr has before.
func (a *Addresses) Remote() net.Addr {
	if a.ends.remote != nil || a.form == peerOther {
		return a.ends.remote
	}
	t := &struct { // in one allocation
		net.TCPAddr
		ip [net.IPv6len]byte
	}{ip: a.ip}
	t.Port, t.IP = int(a.port), t.ip[:]
	if a.form == peerIPv4 {
		t.IP = t.ip[:net.IPv4len:net.IPv4len]
	}
	return &t.TCPAddr
}

// addresses returns them. The session is bound.
func (s *Session) addresses() Addresses {
	return Addresses{s.ends.Load(), s.peerIP, s.peerPort, s.peerForm}
}

// peerAddr returns the peer's address, which nobody else has unless RemoteAddr was called. The session is bound.
func (s *Session) peerAddr() net.Addr {
	a := s.addresses()
	return a.Remote()
}

// RemoteAddr returns the peer's address as it was when the connection was made. It stays valid after the end. Do not modify it. It is nil until
// the session is bound. The first call allocates some 100 bytes, which the session keeps: later calls return the same net.Addr. Any goroutine.
func (s *Session) RemoteAddr() net.Addr {
	if !s.wakeup.isBound() {
		return nil
	}
	for {
		e := s.ends.Load()
		if e.remote != nil || s.peerForm == peerOther {
			return e.remote
		}
		s.ends.CompareAndSwap(e, &ends{e.local, s.peerAddr()})
	}
}

// LocalAddr returns the address of our end: the one that the peer has connected to, not the one listened on. Of a dialled session it is the
// one that the system has chosen. It stays valid after the end. Do not modify it. It is nil until the session is bound. Any goroutine.
func (s *Session) LocalAddr() net.Addr {
	if !s.wakeup.isBound() {
		return nil
	}
	return s.ends.Load().local
}

// Addresses returns the addresses of both ends, and has the session keep nothing. Any goroutine, after Bind.
func (d *Driver) Addresses() Addresses { return (*Session)(d).addresses() }
