package tls

import (
	"net"
	"time"
)

// wire is a Layer as the net.Conn under crypto/tls. During the handshake it waits for input, on the handshake's goroutine; after it, it
// gives what Open was given and then says that a read would block, and takes what Seal or crypto/tls itself writes.
type wire Layer

func (w *wire) Read(p []byte) (int, error) {
	l := (*Layer)(w)
	if l.handshake != nil {
		return l.handshake.read(p)
	}
	src := l.in
	if l.left != nil {
		src = l.left.B[l.leftAt:]
	}
	if len(src) == 0 {
		return 0, errWouldBlock
	}
	n, whole := l.fed.take(p, src, len(src))
	l.whole += whole
	if l.left == nil {
		l.in = src[n:]
	} else if l.leftAt += n; n == len(src) {
		release(&l.left)
	}
	return n, nil
}

func (w *wire) Write(p []byte) (int, error) {
	l := (*Layer)(w)
	switch {
	case l.handshake != nil:
		return l.handshake.write(p)
	case l.sealing:
		l.out = append(l.out, p...)
	case !l.finished:
		l.own = appendBytes(l.own, p)
		l.answers++
	}
	return len(p), nil
}

// Close is called if the context of the handshake ends. Drop has done what there is to do.
func (w *wire) Close() error         { return nil }
func (w *wire) LocalAddr() net.Addr  { return w.local }
func (w *wire) RemoteAddr() net.Addr { return w.remote }

// Deadlines are the session's. crypto/tls sets one for close_notify.
func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
