package layer_test

import (
	"bytes"
	"compress/flate"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// The peers of the simulator. They share no code with the layers: TLS is crypto/tls itself, WebSocket is written here.

// simMessage is one message, or with TLS alone a piece of the stream.
type simMessage struct {
	text bool
	data string
}

// simPipe is the wire under the peer's crypto/tls. It waits for input in the handshake, and says that a read would block later.
type simPipe struct {
	mu      sync.Mutex
	come    *sync.Cond
	in, out []byte
	waits   bool
	news    func()
}

type simWouldBlock struct{}

func (simWouldBlock) Error() string   { return "would block" }
func (simWouldBlock) Timeout() bool   { return true }
func (simWouldBlock) Temporary() bool { return true }

func (p *simPipe) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.in) == 0 && p.waits {
		p.come.Wait()
	}
	if len(p.in) == 0 {
		return 0, simWouldBlock{}
	}
	n := copy(b, p.in)
	p.in = p.in[n:]
	return n, nil
}

func (p *simPipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	p.out = append(p.out, b...)
	p.mu.Unlock()
	p.news()
	return len(b), nil
}

func (p *simPipe) give(b []byte) {
	p.mu.Lock()
	p.in = append(p.in, b...)
	p.mu.Unlock()
	p.come.Broadcast()
}

func (p *simPipe) takeOut() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.out
	p.out = nil
	return b
}

func (*simPipe) Close() error                     { return nil }
func (*simPipe) LocalAddr() net.Addr              { return nil }
func (*simPipe) RemoteAddr() net.Addr             { return nil }
func (*simPipe) SetDeadline(time.Time) error      { return nil }
func (*simPipe) SetReadDeadline(time.Time) error  { return nil }
func (*simPipe) SetWriteDeadline(time.Time) error { return nil }

// simPeer is the other side of a connection.
type simPeer struct {
	random     *rand.Rand
	client     bool
	webSocket  bool
	compresses bool // permessage-deflate is offered and agreed to
	pipe       *simPipe
	tls        *tls.Conn // nil without TLS

	out  []byte // made and not sent
	sent int    // bytes sent

	// What has come.
	plain  []byte // not taken apart
	up     bool   // the upgrade is done
	got    []simMessage
	bytes  int   // of got
	code   int   // of the close frame, 0 before it, 1005 for one without a code
	tlsEnd bool  // close_notify has come
	fault  error // what is wrong with what has come
	alert  error // the error of crypto/tls for a fatal alert
	asked  []int // pings that have come: where the pong ends in the bytes sent, 0 for none yet
	mute   bool  // it does not answer pings
	pings  []string
	closed bool // it has made its close frame, or close_notify
}

func newSimPeer(random *rand.Rand, client, secure, webSocket, compresses bool, config *tls.Config, news func()) *simPeer {
	p := &simPeer{random: random, client: client, webSocket: webSocket, compresses: compresses}
	if secure {
		p.pipe = &simPipe{waits: true, news: news}
		p.pipe.come = sync.NewCond(&p.pipe.mu)
		if client {
			p.tls = tls.Client(p.pipe, config)
		} else {
			p.tls = tls.Server(p.pipe, config)
		}
	}
	return p
}

// seal makes wire bytes of plain ones.
func (p *simPeer) seal(b []byte) {
	if p.tls == nil {
		p.out = append(p.out, b...)
		return
	}
	if _, err := p.tls.Write(b); err != nil && p.alert == nil {
		p.fault = fmt.Errorf("the peer's Write: %w", err)
	}
	p.out = append(p.out, p.pipe.takeOut()...)
}

// take takes wire bytes.
func (p *simPeer) take(b []byte) {
	if p.tls == nil {
		p.takePlain(b)
		return
	}
	p.pipe.give(b)
	for buf := make([]byte, 4<<10); ; {
		n, err := p.tls.Read(buf)
		p.takePlain(buf[:n])
		switch {
		case err == nil:
			continue
		case err == io.EOF:
			p.tlsEnd = true
			if len(p.pipe.in) > 0 {
				p.fault = errors.New("bytes behind close_notify")
			}
		case errors.As(err, new(simWouldBlock)):
		default:
			if p.alert == nil {
				p.alert = err
			}
		}
		p.out = append(p.out, p.pipe.takeOut()...)
		return
	}
}

func (p *simPeer) takePlain(b []byte) {
	switch {
	case len(b) == 0:
	case !p.webSocket:
		p.got, p.bytes = append(p.got, simMessage{data: string(b)}), p.bytes+len(b)
	default:
		p.plain = append(p.plain, b...)
		if !p.up {
			p.takeHead()
		}
		for p.up && p.fault == nil && p.takeFrame() {
		}
	}
}

// request makes the client's request.
func (p *simPeer) request() {
	extension := ""
	if p.compresses {
		extension = "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover\r\n"
	}
	p.seal([]byte("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + extension + "\r\n"))
}

// takeHead takes the other side's request or answer.
func (p *simPeer) takeHead() {
	head, rest, ok := bytes.Cut(p.plain, []byte("\r\n\r\n"))
	if !ok {
		return
	}
	p.up, p.plain = true, rest
	if p.client {
		if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) || p.compresses != bytes.Contains(head, []byte("permessage-deflate")) {
			p.fault = fmt.Errorf("the answer is %q", head)
		}
		return
	}
	_, key, _ := strings.Cut(string(head), "Sec-WebSocket-Key: ")
	key, _, _ = strings.Cut(key, "\r\n")
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	extension := ""
	if p.compresses {
		extension = "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover\r\n"
	}
	p.seal([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: " +
		base64.StdEncoding.EncodeToString(sum[:]) + "\r\n" + extension + "\r\n"))
}

// takeFrame takes one frame apart, and reports whether there was a whole one.
func (p *simPeer) takeFrame() bool {
	b := p.plain
	if len(b) < 2 {
		return false
	}
	first, n, at := b[0], int(b[1]&0x7f), 2
	switch {
	case n == 126 && len(b) >= 4:
		n, at = int(binary.BigEndian.Uint16(b[2:])), 4
	case n == 127 && len(b) >= 10:
		n, at = int(binary.BigEndian.Uint64(b[2:])), 10
	case n >= 126:
		return false
	}
	masked := b[1]&0x80 != 0
	var mask []byte
	if masked {
		if len(b) < at+4 {
			return false
		}
		mask, at = b[at:at+4], at+4
	}
	if len(b) < at+n {
		return false
	}
	payload := slices.Clone(b[at : at+n])
	for i := range payload {
		if masked {
			payload[i] ^= mask[i%4]
		}
	}
	p.plain = b[at+n:]
	switch {
	case masked == p.client:
		p.fault = fmt.Errorf("a frame is masked: %t", masked)
	case p.code != 0:
		p.fault = fmt.Errorf("a frame that begins with %#x behind the close frame", first)
	default:
		p.fault = p.takePayload(first, payload)
	}
	return true
}

func (p *simPeer) takePayload(first byte, payload []byte) error {
	switch first {
	case 0x81, 0x82, 0xc1, 0xc2:
		if first&0x40 != 0 {
			if !p.compresses {
				return errors.New("a compressed message, which was not agreed on")
			}
			r := flate.NewReader(io.MultiReader(bytes.NewReader(payload), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff")))
			var err error
			if payload, err = io.ReadAll(r); err != nil {
				return fmt.Errorf("a compressed message: %w", err)
			}
		}
		text := first&0x0f == 1
		if text && !utf8.Valid(payload) {
			return errors.New("a text that is not UTF-8")
		}
		p.got, p.bytes = append(p.got, simMessage{text, string(payload)}), p.bytes+len(payload)
	case 0x88:
		p.code = 1005
		if len(payload) == 1 {
			return errors.New("a close frame of one byte")
		} else if len(payload) > 1 {
			p.code = int(binary.BigEndian.Uint16(payload))
		}
	case 0x89:
		p.asked = append(p.asked, 0)
		if !p.mute && !p.closed {
			p.frame(0x8a, payload)
			p.asked[len(p.asked)-1] = p.sent + len(p.out)
		}
	case 0x8a:
		i := slices.Index(p.pings, string(payload)) // older ones may be left out
		if i < 0 {
			return fmt.Errorf("a pong of %q for the pings %q", payload, p.pings)
		}
		p.pings = p.pings[i+1:]
	default:
		return fmt.Errorf("a frame that begins with %#x", first)
	}
	return nil
}

// frame makes a frame.
func (p *simPeer) frame(first byte, payload []byte) {
	bit := byte(0)
	if p.client {
		bit = 0x80
	}
	b := []byte{first, bit | byte(len(payload))}
	switch n := len(payload); {
	case n >= 1<<16:
		b = binary.BigEndian.AppendUint64([]byte{first, bit | 127}, uint64(n))
	case n >= 126:
		b = binary.BigEndian.AppendUint16([]byte{first, bit | 126}, uint16(n))
	}
	at := len(b)
	var mask [4]byte
	if p.client {
		binary.BigEndian.PutUint32(mask[:], p.random.Uint32())
		at += 4
		b = append(b, mask[:]...)
	}
	b = append(b, payload...)
	for i := range payload {
		b[at+i] ^= mask[i%4]
	}
	p.seal(b)
}

var simDeflaters = sync.Pool{New: func() any {
	w, _ := flate.NewWriter(nil, 1) // fails only for a level that there is not
	return w
}}

// send makes a message: as frames of any size, with pings between, compressed or not.
func (p *simPeer) send(m simMessage) {
	if !p.webSocket {
		p.seal([]byte(m.data))
		return
	}
	payload, first := []byte(m.data), byte(0x02)
	if m.text {
		first = 0x01
	}
	if p.compresses && p.random.IntN(2) == 0 {
		var b bytes.Buffer
		w := simDeflaters.Get().(*flate.Writer)
		defer simDeflaters.Put(w)
		w.Reset(&b)
		_, _ = w.Write(payload)
		_ = w.Flush()
		payload, first = bytes.TrimSuffix(b.Bytes(), []byte{0, 0, 0xff, 0xff}), first|0x40
	}
	for p.random.IntN(3) == 0 {
		n := p.random.IntN(len(payload) + 1)
		p.frame(first, payload[:n])
		payload, first = payload[n:], 0x00
		if p.random.IntN(2) == 0 {
			p.ping()
		}
	}
	p.frame(first|0x80, payload)
}

func (p *simPeer) ping() {
	payload := fmt.Sprintf("%d%*s", len(p.out)+p.sent, p.random.IntN(100), "")
	p.pings = append(p.pings, payload)
	p.frame(0x89, []byte(payload))
}

// finish makes the last words: the close frame, and close_notify.
func (p *simPeer) finish() {
	if p.closed {
		return
	}
	p.closed = true
	if p.webSocket {
		code := p.code
		if code == 0 {
			code = 1000
		}
		if code == 1005 {
			p.frame(0x88, nil)
		} else {
			p.frame(0x88, binary.BigEndian.AppendUint16(nil, uint16(code)))
		}
	}
	if p.tls != nil {
		_ = p.tls.CloseWrite()
		p.out = append(p.out, p.pipe.takeOut()...)
	}
}

// next returns the next n bytes to send.
func (p *simPeer) next(n int) []byte {
	n = min(n, len(p.out))
	b := p.out[:n]
	p.out = p.out[n:]
	p.sent += n
	return b
}
