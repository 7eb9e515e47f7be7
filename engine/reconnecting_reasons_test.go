package engine_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/frame"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/internal/wsconn"
	"github.com/servercore-go/servercore/layer/websocket"
	"github.com/servercore-go/servercore/session"
)

// For each reason the documentation of Reconnect says whether another session follows.
func TestReconnectReasons(t *testing.T) {
	kit.NoLeaks(t)
	for _, tt := range []struct {
		reason  error
		follows bool
	}{
		{session.ErrPeerClosed, true}, {session.ErrPeerReset, true}, {session.ErrSendLimit, true}, {session.ErrIdle, true},
		{session.ErrWriteStall, true}, {session.ErrRecvRate, true}, {session.ErrPanic, true}, {frame.ErrTooLarge, true},
		{session.ErrTruncated, true}, {&websocket.ProtocolError{Code: 1002, Text: "no frame"}, true},
		{fmt.Errorf("wrapped: %w", &net.OpError{Op: "remote error", Err: errors.New("tls: internal error")}), true},
		{&net.OpError{Op: "dial", Err: errors.New("of another connection")}, false},
		{frame.ErrMalformed, true}, {fmt.Errorf("wrapped: %w", session.ErrRecvRate), true},
		{session.ErrDisconnected, false}, {session.ErrAborted, false}, {session.ErrDrainTimeout, false}, {session.ErrShutdown, false},
		{errors.New("one of the application's own"), false},
	} {
		t.Run(tt.reason.Error(), func(t *testing.T) {
			t.Parallel()
			s := kit.Serve(t, "tcp", engine.Options{Loops: 1}, kit.Hooks{})
			c := kit.Dialler(t, engine.Options{Loops: 1, LingerTimeout: 20 * time.Millisecond}, kit.Hooks{})
			p := c.DialTo(s.Listener.Addr(), engine.Reconnect(soon))
			kit.Await(t, c.Arrivals, "OnConnected")
			p.DisconnectWith(tt.reason)
			kit.Await(t, p.Ended, "OnDisconnected")
			if tt.follows {
				kit.Await(t, c.Arrivals, "OnConnected of the session that follows")
				return
			}
			// A session that is replaced several times, with the same delays, is the clock.
			clock := kit.Dialler(t, engine.Options{Loops: 1}, kit.Hooks{Connected: func(p *kit.Session) { p.DisconnectWith(session.ErrIdle) }})
			clock.DialTo(s.Listener.Addr(), engine.Reconnect(soon))
			for range 6 {
				kit.Await(t, clock.Arrivals, "OnConnected")
			}
			if st := c.Stats(); st.Dialed != 1 || st.DialErrors != 0 {
				t.Errorf("%d sessions, %d failed attempts, want 1 and 0", st.Dialed, st.DialErrors)
			}
		})
	}
}

// MaxDelay bounds the delays, and Jitter randomizes them: off, two diallers keep step to the tick.
func TestReconnectMaxDelay(t *testing.T) {
	kit.NoLeaks(t)
	s := kit.Serve(t, "tcp", engine.Options{Loops: 1}, kit.Hooks{})
	c := kit.Dialler(t, engine.Options{Loops: 1}, kit.Hooks{Connected: func(p *kit.Session) { p.DisconnectWith(session.ErrIdle) }})
	began := time.Now()
	c.DialTo(s.Listener.Addr(), engine.Reconnect(engine.Policy{BaseDelay: time.Millisecond, Multiplier: 1000, MaxDelay: 5 * time.Millisecond, Timeout: kit.Patience}))
	for range 10 { // without the bound the third would come after a second, the fourth after a quarter of an hour
		kit.Await(t, c.Arrivals, "OnConnected")
	}
	if took := time.Since(began); took < 8*4*time.Millisecond {
		t.Errorf("10 sessions within %v, with delays of 4 ms or more", took)
	}
}

// Abort of a session whose peer has finished is the application's own end: nothing follows it.
func TestReconnectAbortAfterTheFIN(t *testing.T) {
	kit.NoLeaks(t)
	l := kit.Listen(t, "tcp")
	c := kit.Dialler(t, engine.Options{Loops: 1, SendBuffer: 16 << 10, SendLimit: 64 << 20, DrainTimeout: -1}, kit.Hooks{})
	p := c.DialTo(l.Addr(), engine.Reconnect(soon))
	remote := kit.Accept(t, l)
	kit.Must(t, p.Send(kit.Stream()[:16<<20])) // more than the kernel takes
	kit.CloseWrite(t, remote)
	kit.Eventually(t, "the FIN has been seen", func() bool { return errors.Is(p.Err(), session.ErrPeerClosed) })
	p.Abort()
	kit.Await(t, p.Ended, "OnDisconnected")
	clock := kit.Dialler(t, engine.Options{Loops: 1}, kit.Hooks{Connected: func(p *kit.Session) { p.DisconnectWith(session.ErrIdle) }})
	other := kit.Serve(t, "tcp", engine.Options{Loops: 1}, kit.Hooks{})
	clock.DialTo(other.Listener.Addr(), engine.Reconnect(soon))
	for range 6 {
		kit.Await(t, clock.Arrivals, "OnConnected")
	}
	if st := c.Stats(); st.Dialed != 1 || st.DialErrors != 0 {
		t.Errorf("%d sessions, %d failed attempts, want 1 and 0", st.Dialed, st.DialErrors)
	}
}

// A server of TLS or WebSocket that dies says nothing, and one that is broken says what cannot be read. Either way there is another session.
func TestReconnectToAServerThatDies(t *testing.T) {
	kit.NoLeaks(t)
	server, client := certificate(t)
	upgrade, err := websocket.NewServer(websocket.Options{})
	kit.Must(t, err)
	for name, tt := range map[string]struct {
		option engine.Option
		greet  func(c net.Conn) error
		last   string
	}{
		"TLS dies":            {engine.TLS(client), func(c net.Conn) error { return tls.Server(c, server).Handshake() }, ""},
		"TLS is broken":       {engine.TLS(client), func(c net.Conn) error { return tls.Server(c, server).Handshake() }, "\x17\x03\x03\x00\x20no record of this connection at all"},
		"WebSocket dies":      {engine.WebSocket(engine.WebSocketOptions{}), nil, ""},
		"WebSocket is broken": {engine.WebSocket(engine.WebSocketOptions{}), nil, "\xff\xff"},
		"WebSocket goes on":   {engine.WebSocket(engine.WebSocketOptions{}), nil, string(wsconn.AppendFrame(nil, 0x88, []byte("\x03\xe9")))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			greet := tt.greet
			if greet == nil {
				greet = func(c net.Conn) error {
					r, err := http.ReadRequest(bufio.NewReader(c))
					if err != nil {
						return err
					}
					l, err := upgrade.Upgrade(r)
					if err != nil {
						return err
					}
					defer l.Drop()
					_, err = c.Write(l.Own(nil, true))
					return err
				}
			}
			l := kit.Listen(t, "tcp")
			c := kit.Dialler(t, engine.Options{Loops: 1, LingerTimeout: 20 * time.Millisecond}, kit.Hooks{})
			c.Wire = true
			dialled := make(chan *kit.Session, 1)
			go func() { dialled <- c.DialTo(l.Addr(), engine.Reconnect(soon), tt.option) }()
			for range 3 {
				raw := kit.Accept(t, l)
				kit.Must(t, greet(raw))
				p := kit.Await(t, c.Arrivals, "OnConnected")
				_, _ = io.WriteString(raw, tt.last)
				_ = raw.Close()
				kit.AwaitEnd(t, p)
			}
			kit.Await(t, dialled, "Dial")
		})
	}
}
