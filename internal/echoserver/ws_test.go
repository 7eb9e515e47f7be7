package echoserver

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/wsconn"
	"github.com/servercore-go/servercore/layer/websocket"
	"github.com/servercore-go/servercore/session"
)

// secured is a client's TLS connection, for wsconn.
type secured struct {
	*tls.Conn
	wire stream
}

func (s secured) CloseWrite() error { return errors.Join(s.Conn.CloseWrite(), s.wire.CloseWrite()) }

// webSocket connects a client of -ws, with TLS if config is not nil. The client may receive 1 MiB in a message.
func (s *server) webSocket(url string, config *tls.Config, header http.Header) (*wsconn.Conn, error) {
	s.t.Helper()
	var wire net.Conn = s.dial()
	if config != nil {
		wire = secured{tls.Client(wire, config), wire.(stream)}
	}
	return wsconn.Client(wire, websocket.Options{}, url, header)
}

func mustWebSocket(t *testing.T, s *server) *wsconn.Conn {
	t.Helper()
	c, err := s.webSocket("ws://localhost/ws", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// With -ws the echo is one message for each message, of the same kind: on each kind of listener, with TLS and without.
func TestWebSocketEcho(t *testing.T) {
	check := func(t *testing.T, c *wsconn.Conn) {
		t.Helper()
		for _, text := range []bool{false, true} {
			for _, said := range [][]byte{[]byte("hello"), {}, bytes.Repeat([]byte("ab"), 100_000)} {
				if err := c.WriteMessage(said, text); err != nil {
					t.Fatal(err)
				}
				if got, kind, err := c.ReadMessage(); err != nil || !bytes.Equal(got, said) || kind != text {
					t.Fatalf("%d bytes, text %v, %v; want %d, text %v", len(got), kind, err, len(said), text)
				}
			}
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("%d bytes, %v at the end", n, err)
		}
	}
	forEachAddr(t, func(t *testing.T, s *server) { check(t, mustWebSocket(t, s)) }, "-ws", "/ws")
	forEachAddr(t, func(t *testing.T, s *server) {
		c, err := s.webSocket("wss://localhost/ws", pinning(t, s.logged()), nil)
		if err != nil {
			t.Fatal(err)
		}
		check(t, c)
	}, "-ws", "/ws", "-tls-self-signed")
}

// A client that begins to read late gets every byte, also with the smallest -send-limit. A message of more than half of it is refused.
func TestWebSocketSizes(t *testing.T) {
	s := start(t, "-addr", "127.0.0.1:0", "-ws", "/ws", "-send-limit", "131072", "-loops", "1")
	c := mustWebSocket(t, s)
	message, most := noise(smallestSendLimit/2), 200
	wrote := make(chan error, 1)
	go func() {
		for range most {
			if err := c.WriteMessage(message, false); err != nil {
				wrote <- err
				return
			}
		}
		wrote <- nil
	}()
	// Time for the writer to fill every buffer on the way. There is no event for that. On a machine that takes longer, the test is easier
	// but not wrong.
	select {
	case err := <-wrote:
		wrote <- err
	case <-time.After(200 * time.Millisecond):
	}
	for i := range most {
		if got, _, err := c.ReadMessage(); err != nil || !bytes.Equal(got, message) {
			t.Fatalf("message %d: %d bytes, %v", i, len(got), err)
		}
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	wantTooBig := func(s *server, size int) {
		t.Helper()
		c := mustWebSocket(t, s)
		if err := c.WriteMessage(make([]byte, size), false); err != nil {
			t.Fatal(err)
		}
		_, _, err := c.ReadMessage()
		var end *session.CloseError
		if err != io.EOF || !errors.As(c.Word(), &end) || end.Code != 1009 {
			t.Errorf("a message of %d bytes: %v, %v; want the code 1009", size, err, c.Word())
		}
	}
	wantTooBig(s, smallestSendLimit/2+1)
	wantTooBig(start(t, "-addr", "127.0.0.1:0", "-ws", "/ws"), defaultSendLimit/2+1)
}

// The other modes with -ws.
func TestWebSocketModes(t *testing.T) {
	const addr = "127.0.0.1:0"
	wantMessage := func(c *wsconn.Conn, want string, wantText bool) {
		t.Helper()
		if got, text, err := c.ReadMessage(); err != nil || string(got) != want || text != wantText {
			t.Errorf("message %q, text %v, %v; want %q, text %v", got, text, err, want, wantText)
		}
	}
	game := start(t, "-addr", addr, "-ws", "/ws", "-mode", "game")
	c := mustWebSocket(t, game)
	wantMessage(c, greeting, true)
	if err := c.WriteMessage([]byte("hello"), true); err != nil {
		t.Fatal(err)
	}
	var end *session.CloseError
	if _, _, err := c.ReadMessage(); err != io.EOF || !errors.As(c.Word(), &end) || end.Code != 1000 {
		t.Errorf("%v, %v after the second; want the code 1000", err, c.Word())
	}
	game.log.wait(t, "bytes=5 data=hello", 1)
	game.log.wait(t, "msg=transferred", 1)

	broadcast := start(t, "-addr", addr, "-ws", "/ws", "-mode", "broadcast", "-log-level", "debug")
	one, two := mustWebSocket(t, broadcast), mustWebSocket(t, broadcast)
	broadcast.log.wait(t, "msg=connected", 2)
	for _, from := range []*wsconn.Conn{one, two} {
		if err := from.WriteMessage([]byte("hello"), true); err != nil {
			t.Fatal(err)
		}
		to := two
		if from == two {
			to = one
		}
		wantMessage(to, "hello", false)
	}

	discard := start(t, "-addr", addr, "-ws", "/ws", "-mode", "discard", "-log-level", "debug")
	c = mustWebSocket(t, discard)
	if err := c.WriteMessage([]byte("hello"), false); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("%d bytes, %v; want the end", n, err)
	}
}

// A request for another path, from a page of another host, or for no upgrade is refused with its status.
func TestWebSocketRefusals(t *testing.T) {
	s := start(t, "-addr", "127.0.0.1:0", "-ws", "/ws")
	for _, tt := range []struct {
		url    string
		header http.Header
		status int
	}{
		{"ws://localhost/", nil, 404},
		{"ws://localhost/ws/", nil, 404},
		{"ws://localhost/ws", http.Header{"Origin": {"http://example.com"}}, 403},
		{"ws://localhost/ws?x=1", http.Header{"Origin": {"http://localhost"}}, 101},
	} {
		_, err := s.webSocket(tt.url, nil, tt.header)
		status := 101
		if refused := (*websocket.HandshakeError)(nil); errors.As(err, &refused) {
			status = refused.Status
		} else if err != nil {
			t.Fatal(err)
		}
		if status != tt.status {
			t.Errorf("%s, %v: status %d, want %d", tt.url, tt.header, status, tt.status)
		}
	}
	c := &http.Client{Timeout: patience}
	defer c.CloseIdleConnections()
	r, err := c.Get("http://" + s.addr().String() + "/ws")
	if err != nil {
		t.Fatal(err)
	}
	if _ = r.Body.Close(); r.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("a GET is answered %s", r.Status)
	}
}

// A value of -ws that is no path ends the start with exit code 2. An empty one is none.
func TestWebSocketBadPath(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context()) // a server that starts ends at once
	cancel()
	for _, path := range []string{"ws", "ws://localhost/ws", "/ws?x=1", "/ws#x", "/%20", "//host/ws", "*", "/\x00"} {
		out, log := newTranscript(), newTranscript()
		code := Main(ended, []string{"-addr", "127.0.0.1:0", "-ws", path}, nil, out, log)
		if code != exitUsage || !strings.Contains(log.String(), "-ws: use the path of a URL") || out.String() != "" {
			t.Errorf("%q: exit code %d, output %q, log %q", path, code, out, log)
		}
	}
	if err := echoed(start(t, "-addr", "127.0.0.1:0", "-ws", "").dial()); err != nil {
		t.Error(err)
	}
}
