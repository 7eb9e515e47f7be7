package engine

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/internal/reactor"
	"github.com/servercore-go/servercore/layer/websocket"
	"github.com/servercore-go/servercore/session"
)

// A Handshake tells a layer for which connection it is made.
type Handshake struct {
	Dialed        bool     // by Dial: the layer is the client
	Address       string   // what was dialled, or the address of the listener, as it was given
	Local, Remote net.Addr // the connection's, or those that its PROXY header tells
}

// Layered puts a layer under each session: f makes one for each connection, a new one each time. Layers come between the PROXY header and
// the framer, so packets are in the layer's stream.
//
// The handshake comes first. It has Options.HandshakeTimeout. When it is done, the factory is called, and OnConnected. A connection whose
// handshake fails or is late reaches no factory and no callback: what the layer wants to tell the peer is sent, the connection is closed, and
// that is counted in Stats.Refused (Handshake, HandshakeLate) and logged, a line a second at most. Admit and Guard are asked before the
// handshake. Dial returns an error that matches session.ErrHandshake. A connection in its handshake counts for MaxSessions and
// Stats.Sessions.
//
// f and the layer's methods run on the event loops, f on several at once, and must not wait.
func Layered(f func(Handshake) session.Handshaker) Option {
	return func(o *origin) error {
		if f == nil {
			return errors.New("Layered: the function is nil")
		}
		return once("Layered", &o.layer, f, o.layer != nil)
	}
}

// handshake is a connection whose layer's handshake is not done. It is no session yet: it is registered with the reactor and not open, and
// its Context is nil. What comes behind the handshake stays in the kernel until it is a session.
type handshake struct {
	conn     *conn
	pending  pendingConn
	layer    session.Handshaker
	out      []byte // bytes of the layer's own that the kernel has not taken
	more     bool   // what the Open has returned that has finished the handshake
	deadline time.Duration
	over     atomic.Bool // nobody looks at it any more
	refused  bool        // it lingers, so that the peer gets to read what it is told
}

// become makes a connection a session, after its handshake if it has a layer.
func (l *loop) become(c *conn, p pendingConn) {
	if p.origin.layered() {
		l.beginHandshake(c, p)
		return
	}
	l.open(c, p)
}

// beginHandshake begins the handshake of a connection.
func (l *loop) beginHandshake(c *conn, p pendingConn) {
	h := &handshake{conn: c, pending: p, deadline: l.Now() + l.engine.options.HandshakeTimeout}
	l.handshakes[c] = h
	l.awaiting.Add(1)
	if p.source != nil {
		l.sources[c] = p.source
	}
	if p.upgrade != nil {
		h.layer = p.upgrade
	}
	e, admit := l.engine, p.origin.entry != nil && p.origin.entry.admit != nil
	switch {
	case e.stopping() || l.fault != nil:
		l.refuseHandshake(h, refusedClosing, ErrClosed, "")
		return
	case admit && !l.callAdmit(p): // it has counted and logged that
		p.origin.entry.sendRefusal(p.fd)
		l.closeHandshake(h)
		return
	}
	if p.origin.recorder != nil {
		h.pending.recording = newRecording(p)
	}
	if h.layer == nil {
		h.layer = l.callLayered(h.pending)
	}
	if h.layer == nil {
		err := errors.New("Layered: the function must return a layer")
		l.refuseHandshake(h, refusedHandshake, fmt.Errorf("%w: %w", session.ErrHandshake, err), handshakeFailed)
		return
	}
	wake := func() {
		if !h.over.Load() {
			l.wakeHandshake(c)
		}
	}
	if p.attempt != nil {
		p.attempt.wake.Store(&wake)
	}
	if err := l.callStart(h.layer, wake); err != nil {
		l.failHandshake(h, err)
		return
	}
	if err := l.Register(c); err != nil { // tells also of what has come since
		l.refuseHandshake(h, refusedFailed, err, handshakeFailed)
		return
	}
	if p.origin.network == "unix" {
		c.ReadsEndShort()
	}
	if e.options.HandshakeTimeout > 0 {
		c.Arm(h.deadline)
	}
	l.serveHandshake(c)
}

const (
	handshakeFailed = "connection refused: its handshake has failed"
	handshakeLate   = "connection refused: its handshake takes too long"
)

// wakeHandshake has the loop look at a handshake. Any goroutine. The handshake may be over by then.
func (l *loop) wakeHandshake(c *conn) {
	l.pendingMu.Lock()
	l.woken = append(l.woken, c)
	l.pendingMu.Unlock()
	l.Wake()
}

// serveWoken looks at the handshakes that were woken, and ends all of them if the engine ends. A layer may end the goroutine in the midst of it: the
// next one goes on with the list.
func (l *loop) serveWoken() {
	l.pendingMu.Lock()
	l.toServe, l.woken = append(l.toServe, l.woken...), nil
	l.pendingMu.Unlock()
	for len(l.toServe) > 0 {
		c := l.toServe[0]
		l.toServe = l.toServe[1:]
		l.serveHandshake(c)
	}
	if l.engine.stopping() {
		for _, h := range l.handshakes {
			l.refuseHandshake(h, refusedClosing, ErrClosed, "")
		}
	}
}

// serveHandshake goes on with a handshake as far as it comes. It does nothing if the connection is not, or no longer, in one.
func (l *loop) serveHandshake(c *conn) {
	h := l.handshakes[c]
	if h == nil {
		return
	}
	if a := h.pending.attempt; a != nil && a.claimed.Load() { // Dial has given it up
		l.closeHandshake(h)
		return
	}
	if h.refused {
		l.lingerHandshake(h)
		return
	}
	defer func() { // the layer may run the application's code, which may end the goroutine
		if h != nil && l.handshakes[c] == h {
			l.failHandshake(h, errors.New("its layer has ended the goroutine"))
		}
	}()
	for l.stepHandshake(h) {
	}
	h = nil
}

// stepHandshake gives the layer what was received, and sends what it has to say. It returns whether there may be more to do now.
func (l *loop) stepHandshake(h *handshake) (more bool) {
	c := h.conn
	if h.layer.Established() { // and the kernel has not taken its last bytes
		l.finishHandshake(h, h.more)
		return false
	}
	in, readErr := c.Peek(reactor.ReadSize)
	if readErr == unix.EAGAIN {
		in, readErr = nil, nil
	} else if readErr == nil && len(in) == 0 {
		readErr = io.ErrUnexpectedEOF
	}
	used, again, err := l.callOpen(h.layer, in)
	serve := errors.Is(err, websocket.ErrNotUpgrade) && h.pending.origin.servesHTTP()
	if (err == nil || serve) && used > 0 {
		h.pending.recording.wireIn(in[:used])
		if discardErr := c.Discard(in[:used]); discardErr != nil {
			readErr = discardErr
		}
	}
	switch {
	case errors.Is(err, session.ErrPanic):
		l.failHandshake(h, err)
		return false
	case serve:
		l.serveHTTP(h)
		return false
	}
	writeErr := l.sendOwn(h)
	switch {
	case err != nil:
		l.refuseHandshake(h, refusedHandshake, matchHandshake(err), handshakeFailed)
	case errors.Is(writeErr, session.ErrPanic):
		l.failHandshake(h, writeErr)
	case writeErr != nil:
		l.refuseHandshake(h, refusedHandshake, matchHandshake(writeErr), handshakeFailed)
	case h.layer.Established():
		l.finishHandshake(h, again)
	case readErr == io.ErrUnexpectedEOF && used == 0 && !again && l.callEnded(h.layer) == nil: // wake comes
	case readErr != nil && used == 0 && !again:
		l.refuseHandshake(h, refusedHandshake, matchHandshake(readErr), handshakeFailed)
	default:
		return used > 0 || again
	}
	return false
}

// finishHandshake makes a session of a connection whose handshake is done, as soon as everything that the layer had to say is out. more is what its
// last Open has returned; it is not asked again before there is a session, because it may return data.
func (l *loop) finishHandshake(h *handshake, more bool) {
	h.more = more
	if err := l.sendOwn(h); errors.Is(err, session.ErrPanic) {
		l.failHandshake(h, err)
		return
	} else if err != nil {
		l.refuseHandshake(h, refusedHandshake, matchHandshake(err), handshakeFailed)
		return
	}
	if len(h.out) > 0 {
		return // an event follows
	}
	l.forgetHandshake(h)
	l.Disarm(h.conn)
	p := h.pending
	p.layer, p.more, p.admitted = h.layer, h.more, true
	l.open(h.conn, p)
}

// failHandshake refuses a connection whose layer cannot be asked any more.
func (l *loop) failHandshake(h *handshake, err error) {
	layer := h.layer
	h.layer = nil
	l.refuseHandshake(h, refusedHandshake, matchHandshake(err), handshakeFailed)
	l.callDrop(layer)
}

// matchHandshake returns an error that matches session.ErrHandshake.
func matchHandshake(err error) error {
	if errors.Is(err, session.ErrHandshake) {
		return err
	}
	return fmt.Errorf("%w: %w", session.ErrHandshake, err)
}

// sendOwn sends what the layer has to say, as far as the kernel takes it.
func (l *loop) sendOwn(h *handshake) error {
	if h.layer.Pending() {
		out, err := l.callOwn(h.layer, h.out)
		if err != nil {
			return err
		}
		h.out = out
	}
	for len(h.out) > 0 {
		n, err := h.conn.Write([][]byte{h.out})
		h.pending.recording.wireOut(h.out[:n])
		h.out = h.out[n:]
		switch err {
		case nil:
		case reactor.ErrWouldBlock: // an event follows
			return nil
		case reactor.ErrNoMemory:
			h.conn.Again()
			return nil
		default:
			return err
		}
	}
	h.out = nil
	return nil
}

// expireHandshake ends a handshake whose deadline has passed. What has come by now is in time: the loop may be late.
func (l *loop) expireHandshake(c *conn, now time.Duration) {
	l.serveHandshake(c)
	h := l.handshakes[c]
	switch {
	case h == nil:
	case now < h.deadline:
		c.Arm(h.deadline)
	case h.refused:
		l.closeHandshake(h)
	default:
		err := fmt.Errorf("%w: not done within %v", session.ErrHandshake, l.engine.options.HandshakeTimeout)
		l.refuseHandshake(h, refusedHandshakeLate, err, handshakeLate)
	}
}

// refuseHandshake ends a handshake that comes to nothing. line is for the log, "" if it is not worth one. Our FIN follows what the layer has
// said, and the connection is closed when the peer has read that: what it still sends would make a reset of our close, which would destroy it.
func (l *loop) refuseHandshake(h *handshake, cause refusal, err error, line string) {
	if h.refused {
		l.closeHandshake(h)
		return
	}
	h.refused = true
	l.engine.countRefused(h.pending.origin, cause, h.pending.remote, err)
	if a := h.pending.attempt; a != nil {
		if a.claim() {
			a.fail(err)
		}
		l.closeHandshake(h)
		return
	}
	if line != "" && !errors.Is(err, io.ErrUnexpectedEOF) {
		l.engine.log.Limited(handshakeLine, line, "err", err, "remote", h.pending.remote)
	}
	if h.layer == nil || l.engine.stopping() || l.engine.options.LingerTimeout <= 0 || l.sendOwn(h) != nil || h.conn.CloseWrite() != nil {
		l.closeHandshake(h)
		return
	}
	h.deadline = l.Now() + l.engine.options.LingerTimeout
	h.conn.Arm(h.deadline)
	l.lingerHandshake(h)
}

// lingerHandshake reads and discards what the peer of a refused connection still sends, and closes it at the peer's end.
func (l *loop) lingerHandshake(h *handshake) {
	for range reactor.PumpReads {
		in, err := h.conn.Peek(reactor.ReadSize)
		if err == unix.EAGAIN {
			return
		}
		if err != nil || len(in) == 0 || h.conn.Discard(in) != nil {
			l.closeHandshake(h)
			return
		}
	}
	h.conn.Again()
}

// forgetHandshake takes a connection off the list of those in their handshake.
func (l *loop) forgetHandshake(h *handshake) {
	h.over.Store(true)
	delete(l.handshakes, h.conn)
	l.awaiting.Add(-1)
}

// closeHandshake closes a connection that does not become a session.
func (l *loop) closeHandshake(h *handshake) {
	l.forgetHandshake(h)
	l.refuse(h.conn, h.pending)
	if h.layer != nil {
		l.callDrop(h.layer)
	}
}
