package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/internal/reactor"
	"github.com/servercore-go/servercore/layer/websocket"
	"github.com/servercore-go/servercore/session"
)

// Upgrade takes the connection of a request to a server of package net/http over and makes it a WebSocket session of f. It is called in the
// handler, which returns then; what it has written to w before is lost. Options are as for Listen: WebSocket (without it, that of the zero
// WebSocketOptions), Framed, Offload, RecvRate. WebSocketOptions.HTTP is not used.
//
// Upgrade returns nil when the connection is handed to a loop: it does not wait for OnConnected. With an error the request has been
// answered, unless the connection has failed: 400 to 426 for what is no upgrade, 403 or the status of a StatusError for Check, 503 with
// MaxSessions open (ErrFull) or while the engine does not run (ErrClosed, or before Start), 500 for what the server cannot do. Refusals
// count in Stats.Refused. An error that matches session.ErrHandshake says that the client is to blame.
//
// The server must speak HTTP/1.1 over TCP or a unix socket. A connection of its TLS cannot be taken over: crypto/tls keeps the keys. Have
// the engine listen with TLS and WebSocket instead, and serve the other requests by WebSocketOptions.HTTP.
//
// Session.Request is a copy of the request. The server's own limits and timeouts end; those of Options begin. The server's Shutdown does
// not know the session any more. Any goroutine.
func (e *Engine) Upgrade(w http.ResponseWriter, r *http.Request, f session.Factory, opts ...Option) error {
	status, err := e.upgrade(w, r, f, opts)
	if err == nil {
		return nil
	}
	var refused *websocket.HandshakeError
	text := http.StatusText(status)
	if errors.As(err, &refused) {
		text = refused.Text
		for name, values := range refused.Header {
			w.Header()[name] = values
		}
	}
	if status != 0 {
		http.Error(w, text, status)
	}
	return fmt.Errorf("engine: upgrade of %s: %w", r.RemoteAddr, err)
}

// upgrade is Upgrade without the answer: status is that of the refusal, 0 if the connection cannot be answered by w any more.
func (e *Engine) upgrade(w http.ResponseWriter, r *http.Request, f session.Factory, opts []Option) (status int, err error) {
	o, err := newUpgradeOrigin(f, opts)
	if err != nil {
		return http.StatusInternalServerError, err
	}
	if r.TLS != nil {
		return http.StatusInternalServerError, errTakeTLS
	}
	if err := e.beginDial("Upgrade"); err != nil {
		if errors.Is(err, ErrClosed) {
			e.countRefused(o, refusedClosing, nil, err)
		}
		return http.StatusServiceUnavailable, err
	}
	defer e.dials.Done()
	copied := r.Clone(context.WithoutCancel(r.Context())) // r is the server's when the handler returns
	copied.Body = http.NoBody
	l, err := o.websocket.server.Upgrade(copied)
	var refused *websocket.HandshakeError
	if errors.As(err, &refused) {
		e.countRefused(o, refusedHandshake, nil, err)
		return refused.Status, err
	}
	if !e.takePlace() {
		e.countRefused(o, refusedFull, nil, ErrFull)
		l.Drop()
		return http.StatusServiceUnavailable, ErrFull
	}
	p := pendingConn{origin: o, upgrade: l}
	if status, err := e.takeOver(w, &p); err != nil {
		e.freePlace()
		l.Drop()
		return status, err
	}
	e.leastLoaded(math.MaxInt32).enqueue(p)
	return 0, nil
}

// errTakeTLS says what to do instead.
var errTakeTLS = errors.New("a TLS connection of package net/http cannot be taken over; " +
	"Listen with TLS, WebSocket and WebSocketOptions.HTTP instead")

// newUpgradeOrigin returns what one session of Upgrade has.
func newUpgradeOrigin(f session.Factory, opts []Option) (*origin, error) {
	if f == nil {
		return nil, errors.New("the session factory is nil")
	}
	o, err := newOrigin("tcp", f, opts)
	switch {
	case err != nil:
		return nil, err
	case o.from != nil || o.entry != nil || o.policy != nil:
		return nil, errors.New("From, Admit, Guard, ProxyProtocol and Reconnect are not options of Upgrade")
	case o.tls != nil || o.layer != nil:
		return nil, errors.New("TLS and Layered are not options of Upgrade: the connection is the server's")
	case o.recorder != nil:
		return nil, errors.New("Record is not an option of Upgrade: the server has read the request, without which nobody can tell what follows")
	case o.websocket == nil:
		if err := WebSocket(WebSocketOptions{})(&o); err != nil {
			return nil, err
		}
	}
	return &o, nil
}

// takeOver takes the connection from the server, with what the server has read of it already.
func (e *Engine) takeOver(w http.ResponseWriter, p *pendingConn) (status int, err error) {
	c, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil { // HTTP/2, or a ResponseWriter that hides it
		return http.StatusInternalServerError, fmt.Errorf("the server does not give the connection away: %w", err)
	}
	defer c.Close()
	if n := buffered.Reader.Buffered(); n > 0 {
		p.earlyWire = make([]byte, n)
		if _, err := io.ReadFull(buffered.Reader, p.earlyWire); err != nil {
			return 0, err
		}
	}
	socket, ok := c.(syscall.Conn)
	if !ok {
		_, _ = io.WriteString(c, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		return 0, fmt.Errorf("the server's connection is a %T, which has no descriptor to take over", c)
	}
	if p.local, p.remote = c.LocalAddr(), c.RemoteAddr(); p.local == nil || p.remote == nil {
		return 0, fmt.Errorf("the connection has broken already: %w", net.ErrClosed)
	}
	if p.fd, err = reactor.Duplicate(socket); err != nil {
		return 0, err
	}
	_ = unix.SetNonblock(p.fd, true)
	neverWait(p.fd)
	p.origin.network, p.origin.address = p.local.Network(), p.local.String()
	e.setAccepted(p.fd, p.origin.network, true)
	return 0, nil
}
