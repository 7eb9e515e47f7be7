package session_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/servercore-go/servercore/internal/checksum"
	"github.com/servercore-go/servercore/session"
)

// simLayer is the layer under a session of the simulator, and its peer's side.
//
// The session's side is watched: what it makes are units. A unit is out when its last byte is, and its plain bytes count as taken then. The peer's
// side opens what the kernel took, and what comes out is compared with what Send has accepted.
type simLayer struct {
	m      *simSession
	shape  checksum.Shape
	ours   *checksum.Layer
	sealer *checksum.Sealer // the same, nil if it does not seal
	peer   *checksum.Layer
	seals  *checksum.Sealer // the same, nil if it does not seal

	// Out.
	made     []simUnit // by the write in the making
	units    []simUnit // on the wire
	partly   int       // bytes of the first unit that are out
	sealed   int       // plain bytes that are units, or were
	raw      []byte    // taken by the kernel and not opened
	stream   []byte    // what the peer has to get, as far as Send has accepted it
	sizes    []int     // of messages in stream, with shape Framing
	opened   int       // bytes of stream that the peer has
	word     bool      // the last word has come
	dropped  bool
	lastOwn  int  // bytes of the Own that brought the last word
	finished bool // it was asked for

	// In.
	unsent  []byte // sealed by the peer, and not sent yet
	heardAt time.Duration
	closed  bool // the peer has said its last word
	wireFIN bool // and FIN
	midway  bool // FIN came in the middle of a record
	spoilt  bool // the peer has sent garbage
}

// simUnit is what one Own or Seal has made.
type simUnit struct{ wire, plain int }

// simWireMost is more than the bytes that a layer's wire ever has.
const simWireMost = 72 << 10

var simMessages = &simFraming{checksum.Framer{Server: true}, session.NewSendFraming(checksum.Framer{Server: true}), ""}

func (l *simLayer) String() string {
	if l == nil {
		return "none"
	}
	return l.shape.String()
}

// newLayer returns a layer whose handshake is done.
func (s *sim) newLayer(m *simSession) *simLayer {
	l := &simLayer{m: m, shape: checksum.Sealing}
	o := checksum.Options{Server: true}
	if s.IntN(4) == 0 {
		o.ProbeEvery, o.AnswerWithin = 20*time.Second, []time.Duration{50 * time.Second, 1000 * time.Hour}[s.IntN(2)]
	}
	if s.IntN(2) == 0 {
		l.shape, m.framing = checksum.Framing, simMessages
		l.ours, l.peer = checksum.NewLayer(o), checksum.NewLayer(checksum.Options{})
	} else {
		l.sealer, l.seals = checksum.NewSealer(o), checksum.NewSealer(checksum.Options{})
		l.ours, l.peer = &l.sealer.Layer, &l.seals.Layer
	}
	for _, side := range [][2]*checksum.Layer{{l.peer, l.ours}, {l.ours, l.peer}} {
		if _, _, _, err := side[1].Open(nil, side[0].Own(nil, true)); err != nil {
			panic(err)
		}
	}
	return l
}

// simOurs is the session's side as the session sees it.
type simOurs struct {
	*checksum.Layer
	l *simLayer
}

// simSealer is the same for a layer that seals.
type simSealer struct{ simOurs }

func (l *simLayer) ofSession() session.Layer {
	if l.sealer != nil {
		return simSealer{simOurs{l.ours, l}}
	}
	return simOurs{l.ours, l}
}

func (o simOurs) Open(dst, in []byte) (data []byte, used int, more bool, err error) {
	l := o.l
	l.alive("Open")
	if len(dst) == 0 {
		l.failf("Open without room")
	}
	data, used, more, err = o.Layer.Open(dst, in)
	if data != nil {
		l.heardAt = l.m.sim.loop.Now()
	}
	return data, used, more, err
}

func (o simOurs) Own(dst []byte, between bool) []byte {
	l := o.l
	l.alive("Own")
	if len(l.made) > 0 {
		l.failf("Own after something else of the same write")
	}
	if !between && l.shape == checksum.Framing {
		l.failf("Own inside a message")
	}
	before := l.ours.Counts().AnswersOut
	said := o.l.ours.Said()
	b := o.Layer.Own(dst, between)
	if !said && o.l.ours.Said() {
		o.l.lastOwn = len(b) - len(dst)
	}
	l.made = append(l.made, simUnit{len(b) - len(dst), 0})
	l.m.sim.stats.answers += l.ours.Counts().AnswersOut - before
	return b
}

func (o simSealer) Seal(dst, plain []byte) ([]byte, error) {
	l := o.l
	l.alive("Seal")
	if at := l.sealed + l.making(); at+len(plain) > len(l.m.wire) || !bytes.Equal(plain, l.m.wire[at:at+len(plain)]) {
		l.failf("Seal of other bytes than were accepted, %d from byte %d on", len(plain), at)
	}
	b, err := l.sealer.Seal(dst, plain)
	if err != nil {
		l.failf("Seal: %v", err)
	}
	l.made = append(l.made, simUnit{len(b) - len(dst), len(plain)})
	l.m.sim.stats.sealed++
	return b, err
}

func (o simOurs) Discard() {
	o.l.alive("Discard")
	o.Layer.Discard()
}

func (o simOurs) Finish(reason error) { // I14
	l := o.l
	l.alive("Finish")
	if n := l.queued(); n > 0 || l.ours.Pending() {
		l.failf("the last word is due with %d bytes waiting, its own %t", n, l.ours.Pending())
	}
	if l.finished {
		l.failf("the last word is said twice")
	}
	l.finished = true
	l.m.sim.stats.lastWords++
	o.Layer.Finish(reason)
}

func (o simOurs) Ended() error {
	o.l.alive("Ended")
	return o.Layer.Ended()
}

func (o simOurs) Expire(now time.Duration) error {
	o.l.alive("Expire")
	return o.Layer.Expire(now)
}

func (o simOurs) Drop() {
	o.l.alive("Drop")
	o.l.dropped = true
	o.Layer.Drop()
	o.l.peer.Drop()
}

func (l *simLayer) alive(method string) {
	if l.dropped {
		l.failf("%s after Drop", method)
	}
}

func (l *simLayer) failf(format string, args ...any) {
	l.m.sim.failf("%d: %s", l.m.n, fmt.Sprintf(format, args...))
}

// making returns the plain bytes of the write in the making.
func (l *simLayer) making() (plain int) {
	for _, u := range l.made {
		plain += u.plain
	}
	return plain
}

// took notes what Send has accepted: p, and how it stands in the queue.
func (l *simLayer) took(wire, p []byte) {
	if l.shape == checksum.Framing {
		l.stream, l.sizes = append(l.stream, p...), append(l.sizes, len(p))
		return
	}
	l.stream = append(l.stream, wire...)
}

// offered follows when a write offers what was made.
func (l *simLayer) offered(bufs [][]byte) {
	if len(l.made) > 0 && l.onWire() > 0 {
		l.failf("something is sealed while units of %d bytes are on the wire", l.onWire())
	}
	l.sealed += l.making()
	l.units, l.made = append(l.units, l.made...), l.made[:0]
}

// onWire returns the bytes of units that are not out whole.
func (l *simLayer) onWire() (size int) {
	for _, u := range l.units {
		size += u.wire
	}
	return size
}

// queued returns how many bytes wait, as they travel.
func (l *simLayer) queued() (size int) {
	m := l.m
	if m.h.Pending() == 0 && l.gone() {
		return 0
	}
	if size = l.onWire() + m.leaving; l.sealer != nil {
		return size + len(m.wire) - l.sealed
	}
	return size + len(m.wire) - m.taken
}

// gone reports whether the session has dropped what waited, or may have.
func (l *simLayer) gone() bool {
	m := l.m
	lost := m.accepted > m.h.SentSum // and nothing waits
	return m.c.Closed || lost || m.failing || m.aborted || m.broken && !m.c.Untold()
}

// unsent is queued, and one more if the layer has bytes of its own.
func (m *simSession) unsent() int {
	n := m.queued()
	if l := m.layer; l != nil && l.ours.Pending() && !l.gone() {
		n++
	}
	return n
}

// added returns how much a layer may add to what is queued.
func (m *simSession) added() int {
	if m.layer == nil {
		return 0
	}
	return simWireMost/checksum.MaxPayload*checksum.Overhead + 6*checksum.Overhead + 3*(checksum.MaxPayload+checksum.Overhead)
}

// heard returns when the peer was last heard: with a layer, when it last returned data.
func (m *simSession) heard() time.Duration {
	if m.layer != nil {
		return m.layer.heardAt
	}
	return m.c.Heard
}

func (m *simSession) neverHeard() bool {
	if m.layer != nil {
		return m.layer.heardAt == 0
	}
	return m.c.Inputs == 0
}

// take opens what the kernel took, and notes which units are out.
func (l *simLayer) take(p []byte) {
	if l.word {
		l.failf("%d bytes after the last word", len(p))
		return
	}
	left := len(p)
	for left > 0 && len(l.units) > 0 {
		u := &l.units[0]
		n := min(left, u.wire-l.partly)
		l.partly, left = l.partly+n, left-n
		if l.partly == u.wire {
			l.m.taken += u.plain
			l.m.leaving += u.wire
			l.units, l.partly = l.units[1:], 0
		}
	}
	if l.sealer == nil {
		l.m.taken += left
		l.m.leaving += left
	} else if left > 0 {
		l.failf("%d bytes left that were never sealed", left)
	}
	l.raw = append(l.raw, p...)
	var dst [2000]byte
	for more := true; more || len(l.raw) > 0; {
		data, n, again, err := l.peer.Open(dst[:], l.raw)
		l.raw, more = l.raw[n:], again
		if data != nil {
			l.compare(data)
		}
		if errors.Is(err, io.EOF) {
			if l.word = true; len(l.raw) > 0 {
				l.failf("%d bytes behind the last word", len(l.raw))
			}
			return
		}
		if err != nil {
			l.failf("the peer finds: %v", err)
			return
		}
	}
}

// compare compares what the peer has opened with what Send has accepted.
func (l *simLayer) compare(data []byte) {
	if at := l.opened; at+len(data) > len(l.stream) || !bytes.Equal(data, l.stream[at:at+len(data)]) {
		l.failf("the peer got other bytes than were accepted, %d from byte %d of %d on", len(data), at, len(l.stream))
	}
	l.opened += len(data)
	if l.shape == checksum.Framing {
		if len(l.sizes) == 0 || l.sizes[0] != len(data) {
			l.failf("the peer got a message of %d bytes, of %v", len(data), l.sizes)
			return
		}
		l.sizes = l.sizes[1:]
	}
}

// check follows each step.
func (l *simLayer) check() {
	m, c := l.m, l.m.c
	switch {
	case c.FINSent && !l.word && !m.broken:
		l.failf("FIN without the last word")
	case l.opened < len(l.stream) && l.word && !m.broken:
		l.failf("the last word with %d bytes not sent", len(l.stream)-l.opened)
	case l.dropped != c.Closed && !c.Closed, c.Ended && !l.dropped:
		l.failf("dropped %t, closed %t, done %t", l.dropped, c.Closed, c.Ended)
	}
	if !l.dropped && !m.sim.calm && !m.fin && !l.spoilt && l.peer.Pending() { // the peer answers
		l.flush()
		c.PeerWrite(l.peer.Own(nil, true))
	}
}

// answered reports whether every probe that was opened is answered, unless the session has said its last word.
func (l *simLayer) answered() bool {
	m := l.m
	return l.dropped || l.word || m.broken || m.failing || m.aborted || !l.ours.Pending() && l.peer.Counts().Answered == l.ours.Counts().ProbesIn
}

// endsWell checks an end in good order.
func (l *simLayer) endsWell(err error) bool {
	m := l.m
	reason := m.c.Driver.Reason()
	truncated, spoilt := errors.Is(err, session.ErrTruncated), strings.Contains(reason.Error(), "checksum: ") && !errors.Is(reason, session.ErrIdle)
	switch {
	case l.opened != len(l.stream):
		l.failf("the peer has %d of %d bytes after an orderly end, Err %v", l.opened, len(l.stream), err)
	case !l.word && !m.broken:
		l.failf("no last word before an orderly end, Err %v", err)
	case truncated && l.closed:
		l.failf("the peer's last word was not seen, Err %v", err)
	case errors.Is(err, session.ErrPeerClosed) && !l.closed:
		l.failf("the peer's last word was seen, and there was none, Err %v", err)
	case spoilt && !l.spoilt:
		l.failf("no garbage was sent, Err %v", err)
	default:
		if truncated {
			m.sim.stats.truncated++
		}
		if spoilt {
			m.sim.stats.spoilt++
		}
		return true
	}
	return false
}

// peerActs has the peer do something else than send p, and returns true: go on with what it has begun to send, ask for an answer, send garbage. With shape
// Framing it also sends p.
func (l *simLayer) peerActs(p []byte) bool {
	m, s := l.m, l.m.sim
	l.flush()
	switch r := s.IntN(100); {
	case l.dropped:
		return true
	case r < 20:
		s.note("%d: the peer probes", m.n)
		if err := l.peer.Probe(s.some(1 + s.IntN(50))); err != nil {
			l.failf("Probe: %v", err)
		}
		l.send(l.peer.Own(nil, true))
	case r < 22:
		s.note("%d: the peer sends garbage to the layer", m.n)
		m.garbled, l.spoilt = true, true
		m.c.PeerWrite(bytes.Repeat([]byte{0xff}, 20))
	case l.shape == checksum.Framing:
		p = p[:min(len(p), checksum.MaxMessage)]
		s.note("%d: the peer sends a message of %d", m.n, len(p))
		b, err := checksum.Framer{}.Append(nil, p)
		if err != nil {
			panic(err)
		}
		m.sent, m.packets = append(m.sent, p...), append(m.packets, len(p))
		l.send(b)
	default:
		return false
	}
	return true
}

// seal has the peer send plain.
func (l *simLayer) seal(plain []byte) {
	var b []byte
	for len(plain) > 0 {
		n := min(len(plain), 1+l.m.sim.IntN(checksum.MaxSeal))
		var err error
		if b, err = l.seals.Seal(b, plain[:n]); err != nil {
			panic(err)
		}
		plain = plain[n:]
	}
	l.send(b)
}

// send sends b, at times a part of it, which the rest follows later.
func (l *simLayer) send(b []byte) {
	n := len(b)
	if l.m.sim.IntN(3) == 0 {
		n = l.m.sim.IntN(n)
	}
	l.m.c.PeerWrite(b[:n])
	l.unsent = b[n:]
}

// flush sends what is left. l may be nil.
func (l *simLayer) flush() {
	if l != nil && len(l.unsent) > 0 && !l.wireFIN && !l.m.broken && !l.dropped {
		l.m.c.PeerWrite(l.unsent)
		l.unsent = nil
	}
}

// cut reports whether the peer has not sent all that it has sealed. l may be nil.
func (l *simLayer) cut() bool { return l != nil && (l.midway || len(l.unsent) > 0) }

// peerFinishes has the peer send FIN. With a layer it says its last word before, or forgets that, if it may forget; or says the word and no
// more.
func (m *simSession) peerFinishes(mayForget bool) {
	l, s := m.layer, m.sim
	if l == nil {
		m.fin = true
		m.c.PeerFIN()
		return
	}
	if m.broken { // a peer that has reset the connection says nothing more
		return
	}
	forgets := mayForget && !l.closed && s.IntN(3) == 0
	switch {
	case l.wireFIN || l.dropped:
	case l.spoilt:
		l.wireFIN = true
	case forgets:
		l.wireFIN, l.midway = true, len(l.unsent) > 0
		s.note("%d: FIN without a last word, in a record %t", m.n, l.midway)
	case l.closed:
		l.wireFIN = true
	default:
		l.flush()
		l.closed = true
		l.peer.Finish(nil)
		m.c.PeerWrite(l.peer.Own(nil, true))
		l.wireFIN = !mayForget || s.IntN(2) == 0
		s.note("%d: the peer says its last word, FIN %t", m.n, l.wireFIN)
	}
	m.fin = true
	if l.wireFIN {
		m.c.PeerFIN()
	}
}
