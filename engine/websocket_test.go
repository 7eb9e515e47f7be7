package engine_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/frame"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/internal/wsconn"
	"github.com/servercore-go/servercore/layer/websocket"
	"github.com/servercore-go/servercore/session"
)

// finisher is a client's TLS whose CloseWrite sends FIN behind close_notify.
type finisher struct{ *tls.Conn }

func (f finisher) CloseWrite() error {
	return errors.Join(f.Conn.CloseWrite(), f.NetConn().(interface{ CloseWrite() error }).CloseWrite())
}

func (f finisher) Close() error { // the peer may have gone
	_ = f.Conn.CloseWrite()
	return f.NetConn().Close()
}

// webSocket connects a client.
func webSocket(t testing.TB, raw net.Conn, secure *tls.Config, o websocket.Options, path string, header http.Header) (*wsconn.Conn, error) {
	t.Helper()
	scheme := "ws"
	if secure != nil {
		scheme, raw = "wss", finisher{tls.Client(raw, secure)}
	}
	c, err := wsconn.Client(raw, o, scheme+"://127.0.0.1"+path, header)
	if err == nil {
		t.Cleanup(func() { _ = c.Close() })
	}
	return c, err
}

// want reads one message.
func wantMessage(t testing.TB, c *wsconn.Conn, want string, wantText bool) {
	t.Helper()
	got, text, err := c.ReadMessage()
	if err != nil || string(got) != want || text != wantText {
		t.Errorf("message %.40q of %d bytes, text %v, %v; want %.40q, text %v", got, len(got), text, err, want, wantText)
	}
}

// C1, C3, C4: ws and wss, in any order of options: one Send is one message, Session.Request tells of the upgrade, both last words are exchanged.
func TestWebSocket(t *testing.T) {
	server, client := certificate(t)
	kit.OnLoops(t, func(t *testing.T, loops int) {
		for _, secure := range []*tls.Config{nil, client} {
			opts := []engine.Option{engine.WebSocket(engine.WebSocketOptions{Path: "/chat"})}
			if secure != nil {
				opts = append(opts, engine.TLS(server))
			}
			s := kit.Serve(t, "tcp", engine.Options{Loops: loops}, kit.Hooks{Recv: kit.Echo}, opts...)
			raw := s.Client()
			c, err := webSocket(t, raw, secure, websocket.Options{}, "/chat?room=1", http.Header{"Cookie": {"name=value"}})
			kit.Must(t, err)
			p := kit.Await(t, s.Arrivals, "OnConnected")
			r := p.Request()
			if r == nil || r.URL.Path != "/chat" || r.URL.RawQuery != "room=1" || r.RemoteAddr != raw.LocalAddr().String() || (r.TLS != nil) != (secure != nil) ||
				r.Header.Get("Cookie") != "name=value" || (p.TLS() != nil) != (secure != nil) {
				t.Fatalf("the request is %+v", r)
			}
			for _, size := range []int{0, 1, 125, 126, 1000, 65535, 65536, 300000} {
				data := string(kit.Pattern(size))
				kit.Must(t, c.WriteMessage([]byte(data), false))
				wantMessage(t, c, data, false)
			}
			kit.Must(t, c.CloseWriteWith(&session.CloseError{Code: 4001, Reason: "done"}))
			if _, _, err := c.ReadMessage(); err != io.EOF || !isClose(c.Word(), 4001, "") {
				t.Errorf("the end is %v, %v", err, c.Word())
			}
			if err := kit.AwaitEnd(t, p); !errors.Is(err, session.ErrPeerClosed) || !isClose(err, 4001, "done") {
				t.Errorf("Err %v", err)
			}

			c, err = webSocket(t, s.Client(), secure, websocket.Options{}, "/chat", nil)
			kit.Must(t, err)
			p = kit.Await(t, s.Arrivals, "OnConnected")
			kit.Must(t, p.Send([]byte("bye")))
			p.DisconnectWith(&session.CloseError{Code: 3000, Reason: "go"})
			wantMessage(t, c, "bye", false)
			if _, _, err := c.ReadMessage(); err != io.EOF || !isClose(c.Word(), 3000, "go") {
				t.Errorf("the end is %v, %v", err, c.Word())
			}
			_ = c.Close()
			if err := kit.AwaitEnd(t, p); !isClose(err, 3000, "go") {
				t.Errorf("Err %v", err)
			}
		}
	})
}

// C3: the request is complete for Check, and for those who ask the session first, several at once; it is the same one ever after, and after the end.
func TestWebSocketRequest(t *testing.T) {
	server, client := certificate(t)
	for _, secure := range []*tls.Config{nil, client} {
		for _, checks := range []bool{false, true} {
			seen := make(chan *http.Request, 1)
			w := engine.WebSocketOptions{}
			if checks {
				w.Check = func(r *http.Request) error {
					if r.RemoteAddr == "" || (r.TLS != nil) != (secure != nil) {
						t.Errorf("TLS %v: Check gets %q, TLS %v", secure != nil, r.RemoteAddr, r.TLS)
					}
					seen <- r
					return nil
				}
			}
			opts := []engine.Option{engine.WebSocket(w)}
			if secure != nil {
				opts = append(opts, engine.TLS(server))
			}
			s := kit.Serve(t, "tcp", engine.Options{}, kit.Hooks{}, opts...)
			raw := s.Client()
			c, err := webSocket(t, raw, secure, websocket.Options{}, "/chat", nil)
			kit.Must(t, err)
			p := kit.Await(t, s.Arrivals, "OnConnected")
			var askers sync.WaitGroup
			got := make([]*http.Request, 8)
			for i := range got {
				askers.Go(func() { got[i] = p.Request() })
			}
			askers.Wait()
			_ = c.Close()
			_ = kit.AwaitEnd(t, p)
			for _, r := range append(got, p.Request()) {
				if r == nil || r != got[0] || r.RemoteAddr != raw.LocalAddr().String() || (r.TLS != nil) != (secure != nil) {
					t.Fatalf("TLS %v, Check %v: %+v", secure != nil, checks, r)
				}
			}
			if checks && <-seen != got[0] {
				t.Error("Check and the session have two requests")
			}
		}
	}
}

// isClose reports whether err has that close frame.
func isClose(err error, code int, reason string) bool {
	var c *session.CloseError
	return errors.As(err, &c) && c.Code == code && c.Reason == reason
}

// texts is a handler that gets text apart.
type texts struct {
	session.Session
	got chan string
}

func (s *texts) OnRecv(p []byte) { s.got <- "binary " + string(p); _ = s.Send(p) }
func (s *texts) OnText(p []byte) { s.got <- "text " + string(p); _ = s.SendText(p) }

// Text comes to OnText, or to OnRecv of a handler without it, and leaves by SendText, or by Send with Options.Text.
func TestWebSocketText(t *testing.T) {
	server, client := certificate(t)
	for _, secure := range []*tls.Config{nil, client} {
		for _, always := range []bool{false, true} {
			opts := []engine.Option{engine.WebSocket(engine.WebSocketOptions{Text: always, Compression: true})}
			if secure != nil {
				opts = append(opts, engine.TLS(server))
			}
			got := make(chan string, 10)
			e, addr := serveWith(t, engine.Options{}, func() session.Handler { return &texts{got: got} }, opts...)
			c, err := webSocket(t, dial(t, addr), secure, websocket.Options{Compression: true}, "/", nil)
			kit.Must(t, err)
			long := strings.Repeat("ä", 5000)
			for i, text := range []bool{true, false, true} {
				payload := []string{"text", "bytes", long}[i]
				kit.Must(t, c.WriteMessage([]byte(payload), text))
				wantMessage(t, c, payload, text || always)
				if want := map[bool]string{true: "text ", false: "binary "}[text] + payload; kit.Await(t, got, "a message") != want {
					t.Errorf("message %d went elsewhere", i)
				}
			}
			for h := range e.Sessions() {
				if err := h.(*texts).SendText([]byte("\xff")); !errors.Is(err, frame.ErrMalformed) {
					t.Errorf("SendText of no UTF-8: %v", err)
				}
			}
		}
	}
	s := kit.Serve(t, "tcp", engine.Options{}, kit.Hooks{Recv: kit.Echo}, engine.WebSocket(engine.WebSocketOptions{}))
	c, err := webSocket(t, s.Client(), nil, websocket.Options{}, "/", nil)
	kit.Must(t, err)
	kit.Must(t, c.WriteMessage([]byte("text"), true))
	wantMessage(t, c, "text", false)
	_ = c.Close()
	kit.AwaitEnd(t, kit.Await(t, s.Arrivals, "OnConnected"))
	if err := new(session.Session).SendText([]byte("x")); !errors.Is(err, session.ErrClosed) {
		t.Errorf("SendText before there is a connection: %v", err)
	}
}

// serveWith starts an engine with one listener.
func serveWith(t testing.TB, o engine.Options, f session.Factory, opts ...engine.Option) (*engine.Engine, net.Addr) {
	t.Helper()
	o.Logger = kit.Quiet
	e, err := engine.New(o)
	kit.Must(t, err)
	l, err := e.Listen("tcp", "127.0.0.1:0", f, opts...)
	kit.Must(t, err)
	kit.Must(t, e.Start())
	t.Cleanup(func() { _ = e.Close() })
	return e, l.Addr()
}

func dial(t testing.TB, addr net.Addr) net.Conn {
	t.Helper()
	c, err := net.Dial(addr.Network(), addr.String())
	kit.Must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// C4: a Broadcast reaches members of different listeners and kinds, each as one message of its own form.
func TestWebSocketBroadcast(t *testing.T) {
	server, client := certificate(t)
	var group session.Group
	var made int
	f := session.Events{OnConnected: func(s *session.Session, _ net.Addr) {}}.Factory()
	var clients []*wsconn.Conn
	for _, secure := range []*tls.Config{nil, client, nil} {
		opts := []engine.Option{engine.WebSocket(engine.WebSocketOptions{Compression: made > 1})}
		if secure != nil {
			opts = append(opts, engine.TLS(server))
		}
		made++
		joined := make(chan bool, 2)
		_, addr := serveWith(t, engine.Options{}, func() session.Handler { return &member{Handler: f(), group: &group, joined: joined} }, opts...)
		for range 2 {
			c, err := webSocket(t, dial(t, addr), secure, websocket.Options{Compression: true}, "/", nil)
			kit.Must(t, err)
			kit.Await(t, joined, "a member")
			clients = append(clients, c)
		}
	}
	for _, size := range []int{10, 5000} {
		message := strings.Repeat("x", size)
		if n := group.Broadcast([]byte(message)); n != len(clients) {
			t.Errorf("it reached %d", n)
		}
		for _, c := range clients {
			wantMessage(t, c, message, false)
		}
	}
}

type member struct {
	session.Handler
	group  *session.Group
	joined chan bool
}

func (m *member) OnConnected(net.Addr) { m.group.Join(m); m.joined <- true }

// Packets of Framed travel in messages as in a stream.
func TestWebSocketFramed(t *testing.T) {
	server, client := certificate(t)
	packets := frame.LengthField{MaxFrameLength: 1 << 20, LengthFieldLength: 4, InitialBytesToStrip: 4}
	for _, secure := range []*tls.Config{nil, client} {
		opts := []engine.Option{engine.WebSocket(engine.WebSocketOptions{}), engine.Framed(packets)}
		if secure != nil {
			opts = append(opts, engine.TLS(server))
		}
		s := kit.Serve(t, "tcp", engine.Options{}, kit.Hooks{Recv: kit.Echo}, opts...)
		c, err := webSocket(t, s.Client(), secure, websocket.Options{}, "/", nil)
		kit.Must(t, err)
		var stream []byte
		for _, payload := range []string{"first", "second", ""} {
			stream, err = packets.Append(stream, []byte(payload))
			kit.Must(t, err)
		}
		for _, piece := range []string{string(stream[:3]), string(stream[3:11]), string(stream[11:])} { // not where packets end
			kit.Must(t, c.WriteMessage([]byte(piece), true))
		}
		for _, want := range []string{"\x00\x00\x00\x05first", "\x00\x00\x00\x06second", "\x00\x00\x00\x00"} {
			wantMessage(t, c, want, false)
		}
		long := string(kit.Pattern(200000))
		wire, err := packets.Append(nil, []byte(long))
		kit.Must(t, err)
		kit.Must(t, c.WriteMessage(wire, false))
		wantMessage(t, c, string(wire), false)
		_ = c.Close()
		kit.AwaitEnd(t, kit.Await(t, s.Arrivals, "OnConnected"))
	}
}

// C1, C6: what is refused reaches no factory, is counted, and is told why, by HTTP, inside TLS if there is TLS.
func TestWebSocketRefusals(t *testing.T) {
	server, client := certificate(t)
	for _, secure := range []*tls.Config{nil, client} {
		opts := []engine.Option{engine.WebSocket(engine.WebSocketOptions{Path: "/chat", Check: func(r *http.Request) error {
			switch r.Header.Get("Name") {
			case "panic":
				panic("on purpose")
			case "busy":
				return &engine.StatusError{Code: 503, Message: "come back later"}
			case "nobody":
				return errors.New("secret")
			}
			return nil
		}})}
		if secure != nil {
			opts = append(opts, engine.TLS(server))
		}
		s := kit.Serve(t, "tcp", engine.Options{LingerTimeout: 100 * time.Millisecond}, kit.Hooks{}, opts...)
		for i, tt := range []struct {
			path, name, origin string
			status             int
		}{
			{"/other", "", "", 404}, {"/chat", "nobody", "", 403}, {"/chat", "busy", "", 503}, {"/chat", "", "http://evil.example", 403}, {"/chat", "panic", "", 0},
		} {
			header := http.Header{"Name": {tt.name}}
			if tt.origin != "" {
				header.Set("Origin", tt.origin)
			}
			_, err := webSocket(t, s.Client(), secure, websocket.Options{}, tt.path, header)
			var refused *engine.HandshakeError
			if errors.As(err, &refused); tt.status > 0 && (refused == nil || refused.Status != tt.status) || err == nil {
				t.Errorf("%+v: %v", tt, err)
			}
			kit.Eventually(t, "it is counted", func() bool { return s.Stats().Refused.Handshake == uint64(i+1) })
		}
		c := s.Client()
		if secure != nil {
			c = tls.Client(c, secure)
		}
		kit.Write(t, c, []byte("GET /chat HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"))
		answer, err := io.ReadAll(c) // with close_notify in TLS
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 426 ") {
			t.Errorf("%q, %v", answer, err)
		}
		kit.Eventually(t, "all places are given back", func() bool { return s.Stats().Sessions == 0 })
		if n := s.Stats().Accepted; n != 0 {
			t.Errorf("%d sessions", n)
		}
	}
}

// A FIN without a close frame is ErrTruncated: over TLS with close_notify and without.
func TestWebSocketTruncated(t *testing.T) {
	server, client := certificate(t)
	for _, secure := range []*tls.Config{nil, client} {
		for _, notify := range []bool{false, true} {
			opts := []engine.Option{engine.WebSocket(engine.WebSocketOptions{})}
			if secure != nil {
				opts = append(opts, engine.TLS(server))
			}
			s := kit.Serve(t, "tcp", engine.Options{}, kit.Hooks{Recv: kit.Echo}, opts...)
			raw := s.Client()
			c, err := webSocket(t, raw, secure, websocket.Options{}, "/", nil)
			kit.Must(t, err)
			kit.Must(t, c.WriteMessage([]byte("story"), false))
			p := kit.Await(t, s.Arrivals, "OnConnected")
			if secure != nil && notify {
				kit.Must(t, c.Conn.(finisher).Conn.CloseWrite())
			} else {
				kit.CloseWrite(t, raw)
			}
			wantMessage(t, c, "story", false)
			if _, _, err := c.ReadMessage(); err != io.EOF {
				t.Errorf("the client's end: %v", err)
			}
			_ = c.Close()
			kit.WantError(t, "Err", kit.AwaitEnd(t, p), session.ErrTruncated, io.ErrUnexpectedEOF)
		}
	}
}

// What a client does against the protocol ends its session, with the code that says so.
func TestWebSocketProtocolErrors(t *testing.T) {
	s := kit.Serve(t, "tcp", engine.Options{}, kit.Hooks{}, engine.WebSocket(engine.WebSocketOptions{MaxMessage: 100}))
	for wire, code := range map[string]int{
		"\x82\x01x":                           1002, // not masked
		"\x81\x81\x00\x00\x00\x00\xff":        1007,
		"\x82\xfe\x01\x00\x00\x00\x00\x00xxx": 1009,
	} {
		c, err := webSocket(t, s.Client(), nil, websocket.Options{}, "/", nil)
		kit.Must(t, err)
		p := kit.Await(t, s.Arrivals, "OnConnected")
		kit.Write(t, c.Conn, []byte(wire))
		if _, _, err := c.ReadMessage(); err != io.EOF {
			t.Errorf("%q: %v", wire, err)
		}
		var word *session.CloseError
		if !errors.As(c.Word(), &word) || word.Code != code {
			t.Errorf("%q: %v, want %d", wire, c.Word(), code)
		}
		_ = c.Close()
		var wrong *websocket.ProtocolError
		if err := kit.AwaitEnd(t, p); !errors.As(err, &wrong) || wrong.Code != code {
			t.Errorf("Err %v", err)
		}
	}
}

// A peer that answers no pings is ended with ErrIdle; one that does is not.
func TestWebSocketPings(t *testing.T) {
	server, client := certificate(t)
	for _, secure := range []*tls.Config{nil, client} {
		opts := []engine.Option{engine.WebSocket(engine.WebSocketOptions{PingInterval: 30 * time.Millisecond, PongTimeout: 200 * time.Millisecond})}
		if secure != nil {
			opts = append(opts, engine.TLS(server))
		}
		s := kit.Serve(t, "tcp", engine.Options{}, kit.Hooks{Recv: kit.Echo}, opts...)
		good, err := webSocket(t, s.Client(), secure, websocket.Options{}, "/", nil)
		kit.Must(t, err)
		reader := make(chan error, 1)
		go func() {
			got, _, err := good.ReadMessage()
			if err == nil && string(got) != "still there" {
				err = fmt.Errorf("it reads %q", got)
			}
			reader <- err
		}()
		p := kit.Await(t, s.Arrivals, "OnConnected")
		_, err = webSocket(t, s.Client(), secure, websocket.Options{}, "/", nil) // nobody reads it
		kit.Must(t, err)
		silent := kit.Await(t, s.Arrivals, "OnConnected")
		kit.WantError(t, "Err", kit.AwaitEnd(t, silent), session.ErrIdle)
		kit.Must(t, good.WriteMessage([]byte("still there"), false))
		kit.Must(t, kit.Await(t, reader, "the other is alive"))
		_ = good.Close()
		kit.AwaitEnd(t, p)
	}
}

// Dial speaks ws and wss. Its error has the server's status.
func TestWebSocketDial(t *testing.T) {
	server, client := certificate(t)
	for _, secure := range []*tls.Config{nil, client} {
		for _, network := range []string{"tcp", "unix"} {
			o := engine.WebSocketOptions{Path: "/game", Subprotocols: []string{"v2", "v1"}}
			opts := []engine.Option{engine.WebSocket(o)}
			dialOpts := []engine.Option{engine.WebSocket(engine.WebSocketOptions{Path: "/game?level=1", Subprotocols: []string{"v1"}})}
			if secure != nil {
				opts, dialOpts = append(opts, engine.TLS(server)), append(dialOpts, engine.TLS(client))
			}
			hosts := make(chan string, 10)
			s := kit.Serve(t, network, engine.Options{}, kit.Hooks{Recv: kit.Echo, Connected: func(p *kit.Session) {
				hosts <- p.Request().Host + " " + p.Request().URL.RawQuery
			}}, opts...)
			d := kit.Dialler(t, engine.Options{}, kit.Hooks{})
			d.Wire = true
			p := d.DialTo(s.Listener.Addr(), dialOpts...)
			want := "localhost level=1"
			if network == "tcp" {
				want = s.Listener.Addr().String() + " level=1"
			}
			if got := kit.Await(t, hosts, "the request"); got != want {
				t.Errorf("Host and query are %q, want %q", got, want)
			}
			if p.Request() != nil {
				t.Error("a dialled session has a request")
			}
			question := kit.Pattern(10000)
			kit.Must(t, p.Send(question))
			kit.Eventually(t, "the echo comes", func() bool { return p.Got.Load() == int64(len(question)) })
			p.DisconnectWith(&session.CloseError{Code: 4000})
			kit.AwaitEnd(t, p)
			if err := kit.AwaitEnd(t, kit.Await(t, s.Arrivals, "OnConnected")); !isClose(err, 4000, "") {
				t.Errorf("Err %v", err)
			}

			ctx, cancel := context.WithTimeout(context.Background(), kit.Patience)
			defer cancel()
			dialOpts[0] = engine.WebSocket(engine.WebSocketOptions{Path: "/nowhere"})
			a := s.Listener.Addr()
			_, err := d.Dial(ctx, a.Network(), a.String(), d.New, dialOpts...)
			var refused *engine.HandshakeError
			if !errors.Is(err, session.ErrHandshake) || !errors.As(err, &refused) || refused.Status != 404 {
				t.Errorf("another path: %v", err)
			}
			kit.Eventually(t, "its place is given back", func() bool { return d.Stats().Sessions == 0 })
		}
	}
}

// Nonsense is refused at once, with what to do.
func TestWebSocketOptions(t *testing.T) {
	server, _ := certificate(t)
	h2 := server.Clone()
	h2.NextProtos = []string{"h2", "http/1.1"}
	e, err := engine.New(engine.Options{Logger: kit.Quiet})
	kit.Must(t, err)
	f := session.Events{}.Factory()
	ws := engine.WebSocket(engine.WebSocketOptions{})
	own := engine.Layered(func(engine.Handshake) session.Handshaker { return nil })
	for want, opts := range map[string][]engine.Option{
		"twice":       {ws, ws},
		"slash":       {engine.WebSocket(engine.WebSocketOptions{Path: "chat"})},
		"MaxMessage":  {engine.WebSocket(engine.WebSocketOptions{MaxMessage: -1})},
		"Origins":     {engine.WebSocket(engine.WebSocketOptions{Origins: []string{"["}})},
		"layer.Stack": {own, ws},
		"Layered":     {engine.TLS(server), own},
		"h2":          {ws, engine.TLS(h2)},
	} {
		if _, err := e.Listen("tcp", "127.0.0.1:0", f, opts...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error about %s: %v", want, err)
		}
	}
	kit.Must(t, e.Start())
	defer e.Close()
	if _, err := e.Dial(t.Context(), "tcp", "127.0.0.1:1", f, engine.WebSocket(engine.WebSocketOptions{Path: "/a b#c"})); err == nil || !strings.Contains(err.Error(), "WebSocket") {
		t.Errorf("a path with a fragment: %v", err)
	}
}
