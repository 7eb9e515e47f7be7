package session

import (
	"unsafe"

	"github.com/servercore-go/servercore/internal/budget"
	"github.com/servercore-go/servercore/pool"
)

// Memory returns what the queue of s holds, by a look at each segment: memory of its own, and that of buffers whose charge other queues
// share. ok is false if the accounts are wrong.
func (s *Session) Memory() (own int, common map[*pool.Buffer]int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	common = make(map[*pool.Buffer]int)
	held := 0
	s.q.Segments(func(b *pool.Buffer, overhead int, shared bool) {
		memory := b.Memory() + budget.BufferOverhead
		own += overhead
		if shared {
			common[b] = memory
		} else {
			own += memory
		}
		held += memory + overhead
	})
	tokens := 0
	if f := s.framed(); f != nil && f.packets.Tokens() != nil {
		f.packets.Tokens().Segments(func(b *pool.Buffer, overhead int, _ bool) {
			tokens += b.Memory() + budget.BufferOverhead + overhead
		})
	}
	wire := 0
	if l := s.layered(); l != nil {
		l.wire.Segments(func(b *pool.Buffer, overhead int, _ bool) { wire += b.Memory() + budget.BufferOverhead + overhead })
	}
	return own + tokens + wire, common, held == s.q.Held() && tokens == s.framed().held() && wire == s.layered().held()
}

// Stuck reports whether the session is stuck.
func (s *Session) Stuck() bool { w := s.slow(); return w != nil && w.account.Stuck() }

// MaxPosts is how many functions may wait.
const MaxPosts = maxPosts

// Wrap puts a transport before that of h. Nothing may work on the session meanwhile.
func Wrap(h Handler, wrap func(Transport) Transport) {
	s := h.session()
	s.conn = wrap(s.conn)
}

// Sizes returns the sizes in bytes of what sessions have that few need, and of what those with a layer have.
func Sizes() (r, l uintptr) { return unsafe.Sizeof(rare{}), unsafe.Sizeof(layered{}) }

// SetTotals sets what the session of h has carried to n, each of the four.
func SetTotals(h Handler, n uint64) {
	s := h.session()
	for t := range totals {
		s.totals[t] = uint32(n)
		s.ensureSlow().carries[t] = uint32(n >> 32)
	}
}

// Unnoted returns the bytes and messages that have come in and are not in the tally yet. The caller is the loop.
func Unnoted(h Handler) (bytes, messages uint64) {
	s := h.session()
	return uint64(s.arrived), uint64(s.delivered)
}
