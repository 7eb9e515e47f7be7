package bench

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
)

// wsServer is the server's side of one WebSocket: what the tests need of RFC 6455, written apart from the code that they test.
type wsServer struct {
	net.Conn
	in      *bufio.Reader
	request *http.Request
}

// wsAccept takes the request of a client and answers it.
func wsAccept(c net.Conn) (*wsServer, error) {
	s := &wsServer{Conn: c, in: bufio.NewReader(c)}
	r, err := http.ReadRequest(s.in)
	if err != nil {
		return nil, err
	}
	key := r.Header.Get("Sec-WebSocket-Key")
	raw, err := base64.StdEncoding.DecodeString(key)
	if err != nil || len(raw) != 16 || r.Method != "GET" || r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Connection") != "Upgrade" ||
		r.Header.Get("Sec-WebSocket-Version") != "13" {
		return nil, fmt.Errorf("the request is not one for WebSocket: %+v", r)
	}
	s.request = r
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	_, err = fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: keep-alive, upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
	return s, err
}

// read reads a frame. What a client must not send is an error.
func (s *wsServer) read() (first byte, payload []byte, err error) {
	var head [14]byte
	if _, err := io.ReadFull(s.in, head[:2]); err != nil {
		return 0, nil, err
	}
	n, more := uint64(head[1]&0x7f), 0
	switch n {
	case 126:
		more = 2
	case 127:
		more = 8
	}
	if _, err := io.ReadFull(s.in, head[2:2+more+4]); err != nil {
		return 0, nil, err
	}
	switch more {
	case 2:
		n = uint64(binary.BigEndian.Uint16(head[2:]))
	case 8:
		n = binary.BigEndian.Uint64(head[2:])
	}
	if head[1]&0x80 == 0 || more == 2 && n < 126 || more == 8 && n < 65536 {
		return 0, nil, fmt.Errorf("the head %x of a frame has no mask, or a length that could be shorter", head[:2+more])
	}
	key := head[2+more:]
	payload = make([]byte, n)
	if _, err := io.ReadFull(s.in, payload); err != nil {
		return 0, nil, errors.Join(errors.New("within a frame"), err)
	}
	for i := range payload {
		payload[i] ^= key[i%4]
	}
	return head[0], payload, nil
}

// frame returns a server's frame.
func frame(first byte, payload []byte) []byte {
	var b []byte
	switch n := len(payload); {
	case n < 126:
		b = []byte{first, byte(n)}
	case n < 65536:
		b = binary.BigEndian.AppendUint16([]byte{first, 126}, uint16(n))
	default:
		b = binary.BigEndian.AppendUint64([]byte{first, 127}, uint64(n))
	}
	return append(b, payload...)
}

const (
	textFrame   = 0x81
	binaryFrame = 0x82
	closeFrame  = 0x88
	pingFrame   = 0x89
	pongFrame   = 0x8a
)

// wsPeer is a server of WebSocket, by TLS if a is not nil.
func wsPeer(t testing.TB, a *authority, serve func(n int, s *wsServer)) string {
	upgraded := func(n int, c net.Conn) {
		s, err := wsAccept(c)
		switch {
		case err == nil:
			serve(n, s)
		case !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && s != nil:
			t.Error(err)
		}
	}
	if a != nil {
		return peer(t, func(n int, c *net.TCPConn) {
			s := a.server(c)
			upgraded(n, s)
			s.Close()
		})
	}
	return peer(t, func(n int, c *net.TCPConn) { upgraded(n, c) })
}

// wsEcho sends messages back.
func wsEcho(n int, s *wsServer) {
	wsAnswers(func(_ int, first byte, m []byte) []byte { return frame(first, m) })(n, s)
}

// wsAnswers sends what answer makes of each message, by its number on the connection, until the client closes.
func wsAnswers(answer func(n int, first byte, m []byte) []byte) func(int, *wsServer) {
	return func(_ int, s *wsServer) {
		for n := 0; ; {
			first, m, err := s.read()
			switch {
			case err != nil:
				return
			case first == closeFrame:
				s.Write(frame(closeFrame, m))
				return
			case first == pongFrame:
			default:
				if reply := answer(n, first, m); len(reply) > 0 {
					if _, err := s.Write(reply); err != nil {
						return
					}
				}
				n++
			}
		}
	}
}

// wsBroadcast sends what one client sends to every other one, as binary messages.
func wsBroadcast(ping bool) func(int, *wsServer) {
	var mu sync.Mutex
	members := map[*wsServer]bool{}
	return func(_ int, s *wsServer) {
		mu.Lock()
		members[s] = true
		if ping {
			s.Write(frame(pingFrame, []byte("hello")))
		}
		mu.Unlock()
		for n := 0; ; n++ {
			first, m, err := s.read()
			mu.Lock()
			if err != nil || first == closeFrame {
				delete(members, s)
				mu.Unlock()
				return
			}
			if ping && n%8 == 0 && first != pongFrame {
				s.Write(frame(pingFrame, bytes.Repeat([]byte{byte(n)}, 125)))
			}
			for o := range members {
				if o != s && first != pongFrame {
					o.Write(frame(binaryFrame, m))
				}
			}
			mu.Unlock()
		}
	}
}
