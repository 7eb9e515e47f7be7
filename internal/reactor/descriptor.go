package reactor

import "golang.org/x/sys/unix"

// Socket is the descriptor of a connected socket that another event loop reads (package ongnet). Its methods ask the system what those of
// Conn ask. They are for the goroutine that may close the descriptor.
type Socket int

// WriteMemory is the memory of gathered writes: one is enough for a goroutine.
type WriteMemory struct{ gather gather }

// Write is Conn.Write. Nothing reports when the kernel takes bytes again: that is for the caller to see to.
func (s Socket) Write(m *WriteMemory, bufs [][]byte) (int, error) {
	for {
		switch n, err := m.gather.write(int(s), bufs); err {
		case nil:
			return n, nil
		case unix.EINTR:
		case unix.EAGAIN:
			if starved(int(s)) {
				return 0, ErrNoMemory
			}
			return 0, ErrWouldBlock
		case unix.ENOBUFS, unix.ENOMEM:
			return 0, ErrNoMemory
		default:
			return 0, err
		}
	}
}

// CloseWrite is Conn.CloseWrite.
func (s Socket) CloseWrite() error { return closeWrite(int(s)) }

// Unread is Conn.Unread.
func (s Socket) Unread() bool { return (&Conn[struct{}]{fd: int32(s)}).Unread() }

// Received is Conn.Received.
func (s Socket) Received() int { return received(int(s)) }

// Unsent is Conn.Unsent.
func (s Socket) Unsent() int { return unsent(int(s)) }

// LimitNotSent has the kernel ask for no more bytes while it holds n that it has not sent (TCP_NOTSENT_LOWAT). The error is that of
// setsockopt(2): of a socket that is not TCP's, or a system that has no such option.
func (s Socket) LimitNotSent(n int) error {
	if NotSentLowWater == 0 {
		return unix.ENOPROTOOPT
	}
	return unix.SetsockoptInt(int(s), unix.IPPROTO_TCP, NotSentLowWater, n)
}

// Error takes the error that the socket has pending, nil if it has none.
func (s Socket) Error() error { return socketError(int(s)) }

// ResetOnClose has close(2) discard what the kernel still holds, and tell the peer so.
func (s Socket) ResetOnClose() {
	_ = unix.SetsockoptLinger(int(s), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

// Close closes the descriptor.
func (s Socket) Close() { _ = unix.Close(int(s)) }
