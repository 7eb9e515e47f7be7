package websocket_test

import (
	"bufio"
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/servercore-go/servercore/layer/websocket"
	"github.com/servercore-go/servercore/session"
)

func TestClientRequest(t *testing.T) {
	l, err := websocket.NewClient(websocket.Options{Subprotocols: []string{"v2", "v1"}, Compression: true}, "wss://example.com:8443/a%20b?c=d",
		http.Header{"Origin": {"https://example.com"}, "Cookie": {"a=b", "c=d"}, "host": {"ignored"}})
	if err != nil {
		t.Fatal(err)
	}
	if !l.Pending() || l.Established() {
		t.Fatal("the request is not due")
	}
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(l.Own(nil, true))))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Protocol": "v2, v1",
		"Sec-WebSocket-Extensions": strings.TrimPrefix(both, "Sec-WebSocket-Extensions: "), "Origin": "https://example.com", "Cookie": "a=b"} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if r.Method != "GET" || r.RequestURI != "/a%20b?c=d" || r.Host != "example.com:8443" || len(r.Header.Get("Sec-WebSocket-Key")) != 24 {
		t.Errorf("%s %s, host %s, %q", r.Method, r.RequestURI, r.Host, r.Header)
	}
	other, err := websocket.NewClient(websocket.Options{}, "ws://example.com", http.Header{"Host": {"name.example"}})
	if err != nil {
		t.Fatal(err)
	}
	r2, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(other.Own(nil, true))))
	if err != nil || r2.RequestURI != "/" || r2.Host != "name.example" || r2.Header.Get("Sec-WebSocket-Key") == r.Header.Get("Sec-WebSocket-Key") {
		t.Errorf("%v, %v", r2, err)
	}
}

func TestClientRefusesWhatItCannotSend(t *testing.T) {
	for _, url := range []string{"http://example.com", "ws://", "/chat", "ws://example.com/#a", "ws://exa mple.com", "ws://a/%zz", ""} {
		if _, err := websocket.NewClient(websocket.Options{}, url, nil); err == nil {
			t.Errorf("%q is taken", url)
		}
	}
	for _, h := range []http.Header{{"A": {"b\r\nC: d"}}, {"A b": {"c"}}, {"Upgrade": {"h2c"}}, {"sec-websocket-key": {"x"}}, {"": {"x"}}, {"Content-Length": {"1"}},
		{"Host": {"a\r\nb: c"}}, {"Host": {"a/b"}}} {
		if _, err := websocket.NewClient(websocket.Options{}, "ws://example.com", h); err == nil {
			t.Errorf("%q is taken", h)
		}
	}
}

func TestClientAnswer(t *testing.T) {
	o := websocket.Options{Subprotocols: []string{"v1"}, Compression: true}
	const status = "HTTP/1.1 101 Switching Protocols"
	for _, tt := range []struct {
		name, old, new string // what is replaced in a good answer
		status         int    // of the error, -1 for none
		protocol       string
		compressed     bool
	}{
		{"good", "", "", -1, "", false},
		{"subprotocol", "Upgrade: websocket", "Upgrade: WebSocket\r\nSec-WebSocket-Protocol: v1", -1, "v1", false},
		{"compression", "Upgrade: websocket", "Upgrade: websocket\r\n" + both, -1, "", true},
		{"compression with a window", "Upgrade: websocket", "Upgrade: websocket\r\n" + both + "; server_max_window_bits=8", -1, "", true},
		{"after an early hint", status, "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + status, -1, "", false},
		{"another HTTP/1", status, "HTTP/1.0 101 OK", -1, "", false},

		{"403", status, "HTTP/1.1 403 Forbidden", 403, "", false},
		{"200", status, "HTTP/1.1 200 OK", 200, "", false},
		{"301", status, "HTTP/1.1 301 Moved\r\nLocation: ws://other", 301, "", false},
		{"not HTTP", status, "SSH-2.0-OpenSSH", 0, "", false},
		{"HTTP/2", status, "HTTP/2.0 101 OK", 0, "", false},
		{"malformed", "Upgrade: websocket", "Upgrade websocket", 0, "", false},
		{"another key", "Sec-WebSocket-Accept: ", "Sec-WebSocket-Accept: x", 101, "", false},
		{"no key", "Sec-WebSocket-Accept: ", "X: ", 101, "", false},
		{"no upgrade", "Upgrade: websocket", "Upgrade: h2c", 101, "", false},
		{"no connection", "Connection: Upgrade", "Connection: close", 101, "", false},
		{"a subprotocol of its own", "Upgrade: websocket", "Upgrade: websocket\r\nSec-WebSocket-Protocol: v2", 101, "", false},
		{"two subprotocols", "Upgrade: websocket", "Upgrade: websocket\r\nSec-WebSocket-Protocol: v1\r\nSec-WebSocket-Protocol: v1", 101, "", false},
		{"another extension", "Upgrade: websocket", "Upgrade: websocket\r\nSec-WebSocket-Extensions: x-deflate", 101, "", false},
		{"two extensions", "Upgrade: websocket", "Upgrade: websocket\r\n" + both + "\r\n" + both, 101, "", false},
		{"with context", "Upgrade: websocket", "Upgrade: websocket\r\n" + offer, 101, "", false},
		{"a window for us", "Upgrade: websocket", "Upgrade: websocket\r\n" + both + "; client_max_window_bits=9", 101, "", false},
		{"an unknown parameter", "Upgrade: websocket", "Upgrade: websocket\r\n" + both + "; x", 101, "", false},
		{"a malformed extension", "Upgrade: websocket", "Upgrade: websocket\r\n" + both + ";", 101, "", false},
		{"too long", "Upgrade: websocket", "X: " + strings.Repeat("x", 20_000), 0, "", false},
	} {
		for _, c := range cuts(1000) {
			l, err := websocket.NewClient(o, "ws://example.com/chat", nil)
			if err != nil {
				t.Fatal(err)
			}
			good := answer(l.Own(nil, true))
			in := strings.Replace(good, tt.old, tt.new, 1)
			used, err := openAll(t, l, in+"\x82\x00", c)
			if tt.status == -1 {
				if err != nil || used != len(in) || l.Subprotocol() != tt.protocol || l.Compressed() != tt.compressed || l.Request(nil) != nil || !l.IsIdle() {
					t.Errorf("%s, %s: %v, used %d of %d, %q, %v", tt.name, c.name, err, used, len(in), l.Subprotocol(), l.Compressed())
				}
				continue
			}
			var refused *websocket.HandshakeError
			if !errors.Is(err, session.ErrHandshake) || !errors.As(err, &refused) || refused.StatusCode() != tt.status || l.Pending() {
				t.Errorf("%s, %s: %v", tt.name, c.name, err)
			}
			l.Drop()
		}
	}
	noBuffers(t)
}

// Extensions are refused that were not offered.
func TestClientWithoutCompression(t *testing.T) {
	l, err := websocket.NewClient(websocket.Options{}, "ws://example.com/chat", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openAll(t, l, answer(l.Own(nil, true), both), cuts(0)[0]); !errors.Is(err, session.ErrHandshake) {
		t.Errorf("%v", err)
	}
}

// Each frame of a client has a key of its own, and its Framing is shared with no other session.
func TestClientMasks(t *testing.T) {
	l := dialled(t, websocket.Options{})
	keys := map[string]bool{}
	for range 100 {
		wire, err := l.Framer(0).Append(nil, []byte("same"))
		if err != nil || len(wire) != 10 {
			t.Fatalf("%x, %v", wire, err)
		}
		keys[string(wire[2:6])] = true
		if f := decode(t, wire, true); f[0] != (frame{fin | binaryOp, "same"}) {
			t.Fatalf("%q", f)
		}
	}
	if len(keys) < 99 {
		t.Errorf("%d keys for 100 frames", len(keys))
	}
	if a, b := dialled(t, websocket.Options{}), dialled(t, websocket.Options{}); a.Framing() == b.Framing() || a.Framing() == nil {
		t.Error("two clients share a Framing")
	}
}
