package engine_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/layer/websocket"
	"github.com/servercore-go/servercore/session"
)

// serveHTTP starts an engine whose listener serves h besides WebSocket at /ws, and returns a client of net/http.
func serveHTTP(t *testing.T, o engine.Options, secure bool, h http.HandlerFunc) (s *kit.Server, c *http.Client, url string, config *tls.Config) {
	t.Helper()
	server, client := certificate(t)
	opts := []engine.Option{engine.WebSocket(engine.WebSocketOptions{Path: "/ws", HTTP: h})}
	url = "http://"
	if secure {
		opts, url, config = append(opts, engine.TLS(server)), "https://", client
	}
	s = kit.Serve(t, "tcp", o, kit.Hooks{Recv: kit.Echo}, opts...)
	transport := &http.Transport{TLSClientConfig: client}
	t.Cleanup(transport.CloseIdleConnections)
	return s, &http.Client{Transport: transport, Timeout: kit.Patience}, url + s.Listener.Addr().String(), config
}

// eachHTTP runs f over TCP and over TLS, with callbacks on loops and on workers.
func eachHTTP(t *testing.T, f func(t *testing.T, secure bool)) {
	kit.NoLeaks(t)
	for _, secure := range []bool{false, true} {
		for _, mode := range kit.Modes {
			t.Run(fmt.Sprintf("secure=%v%s", secure, mode), func(t *testing.T) { f(t, secure) })
		}
	}
}

// Requests that are no upgrade are served on the same port, one after another on one connection, with bodies of any size.
func TestHTTPBesidesWebSocket(t *testing.T) {
	eachHTTP(t, func(t *testing.T, secure bool) {
		remotes := make(chan string, 100)
		s, c, url, config := serveHTTP(t, engine.Options{SendLimit: 100000, PauseAbove: 20000}, secure, func(w http.ResponseWriter, r *http.Request) {
			remotes <- r.RemoteAddr
			if (r.TLS != nil) != secure {
				t.Errorf("TLS is %v", r.TLS)
			}
			w.Header().Set("Path", r.URL.Path)
			body, err := io.ReadAll(r.Body) // net/http does not write while it reads
			if err != nil {
				t.Error(err)
			}
			_, _ = w.Write(body)
		})
		for i, size := range []int{0, 10, 5000, 3 << 20} {
			data := string(kit.Pattern(size))
			r, err := c.Post(url+"/echo", "text/plain", strings.NewReader(data))
			kit.Must(t, err)
			got, err := io.ReadAll(r.Body)
			_ = r.Body.Close()
			if err != nil || string(got) != data || r.Header.Get("Path") != "/echo" {
				t.Errorf("request %d: %d of %d bytes, %v", i, len(got), size, err)
			}
		}
		first := kit.Await(t, remotes, "a request")
		for range 3 {
			if next := kit.Await(t, remotes, "a request"); next != first {
				t.Errorf("another connection: %s, %s", first, next)
			}
		}
		if st := s.Stats(); st.Sessions != 1 || st.Accepted != 0 || st.Refused.Sum() != 0 {
			t.Errorf("%d sessions, %d accepted, %d refused", st.Sessions, st.Accepted, st.Refused.Sum())
		}
		for h := range s.Sessions() {
			t.Errorf("Sessions has a %T", h)
		}
		ws, err := webSocket(t, s.Client(), config, websocket.Options{}, "/ws", nil)
		kit.Must(t, err)
		kit.Must(t, ws.WriteMessage([]byte("hello"), false))
		wantMessage(t, ws, "hello", false)
		_ = ws.Close()
		kit.AwaitEnd(t, kit.Await(t, s.Arrivals, "OnConnected"))
		c.CloseIdleConnections()
		kit.Eventually(t, "its place is given back", func() bool { return s.Stats().Sessions == 0 })
	})
}

// An upgrade on a connection that has served a request is told to come on another one, where it is taken. net/http gets headers of any size that it
// takes itself.
func TestHTTPUpgradeComesLater(t *testing.T) {
	eachHTTP(t, func(t *testing.T, secure bool) {
		s, _, _, config := serveHTTP(t, engine.Options{}, secure, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, r.URL.Path+" "+r.Header.Get("Upgrade"))
		})
		client := func() (net.Conn, *bufio.Reader) {
			var c net.Conn = s.Client()
			if secure {
				c = tls.Client(c, config)
			}
			return c, bufio.NewReader(c)
		}
		ask := func(c net.Conn, r *bufio.Reader, path string, lines string, status int, body string) (answer *http.Response) {
			t.Helper()
			kit.Write(t, c, []byte("GET "+path+" HTTP/1.1\r\nHost: x\r\n"+lines+"\r\n"))
			answer, err := http.ReadResponse(r, nil)
			kit.Must(t, err)
			got, err := io.ReadAll(answer.Body)
			if answer.StatusCode != status || err != nil || body != "" && string(got) != body {
				t.Fatalf("%s is answered %d, %q, %v, want %d, %q", path, answer.StatusCode, got, err, status, body)
			}
			return answer
		}
		const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
		cookies := "Cookie: " + strings.Repeat("a", 100<<10) + "\r\n"
		c, r := client()
		ask(c, r, "/first", cookies, 200, "/first ")
		ask(c, r, "/second", cookies, 200, "/second ")
		ask(c, r, "/another", upgrade, 200, "/another websocket") // it is the handler's
		if answer := ask(c, r, "/ws", upgrade, 421, ""); !answer.Close {
			t.Fatal("the connection is kept")
		}
		if _, err := r.ReadByte(); err != io.EOF {
			t.Errorf("behind the answer: %v", err)
		}
		_ = c.Close()
		c, r = client()
		ask(c, r, "/ws", upgrade+cookies, 421, "")
		_ = c.Close()
		ws, err := webSocket(t, s.Client(), config, websocket.Options{}, "/ws", nil)
		kit.Must(t, err)
		_ = ws.Close()
		kit.AwaitEnd(t, kit.Await(t, s.Arrivals, "OnConnected"))
		kit.Eventually(t, "the places are given back", func() bool { return s.Stats().Sessions == 0 })
	})
}

// A client that has sent its request and FIN gets its answer.
func TestHTTPHalfClose(t *testing.T) {
	eachHTTP(t, func(t *testing.T, secure bool) {
		s, _, _, config := serveHTTP(t, engine.Options{}, secure, func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			_, _ = fmt.Fprintf(w, "%s, %v", body, err)
		})
		var c net.Conn = s.Client()
		if secure {
			c = finisher{tls.Client(c, config)}
		}
		kit.Write(t, c, []byte("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"))
		kit.Must(t, c.(interface{ CloseWrite() error }).CloseWrite())
		answer, err := io.ReadAll(c)
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(string(answer), "body, <nil>") {
			t.Errorf("%q, %v", answer, err)
		}
		kit.Eventually(t, "its place is given back", func() bool { return s.Stats().Sessions == 0 })
	})
}

// Shutdown lets a request that is being served end, and ends idle connections at once.
func TestHTTPShutdown(t *testing.T) {
	eachHTTP(t, func(t *testing.T, secure bool) {
		begun, proceed := make(chan bool), make(chan bool)
		s, c, url, _ := serveHTTP(t, engine.Options{}, secure, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				begun <- true
				<-proceed
			}
			_, _ = io.WriteString(w, "done")
		})
		idle := &http.Transport{TLSClientConfig: c.Transport.(*http.Transport).TLSClientConfig}
		defer idle.CloseIdleConnections()
		r, err := (&http.Client{Transport: idle}).Get(url)
		kit.Must(t, err)
		_, _ = io.ReadAll(r.Body)
		_ = r.Body.Close()
		slow := make(chan error, 1)
		go func() {
			r, err := c.Get(url + "/slow")
			if err == nil {
				var body []byte
				if body, err = io.ReadAll(r.Body); string(body) != "done" {
					err = errors.Join(err, fmt.Errorf("it reads %q", body))
				}
				_ = r.Body.Close()
			}
			slow <- err
		}()
		kit.Await(t, begun, "the request")
		ended := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), kit.Patience)
			defer cancel()
			ended <- s.Shutdown(ctx)
		}()
		kit.Eventually(t, "the idle one ends", func() bool { return s.Stats().Sessions == 1 })
		close(proceed)
		kit.Must(t, kit.Await(t, slow, "the answer"))
		kit.Must(t, kit.Await(t, ended, "Shutdown"))
	})
}

// A handler may take the connection over. It is a net.Conn with deadlines, and the engine's end ends it.
func TestHTTPHijack(t *testing.T) {
	eachHTTP(t, func(t *testing.T, secure bool) {
		conns := make(chan net.Conn, 1)
		s, _, _, config := serveHTTP(t, engine.Options{}, secure, func(w http.ResponseWriter, r *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
			}
			conns <- c
		})
		var c net.Conn = s.Client()
		if secure {
			c = tls.Client(c, config)
		}
		kit.Write(t, c, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
		ours := kit.Await(t, conns, "it is taken over")
		kit.Must(t, ours.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
		b := make([]byte, 10)
		if _, err := ours.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read: %v", err)
		}
		kit.Must(t, ours.SetDeadline(time.Time{}))
		go func() { _, _ = io.WriteString(c, "question") }()
		if n, err := ours.Read(b); err != nil || string(b[:n]) != "question" {
			t.Errorf("Read: %q, %v", b[:n], err)
		}
		kit.Must(t, ours.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
		if _, err := ours.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) { // nobody reads
			t.Errorf("Write: %v", err)
		}
		go func() {
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}()
		ctx, cancel := context.WithTimeout(context.Background(), kit.Patience)
		defer cancel()
		kit.Must(t, s.Shutdown(ctx))
		if _, err := ours.Read(b); !errors.Is(err, session.ErrShutdown) {
			t.Errorf("Read at the end: %v", err)
		}
		if _, err := ours.Write(b); err == nil {
			t.Error("Write at the end")
		}
	})
}

// A client that sends nonsense, or nothing, costs itself only.
func TestHTTPGarbage(t *testing.T) {
	s, _, _, _ := serveHTTP(t, engine.Options{HandshakeTimeout: 200 * time.Millisecond}, false, func(w http.ResponseWriter, r *http.Request) {})
	c := s.Client()
	kit.Write(t, c, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	r := bufio.NewReader(c)
	answer, err := http.ReadResponse(r, nil)
	if err != nil || answer.StatusCode != 200 {
		t.Fatalf("%v, %v", answer, err)
	}
	kit.Write(t, c, []byte("nonsense\r\n\r\n"))
	if answer, err = http.ReadResponse(r, nil); err != nil || answer.StatusCode != 400 {
		t.Errorf("%v, %v", answer, err)
	}
	stalls := s.Client()
	kit.Write(t, stalls, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HT")) // the second one never ends
	if b, err := io.ReadAll(stalls); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 200 ") {
		t.Errorf("%q, %v", b, err)
	}
	kit.Eventually(t, "both places are given back", func() bool { return s.Stats().Sessions == 0 })
}
