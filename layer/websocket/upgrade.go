package websocket

import (
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// isUpgrade reports whether r asks for WebSocket on that path, "" for any.
func isUpgrade(r *http.Request, path string) bool {
	return (path == "" || r.URL.Path == path) && asksUpgrade(r)
}

// IsUpgrade reports whether r asks for WebSocket on the path of Options. It may be refused all the same.
func (s *Server) IsUpgrade(r *http.Request) bool { return isUpgrade(r, s.config.Path) }

func asksUpgrade(r *http.Request) bool {
	return hasToken(r.Header, "Connection", "Upgrade") && hasToken(r.Header, "Upgrade", "websocket")
}

// accept answers an upgrade with 101, or returns why not: RFC 6455, section 4.2.
func (l *Layer) accept(r *http.Request) *refusal {
	key, refused := l.checkRequest(r)
	if refused != nil {
		return refused
	}
	protocol := l.chooseSubprotocol(r.Header)
	bits, extension, refused := l.chooseExtension(r.Header)
	if refused != nil {
		return refused
	}
	if check := l.config.Check; check != nil {
		if err := check(r); err != nil {
			return checkRefused(err)
		}
	}
	out := append([]byte(nil), "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	out = append(append(out, acceptKey(key)...), "\r\n"...)
	if protocol > 0 {
		out = fmt.Appendf(out, "Sec-WebSocket-Protocol: %s\r\n", l.config.Subprotocols[protocol-1])
	}
	if extension != "" {
		out = fmt.Appendf(out, "Sec-WebSocket-Extensions: %s\r\n", extension)
	}
	l.handshake.out = append(out, "\r\n"...)
	l.due |= dueHandshake
	l.asked, l.subprotocol, l.bits = new(asked), protocol, bits
	l.asked.request.Store(r)
	l.set(established)
	return nil
}

// checkRequest returns the key of an upgrade that RFC 6455, section 4.2.1, and the options allow.
func (l *Layer) checkRequest(r *http.Request) (key string, refused *refusal) {
	keys := r.Header.Values("Sec-WebSocket-Key")
	switch {
	case l.config.Path != "" && r.URL.Path != l.config.Path:
		return "", refusef(http.StatusNotFound, "nothing is here; WebSocket is at another path")
	case !asksUpgrade(r):
		refused = refusef(http.StatusUpgradeRequired, "this is for WebSocket: send Connection: Upgrade and Upgrade: websocket")
		refused.header = http.Header{"Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}}
		return "", refused
	case r.Method != http.MethodGet:
		refused = refusef(http.StatusMethodNotAllowed, "an upgrade is a GET")
		refused.header = http.Header{"Allow": {http.MethodGet}}
		return "", refused
	case !r.ProtoAtLeast(1, 1):
		return "", refusef(http.StatusBadRequest, "an upgrade needs HTTP/1.1")
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		return "", refusef(http.StatusBadRequest, "an upgrade has no body")
	case r.Host == "":
		return "", refusef(http.StatusBadRequest, "the request has no Host")
	case !slices.Equal(r.Header.Values("Sec-WebSocket-Version"), []string{"13"}):
		refused = refusef(http.StatusUpgradeRequired, "the version of WebSocket here is 13")
		refused.header = http.Header{"Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}}
		return "", refused
	case len(keys) != 1 || !validKey(keys[0]):
		return "", refusef(http.StatusBadRequest, "Sec-WebSocket-Key is not 16 bytes in base64, once")
	case !allowsOrigin(r, l.config.Origins):
		return "", refusef(http.StatusForbidden, "pages of this origin may not connect")
	}
	return keys[0], nil
}

func validKey(key string) bool {
	raw, err := base64.StdEncoding.DecodeString(key)
	return err == nil && len(raw) == 16
}

// acceptKey returns the answer to a key: RFC 6455, section 4.2.2.
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// chooseSubprotocol returns the first of ours that the client offers, as Layer.subprotocol has it.
func (l *Layer) chooseSubprotocol(h http.Header) uint8 {
	for i, ours := range l.config.Subprotocols {
		found := false
		tokens(h, "Sec-WebSocket-Protocol", func(t string) bool {
			found = t == ours
			return !found
		})
		if found {
			return uint8(i + 1)
		}
	}
	return 0
}

// chooseExtension returns the window of our compressor, noBits for none, and what to answer.
func (l *Layer) chooseExtension(h http.Header) (bits uint8, answer string, refused *refusal) {
	offers, ok := parseExtensions(h.Values("Sec-WebSocket-Extensions"))
	if !ok {
		return noBits, "", refusef(http.StatusBadRequest, "Sec-WebSocket-Extensions is malformed")
	}
	if !l.config.Compression {
		return noBits, "", nil
	}
	bits, answer = answerDeflate(offers)
	return bits, answer, nil
}

// checkRefused is the refusal for an error of Options.Check. The client is told a StatusError's message, and no other error's text.
func checkRefused(err error) *refusal {
	r := &refusal{status: http.StatusForbidden, cause: err}
	var coded interface{ StatusCode() int }
	if errors.As(err, &coded) {
		if code := coded.StatusCode(); code >= 400 && code <= 599 {
			r.status = code
		}
	}
	var own *StatusError
	if errors.As(err, &own) {
		r.text = strings.TrimSpace(own.Message)
	}
	if r.text == "" {
		r.text = "refused"
		if text := http.StatusText(r.status); text != "" {
			r.text = text
		}
	}
	return r
}
