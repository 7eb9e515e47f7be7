package engine

import (
	"time"

	"github.com/servercore-go/servercore/internal/reactor"
	"github.com/servercore-go/servercore/session"
)

// This file turns the reactor's calls into the session's, and the session's into the reactor's. The reactor drives its Handler with OnOpen,
// OnTraffic and OnClose; a session is driven by its Driver, and reaches its connection through a Transport. Bytes come in by OnTraffic, which
// calls Driver.Receive, which calls OnRecv. They go out by Session.Send and, at the end of a callback or in Driver.Turn, transport.Write.
//
// Before there is a session, proxy.go and handshake.go speak to the connection. The Driver is the connection's Context in the reactor. It
// is nil until the connection is a session (see loop.open): before that there is only OnReady, OnResume and OnDeadline, for connections
// that await their PROXY header or the handshake of their layer.

type (
	eventLoop = reactor.Loop[*session.Driver]
	conn      = reactor.Conn[*session.Driver]
	workers   = reactor.Workers[*session.Driver]
)

var (
	_ reactor.Handler[*session.Driver] = (*loop)(nil)
	_ session.Transport                = (*transport)(nil)
)

// From the reactor to the session.

// OnOpen implements reactor.Handler. A session that was made while the engine began to end is ended here: see endLate.
func (l *loop) OnOpen(c *conn) {
	if l.engine.stopping() {
		l.engine.endLate(c.Context)
	}
	l.traceOpen(c.Context)
	c.Context.Connected()
}

// OnTraffic implements reactor.Handler.
func (l *loop) OnTraffic(c *conn, data []byte) { c.Context.Receive(data) }

// OnClose implements reactor.Handler.
func (l *loop) OnClose(c *conn, err error) { c.Context.PeerClosed(err) }

// OnError implements reactor.Handler.
func (l *loop) OnError(c *conn, err error) { c.Context.Broken(err) }

// OnWritable implements reactor.Handler.
func (l *loop) OnWritable(c *conn) { c.Context.Writable() }

// OnWake implements reactor.Handler.
func (l *loop) OnWake(c *conn) { c.Context.Turn() }

// OnResume implements reactor.Handler.
func (l *loop) OnResume(c *conn) {
	if c.Context == nil {
		l.OnReady(c)
		return
	}
	c.Context.Resume()
}

// OnDeadline implements reactor.Handler.
func (l *loop) OnDeadline(c *conn, now time.Duration) {
	if c.Context == nil {
		l.expireHeader(c, now)
		l.expireHandshake(c, now)
		return
	}
	c.Context.Expire(now)
}

// OnReady implements reactor.Handler.
func (l *loop) OnReady(c *conn) {
	if l.headers[c] != nil {
		l.readHeader(c)
		return
	}
	l.serveHandshake(c)
}

// OnRelease implements reactor.Handler.
func (l *loop) OnRelease(c *conn) { l.release(c) }

// OnTurn implements reactor.Handler.
func (l *loop) OnTurn(until time.Duration) (more bool) {
	l.probe.Answer(until - reactor.TurnTime)
	if len(l.headers) > 0 && l.engine.stopping() {
		l.refuseHeaders()
	}
	if len(l.handshakes) > 0 {
		l.serveWoken()
	}
	return l.openPending(until)
}

// OnBoot implements reactor.Handler.
func (l *loop) OnBoot() { l.present() }

// OnShutdown implements reactor.Handler.
func (l *loop) OnShutdown(err error) { l.shutdown(err) }

// From the session to the reactor.

// transport is a connection as its session sees it: the same memory with another method set.
type transport reactor.Conn[*session.Driver]

// Wake implements session.Transport.
func (t *transport) Wake() { (*conn)(t).Wake() }

// WakeAll implements session.Transport.
func (t *transport) WakeAll(all []session.Transport) {
	var batch reactor.Batch[*session.Driver]
	for _, other := range all {
		batch.Add((*conn)(other.(*transport)))
	}
	batch.Wake()
}

// Again implements session.Transport.
func (t *transport) Again() { (*conn)(t).Again() }

// Now implements session.Transport.
func (t *transport) Now() time.Duration { return (*conn)(t).Loop().Now() }

// Scratch implements session.Transport.
func (t *transport) Scratch() *session.Scratch { return (*conn)(t).Scratch().(*session.Scratch) }

// Arm implements session.Transport.
func (t *transport) Arm(at time.Duration) { (*conn)(t).Arm(at) }

// Write implements session.Transport.
func (t *transport) Write(bufs [][]byte) (int, error) {
	n, err := (*conn)(t).Write(bufs)
	switch err {
	case reactor.ErrWouldBlock:
		err = session.ErrWouldBlock
	case reactor.ErrNoMemory:
		err = session.ErrNoMemory
	}
	return n, err
}

// CloseWrite implements session.Transport.
func (t *transport) CloseWrite() error { return (*conn)(t).CloseWrite() }

// Reading implements session.Transport.
func (t *transport) Reading(on bool) error {
	(*conn)(t).Reading(on)
	return nil
}

// Unread implements session.Transport. The watchdog asks too, from its own goroutine.
func (t *transport) Unread() bool { return (*conn)(t).Unread() }

// Received implements session.Transport.
func (t *transport) Received() int { return (*conn)(t).Received() }

// Unsent implements session.Transport.
func (t *transport) Unsent() int { return (*conn)(t).Unsent() }

// Close implements session.Transport.
func (t *transport) Close(reset bool) { (*conn)(t).Close(reset) }

// Done implements session.Transport.
func (t *transport) Done() { (*conn)(t).Release() }

// Failed implements session.Transport.
func (t *transport) Failed(callback string, value any, stack []byte) {
	loopOf((*conn)(t)).logFailure((*conn)(t).Context.Session(), callback, value, stack)
}

// loopOf returns the loop that a connection lives on. Any goroutine.
func loopOf(c *conn) *loop { return c.Loop().Handler().(*loop) }
