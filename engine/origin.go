package engine

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/internal/guard"
	"github.com/servercore-go/servercore/record"
	"github.com/servercore-go/servercore/session"
)

// An Option says how the sessions of one listener, or of one Dial, differ from the engine's others.
type Option func(*origin) error

// origin is what the sessions of one listener, or of one Dial, have in common.
type origin struct {
	network string
	address string // as it was given
	factory session.Factory
	framer  frame.Framer     // of Framed, nil without
	framing *session.Framing // its, nil for plain bytes
	policy  *Policy          // of Reconnect, nil without
	workers *workers         // of Offload, nil without
	rate    *session.Rate    // of RecvRate, nil without
	entry   *entry           // of Admit, Guard and ProxyProtocol, nil without

	tls       *tlsOption       // of TLS, nil without
	websocket *webSocketOption // of WebSocket, nil without

	layer func(Handshake) session.Handshaker // of Layered, nil without

	counts   *listenerCounts // of the listener, nil for a Dial or an Upgrade
	recorder *record.Writer  // of Record, nil without

	from syscall.Conn // of From, nil without
	addr net.Addr     // its
}

// entry is what a listener asks of accepted connections; each may be nil.
type entry struct {
	admit   func(netip.AddrPort) error
	guard   *guard.Guard
	trusted *guard.Prefixes // the proxies

	refusalMessage []byte
}

// enter returns what the listener asks, for an option to add to it.
func (o *origin) enter() *entry {
	if o.entry == nil {
		o.entry = new(entry)
	}
	return o.entry
}

// once sets what may be given once only: of two lists of allowed addresses, none is to be dropped in silence.
func once[T any](option string, field *T, value T, given bool) error {
	if given {
		return fmt.Errorf("%s is given twice", option)
	}
	*field = value
	return nil
}

// layered reports whether there is a layer under the sessions.
func (o *origin) layered() bool { return o.tls != nil || o.websocket != nil || o.layer != nil }

func newOrigin(network string, f session.Factory, opts []Option) (origin, error) {
	o := origin{network: network, factory: f}
	for _, option := range opts {
		if err := option(&o); err != nil {
			return o, err
		}
	}
	return o, nil
}

// Framed has the stream cut into packets: one Send is one packet, and OnRecv is called once for each, whole. Both sides
// need the same framer. What it refuses on receipt (a packet over its maximum, refused on the header; a length that cannot
// be) ends the session with a reset, and Err matches frame.ErrTooLarge or frame.ErrMalformed. A packet that was read whole
// is not copied; the beginning of one that was not is held in one pooled buffer that grows with what arrives, up to the
// framer's maximum. Each packet that waits to be sent takes a byte or two besides, if it is not as large as the one before it. Where that is
// more than an eighth of the bytes queued, as with packets of a byte or two, it counts for SendLimit like these.
//
// For an answer to always find room, keep the framer's maximum below SendLimit - PauseAbove (768 KiB by default).
func Framed(f frame.Framer) Option {
	framing := session.NewFraming(f)
	return func(o *origin) error {
		if f == nil {
			return errors.New("Framed: the framer is nil")
		}
		if _, _, err := f.Split(nil); err != nil {
			return fmt.Errorf("Framed: %w", err)
		}
		o.framer, o.framing = f, framing
		return nil
	}
}
