package engine_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/internal/wsconn"
	"github.com/servercore-go/servercore/layer/websocket"
	"github.com/servercore-go/servercore/session"
)

// handOver starts a server of package net/http whose handler is h, and returns its address.
func handOver(t testing.TB, network string, secure *tls.Config, h http.HandlerFunc) net.Addr {
	t.Helper()
	l, err := net.Listen(network, kit.FreeAddress(t, network))
	kit.Must(t, err)
	server := &http.Server{Handler: h}
	ended := make(chan error, 1)
	go func() {
		if secure != nil {
			ended <- server.Serve(tls.NewListener(l, secure))
			return
		}
		ended <- server.Serve(l)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
	return l.Addr()
}

// A connection of net/http becomes a session, with what the client has sent behind its request.
func TestUpgrade(t *testing.T) {
	kit.OnNetworks(t, func(t *testing.T, network string, loops int) {
		s := kit.Dialler(t, engine.Options{Loops: loops}, kit.Hooks{Recv: kit.Echo})
		s.Wire = true
		opts := kit.InMode(t, engine.Options{Loops: loops}, []engine.Option{engine.WebSocket(engine.WebSocketOptions{Path: "/ws"})})
		result := make(chan error, 10)
		addr := handOver(t, network, nil, func(w http.ResponseWriter, r *http.Request) {
			result <- s.Upgrade(w, r, s.New, opts...)
		})
		c := kit.Dial(t, addr, net.Dialer{})
		request := "GET /ws?a=b HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
		kit.Write(t, c, wsconn.AppendFrame([]byte(request), 0x82, []byte("early")))
		r := bufio.NewReader(c)
		answer, err := http.ReadResponse(r, nil)
		if err != nil || answer.StatusCode != 101 {
			t.Fatalf("%v, %v", answer, err)
		}
		kit.Must(t, kit.Await(t, result, "Upgrade"))
		p := kit.Await(t, s.Arrivals, "OnConnected")
		if q := p.Request(); q == nil || q.URL.RawQuery != "a=b" || q.Context().Err() != nil {
			t.Errorf("the request is %+v", q)
		}
		kit.Write(t, c, wsconn.AppendFrame(nil, 0x82, []byte("late")))
		kit.Write(t, c, wsconn.AppendFrame(nil, 0x88, []byte("\x03\xe8")))
		rest, err := io.ReadAll(r)
		if err != nil || string(rest) != "\x82\x05early\x82\x04late\x88\x02\x03\xe8" {
			t.Errorf("the session sends %q, %v", rest, err)
		}
		_ = c.Close()
		if err := kit.AwaitEnd(t, p); !isClose(err, 1000, "") {
			t.Errorf("Err %v", err)
		}
		st := s.Stats()
		if st.Accepted != 1 || st.Refused.Sum() != 0 {
			t.Errorf("%d accepted, %d refused", st.Accepted, st.Refused.Sum())
		}

		other, err := webSocket(t, kit.Dial(t, addr, net.Dialer{}), nil, websocket.Options{}, "/ws", nil)
		kit.Must(t, err)
		kit.Must(t, kit.Await(t, result, "Upgrade"))
		kit.Must(t, other.WriteMessage([]byte("hello"), false))
		wantMessage(t, other, "hello", false)
		_ = other.Close()
		kit.AwaitEnd(t, kit.Await(t, s.Arrivals, "OnConnected"))
	})
}

// What cannot be taken over is answered, and the error says why.
func TestUpgradeRefusals(t *testing.T) {
	server, client := certificate(t)
	busy := engine.WebSocket(engine.WebSocketOptions{Path: "/busy", Check: func(*http.Request) error {
		return &engine.StatusError{Code: 429, Message: "later"}
	}})
	s := kit.Dialler(t, engine.Options{MaxSessions: 1}, kit.Hooks{})
	s.Wire = true
	fresh, err := engine.New(engine.Options{Logger: kit.Quiet})
	kit.Must(t, err)
	result := make(chan error, 10)
	h := func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/busy":
			result <- s.Upgrade(w, r, s.New, busy)
		case "/fresh":
			result <- fresh.Upgrade(w, r, s.New)
		case "/nil":
			result <- s.Upgrade(w, r, nil)
		case "/tls":
			result <- s.Upgrade(w, r, s.New, engine.TLS(server))
		case "/hidden":
			result <- s.Upgrade(struct{ http.ResponseWriter }{w}, r, s.New)
		default:
			result <- s.Upgrade(w, r, s.New)
		}
	}
	plain, secure := handOver(t, "tcp", nil, h), handOver(t, "tcp", server, h)
	ask := func(addr net.Addr, config *tls.Config, path string) (*wsconn.Conn, error) {
		t.Helper()
		c, refusal := webSocket(t, kit.Dial(t, addr, net.Dialer{}), config, websocket.Options{}, path, nil)
		err := kit.Await(t, result, "Upgrade")
		if (err == nil) != (refusal == nil) {
			t.Errorf("%s: Upgrade returns %v, the client %v", path, err, refusal)
		}
		var refused *engine.HandshakeError
		if errors.As(refusal, &refused); refusal != nil && refused == nil {
			t.Fatalf("%s: the client has %v", path, refusal)
		}
		return c, errors.Join(err, refusal)
	}
	want := func(err error, status int, is error, text string) {
		t.Helper()
		var refused *engine.HandshakeError
		for _, e := range err.(interface{ Unwrap() []error }).Unwrap()[1:] {
			if errors.As(e, &refused); refused.Status != status {
				t.Errorf("the client is answered %d, want %d", refused.Status, status)
			}
		}
		if is != nil && !errors.Is(err, is) || !strings.Contains(err.Error(), text) {
			t.Errorf("the error is %v, want one about %s", err, text)
		}
	}
	_, err = ask(plain, nil, "/busy")
	want(err, 429, session.ErrHandshake, "later")
	_, err = ask(plain, nil, "/fresh")
	want(err, 503, nil, "Start must come before Upgrade")
	_, err = ask(plain, nil, "/nil")
	want(err, 500, nil, "factory is nil")
	_, err = ask(plain, nil, "/tls")
	want(err, 500, nil, "not options of Upgrade")
	_, err = ask(plain, nil, "/hidden")
	want(err, 500, http.ErrNotSupported, "does not give")
	_, err = ask(secure, client, "/")
	want(err, 500, nil, "WebSocketOptions.HTTP")

	r, err := http.Get("http://" + plain.String() + "/")
	kit.Must(t, err)
	_ = r.Body.Close()
	if err := kit.Await(t, result, "Upgrade"); r.StatusCode != 426 || r.Header.Get("Upgrade") != "websocket" || !errors.Is(err, session.ErrHandshake) {
		t.Errorf("no upgrade is answered %d, %v", r.StatusCode, err)
	}
	http.DefaultClient.CloseIdleConnections()
	s.WantRefused(engine.Refused{Handshake: 2})

	c, err := ask(plain, nil, "/")
	kit.Must(t, err)
	p := kit.Await(t, s.Arrivals, "OnConnected")
	_, err = ask(plain, nil, "/")
	want(err, 503, engine.ErrFull, "MaxSessions")
	_ = c.Close()
	kit.AwaitEnd(t, p)
	_ = s.Close()
	_, err = ask(plain, nil, "/")
	want(err, 503, engine.ErrClosed, "closed")
	s.WantRefused(engine.Refused{Handshake: 2, Full: 1, Closing: 1})
	_ = fresh.Close()
}
