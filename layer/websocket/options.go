package websocket

import (
	"fmt"
	"math"
	"net/http"
	"path"
	"slices"
	"time"

	"github.com/servercore-go/servercore/session"
)

// Defaults of Options.
const (
	DefaultMaxMessage   = 1 << 20 // bytes
	DefaultPingInterval = 30 * time.Second
	DefaultPongTimeout  = 10 * time.Second
)

// maxSubprotocols bounds Options.Subprotocols: a layer keeps the chosen one as a byte.
const maxSubprotocols = 255

// Options are the settings of a server or a client. The zero value has the defaults named.
type Options struct {
	Path         string                    // of the URL; "" = any. A server answers 404 for another one; a client uses its URL's
	Origins      []string                  // patterns of path.Match for origins besides the same host: host:port or scheme://host:port
	Subprotocols []string                  // in order of preference, at most 255
	Compression  bool                      // permessage-deflate without context takeover (RFC 7692)
	MaxMessage   int                       // bytes of a message received, inflated; 0 = 1 MiB. A longer one ends the session with 1009
	PingInterval time.Duration             // 0 = 30 s; negative = off
	PongTimeout  time.Duration             // 0 = 10 s; negative = off. Without a pong the session ends with session.ErrIdle
	Text         bool                      // Framing makes text messages; default binary
	Check        func(*http.Request) error // a server's last check: an error refuses, with 403 or its StatusCode() int; runs in Open
	PassHTTP     bool                      // Open returns ErrNotUpgrade for what is not an upgrade to Path, in place of a refusal
}

// config is what all layers of a server share. A client's layer has one of its own, because its frames must not be shared.
type config struct {
	Options
	client   bool
	framings *framings
}

// framings are what makes messages, by kind (text is 1) and by window bits.
type framings [2][noBits + 1]*session.Framing

// serverFramings are those of all servers: a server's frames have no masks, so a Broadcast makes one for all that share the kind and the window.
var serverFramings = newFramings(false, true)

func newFramings(client, compression bool) *framings {
	f := new(framings)
	for bits := uint8(minBits); bits <= noBits; bits++ {
		if compression || bits == noBits {
			text := framer{text: true, bits: bits, client: client}
			f[0][bits] = session.NewMessageFraming(framer{bits: bits, client: client}, text)
			f[1][bits] = session.NewMessageFraming(text, text)
		}
	}
	return f
}

// Window sizes, in bits, that a peer may ask our compressor for: RFC 7692, section 7.1.2. noBits stands for no compression.
const (
	minBits, maxBits = 8, 15
	noBits           = maxBits + 1
)

// newConfig checks o and fills its defaults in.
func newConfig(o Options, client bool) (*config, error) {
	switch {
	case o.MaxMessage < 0:
		return nil, fmt.Errorf("websocket: Options.MaxMessage is %d, want a number of bytes, or 0 for %d", o.MaxMessage, DefaultMaxMessage)
	case len(o.Subprotocols) > maxSubprotocols:
		return nil, fmt.Errorf("websocket: Options.Subprotocols has %d entries, want at most %d", len(o.Subprotocols), maxSubprotocols)
	}
	for i, s := range o.Subprotocols {
		if !isToken(s) {
			return nil, fmt.Errorf("websocket: Options.Subprotocols[%d] is %q, want a token of RFC 9110", i, s)
		}
	}
	for i, s := range o.Origins {
		if _, err := path.Match(s, ""); err != nil {
			return nil, fmt.Errorf("websocket: Options.Origins[%d] is %q: %w", i, s, err)
		}
	}
	if o.MaxMessage == 0 {
		o.MaxMessage = DefaultMaxMessage
	}
	if o.PingInterval == 0 {
		o.PingInterval = DefaultPingInterval
	}
	if o.PongTimeout == 0 {
		o.PongTimeout = DefaultPongTimeout
	}
	o.MaxMessage = min(o.MaxMessage, math.MaxInt-1) // inflate looks for a byte more
	o.Origins, o.Subprotocols = slices.Clone(o.Origins), slices.Clone(o.Subprotocols)
	c := &config{Options: o, client: client, framings: serverFramings}
	if client {
		c.framings = newFramings(true, o.Compression)
	}
	return c, nil
}

// maxCompressed returns the most bytes that the compressed form of a message of MaxMessage bytes may have: deflate at its worst, with fixed
// codes of nine bits, adds an eighth.
func (c *config) maxCompressed() int {
	return int(min(uint64(c.MaxMessage)+uint64(c.MaxMessage)/8+64, math.MaxInt-1))
}

// A Server makes the layers of accepted connections. It is immutable and safe from any goroutine.
type Server struct{ config *config }

// NewServer returns a Server, or an error that names the wrong field.
func NewServer(o Options) (*Server, error) {
	c, err := newConfig(o, false)
	if err != nil {
		return nil, err
	}
	return &Server{c}, nil
}

// Layer returns the layer of one accepted connection. It waits for the upgrade. prepare is given the request before Options.Check sees it, inside Open,
// to set its RemoteAddr and TLS; nil for none. Without Check, Layer.Request has one for that.
func (s *Server) Layer(prepare func(*http.Request)) *Layer {
	return &Layer{config: s.config, bits: noBits, handshake: &handshake{prepare: prepare}}
}

// Upgrade returns the layer of a connection whose request a server of package net/http has read. It is established; Own brings the answer.
// With an error, which is a *HandshakeError, the caller answers with its Status and Text.
func (s *Server) Upgrade(r *http.Request) (*Layer, error) {
	l := s.Layer(nil)
	if refused := l.accept(r); refused != nil {
		return nil, refused.err()
	}
	return l, nil
}
