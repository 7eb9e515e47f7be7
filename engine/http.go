package engine

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/servercore-go/servercore/layer"
	"github.com/servercore-go/servercore/layer/websocket"
	"github.com/servercore-go/servercore/session"
)

// Requests that are no upgrade, with WebSocketOptions.HTTP. The connection becomes a session whose handler is a net.Conn (httpConn), above
// TLS if there is TLS, and a server of package net/http serves it: one for each listener.

// httpServer is what serves the connections of one listener that ask for something else than WebSocket.
type httpServer struct {
	engine   *Engine
	handler  http.Handler
	upgrades *websocket.Server // which is asked what an upgrade is
	server   http.Server
	start    sync.Once

	mu     sync.Mutex
	come   sync.Cond // a connection has come, or the end
	conns  []*httpConn
	closed bool
}

// httpIdle is how long a connection may wait for its next request, if Options.IdleTimeout is off.
const httpIdle = time.Minute

// newHTTPServer makes one, which does nothing before its first connection.
func (e *Engine) newHTTPServer(handler http.Handler, upgrades *websocket.Server) *httpServer {
	s := &httpServer{engine: e, handler: handler, upgrades: upgrades}
	s.come.L = &s.mu
	idle := e.options.IdleTimeout
	if idle <= 0 {
		idle = httpIdle
	}
	s.server = http.Server{
		Handler:           s,
		ReadHeaderTimeout: max(e.options.HandshakeTimeout, 0),
		IdleTimeout:       idle,
		ErrorLog:          slog.NewLogLogger(e.options.Logger.Handler(), slog.LevelWarn),
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ConnState: func(c net.Conn, state http.ConnState) {
			if state == http.StateHijacked {
				c.(*httpConn).hijack(e)
			}
		},
	}
	return s
}

// connKey is the key of a request's connection in its context.
type connKey struct{}

// ServeHTTP implements http.Handler: net/http knows no TLS but crypto/tls's own connections.
func (s *httpServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c, ok := r.Context().Value(connKey{}).(*httpConn); ok {
		r.TLS = c.TLS()
	}
	if s.upgrades.IsUpgrade(r) {
		w.Header().Set("Connection", "close")
		http.Error(w, "an upgrade must be the first request of its connection, with a header of 16 KiB at most", http.StatusMisdirectedRequest)
		return
	}
	s.handler.ServeHTTP(w, r)
}

// push hands a connection to the server. It does not wait.
func (s *httpServer) push(c *httpConn) {
	s.start.Do(func() {
		go func() { _ = s.server.Serve(s) }()
		context.AfterFunc(s.engine.life, s.shutdown)
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.Disconnect()
		return
	}
	s.conns = append(s.conns, c)
	s.come.Signal()
}

// shutdown lets the requests that are being served end, as long as sessions may drain.
func (s *httpServer) shutdown() {
	_ = s.server.Shutdown(s.engine.grace)
	_ = s.server.Close()
}

// Accept implements net.Listener.
func (s *httpServer) Accept() (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.conns) == 0 && !s.closed {
		s.come.Wait()
	}
	if s.closed {
		return nil, net.ErrClosed
	}
	c := s.conns[0]
	s.conns[0] = nil
	s.conns = s.conns[1:]
	return c, nil
}

// Close implements net.Listener.
func (s *httpServer) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Disconnect()
	}
	s.closed, s.conns = true, nil
	s.come.Broadcast()
	return nil
}

// Addr implements net.Listener.
func (s *httpServer) Addr() net.Addr { return httpAddr{} }

// httpAddr stands for the listener, which has no address of its own.
type httpAddr struct{}

func (httpAddr) Network() string { return "tcp" }
func (httpAddr) String() string  { return "servercore" }

// serveHTTP hands a connection over whose request is no upgrade. The layer has used the request's header.
func (l *loop) serveHTTP(h *handshake) {
	p := h.pending
	top := h.layer
	if stack, ok := top.(*layer.Stacked); ok {
		var below layer.Below
		below, top, p.early, p.more = stack.Split()
		p.layer = below
	}
	_, head, _ := top.(*websocket.Layer).NotUpgrade()
	p.early = append(head, p.early...)
	top.Drop()
	h.layer = nil
	l.forgetHandshake(h)
	l.Disarm(h.conn)
	p.http, p.admitted = newHTTPConn(p.origin.websocket.http, l.engine.options.SendLimit), true
	l.open(h.conn, p)
}

// loopOfServed returns what the loop's connections for net/http share: counters of their own, which nobody reads, because they are no
// sessions of the application's.
func (l *loop) loopOfServed() *session.Loop {
	if l.served == nil {
		l.served = session.NewLoop(l.shared.Limits)
	}
	return l.served
}

// isHTTP reports whether a session is a connection that a server of package net/http serves.
func isHTTP(h session.Handler) bool {
	_, ok := h.(*httpConn)
	return ok
}

// endsItself reports whether a session is a connection whose requests its server lets end.
func endsItself(d *session.Driver) bool {
	c, ok := d.Handler().(*httpConn)
	return ok && !c.hijacked.Load()
}
