package websocket_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/servercore-go/servercore/layer/websocket"
	"github.com/servercore-go/servercore/session"
)

// openAll gives wire to l in pieces until an error or the end of the handshake, and returns how much it took.
func openAll(t testing.TB, l *websocket.Layer, wire string, c cut) (used int, err error) {
	t.Helper()
	for used < len(wire) && err == nil && !l.Established() {
		piece := []byte(wire[used:][:c.next(len(wire)-used)])
		data, n, more, err2 := l.Open(nil, piece)
		if data != nil || more || n > len(piece) || err2 == nil && !l.Established() && n != len(piece) {
			t.Fatalf("before the upgrade: data %q, used %d of %d, more %v, %v", data, n, len(piece), more, err2)
		}
		used, err = used+n, err2
	}
	return used, err
}

// response reads what l sends in answer.
func response(t testing.TB, l *websocket.Layer) (*http.Response, string) {
	t.Helper()
	own := string(l.Own(nil, true))
	r, err := http.ReadResponse(bufio.NewReader(strings.NewReader(own)), nil)
	if err != nil {
		t.Fatalf("%v in %q", err, own)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r, string(body)
}

// with returns the upgrade with one line replaced, or taken away if it becomes "".
func with(old, new string) string {
	r := request()
	if !strings.Contains(r, old) {
		panic(old)
	}
	if new != "" {
		new += "\r\n"
	}
	return strings.Replace(r, old+"\r\n", new, 1)
}

func TestUpgrade(t *testing.T) {
	check := func(r *http.Request) error {
		switch r.Header.Get("X-Check") {
		case "error":
			return errors.New("the password is wrong")
		case "status":
			return &websocket.StatusError{Code: 401, Message: "who are you?"}
		case "wrapped":
			return fmt.Errorf("secret: %w", &websocket.StatusError{Code: 503})
		case "odd":
			return &websocket.StatusError{Code: 200}
		}
		return nil
	}
	o := websocket.Options{Path: "/chat", Origins: []string{"*.friends.example", "https://one.example:8443", "null", "two.example:443", "http://three.example:80", "four.example", "[::1]:8080"}, Subprotocols: []string{"v2", "v1"}, Check: check}
	origin := func(s string) string { return request("Origin: " + s) }
	for _, tt := range []struct {
		name, request string
		status        int
		header        string // a line of the answer
	}{
		{"the example of RFC 6455", request(), 101, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="},
		{"header names in any case", with("Upgrade: websocket", "UPGRADE: WebSocket"), 101, ""},
		{"lines that end with LF", strings.ReplaceAll(request(), "\r\n", "\n"), 101, ""},
		{"Upgrade among others", with("Upgrade: websocket", "Upgrade: h2c, websocket"), 101, ""},
		{"with a query", strings.Replace(request(), "/chat", "/chat?token=1", 1), 101, ""},
		{"an absolute address", strings.Replace(request(), "/chat", "http://example.com/chat", 1), 101, ""},

		{"another path", strings.Replace(request(), "/chat", "/chats", 1), 404, ""},
		{"a GET", "GET /chat HTTP/1.1\r\nHost: example.com\r\n\r\n", 426, "Upgrade: websocket"},
		{"a GET elsewhere", "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n", 404, ""},
		{"a POST", strings.Replace(request(), "GET", "POST", 1), 405, "Allow: GET"},
		{"HTTP/1.0", strings.Replace(request(), "HTTP/1.1", "HTTP/1.0", 1), 400, ""},
		{"no Host", with("Host: example.com", ""), 400, ""},
		{"two Hosts", request("Host: other.example"), 400, ""},
		{"no Upgrade", with("Upgrade: websocket", ""), 426, "Sec-WebSocket-Version: 13"},
		{"another Upgrade", with("Upgrade: websocket", "Upgrade: h2c"), 426, ""},
		{"no Connection", with("Connection: keep-alive, Upgrade", ""), 426, ""},
		{"Connection without Upgrade", with("Connection: keep-alive, Upgrade", "Connection: keep-alive"), 426, ""},
		{"version 8", with("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8"), 426, "Sec-WebSocket-Version: 13"},
		{"no version", with("Sec-WebSocket-Version: 13", ""), 426, "Sec-WebSocket-Version: 13"},
		{"no key", with("Sec-WebSocket-Key: "+key, ""), 400, ""},
		{"a key of 15 bytes", with("Sec-WebSocket-Key: "+key, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA"), 400, ""},
		{"a key that is not base64", with("Sec-WebSocket-Key: "+key, "Sec-WebSocket-Key: ?GhlIHNhbXBsZSBub25jZQ=="), 400, ""},
		{"two keys", request("Sec-WebSocket-Key: " + key), 400, ""},
		{"with a body", request("Content-Length: 1") + "x", 400, ""},
		{"a chunked body", request("Transfer-Encoding: chunked"), 400, ""},
		{"a header that is none", request("no colon"), 400, ""},
		{"not HTTP", "GET it\r\n\r\n", 400, ""},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, ""},
		{"16 KiB of header", request("X: " + strings.Repeat("x", 16<<10)), 431, ""},
		{"no end of the header", "GET " + strings.Repeat("/", 20_000), 431, ""},

		{"Origin: the same host", origin("http://example.com"), 101, ""},
		{"Origin: the same host in capitals", origin("https://EXAMPLE.com"), 101, ""},
		{"Origin: the same host with the default port", origin("https://example.com:443"), 101, ""},
		{"Origin: another port", origin("http://example.com:8080"), 403, ""},
		{"Origin: the port of another scheme", origin("https://example.com:80"), 403, ""},
		{"Origin: a port that both name", strings.Replace(origin("http://example.com:8080"), "Host: example.com", "Host: example.com:8080", 1), 101, ""},
		{"Origin: a pattern", origin("https://a.friends.example"), 101, ""},
		{"Origin: a pattern does not match a port", origin("https://a.friends.example:1"), 403, ""},
		{"Origin: a pattern with a scheme", origin("https://one.example:8443"), 101, ""},
		{"Origin: another scheme", origin("http://one.example:8443"), 403, ""},
		{"Origin: a pattern with the default port", origin("https://two.example"), 101, ""},
		{"Origin: and with it in the origin too", origin("https://two.example:443"), 101, ""},
		{"Origin: the default port of another scheme", origin("http://two.example"), 403, ""},
		{"Origin: a pattern with a scheme and its default port", origin("http://three.example"), 101, ""},
		{"Origin: the other scheme", origin("https://three.example"), 403, ""},
		{"Origin: the default port, which the pattern leaves out", origin("https://four.example:443"), 101, ""},
		{"Origin: a port that the pattern does not have", origin("https://four.example:444"), 403, ""},
		{"Origin: an IPv6 address", origin("http://[::1]:8080"), 101, ""},
		{"Origin: another IPv6 address", origin("http://[::2]:8080"), 403, ""},
		{"Origin: one that ends like ours", origin("http://evil-example.com"), 403, ""},
		{"Origin: one that begins like ours", origin("http://example.com.evil.example"), 403, ""},
		{"Origin: null, as a pattern allows", origin("null"), 101, ""},
		{"Origin: malformed", origin("http://%zz"), 403, ""},
		{"Origin: twice", request("Origin: http://example.com", "Origin: http://example.com"), 403, ""},

		{"subprotocols: the first of ours", request("Sec-WebSocket-Protocol: v1, v2"), 101, "Sec-WebSocket-Protocol: v2"},
		{"subprotocols: in two lines", request("Sec-WebSocket-Protocol: v0", "Sec-WebSocket-Protocol: v1"), 101, "Sec-WebSocket-Protocol: v1"},
		{"subprotocols: none of ours", request("Sec-WebSocket-Protocol: V1, v3"), 101, "Sec-WebSocket-Protocol: "},

		{"Check: an error", request("X-Check: error"), 403, ""},
		{"Check: a status", request("X-Check: status"), 401, ""},
		{"Check: a status, wrapped", request("X-Check: wrapped"), 503, ""},
		{"Check: a status that is no refusal", request("X-Check: odd"), 403, ""},
	} {
		for _, c := range cuts(len(tt.request)) {
			s, err := websocket.NewServer(o)
			if err != nil {
				t.Fatal(err)
			}
			l := s.Layer(nil)
			used, err := openAll(t, l, tt.request, c)
			r, body := response(t, l)
			name, value, _ := strings.Cut(tt.header, ": ")
			if r.StatusCode != tt.status || tt.header != "" && r.Header.Get(name) != value {
				t.Errorf("%s, %s: %d %q, want %d %s", tt.name, c.name, r.StatusCode, r.Header, tt.status, tt.header)
			}
			var refused *websocket.HandshakeError
			switch {
			case tt.status == 101:
				if err != nil || !l.Established() || used != len(tt.request) || l.Request(nil).Host == "" || l.Pending() || !l.IsIdle() {
					t.Errorf("%s, %s: %v, established %v, used %d", tt.name, c.name, err, l.Established(), used)
				}
			case l.Established() || !errors.Is(err, session.ErrHandshake) || !errors.As(err, &refused) || refused.Status != tt.status:
				t.Errorf("%s, %s: %v", tt.name, c.name, err)
			case strings.Contains(body, "password") || strings.Contains(body, "secret") || !r.Close && r.Header.Get("Connection") != "close":
				t.Errorf("%s, %s: the client is told %q, %q", tt.name, c.name, r.Header, body)
			}
			if again, n, _, err2 := l.Open(nil, []byte("x")); err != nil && (again != nil || n != 1 || err2 == nil) {
				t.Errorf("%s: after the refusal: used %d, %v", tt.name, n, err2)
			}
			l.Drop()
		}
	}
	noBuffers(t)
}

// Messages that came in the same segment as the upgrade are left to the next Open, and the 101 is before every frame.
func TestMessageBehindTheUpgrade(t *testing.T) {
	wire := append([]byte(request()), encodeAll(true, frame{fin | ping, "p"}, frame{fin | text, "first"})...)
	s, err := websocket.NewServer(websocket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l := s.Layer(nil)
	_, used, _, err := l.Open(nil, wire)
	if used != len(request()) || err != nil || !l.Established() {
		t.Fatalf("used %d of %d, %v", used, len(wire), err)
	}
	data, n, _, err := l.Open(make([]byte, 100), wire[used:])
	if string(data) != "first" || used+n != len(wire) || err != nil {
		t.Fatalf("%q, used %d, %v", data, n, err)
	}
	own := string(l.Own(nil, true))
	if head, frames, _ := strings.Cut(own, "\r\n\r\n"); !strings.HasPrefix(head, "HTTP/1.1 101 ") || frames != "\x8a\x01p" {
		t.Errorf("sent %q", own)
	}
	if !l.IsIdle() {
		t.Error("something is kept")
	}
}

// The request is prepared before Check sees it, and Request returns the same one.
func TestPrepareAndRequest(t *testing.T) {
	var checked *http.Request
	s, err := websocket.NewServer(websocket.Options{Check: func(r *http.Request) error {
		checked = r
		if r.RemoteAddr != "peer" {
			return errors.New("not prepared")
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	l := s.Layer(func(r *http.Request) { r.RemoteAddr = "peer" })
	if _, err := openAll(t, l, request("Cookie: a=b"), cuts(0)[0]); err != nil {
		t.Fatal(err)
	}
	if r := l.Request(nil); r != checked || r.URL.Path != "/chat" || r.Header.Get("Cookie") != "a=b" {
		t.Errorf("request %v", r)
	}
	if l.ForgetRequest(); l.Request(nil) != nil {
		t.Error("the request is still there")
	}
}

// Without Check the request is made for its first reader: the same one for all of them, prepared, also after Drop.
func TestRequestIsMadeOnce(t *testing.T) {
	s, err := websocket.NewServer(websocket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l := s.Layer(nil)
	prepare := func(r *http.Request) { r.RemoteAddr = "peer" }
	if _, err := openAll(t, l, request("Cookie: a=b"), cuts(0)[0]); err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	got := make([]*http.Request, 8)
	for i := range got {
		readers.Go(func() { got[i] = l.Request(prepare) })
	}
	l.Drop() // while they read
	readers.Wait()
	for _, r := range append(got, l.Request(nil)) {
		if r == nil || r != got[0] || r.RemoteAddr != "peer" || r.URL.Path != "/chat" || r.Header.Get("Cookie") != "a=b" || r.Body != http.NoBody {
			t.Fatalf("request %+v", r)
		}
	}
}

// With PassHTTP, what is not an upgrade comes out with its bytes; what is one, or is not HTTP, is answered.
func TestPassHTTP(t *testing.T) {
	const post = "POST /form HTTP/1.1\r\nHost: example.com\r\nContent-Length: 3\r\n\r\n"
	for _, tt := range []struct {
		name, request string
		pass          bool
	}{
		{"a GET", "GET /chat HTTP/1.1\r\nHost: example.com\r\n\r\n", true},
		{"a POST with a body", post, true},
		{"HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", true},
		{"an upgrade to HTTP/2", with("Upgrade: websocket", "Upgrade: h2c"), true},
		{"an upgrade of another path", strings.Replace(request(), "/chat", "/other", 1), true},
		{"a wrong upgrade", with("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8"), false},
		{"an upgrade with a body", with("Upgrade: websocket", "Upgrade: websocket\r\nContent-Length: 3"), false},
		{"not HTTP", "hello\r\n\r\n", false},
	} {
		for _, c := range cuts(len(tt.request)) {
			s, err := websocket.NewServer(websocket.Options{Path: "/chat", PassHTTP: true})
			if err != nil {
				t.Fatal(err)
			}
			l := s.Layer(nil)
			used, err := openAll(t, l, tt.request, c)
			r, buffered, ok := l.NotUpgrade()
			if ok != tt.pass || errors.Is(err, websocket.ErrNotUpgrade) != tt.pass || !errors.Is(err, session.ErrHandshake) || l.Pending() == tt.pass {
				t.Errorf("%s, %s: passed %v, %v, pending %v", tt.name, c.name, ok, err, l.Pending())
			}
			if ok && (string(buffered) != tt.request || used != len(tt.request) || r.URL.Path == "") {
				t.Errorf("%s, %s: %q", tt.name, c.name, buffered)
			}
			l.Drop()
		}
	}
	noBuffers(t)
}

// With PassHTTP, a header that no upgrade has comes out as far as it was read: net/http has a bound of its own.
func TestPassLongHeader(t *testing.T) {
	head := "GET /chat HTTP/1.1\r\nHost: example.com\r\nCookie: " + strings.Repeat("a", 40_000) + "\r\n\r\n"
	for _, c := range cuts(len(head)) {
		s, err := websocket.NewServer(websocket.Options{PassHTTP: true})
		if err != nil {
			t.Fatal(err)
		}
		l := s.Layer(nil)
		used, err := openAll(t, l, head, c)
		r, buffered, ok := l.NotUpgrade()
		if !ok || r != nil || !errors.Is(err, websocket.ErrNotUpgrade) || string(buffered) != head[:used] || len(buffered) <= 16<<10 || l.Pending() {
			t.Errorf("%s: passed %v, %v, %d bytes of %d used", c.name, ok, err, len(buffered), used)
		}
		l.Drop()
	}
	noBuffers(t)
}

// An upgrade has no body, also one that net/http has read: what is in it would be taken for frames.
func TestUpgradeWithABody(t *testing.T) {
	s, err := websocket.NewServer(websocket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"Content-Length: 3", "Transfer-Encoding: chunked"} {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(request(line) + "3\r\nabc\r\n0\r\n\r\n")))
		if err != nil {
			t.Fatal(err)
		}
		var refused *websocket.HandshakeError
		if _, err := s.Upgrade(r); !errors.As(err, &refused) || refused.Status != 400 {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// A request that a server of net/http has read gets the same answers.
func TestUpgradeFromNetHTTP(t *testing.T) {
	s, err := websocket.NewServer(websocket.Options{Subprotocols: []string{"v1"}, Compression: true})
	if err != nil {
		t.Fatal(err)
	}
	read := func(text string) *http.Request {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	l, err := s.Upgrade(read(request(offer, "Sec-WebSocket-Protocol: v1")))
	if err != nil || !l.Established() || l.Subprotocol() != "v1" || !l.Compressed() {
		t.Fatal(err)
	}
	if r, _ := response(t, l); r.StatusCode != 101 || !l.IsIdle() {
		t.Errorf("answer %d", r.StatusCode)
	}
	var refused *websocket.HandshakeError
	_, err = s.Upgrade(httptest.NewRequest("GET", "/", nil))
	if !errors.As(err, &refused) || refused.Status != 426 || refused.Header.Get("Sec-WebSocket-Version") != "13" || refused.Text == "" {
		t.Errorf("%v", err)
	}
}

func TestExtensionOffers(t *testing.T) {
	const agreed = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	for _, tt := range []struct {
		offer, answer string // "400" if the request is refused
	}{
		{"permessage-deflate", agreed},
		{"Permessage-Deflate", agreed},
		{"permessage-deflate; client_max_window_bits", agreed}, // 13.1: what browsers offer
		{"permessage-deflate; client_max_window_bits=9; server_no_context_takeover", agreed},
		{"permessage-deflate; client_no_context_takeover; client_max_window_bits", agreed},
		{"permessage-deflate; server_max_window_bits=9", agreed + "; server_max_window_bits=9"},
		{"permessage-deflate; server_max_window_bits=15", agreed + "; server_max_window_bits=15"},
		{`permessage-deflate; server_max_window_bits="8"`, agreed + "; server_max_window_bits=8"},
		{"x-webkit-deflate-frame, permessage-deflate", agreed},
		{"permessage-deflate; unknown, permessage-deflate", agreed},
		{"permessage-deflate; server_max_window_bits=16, permessage-deflate; server_max_window_bits=10", agreed + "; server_max_window_bits=10"},
		{" , permessage-deflate ;server_no_context_takeover,", agreed},
		{"", ""},
		{"x-unknown; a=b", ""},
		{"permessage-deflate; server_max_window_bits", ""},
		{"permessage-deflate; server_max_window_bits=7", ""},
		{"permessage-deflate; server_max_window_bits=09", ""},
		{"permessage-deflate; server_max_window_bits=+9", ""},
		{"permessage-deflate; server_max_window_bits=9; server_max_window_bits=9", ""},
		{"permessage-deflate; client_max_window_bits=16", ""},
		{"permessage-deflate; client_max_window_bits; client_max_window_bits", ""},
		{"permessage-deflate; server_no_context_takeover=1", ""},
		{"permessage-deflate; client_no_context_takeover; client_no_context_takeover", ""},
		{"permessage-deflate; mode", ""},
		{"permessage-deflate;", "400"},
		{"permessage-deflate; a=", "400"},
		{`permessage-deflate; a="b`, "400"},
		{`permessage-deflate; a=""`, "400"},
		{"permessage-deflate client_max_window_bits", "400"},
		{"=", "400"},
	} {
		s, err := websocket.NewServer(compressing)
		if err != nil {
			t.Fatal(err)
		}
		l := s.Layer(nil)
		_, err = openAll(t, l, request("Sec-WebSocket-Extensions: "+tt.offer), cuts(0)[0])
		r, _ := response(t, l)
		if tt.answer == "400" {
			if r.StatusCode != 400 || err == nil {
				t.Errorf("%q: %d, %v", tt.offer, r.StatusCode, err)
			}
			continue
		}
		if got := r.Header.Get("Sec-WebSocket-Extensions"); got != tt.answer || err != nil || l.Compressed() != (tt.answer != "") {
			t.Errorf("%q: %q, %v, want %q", tt.offer, got, err, tt.answer)
		}
		l.Drop()
	}
	l := accepted(t, websocket.Options{}, offer)
	if l.Compressed() {
		t.Error("compression without Options.Compression")
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for field, o := range map[string]websocket.Options{
		"MaxMessage":      {MaxMessage: -1},
		"Origins[1]":      {Origins: []string{"*", "[a"}},
		"Subprotocols[0]": {Subprotocols: []string{"a b"}},
		"Subprotocols ":   {Subprotocols: make([]string, 256)},
	} {
		_, err := websocket.NewServer(o)
		_, err2 := websocket.NewClient(o, "ws://a/", nil)
		if err == nil || err2 == nil || !strings.Contains(err.Error(), "Options."+field) {
			t.Errorf("%s: %v, %v", field, err, err2)
		}
	}
}

// A connection that ends within the upgrade.
func TestEndWithinTheUpgrade(t *testing.T) {
	s, err := websocket.NewServer(websocket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l := s.Layer(nil)
	if _, err := openAll(t, l, "GET /", cuts(0)[0]); err != nil {
		t.Fatal(err)
	}
	if err := l.Ended(); !errors.Is(err, session.ErrHandshake) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v", err)
	}
	if l.Finish(nil); l.Pending() || l.NextAt() != 0 {
		t.Error("a close frame, or a ping, before the upgrade")
	}
	l.Drop()
	noBuffers(t)
}
