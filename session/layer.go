package session

import (
	"time"

	"github.com/servercore-go/servercore/internal/sendqueue"
	"github.com/servercore-go/servercore/pool"
)

// A Layer stands between the wire and a session, as TLS and WebSocket do. It turns wire bytes into the application's, and has bytes of its
// own: answers, pings, a last word. It makes no call into the kernel: the session hands it what was received, and writes what it makes.
//
// Everything that is promised of a session holds above its layer: Pending, OnSend, SendLimit and IdleTimeout count the application's bytes, and
// the end is in order only when the layer's last word is out.
//
// The session calls a layer on its loop, one method at a time, with no lock held (I3). The loop may change its goroutine between two calls. A
// layer must not call the session. A panic in one of its methods ends the session as one in a callback does. Pending and NextAt only look, and
// must not panic. Once there is a session, they are asked after calls of the other methods only, because nothing else changes the answer.
type Layer interface {
	// Open takes wire bytes. It returns bytes for the application, at most one message if the layer has messages, and how much of in it has
	// used. data is in dst, from its beginning and up to its length, or in memory of the layer that stays as it is until the next Open. nil
	// is no data; empty and not nil is an empty message. dst has no room in the handshake, and at least one byte afterwards. Open neither
	// writes to in nor keeps it.
	//
	// more: it can return data again without more input. With no data and more false it needs more input, and has used all of in. In a
	// handshake it may have used less: it calls wake when it takes the rest.
	//
	// An error that matches io.EOF is the peer's last word, and one that matches ErrTruncated its end without one. Any other error ends the
	// session as DisconnectWith does. data may come with each.
	Open(dst, in []byte) (data []byte, used int, more bool, err error)

	// Discard tells that the application gets nothing any more. Open goes on, for what the layer has to answer, and need not return data.
	Discard()

	// Pending reports whether the layer has bytes of its own to send. It is asked often and must be cheap.
	Pending() bool

	// Own appends bytes of the layer's own to dst: all of them if between is true, and otherwise those that may stand inside a message
	// of the application's that is under way. What is appended is out of the layer's hands.
	Own(dst []byte, between bool) []byte

	// Finish tells that the layer's last word is due. Own brings it, and nothing after it. reason is why the session ends, nil for
	// CloseWrite: then Open goes on.
	Finish(reason error)

	// Ended tells that the peer has sent FIN. It returns nil if the peer's last word came before, or else an error that matches
	// ErrTruncated. In the handshake, nil says that the layer needs nothing more of the peer and will wake the loop.
	Ended() error

	// NextAt is the layer's next deadline, on the clock of Transport.Now; 0 is none.
	NextAt() time.Duration

	// Expire acts on the deadlines that have passed at now. It is also called once at the beginning, so that the layer knows the time. An
	// error ends the session as DisconnectWith does.
	Expire(now time.Duration) error

	// Drop gives back what the layer holds. It is called once, last.
	Drop()
}

// A Postponer is a Layer whose deadlines wait for the peer. Postpone is called in place of Expire when the peer cannot be blamed: it is not being
// read (S7), or its bytes wait to be read, or it still takes what was sent before (T4). What blames nobody, such as a ping, is done as by
// Expire: no deadline may stay in the past.
type Postponer interface{ Postpone(now time.Duration) }

// A Sealer is a Layer that changes what the application sends, as late as possible: when it is written.
type Sealer interface {
	Layer

	// Seal appends wire bytes for all of plain, which has 16 KiB at most. What it has sealed will be written, in the order of the calls
	// of Own and Seal, or nothing will be written any more. What it returns with an error is not written.
	Seal(dst, plain []byte) ([]byte, error)
}

// A Handshaker is a Layer from its beginning, before there is a session. The engine calls it on the connection's loop, as the session does
// later. Until the handshake is done, Open returns no data and uses what belongs to the handshake.
type Handshaker interface {
	Layer

	// Start is called first. The layer may keep wake and call it from any goroutine, when there is news without input: it has bytes of its own,
	// or the handshake is done, or has failed. Open and the others are called then. After the handshake wake does nothing.
	Start(wake func())

	// Established reports whether the handshake is done. The session begins when Own has brought everything as well.
	Established() bool
}

// A session's bytes stand in one of these places on their way out, in this order. Each moves one step at a time.
//
//	queue   plain, as Send has accepted them (framed, if there is a framer)
//	wire    sealed, or the layer's own. Nothing is sealed while it holds a byte: what was sealed is never sealed again (I13)
//	kernel
//
// On their way in:
//
//	kernel
//	input   received and not opened, while reading is being stopped
//	inside  opened and kept by the layer
//	stash   plain, as without a layer

// layered is what a session with a layer has besides.
type layered struct {
	layer Layer // fixed before OnConnected

	// Under mu.
	wire       sendqueue.Wire
	peerReason error // why the session ends that the peer ends

	// The loop's own.
	input    *pool.Buffer // wire bytes that were not opened, nil if there are none
	opened   int32        // bytes of input that were
	seals    bool         // the layer is a Sealer; fixed before OnConnected
	inside   bool         // Open may return data without input
	discards bool         // Discard was called
	peerDone bool         // the peer's last word was opened
	wireFIN  bool         // the peer has sent FIN
	finished bool         // Finish was called (I14)
	allAcked bool         // and the peer had acknowledged everything before
	dropped  bool         // Drop was called

	// A Broadcast to a thousand sessions touches no layer that has nothing to do with it: Pending and NextAt are asked when a call may have
	// changed their answers.
	own   bool // what Pending has answered, while asked
	asked bool // no other method was called since
	armed bool // nor since NextAt was armed for, nor Expire
}

// UseLayer puts a layer under the session whose handshake is done and whose own bytes are out. more is what its last Open has returned: the
// handshake may have brought more than itself. UseLayer is called after Bind and before Connected.
func (d *Driver) UseLayer(layer Layer, more bool) {
	l := &layered{layer: layer, inside: more}
	_, l.seals = layer.(Sealer)
	s := (*Session)(d)
	r := s.ensureRare()
	s.mu.Lock() // others may send already
	r.layered = l
	s.mu.Unlock()
}

// Preload gives the session what was received before it was one: wire bytes, for its layer, and plain bytes that a layer has opened, which
// come before. It copies them. It is called after Bind, and UseLayer, and before Connected.
func (d *Driver) Preload(plain, wire []byte) {
	s := (*Session)(d)
	if len(plain) > 0 {
		s.receivedAny = true
		s.stash(plain)
	}
	if len(wire) > 0 {
		s.receivedAny = true
		s.layered().keep(wire)
	}
}

// FramingOf returns the Framing that a layer brings for what Send makes, nil for none: that of its method Framing. It is asked when the
// handshake is done.
func FramingOf(layer Layer) *Framing {
	if f, ok := layer.(interface{ Framing() *Framing }); ok {
		return f.Framing()
	}
	return nil
}

// pending reports whether the layer has bytes of its own to send. No lock is held (I3).
func (l *layered) pending() bool {
	if !l.asked {
		l.own, l.asked = l.layer.Pending(), true
	}
	return l.own
}

// called notes that a method is called that may change the answers of Pending and NextAt.
func (l *layered) called() { l.asked, l.armed = false, false }

// layered returns what UseLayer has set, nil without a layer. Any goroutine.
func (s *Session) layered() *layered {
	if r := s.rare.Load(); r != nil {
		return r.layered
	}
	return nil
}

// held returns the memory of the wire, in bytes. The caller holds mu. l may be nil.
func (l *layered) held() int {
	if l == nil {
		return 0
	}
	return l.wire.Held()
}

const (
	sealUnit = 16 << 10 // plain bytes of one Seal, at most: what a record of TLS holds
	sealMost = 64 << 10 // plain bytes that are sealed for one write
)

// layerScratch is the part of the scratch memory that sessions with a layer need.
type layerScratch struct {
	plain []byte            // what Open returns
	join  []byte            // pieces that are sealed as one
	wire  sendqueue.Scratch // what Own and Seal return
	units []unit            // of wire
}

// unit is a piece of the wire, and the application's bytes that are out when its last byte is.
type unit struct{ wire, plain int }

// forLayers returns that part, and makes it if there is none: 152 KiB.
func (m *Scratch) forLayers() *layerScratch {
	if m.layers == nil {
		m.layers = &layerScratch{
			plain: make([]byte, 64<<10),
			join:  make([]byte, 0, sealUnit),
			wire:  sendqueue.MakeWireScratch(sealMost),
		}
	}
	return m.layers
}
