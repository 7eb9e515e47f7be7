package session

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/servercore-go/servercore/internal/sendqueue"
)

// Session is one connection, for any goroutine. Embed it by value in a struct of your own, and return that from a [Factory]. The
// zero value is ready for that. Do not copy it afterwards.
//
// Every method may be called at any time. The engine binds a session to its connection some time between the factory's return and
// OnConnected. Before that, and after the end, the methods do nothing, and Send and Post return an error that matches ErrClosed.
// One exception: a session that was told PauseRecv before it is bound begins paused.
type Session struct {
	// Fixed by Bind, before any callback.
	id       uint64
	handler  Handler
	conn     Transport
	loop     *Loop
	opened   time.Duration
	peerIP   [16]byte // of a peer of peerForm
	peerPort uint16
	peerForm peerForm

	tellsWritable bool // the handler has OnWritable

	// Any goroutine. What Bind fixes may be read once wakeup says that the session is bound.
	wakeup wakeup               // which goroutine wakes the loop (I4)
	ends   atomic.Pointer[ends] // addresses, see RemoteAddr
	rare   atomic.Pointer[rare] // what few sessions need, nil for most
	paused atomic.Bool          // PauseRecv without ResumeRecv

	// The loop's own. Nobody else reads or writes these, but for what the comments say. One more is at the end.
	phase       phase // read under mu too, see advance
	callback    Callback
	inCallback  bool   // a callback is running
	connected   bool   // OnConnected has begun, so OnDisconnected is owed
	done        bool   // Transport.Done was called
	congested   bool   // reading is stopped because of PauseAbove
	reading     bool   // what the transport was last told
	peerFIN     bool   // the peer will send no more, and all it sent was delivered
	halfOpen    bool   // and the handler goes on sending; read under mu too
	severed     bool   // the connection takes nothing more; what was received is still delivered
	finSent     bool   // our FIN is out
	lingering   bool   // the peer has acknowledged all of it; only its FIN is waited for
	receivedAny bool   // a first byte was received
	retryWrite  bool   // blocked for want of kernel memory: no event will come
	left        bool   // the session ends because its peer has closed, see reason; any goroutine, under mu
	arrived     uint32 // bytes received and not yet in totals
	delivered   uint32 // messages delivered and not yet in totals

	mu       sync.Mutex // guards the group below; not held while the handler runs (I3)
	open     bool       // Send accepts
	ending   bool       // the end was decided: no OnRecv any more
	aborted  bool       // the end is by reset
	blocked  bool       // the kernel is full; Writable is awaited
	q        sendqueue.Queue
	messages uint32         // Sends accepted since the last write
	active   activeTime     // when bytes came or were taken last, 0 if none were
	totals   [totals]uint32 // what the session has carried, for Tally: the lower halves, see addTotal

	lastActive time.Duration // the loop's own: what silence is measured from, the last byte received, or sent when half-open
}

func (s *Session) session() *Session { return s }

// OnConnected does nothing; override it.
func (*Session) OnConnected(net.Addr) {}

// OnRecv does nothing; override it.
func (*Session) OnRecv([]byte) {}

// OnSend does nothing; override it.
func (*Session) OnSend(int) {}

// OnDisconnected does nothing; override it.
func (*Session) OnDisconnected(net.Addr) {}

// ID returns the number of the session. It is unique within the process, never reused, and not the descriptor. It is 0 until the session
// is bound.
func (s *Session) ID() uint64 {
	if !s.wakeup.isBound() {
		return 0
	}
	return s.id
}

// TLS returns what the handshake has negotiated, nil for a session without TLS. It is the same from OnConnected on, and each call makes a
// copy. Any goroutine.
func (s *Session) TLS() *tls.ConnectionState {
	s.mu.Lock()
	l := s.layered()
	s.mu.Unlock()
	if l == nil {
		return nil
	}
	t, ok := l.layer.(interface{ ConnectionState() tls.ConnectionState })
	if !ok {
		return nil
	}
	state := t.ConnectionState()
	if !state.HandshakeComplete { // two layers, and neither is TLS
		return nil
	}
	return &state
}

// Request returns the request that has asked for WebSocket, with its URL, header and cookies, RemoteAddr and TLS. Its body is empty. It is
// read-only, and the same from OnConnected on. It is nil for a session that was dialled, or is no WebSocket. Any goroutine.
func (s *Session) Request() *http.Request {
	s.mu.Lock()
	l := s.layered()
	s.mu.Unlock()
	if l == nil {
		return nil
	}
	r, ok := l.layer.(interface {
		Request(prepare func(*http.Request)) *http.Request
	})
	if !ok {
		return nil
	}
	return r.Request(s.prepareRequest)
}

// prepareRequest sets what the bytes of a request do not tell.
func (s *Session) prepareRequest(r *http.Request) {
	if remote := s.peerAddr(); remote != nil {
		r.RemoteAddr = remote.String()
	}
	r.TLS = s.TLS()
}

// Err returns nil until the session begins to end, and then the first reason recorded. See the Err variables for what it can match.
//
// If the session could not be drained as that reason promised, Err also matches what prevented it: ErrDrainTimeout, ErrWriteStall,
// ErrPeerReset or ErrAborted. If a last callback failed, it also matches ErrPanic.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason()
}

// Pending returns how many bytes were accepted by Send and not yet taken by the kernel. With a framer it is the payload of the packets that
// are not out whole. With a layer, the application's bytes that were sealed count until their record is out whole.
func (s *Session) Pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending()
}

// pending is Pending for a caller that holds mu.
func (s *Session) pending() int {
	n, r := s.q.Size(), s.rare.Load()
	if r == nil {
		return n
	}
	if r.framed != nil {
		n = r.framed.packets.Payload()
	}
	if r.layered != nil {
		n += r.layered.wire.Payload()
	}
	return n
}
