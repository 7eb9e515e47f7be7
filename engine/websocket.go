package engine

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/servercore-go/servercore/layer"
	"github.com/servercore-go/servercore/layer/websocket"
	"github.com/servercore-go/servercore/session"
)

// WebSocketOptions are the settings of WebSocket. The zero value has the defaults named. A Dial uses Path, Subprotocols, Compression,
// MaxMessage, PingInterval, PongTimeout and Text.
type WebSocketOptions struct {
	// Path is the path of the URL. "" is any path for a listener, and "/" for a Dial, which may have a query behind its path.
	Path string

	// Origins are the origins that may connect besides the listener's own host: patterns of path.Match for host:port or scheme://host:port.
	// The default port of a scheme may be left out. An IPv6 address, in brackets, is matched as it is, without wildcards.
	// A browser sends the origin of its page; from elsewhere it is answered 403. A client that sends no origin is no browser and may
	// connect.
	Origins []string

	// Subprotocols are in order of preference, at most 255. A listener chooses the first that the client offers, if there is one.
	Subprotocols []string

	// Compression allows permessage-deflate, without context takeover: messages of 512 bytes and more are compressed.
	Compression bool

	// MaxMessage bounds a message received, in bytes, inflated. A longer one ends the session with 1009 before it is held. Default: 1 MiB.
	MaxMessage int

	// PingInterval is the time from one ping to the next, PongTimeout how long the pong may take. Without it the session ends with
	// session.ErrIdle; a session that is not being read, or whose peer still takes what was sent before, is given more time. Defaults: 30
	// s, 10 s. Off if negative.
	PingInterval, PongTimeout time.Duration

	// Text has Send and Broadcast make text messages, which must be UTF-8. Default: binary.
	Text bool

	// Check is asked last. An error refuses the upgrade: with 403, or the status of a *StatusError. It runs on the event loops, on several
	// at once, and must not wait. The request has RemoteAddr and TLS; Session.Request returns it.
	Check func(*http.Request) error

	// HTTP serves every request that is not an upgrade to Path, on the same port, with TLS or without. Nil: they are answered 404 for
	// another path, and 426. See WebSocket.
	HTTP http.Handler
}

// StatusError is an error of WebSocketOptions.Check that names the HTTP status of the refusal, 400 to 599, and its text.
type StatusError = websocket.StatusError

// HandshakeError is how an upgrade has failed: Dial's error has it for errors.As, with the status of the server's answer.
type HandshakeError = websocket.HandshakeError

// WebSocket has the sessions of a listener, or of a Dial, speak WebSocket (RFC 6455). With TLS, in any order of the options, it is wss. One
// Send is one message and arrives as one OnRecv; SendText and session.TextReceiver are for text. Everything that is promised of a session
// holds above it: sizes and counts are those of payloads, and SendLimit bounds what travels. A Broadcast makes its frame once for all
// members with the same settings, and compresses it once.
//
// With Framed, packets travel in the messages as in a stream: one Send is one packet in one binary message, and a peer may cut its packets
// as it likes.
//
// The factory is called when the upgrade is done; what was asked for is Session.Request. An upgrade that is refused is answered, counted in
// Stats.Refused.Handshake, and logged. TLS and the upgrade together have Options.HandshakeTimeout.
//
// Disconnect delivers what was sent, then the close frame with code 1000, or that of a session.CloseError given to DisconnectWith, then
// FIN. The peer's close frame is its FIN: Err matches a *session.CloseError with its code. A FIN without one is session.ErrTruncated.
//
// An idle session has some 0.5 KB of memory besides, and the header of its request, of which Session.Request makes 1.5 KB or more when it is
// called. With Check that is so from the beginning.
//
// With WebSocketOptions.HTTP other requests are served by a server of package net/http, each connection on a goroutine of its own, with
// keep-alive. Request.TLS is set, and a handler may hijack. Such a connection counts for MaxSessions and Stats.Sessions until it ends, and
// is no session otherwise: no factory, no callback, not in Sessions, not in the other statistics. The limits and timeouts of Options hold
// for it, so IdleTimeout also for a client that sends nothing while it gets a long response; the header of each request has
// HandshakeTimeout, and the wait for the next request IdleTimeout, or a minute if that is off. An upgrade must be the first request of its
// connection, with a header of 16 KiB at most: a later one, of a proxy that keeps connections, is answered 421, and the connection closed, so
// that it is sent again on another.
// Shutdown waits for requests that are being served. The TLS config must not offer "h2" in NextProtos.
func WebSocket(o WebSocketOptions) Option {
	server, err := websocket.NewServer(o.layer())
	return func(or *origin) error {
		switch {
		case err != nil:
			return fmt.Errorf("WebSocket: %w", err)
		case o.Path != "" && o.Path[0] != '/':
			return fmt.Errorf("WebSocket: Path is %q, want one that begins with a slash", o.Path)
		}
		return once("WebSocket", &or.websocket, &webSocketOption{options: o, server: server}, or.websocket != nil)
	}
}

// layer returns what the layer needs of o.
func (o WebSocketOptions) layer() websocket.Options {
	return websocket.Options{Path: o.Path, Origins: o.Origins, Subprotocols: o.Subprotocols, Compression: o.Compression, MaxMessage: o.MaxMessage,
		PingInterval: o.PingInterval, PongTimeout: o.PongTimeout, Text: o.Text, Check: o.Check, PassHTTP: o.HTTP != nil}
}

// webSocketOption is what WebSocket was given.
type webSocketOption struct {
	options WebSocketOptions
	server  *websocket.Server
	url     string // what a Dial asks for

	http *httpServer // of a listener with HTTP, nil without

	framings sync.Map // of a listener with Framed: what carries its packets, by the Framing of the layer
}

// servesHTTP reports whether requests that are no upgrade are served.
func (o *origin) servesHTTP() bool { return o.websocket != nil && o.websocket.http != nil }

// checkLayers refuses what cannot work of the options for layers, for a listener or a dial to that address.
func (o *origin) checkLayers(dialed bool, network, address string) error {
	if o.layer != nil && (o.tls != nil || o.websocket != nil) {
		return errors.New("Layered does not go with TLS or WebSocket: put them together with layer.Stack")
	}
	if err := o.tls.check(dialed, address); err != nil {
		return err
	}
	w := o.websocket
	switch {
	case w == nil:
		return nil
	case o.tls != nil && o.tls.config != nil && slices.Contains(o.tls.config.NextProtos, "h2"):
		return errors.New("WebSocket: the TLS config offers h2 in NextProtos; WebSocket needs HTTP/1.1")
	case dialed:
		return w.prepareDial(network, address, o.tls != nil)
	}
	return nil
}

// prepareDial notes what a Dial asks for, and tries it.
func (w *webSocketOption) prepareDial(network, address string, secure bool) error {
	scheme, usual, host := "ws", 80, "localhost"
	if secure {
		scheme, usual = "wss", 443
	}
	if network != "unix" {
		name, service, err := net.SplitHostPort(address)
		if err != nil {
			return err
		}
		port, err := net.LookupPort(network, service)
		if err != nil {
			return err
		}
		name, _, _ = strings.Cut(name, "%") // the zone is this machine's
		host = cmp.Or(name, host)
		if port != usual {
			host = net.JoinHostPort(host, strconv.Itoa(port))
		} else if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
	}
	w.url = scheme + "://" + host + cmp.Or(w.options.Path, "/")
	if _, err := url.Parse(w.url); err != nil {
		return fmt.Errorf("WebSocket: %w", err)
	}
	if _, err := websocket.NewClient(w.options.layer(), w.url, nil); err != nil {
		return fmt.Errorf("WebSocket: %w", err)
	}
	return nil
}

// newLayer makes the layer of a connection: TLS, WebSocket on top of it, or that of Layered. It is nil if there is none to be had.
// r records what passes above TLS, nil for nothing.
func (e *Engine) newLayer(o *origin, h Handshake, r *recording) session.Handshaker {
	switch {
	case o.layer != nil:
		return o.layer(h)
	case o.websocket == nil:
		return r.above(o.tls.layer(e, h))
	case o.tls == nil:
		if top := o.websocket.layer(h, nil); top != nil {
			return top
		}
		return nil
	}
	below := o.tls.layer(e, h)
	top := o.websocket.layer(h, below)
	if top == nil {
		return nil
	}
	return layer.Stack(r.above(below), top)
}

// layer makes the layer of one connection, above TLS if below is not nil. It is nil if a client's cannot be made.
func (w *webSocketOption) layer(h Handshake, below tlsLayer) *websocket.Layer {
	if h.Dialed {
		l, err := websocket.NewClient(w.options.layer(), w.url, nil)
		if err != nil { // prepareDial has tried it
			return nil
		}
		return l
	}
	if w.options.Check == nil {
		return w.server.Layer(nil) // Session.Request does what is missing
	}
	return w.server.Layer(func(r *http.Request) {
		if h.Remote != nil {
			r.RemoteAddr = h.Remote.String()
		}
		if below != nil {
			state := below.ConnectionState()
			r.TLS = &state
		}
	})
}

// framingFor returns the framing of a session: that of the listener, or that of its layer, or both.
func (o *origin) framingFor(l session.Layer, shared bool) *session.Framing {
	if l == nil {
		return o.framing
	}
	messages := session.FramingOf(l)
	switch {
	case messages == nil:
		return o.framing
	case o.framing == nil:
		return messages
	case o.websocket == nil || !shared: // the layer's framing may be the connection's own
		return messages.Carry(o.framer)
	}
	both, ok := o.websocket.framings.Load(messages)
	if !ok {
		both, _ = o.websocket.framings.LoadOrStore(messages, messages.Carry(o.framer))
	}
	return both.(*session.Framing)
}
