package checksum

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"

	"github.com/servercore-go/servercore/session"
)

// Open checks the records in in and returns the application's bytes. Up to the peer's hello it uses no more than the hello.
//
// Sealing: it fills dst from as many records as fit. What dst has no room for stays in the layer, and more is true until it was returned.
// A dst without room is legal: the payload of one record then waits in the layer.
//
// Framing: it returns one message, in dst if it fits and in the layer's memory if not. data is nil if there is none; that of an empty message
// is not nil.
//
// The peer's last word is io.EOF, or an error that matches it and is a *session.CloseError for errors.As, if the peer gave a reason. What comes
// before a bad record is returned first; the record stays in in, and the next Open returns the error. An error is final. One before the
// handshake is done matches session.ErrHandshake, and Own then brings a close that tells the peer.
func (l *Layer) Open(dst, in []byte) (data []byte, used int, more bool, err error) {
	if l.result != nil {
		if l.peerDone && !l.dropped && len(in) > 0 {
			l.result = fmt.Errorf("checksum: %d bytes after close", len(in))
		}
		return nil, 0, false, l.result
	}
	out := dst[:0:len(dst)]
	for {
		n := min(len(l.rest), cap(out)-len(out))
		out, l.rest = append(out, l.rest[:n]...), l.rest[n:]
		if len(l.rest) > 0 || len(out) > 0 && len(out) == cap(out) {
			return orNil(out), used, len(l.rest) > 0, nil
		}
		r, n, err := l.take(in[used:])
		if err == nil && r.whole {
			err = l.check(&r)
		}
		switch {
		case err != nil && len(out) > 0:
			return out, used, false, nil // the next call comes to the same error
		case err != nil:
			return nil, used, false, l.fail(err)
		}
		used += n
		if !r.whole {
			return orNil(out), used, false, nil
		}
		data, done := l.accept(&r, out)
		if done || l.result != nil {
			return data, used, false, l.result
		}
	}
}

// orNil returns nil for a slice without bytes: there is no data.
func orNil(out []byte) []byte {
	if len(out) == 0 {
		return nil
	}
	return out
}

// take returns the next record: from in, or from what is held and the beginning of in. While that is incomplete, it holds it.
// n is how many bytes of in it used. It has no effect if it returns a record or an error while nothing was held.
func (l *Layer) take(in []byte) (r record, n int, err error) {
	most := MaxPayload
	if l.shape == Framing && l.established {
		most = MaxMessage
	}
	if len(l.held) == 0 {
		size, err := sizeOf(in, most)
		if err == nil && size > 0 && size <= len(in) {
			return parse(in[:size]), size, nil
		}
		if err != nil {
			return record{}, 0, err
		}
		return record{}, l.hold(in, len(in)), nil
	}
	n = l.hold(in, headerSize)
	size, err := sizeOf(l.held, most)
	if size == 0 || err != nil {
		return record{}, n, err
	}
	n += l.hold(in[n:], size)
	if len(l.held) < size {
		return record{}, n, nil
	}
	r = parse(l.held)
	l.held = l.held[:0] // its memory is the record's until the next call
	return r, n, nil
}

// hold moves bytes of in to held, until that has size of them or in has no more. It returns how many.
func (l *Layer) hold(in []byte, size int) int {
	n := min(max(size-len(l.held), 0), len(in))
	l.held = append(l.held, in[:n]...)
	return n
}

// check returns what is wrong with a record. It changes nothing.
func (l *Layer) check(r *record) error {
	numbered := l.shape == Sealing || r.kind != kindData
	switch {
	case r.sum != r.has:
		return fmt.Errorf("the record (%v) after record %d says CRC %08x, its bytes have %08x", r.kind, int64(l.numberIn)-1, r.sum, r.has)
	case r.server == l.server:
		return fmt.Errorf("record %d (%v) comes back to the side that made it", r.number, r.kind)
	case r.kind < kindHello || r.kind > kindClose:
		return fmt.Errorf("record %d is of no known kind: %v", r.number, r.kind)
	case !l.established && r.kind != kindHello && r.kind != kindClose:
		return fmt.Errorf("record %d (%v) came before hello", r.number, r.kind)
	case !numbered && r.number != 0:
		return fmt.Errorf("a message with the number %d", r.number)
	case numbered && r.number < l.numberIn:
		return fmt.Errorf("record %d (%v) came twice", r.number, r.kind)
	case numbered && r.number > l.numberIn:
		return fmt.Errorf("record %d is missing: record %d (%v) came", l.numberIn, r.number, r.kind)
	}
	switch r.kind {
	case kindHello:
		return l.checkHello(r)
	case kindData:
		if len(r.payload) == 0 && l.shape == Sealing {
			return fmt.Errorf("record %d (data) is empty", r.number)
		}
	case kindAnswer:
		if l.findAsked(r.payload) < 0 {
			return fmt.Errorf("record %d (answer) is for no probe that waits for one", r.number)
		}
	case kindClose:
		if len(r.payload) == 1 {
			return fmt.Errorf("record %d (close) has half a code", r.number)
		}
	}
	return nil
}

// greeting is the beginning of a hello's payload. The shape follows.
const greeting = "checksum/1 "

func (l *Layer) checkHello(r *record) error {
	if l.established {
		return fmt.Errorf("record %d is a second hello", r.number)
	}
	shape, ok := strings.CutPrefix(string(r.payload), greeting)
	switch {
	case !ok:
		return fmt.Errorf("hello %q does not begin with %q", r.payload, greeting)
	case shape != l.shape.String():
		return fmt.Errorf("the peer's shape is %s, ours is %v", shape, l.shape)
	}
	return nil
}

// findAsked returns the index in asked of the first probe that payload answers, or -1.
func (l *Layer) findAsked(payload []byte) int {
	sum := crc32.Checksum(payload, castagnoli)
	for i, a := range l.asked {
		if a.sum == sum {
			return i
		}
	}
	return -1
}

// accept does what a record that was checked is for. done: Open returns data. A last word sets result.
func (l *Layer) accept(r *record, out []byte) (data []byte, done bool) {
	if l.shape == Sealing || r.kind != kindData {
		l.numberIn++
	}
	switch r.kind {
	case kindHello:
		l.established, l.greet = true, l.greet || l.server
		return nil, true
	case kindData:
		if !l.discard {
			return l.deliver(r.payload, out)
		}
	case kindProbe:
		l.counts.ProbesIn++
		l.answer, l.answering = append(l.answer[:0], r.payload...), true
	case kindAnswer:
		n := l.findAsked(r.payload) + 1
		for _, a := range l.asked[:n] {
			l.waiting = l.waiting && !a.timed
		}
		l.asked = append(l.asked[:0], l.asked[n:]...)
		l.counts.Answered += n
	case kindClose:
		l.peerDone = true
		l.result = l.lastWord(r.payload)
	}
	return orNil(out), false
}

// deliver returns a message, or moves a payload to rest, from where Open takes it.
func (l *Layer) deliver(payload, out []byte) (data []byte, done bool) {
	switch {
	case l.shape == Framing && len(payload) == 0:
		return []byte{}, true
	case l.shape == Framing && len(payload) <= cap(out):
		return append(out, payload...), true
	}
	// Of what is held already, this moves the bytes to the front.
	l.held = append(l.held[:0], payload...)
	payload, l.held = l.held, l.held[:0]
	if l.shape == Framing {
		return payload, true
	}
	l.rest = payload
	return nil, false
}

// lastWord returns what Open returns for the peer's last word.
func (l *Layer) lastWord(payload []byte) error {
	var reason *session.CloseError
	if len(payload) > 0 {
		reason = &session.CloseError{Code: int(binary.BigEndian.Uint16(payload)), Reason: string(payload[2:])}
	}
	switch {
	case !l.established && reason != nil:
		return fmt.Errorf("%w: the peer refused: %w", session.ErrHandshake, reason)
	case !l.established:
		return fmt.Errorf("%w: the peer closed before its hello", session.ErrHandshake)
	case reason != nil:
		return fmt.Errorf("checksum: the peer's last word: %w (%w)", reason, io.EOF)
	}
	return io.EOF
}

// fail makes err what Open returns from now on.
func (l *Layer) fail(err error) error {
	l.result = errors.New("checksum: " + err.Error())
	if !l.established {
		l.result = fmt.Errorf("%w: %w", session.ErrHandshake, l.result)
		l.Finish(l.result)
	}
	return l.result
}
