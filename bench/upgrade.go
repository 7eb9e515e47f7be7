package bench

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"golang.org/x/sys/unix"
)

// The upgrade of a connection to WebSocket (RFC 6455, 4). A request is made of two constant parts and a key, and the answer is parsed here and
// not by net/http: with churn there is one for each connection.

const (
	webSocketGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" // RFC 6455, 1.3
	mostAnswer    = 16 << 10
)

// upgradeRequest returns the request of a plan up to the key.
func (p *Plan) upgradeRequest() string {
	return "GET " + p.WS + " HTTP/1.1\r\nHost: " + p.httpHost() + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
}

// httpHost returns the value of the header Host.
func (p *Plan) httpHost() string {
	host := p.serverName()
	if _, port, err := net.SplitHostPort(p.Addr); err == nil && !strings.HasPrefix(p.Addr, "unix:") {
		return net.JoinHostPort(host, port)
	}
	return host
}

func (p *Plan) validateWS() error {
	if p.WSText && p.WS == "" {
		return &PlanError{"ws-text", "", "it needs -ws"}
	}
	if p.WS == "" {
		return nil
	}
	for _, c := range []byte(p.WS) {
		if c <= ' ' || c >= 0x7f || c == '#' {
			return &PlanError{"ws", fmt.Sprintf("%q", p.WS), "write spaces, # and what is not ASCII with % escapes"}
		}
	}
	if p.WS[0] != '/' {
		return &PlanError{"ws", p.WS, "use the path of a URL, such as /ws"}
	}
	return nil
}

// upgradeKey returns the Sec-WebSocket-Key of a stream.
func (p *pattern) upgradeKey(id uint32) string {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], mix(p.seed^uint64(id)))
	binary.LittleEndian.PutUint64(b[8:], mix(p.seed^^uint64(id)))
	return base64.StdEncoding.EncodeToString(b[:])
}

// upgradeAccept returns the Sec-WebSocket-Accept that proves that a server has read the key.
func upgradeAccept(key string) string {
	sum := sha1.Sum([]byte(key + webSocketGUID))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// beginUpgrade sends the request.
func (w *worker) beginUpgrade(c *conn, now int64) {
	c.state = upgrading
	c.ws = &webSocket{since: now}
	c.ws.out = append(append(append(c.ws.out, w.targets[c.target].request...), w.run.pattern.upgradeKey(c.v.id)...), "\r\n\r\n"...)
	w.sendRequest(c)
}

// sendRequest sends what is left of the request, and reports whether the connection is still there.
func (w *worker) sendRequest(c *conn) bool {
	if errno := c.sendOwn(); errno != 0 && errno != unix.EAGAIN {
		w.upgradeFailed(c, errno, w.clock())
		return false
	}
	return true
}

// upgrade goes on with the upgrade of c after an event. If it ends well, it also reads what has come behind the answer.
func (w *worker) upgrade(c *conn, ev event) {
	if ev.writable && !w.sendRequest(c) || !ev.readable && !ev.closed {
		return
	}
	for {
		n, err := c.read(w.in)
		now := w.clock()
		switch {
		case err == unix.EAGAIN:
			return
		case err == unix.EINTR:
			continue
		case err == io.EOF || err == nil && n == 0:
			w.upgradeFailed(c, errors.New("the server closed the connection before it had answered"), now)
			return
		case err != nil:
			w.upgradeFailed(c, err, now)
			return
		}
		b := w.in[:n]
		if len(c.ws.answer) > 0 {
			c.ws.answer = append(c.ws.answer, b...)
			b = c.ws.answer
		}
		used, err := parseAnswer(b, upgradeAccept(w.run.pattern.upgradeKey(c.v.id)))
		switch {
		case err != nil:
			w.upgradeFailed(c, err, now)
			return
		case used > 0:
			w.upgraded(c, b[used:], now)
			if c.state == open && (n == len(w.in) || ev.closed || c.tls != nil) {
				w.read(c, ev.closed)
			}
			return
		case len(c.ws.answer) == 0:
			c.ws.answer = append(c.ws.answer, b...)
		}
	}
}

// upgraded begins the load on a connection that has been upgraded. rest is what came behind the answer.
func (w *worker) upgraded(c *conn, rest []byte, now int64) {
	c.ws.answer = nil
	w.rec.now.upgrades++
	if w.run.plan.Mode != Churn || w.run.measured(c.begun) {
		w.rec.time(upgradeTime, now-c.ws.since)
	}
	gen := c.gen
	w.established(c, now)
	if len(rest) > 0 && c.state == open && c.gen == gen {
		w.takeFrames(c, rest, now)
	}
}

// upgradeFailed closes a connection whose upgrade has failed, and counts it.
func (w *worker) upgradeFailed(c *conn, err error, now int64) {
	kind := Upgrade
	if k := classify(err); k != Other {
		kind = k
	}
	w.error(kind, 1, c, "WebSocket upgrade: "+err.Error(), now)
	w.hangUp(c)
	w.load.ended(w, c, now)
}

// parseAnswer parses the answer to a request and returns its length, or 0 if more of it has to come.
func parseAnswer(b []byte, accept string) (n int, err error) {
	const protocol = "HTTP/1."
	if got := b[:min(len(b), len(protocol))]; string(got) != protocol[:len(got)] {
		return 0, fmt.Errorf("the server does not speak HTTP: it sent %q", b[:min(len(b), 40)])
	}
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) > mostAnswer {
			return 0, fmt.Errorf("the header of the server's answer is longer than %d bytes", mostAnswer)
		}
		return 0, nil
	}
	head := string(b[:end])
	status, fields, _ := strings.Cut(head, "\r\n")
	if !strings.HasPrefix(status, "HTTP/1.1 101") {
		body, _, _ := strings.Cut(string(b[end+4:]), "\n")
		if body = strings.TrimSpace(body); body != "" {
			return 0, fmt.Errorf("the server answered %q: %.100q", status, body)
		}
		return 0, fmt.Errorf("the server answered %q", status)
	}
	return end + 4, checkFields(fields, accept)
}

// checkFields checks the header fields of an answer with status 101.
func checkFields(fields, accept string) error {
	var upgrade, connection, accepted bool
	for line := range strings.SplitSeq(fields, "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(name) {
		case "upgrade":
			upgrade = strings.EqualFold(value, "websocket")
		case "connection":
			for token := range strings.SplitSeq(value, ",") {
				connection = connection || strings.EqualFold(strings.TrimSpace(token), "upgrade")
			}
		case "sec-websocket-accept":
			if value != accept {
				return fmt.Errorf("the server's Sec-WebSocket-Accept is %q, not %q", value, accept)
			}
			accepted = true
		case "sec-websocket-extensions", "sec-websocket-protocol":
			return fmt.Errorf("the server's answer has %s, which was not asked for", line)
		}
	}
	switch {
	case !upgrade:
		return errors.New("the server's answer has no Upgrade: websocket")
	case !connection:
		return errors.New("the server's answer has no Connection: Upgrade")
	case !accepted:
		return errors.New("the server's answer has no Sec-WebSocket-Accept")
	}
	return nil
}
