package websocket

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// dial is what a client keeps of its request until the answer comes.
type dial struct{ key string }

// ownHeaders are those that a client's request has of the layer.
var ownHeaders = []string{"Host", "Upgrade", "Connection", "Sec-Websocket-Key", "Sec-Websocket-Version", "Sec-Websocket-Protocol",
	"Sec-Websocket-Extensions", "Content-Length", "Transfer-Encoding"}

// NewClient returns the layer of a dialled connection. Own brings the request at once: for address, a ws or wss URL, whose host is sent as
// Host, with header besides. An entry of header for what the layer sends itself is an error, but for Host, which replaces the URL's. Of o
// it uses Subprotocols, Compression, MaxMessage, PingInterval, PongTimeout and Text. The caller has connected, and brings TLS for wss.
func NewClient(o Options, address string, header http.Header) (*Layer, error) {
	c, err := newConfig(o, true)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("websocket: %w", err)
	}
	if scheme := strings.ToLower(u.Scheme); scheme != "ws" && scheme != "wss" || u.Host == "" || u.Fragment != "" {
		return nil, fmt.Errorf("websocket: %q is no ws or wss URL with a host and without a fragment", address)
	}
	host := u.Host
	if h := header.Get("Host"); h != "" {
		host = h
	}
	if !validHost(host) {
		return nil, fmt.Errorf("websocket: %q is no host", host)
	}
	var random [16]byte
	rand.Read(random[:]) // never fails
	key := base64.StdEncoding.EncodeToString(random[:])
	out := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: %s\r\n"+
		"Sec-WebSocket-Version: 13\r\n", u.RequestURI(), host, key)
	if len(o.Subprotocols) > 0 {
		out = fmt.Appendf(out, "Sec-WebSocket-Protocol: %s\r\n", strings.Join(o.Subprotocols, ", "))
	}
	if o.Compression {
		out = fmt.Appendf(out, "Sec-WebSocket-Extensions: %s\r\n", deflateOffer)
	}
	if out, err = appendHeaders(out, header); err != nil {
		return nil, err
	}
	out = append(out, "\r\n"...)
	return &Layer{config: c, bits: noBits, due: dueHandshake, handshake: &handshake{out: out, dial: &dial{key}}}, nil
}

// validHost reports whether host has only what a Host line may have.
func validHost(host string) bool {
	return !strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r >= 0x7F || strings.ContainsRune("/\\\"<>?#@", r) })
}

// appendHeaders appends the caller's header lines, in order of their names.
func appendHeaders(out []byte, header http.Header) ([]byte, error) {
	names := make([]string, 0, len(header))
	for name := range header {
		switch canonical := http.CanonicalHeaderKey(name); {
		case !isToken(name):
			return nil, fmt.Errorf("websocket: %q is no name of a header", name)
		case canonical == "Host":
			continue
		case slices.Contains(ownHeaders, canonical):
			return nil, fmt.Errorf("websocket: header %s is the layer's own", canonical)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range header[name] {
			if strings.ContainsAny(value, "\r\n\x00") {
				return nil, fmt.Errorf("websocket: the value of header %s has a line's end in it", name)
			}
			out = fmt.Appendf(out, "%s: %s\r\n", name, value)
		}
	}
	return out, nil
}

// startsLikeHTTP reports whether b can be the beginning of an answer.
func startsLikeHTTP(b []byte) bool {
	const start = "HTTP/1."
	n := min(len(b), len(start))
	return string(b[:n]) == start[:n]
}

// openAnswer checks the server's answer: RFC 6455, section 4.1.
func (l *Layer) openAnswer(head []byte, complete bool) error {
	switch {
	case !startsLikeHTTP(head):
		return &HandshakeError{Text: "the server does not speak HTTP/1.1"}
	case len(head) > maxHead:
		return &HandshakeError{Text: fmt.Sprintf("the server's header has more than %d bytes", maxHead)}
	case !complete:
		return nil
	}
	var r *http.Response
	err := readHead(head, func(b *bufio.Reader) (err error) {
		if r, err = http.ReadResponse(b, nil); err == nil {
			r.Body = http.NoBody
		}
		return err
	})
	if err != nil {
		return &HandshakeError{Text: fmt.Sprintf("the server's answer is malformed: %v", err)}
	}
	if r.StatusCode >= 100 && r.StatusCode < 200 && r.StatusCode != http.StatusSwitchingProtocols {
		return nil // an interim answer; the next one follows
	}
	if text := l.checkResponse(r); text != "" {
		return &HandshakeError{Status: r.StatusCode, Text: text}
	}
	l.set(established)
	if l.due&dueHandshake == 0 {
		l.handshake.drop()
		l.handshake = nil
	}
	return nil
}

// checkResponse returns what is wrong with the server's answer, "" if nothing is, and takes over what was agreed on.
func (l *Layer) checkResponse(r *http.Response) (wrong string) {
	protocols := r.Header.Values("Sec-WebSocket-Protocol")
	switch {
	case r.StatusCode != http.StatusSwitchingProtocols:
		return "the server does not upgrade"
	case !hasToken(r.Header, "Upgrade", "websocket") || !hasToken(r.Header, "Connection", "Upgrade"):
		return "the answer has no Upgrade: websocket, or no Connection: Upgrade"
	case !slices.Equal(r.Header.Values("Sec-WebSocket-Accept"), []string{acceptKey(l.handshake.dial.key)}):
		return "Sec-WebSocket-Accept does not answer the key"
	case len(protocols) > 1:
		return "the answer has more than one subprotocol"
	case len(protocols) == 1:
		i := slices.Index(l.config.Subprotocols, protocols[0])
		if i < 0 {
			return fmt.Sprintf("the server chose the subprotocol %q, which was not offered", protocols[0])
		}
		l.subprotocol = uint8(i + 1)
	}
	answers, ok := parseExtensions(r.Header.Values("Sec-WebSocket-Extensions"))
	compressed, agreed := checkAnswer(answers, l.config.Compression)
	if !ok || !agreed {
		return "the server chose an extension that was not offered: " + strings.Join(r.Header.Values("Sec-WebSocket-Extensions"), ", ")
	}
	if compressed {
		l.bits = maxBits
	}
	return ""
}
