package layer

import (
	"cmp"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/servercore-go/servercore/session"
)

// Below is what a stack needs of its layer next to the wire: TLS has it.
type Below interface {
	session.Handshaker
	session.Sealer
}

// Stacked is two layers as one. Stack makes it. See session.Layer for what its methods promise; here is what is particular.
type Stacked struct {
	below Below
	above session.Handshaker

	memory    *memory // for plain, nil if plain is empty or the layer below has the memory
	plain     []byte  // opened by below, and not by above
	belowMore bool    // below may return data without input
	aboveMore bool    // likewise
	belowErr  error   // the last word of below; above comes first to what was opened before it
	failure   error   // what Open returns from now on

	reason    error
	finishing bool // the last words are due
	said      bool // below has been told
}

var (
	_ session.Handshaker = (*Stacked)(nil)
	_ session.Sealer     = (*Stacked)(nil)
	_ session.Postponer  = (*Stacked)(nil)
)

// Stack returns below, which is next to the wire, and above, whose bytes below seals. Neither has been started, and the stack owns both.
// above must not be a session.Sealer: what the application sends is sealed once, by below. Stack panics if it is.
func Stack(below Below, above session.Handshaker) *Stacked {
	if _, ok := above.(session.Sealer); ok {
		panic("layer: the layer above in a Stack is a session.Sealer")
	}
	return &Stacked{below: below, above: above}
}

// openedMost is the size of the memory between the layers, in bytes: a record of TLS.
const openedMost = 16 << 10

type memory [openedMost]byte

var memories = sync.Pool{New: func() any { return new(memory) }}

// Start starts both.
func (s *Stacked) Start(wake func()) {
	s.below.Start(wake)
	s.above.Start(wake)
}

// Established reports whether both handshakes are done.
func (s *Stacked) Established() bool { return s.below.Established() && s.above.Established() }

// Open opens twice. What the layer above has not used of what the one below has opened is kept, 16 KiB at most, and more is true then. The
// call that finds the handshakes done returns no data. An error of the layer above is final. One of the layer below comes when the layer
// above has had everything before it. If the layer below has had its last word and the layer above has not, Open returns the error of Ended
// of the layer above: the application's stream was cut.
func (s *Stacked) Open(dst, in []byte) (data []byte, used int, more bool, err error) {
	if s.failure != nil {
		return nil, len(in), false, s.failure
	}
	for ask := !s.Established(); ; ask = false { // a handshake may have news without input
		data, done, err := s.openAbove(dst, ask)
		if done {
			return data, used, err == nil && s.Established() && s.inside(), err // a handshake that takes nothing wakes the loop
		}
		n, progress, err := s.openBelow(in[used:], ask)
		used += n
		if err != nil || !progress {
			return nil, used, err == nil && s.inside(), err
		}
	}
}

// inside reports whether Open may return data without input.
func (s *Stacked) inside() bool {
	return len(s.plain) > 0 || s.aboveMore || s.belowMore || s.belowErr != nil
}

// openAbove has the layer above open what there is. done: Open returns.
func (s *Stacked) openAbove(dst []byte, ask bool) (data []byte, done bool, err error) {
	if !s.below.Established() {
		return nil, false, nil
	}
	for ask || len(s.plain) > 0 || s.aboveMore {
		established := s.above.Established()
		var n int
		data, n, s.aboveMore, err = s.above.Open(dst, s.plain)
		s.use(n)
		switch {
		case err != nil:
			return data, true, s.fail(err)
		case data != nil || s.above.Established() != established:
			return data, true, nil
		case n == 0 && !s.aboveMore: // a handshake that takes nothing now, or was asked without input
			return nil, len(s.plain) > 0, nil
		}
		ask = false
	}
	return nil, false, nil
}

// use notes that the layer above has used n bytes.
func (s *Stacked) use(n int) {
	s.plain = s.plain[n:]
	if len(s.plain) == 0 && s.memory != nil {
		memories.Put(s.memory)
		s.memory = nil
	}
}

// openBelow has the layer below open the next part of in. Nothing is left of the part before it.
func (s *Stacked) openBelow(in []byte, ask bool) (used int, progress bool, err error) {
	switch {
	case s.belowErr != nil && errors.Is(s.belowErr, io.EOF):
		if err = s.above.Ended(); err == nil {
			err = s.belowErr
		}
		return 0, false, s.fail(err)
	case s.belowErr != nil:
		return 0, false, s.fail(s.belowErr)
	case len(in) == 0 && !s.belowMore && !ask:
		return 0, false, nil
	}
	established := s.below.Established()
	var dst []byte
	if established {
		s.memory = memories.Get().(*memory)
		dst = s.memory[:]
	}
	s.plain, used, s.belowMore, s.belowErr = s.below.Open(dst, in)
	progress = used > 0 || len(s.plain) > 0 || s.belowMore || s.belowErr != nil || established != s.below.Established()
	if s.memory != nil && (len(s.plain) == 0 || &s.plain[0] != &s.memory[0]) {
		memories.Put(s.memory)
		s.memory = nil
	}
	return used, progress, nil
}

// fail ends receiving. In the handshake nobody calls Finish: then the last word of the layer below follows what the one above has to say.
func (s *Stacked) fail(err error) error {
	if s.failure = err; s.below.Established() && !s.above.Established() {
		s.finishing, s.reason = true, err
	}
	return err
}

// Discard has the layer above return nothing any more. The one below goes on: the other needs its input.
func (s *Stacked) Discard() { s.above.Discard() }

// Pending reports whether either has bytes of its own to send. Those of the layer above wait for the handshake of the one below.
func (s *Stacked) Pending() bool {
	return s.below.Pending() || !s.said && s.below.Established() && (s.finishing || s.above.Pending())
}

// sealMost is the most that a session.Sealer seals at once, in bytes.
const sealMost = 16 << 10

var ownMemory = sync.Pool{New: func() any { return new([]byte) }}

// Own appends the bytes of the layer below, then those of the layer above, sealed. When the last word of the layer above is among them,
// that of the layer below follows.
func (s *Stacked) Own(dst []byte, between bool) []byte {
	dst = s.below.Own(dst, between)
	if s.said || !s.below.Established() {
		return dst
	}
	if s.above.Pending() {
		dst = s.sealOwn(dst, between)
	}
	if s.finishing && !s.above.Pending() {
		s.said = true
		s.below.Finish(s.reason)
		dst = s.below.Own(dst, between)
	}
	return dst
}

// sealOwn appends the bytes of the layer above. If they cannot be sealed, nothing can that follows, and Open tells.
func (s *Stacked) sealOwn(dst []byte, between bool) []byte {
	m := ownMemory.Get().(*[]byte)
	defer ownMemory.Put(m)
	*m = s.above.Own((*m)[:0], between)
	for piece := range slices.Chunk(*m, sealMost) {
		sealed, err := s.below.Seal(dst, piece)
		if err != nil {
			if s.failure == nil {
				s.failure = err
			}
			break
		}
		dst = sealed
	}
	return dst
}

// Seal is that of the layer below.
func (s *Stacked) Seal(dst, plain []byte) ([]byte, error) { return s.below.Seal(dst, plain) }

// Finish makes both last words due. Own brings them in their order: first that of the layer above.
func (s *Stacked) Finish(reason error) {
	if s.finishing {
		return
	}
	s.finishing, s.reason = true, reason
	s.above.Finish(reason)
}

// Ended is that of the layer below during its handshake, then that of the layer above: if its last word came, nothing of the application's
// is missing, whether that of the layer below came or not.
func (s *Stacked) Ended() error {
	if !s.below.Established() {
		return s.below.Ended()
	}
	return s.above.Ended()
}

// NextAt is the earlier deadline of the two.
func (s *Stacked) NextAt() time.Duration {
	a, b := s.above.NextAt(), s.below.NextAt()
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// Expire tells both the time. The first error is returned.
func (s *Stacked) Expire(now time.Duration) error {
	return cmp.Or(s.below.Expire(now), s.above.Expire(now))
}

// Postpone postpones the deadlines of a layer that is a session.Postponer, and acts on those of the other. An error of that is returned by
// the next Open.
func (s *Stacked) Postpone(now time.Duration) {
	for _, l := range []session.Layer{s.below, s.above} {
		if p, ok := l.(session.Postponer); ok {
			p.Postpone(now)
		} else if err := l.Expire(now); err != nil && s.failure == nil {
			s.failure = err
		}
	}
}

// Drop drops both.
func (s *Stacked) Drop() {
	s.above.Drop()
	s.below.Drop()
	s.use(len(s.plain))
}

// Split gives the two layers back, for a connection that turns out not to be for the one above: rest is what the layer below has opened and
// the other has not used, in memory of the caller's, and more what the last Open of the layer below has returned. The stack must not be
// used any more.
func (s *Stacked) Split() (below Below, above session.Handshaker, rest []byte, more bool) {
	rest = slices.Clone(s.plain)
	s.use(len(s.plain))
	return s.below, s.above, rest, s.belowMore || s.belowErr != nil
}

// ConnectionState is that of the layer below, if it is TLS; zero, with HandshakeComplete false, if not. Any goroutine, once the handshake
// is done.
func (s *Stacked) ConnectionState() (state tls.ConnectionState) {
	if t, ok := s.below.(interface{ ConnectionState() tls.ConnectionState }); ok {
		state = t.ConnectionState()
	}
	return state
}

// Text reports whether the message that Open has returned last is text, as the layer above says.
func (s *Stacked) Text() bool {
	t, ok := s.above.(interface{ Text() bool })
	return ok && t.Text()
}

// Request returns the request of the upgrade, nil if the layer above has none. See websocket.Layer.Request for prepare.
func (s *Stacked) Request(prepare func(*http.Request)) *http.Request {
	if r, ok := s.above.(interface {
		Request(func(*http.Request)) *http.Request
	}); ok {
		return r.Request(prepare)
	}
	return nil
}

// Framing returns what makes the messages of Send for the layer above, nil if it has none. It is fixed once the handshake is done.
func (s *Stacked) Framing() *session.Framing {
	if f, ok := s.above.(interface{ Framing() *session.Framing }); ok {
		return f.Framing()
	}
	return nil
}
