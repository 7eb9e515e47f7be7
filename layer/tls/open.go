package tls

import (
	"errors"
	"io"
	"net"
)

// mostAnswers is how many records crypto/tls may write on its own while nobody takes them. A peer can ask for one with each record it sends
// (KeyUpdate, RFC 8446 section 4.6.3), and crypto/tls merges no answers. Peers that mean well ask once in some millions of records.
const mostAnswers = 64

// scratchSize is the size of the memory for bytes that are opened and thrown away, if the caller gives none.
const scratchSize = 512

// Open opens records, until dst is full or a record is not whole. What comes out begins where dst does; nil is nothing. During the
// handshake nothing comes out, and Open may use less than all of in: wake comes when there is room for the rest. The call that finds the
// handshake done uses nothing.
//
// After close_notify Open returns io.EOF. Any other error is final: one of crypto/tls, whose alert waits in Own, or one that says that the peer
// sends key updates and does not read the answers.
func (l *Layer) Open(dst, in []byte) (data []byte, used int, more bool, err error) {
	if l.handshake != nil {
		return l.openHandshake(in)
	}
	if l.err != nil {
		return nil, len(in), false, l.err
	}
	if l.discard && len(dst) == 0 {
		dst = make([]byte, scratchSize)
	}
	l.in = in
	for at := 0; at < len(dst) && (len(l.in) > 0 || l.whole > 0 || l.left != nil); {
		var n int
		if n, err = l.read(dst[at:]); n > 0 && !l.discard {
			at += n
			data = dst[:at]
		}
		if err != nil {
			break
		}
	}
	used, more = len(in)-len(l.in), len(l.in) > 0 || l.whole > 0 || l.left != nil
	l.in = nil
	if err != nil {
		used, more = len(in), false
		l.whole = 0
		if err == errWouldBlock {
			return data, used, false, nil
		}
		l.err = err
		release(&l.left)
		if err != io.EOF && len(data) > 0 {
			return data, used, true, nil // the error comes with the next call
		}
	}
	return data, used, more, err
}

// read reads from crypto/tls once.
func (l *Layer) read(p []byte) (int, error) {
	answers := l.answers
	n, err := l.conn.Read(p)
	if n > 0 && n < len(p) && l.whole > 0 {
		l.whole-- // a call returns bytes of one record, and this was its end
	}
	if err == nil || err == errWouldBlock {
		if l.answers > mostAnswers {
			return n, errFlood
		}
		return n, err
	}
	var op *net.OpError
	if err != io.EOF && (l.answers > answers || errors.As(err, &op) && op.Op == "remote error") {
		l.alerted = true
	}
	return n, err
}

// openHandshake hands input to the handshake, and ends it when it is done.
func (l *Layer) openHandshake(in []byte) (data []byte, used int, more bool, err error) {
	if l.err != nil {
		return nil, len(in), false, l.err
	}
	hs := l.handshake
	used, done := hs.receive(in)
	if !done {
		return nil, used, false, nil
	}
	if hs.err != nil {
		l.err = hs.err
		return nil, len(in), false, l.err
	}
	hs.mute()
	l.handshake = nil
	l.left, l.leftAt, l.own = hs.in, hs.at, hs.own
	l.whole = 1                                                     // unknown: crypto/tls is asked
	more = len(in) > 0 || l.left != nil && l.leftAt < len(l.left.B) // crypto/tls has used all that it was given
	return nil, 0, more, nil
}
