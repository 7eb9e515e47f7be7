package checksum

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/servercore-go/servercore/session"
)

// Pending reports whether Own has something to append, now or when no message is under way.
func (l *Layer) Pending() bool {
	return !l.said && (l.greet || l.answering || l.probing || l.finishing)
}

// Own appends what is due, in the order hello, answer, probe, close. Shape Framing appends nothing inside a message (between is false): no
// record of its own may stand there. Shape Sealing does not ask.
func (l *Layer) Own(dst []byte, between bool) []byte {
	if l.said || !between && l.shape == Framing {
		return dst
	}
	if l.greet && (!l.server || l.established) {
		l.greet = false
		dst = l.appendOwn(dst, kindHello, append([]byte(greeting), l.shape.String()...))
	}
	if l.answering {
		l.answering = false
		l.counts.AnswersOut++
		dst = l.appendOwn(dst, kindAnswer, l.answer)
	}
	if l.probing {
		l.asked = append(l.asked, asked{crc32.Checksum(l.probe, castagnoli), l.timed})
		l.probing, l.timed = false, false
		l.counts.ProbesOut++
		dst = l.appendOwn(dst, kindProbe, l.probe)
	}
	if l.finishing {
		l.said = true
		dst = l.appendOwn(dst, kindClose, l.close)
	}
	return dst
}

// appendOwn appends a record with the next number.
func (l *Layer) appendOwn(dst []byte, k kind, payload []byte) []byte {
	if l.server {
		k |= fromServer
	}
	dst = appendRecord(dst, k, l.numberOut, payload)
	l.numberOut++
	return dst
}

// Probe makes Own bring a probe with a copy of payload, at most 1 KiB. Probes with the same payload are answered in their order. It fails
// before the handshake is done, after Finish, and while another probe waits for Own.
func (l *Layer) Probe(payload []byte) error {
	switch {
	case len(payload) > MaxPayload:
		return fmt.Errorf("checksum: a probe of %d bytes, at most %d", len(payload), MaxPayload)
	case !l.established:
		return errors.New("checksum: a probe before the handshake is done")
	case l.finishing || l.dropped:
		return errors.New("checksum: a probe after the last word")
	case l.probing:
		return errors.New("checksum: another probe has not left yet")
	}
	l.probe, l.probing = append(l.probe[:0], payload...), true
	return nil
}

// NextAt returns when Expire has something to do, 0 for never. Without a clock the layer learns the time from Expire, so the first one is
// due at once: at 1 ns.
func (l *Layer) NextAt() time.Duration {
	switch {
	case l.every <= 0 || !l.established || l.finishing || l.result != nil:
		return 0
	case !l.began:
		return 1
	case l.waiting:
		return l.probedAt + l.within
	}
	return l.probedAt + l.every
}

// Expire makes Own bring a probe if one is due, and returns an error that matches session.ErrIdle, and so os.ErrDeadlineExceeded, if the
// answer to the last one is. Before NextAt it does nothing.
func (l *Layer) Expire(now time.Duration) error {
	at := l.NextAt()
	switch {
	case at == 0 || now < at:
		return nil
	case l.waiting:
		return fmt.Errorf("checksum: no answer to the probe of %v ago: %w", now-l.probedAt, session.ErrIdle)
	case !l.began:
		l.began, l.probedAt = true, now
		return nil
	}
	l.probedAt, l.waiting, l.timed = now, true, true
	if !l.probing { // else that one will do
		l.probe, l.probing = binary.BigEndian.AppendUint64(l.probe[:0], uint64(now)), true
	}
	return nil
}
