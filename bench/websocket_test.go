package bench

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/steady"
)

// Each mode works over WebSocket as without, with TLS below it or not, counts and times its upgrades, and verifies every byte.
func TestWebSocketInEachMode(t *testing.T) {
	a := newAuthority(t)
	for _, tt := range []struct {
		name   string
		tls    bool
		change func(*Plan)
	}{
		{"echo", false, func(p *Plan) {}},
		{"echo", true, func(p *Plan) {}},
		{"text", false, func(p *Plan) { p.WSText = true }},
		{"text", true, func(p *Plan) { p.WSText, p.Size = true, 5000 }},
		{"deep echo", false, func(p *Plan) { p.Depth, p.Size = 16, 3000 }},
		{"deep echo", true, func(p *Plan) { p.Depth, p.Size = 16, 125 }},
		{"large echo", false, func(p *Plan) { p.Size = 1_300_000 }},
		{"large text", true, func(p *Plan) { p.Size, p.WSText = 300_000, true }},
		{"one byte", false, func(p *Plan) { p.Size = 1 }},
		{"one byte", true, func(p *Plan) { p.Size, p.WSText = 1, true }},
		{"rate", false, func(p *Plan) { p.Mode, p.Rate = Rate, 2000 }},
		{"rate", true, func(p *Plan) { p.Mode, p.Rate = Rate, 2000 }},
		{"idle", false, func(p *Plan) { p.Mode, p.Conns, p.Active = Idle, 30, 3 }},
		{"ramp", false, func(p *Plan) {
			p.Mode, p.Conns, p.ConnectRate, p.Every, p.Duration = Ramp, 20, 200, 5*time.Millisecond, time.Second // on a busy machine, too
		}},
		{"churn", false, func(p *Plan) { p.Mode, p.Messages = Churn, 3 }},
		{"churn", true, func(p *Plan) { p.Mode, p.TLSResume = Churn, true }},
		{"churn with resets", false, func(p *Plan) { p.Mode, p.Linger0 = Churn, true }},
		{"fanout", false, func(p *Plan) { p.Mode, p.Conns = Fanout, 8 }},
		{"fanout of text", true, func(p *Plan) { p.Mode, p.Conns, p.WSText = Fanout, 8, true }},
		{"fanout stream", false, func(p *Plan) { p.Mode, p.Conns, p.Stream, p.Size = Fanout, 8, true, 500 }},
		{"fanout with pings", false, func(p *Plan) { p.Mode, p.Conns, p.Stream, p.Seed = Fanout, 8, true, 2 }},
	} {
		t.Run(fmt.Sprintf("%s/tls=%v", tt.name, tt.tls), func(t *testing.T) {
			steady.Run(t, func(t testing.TB) {
				p := short(Echo, "")
				p.WS = "/ws?a=b"
				tt.change(&p)
				var with *authority
				if tt.tls {
					p.TLS, p.TLSPin, with = true, a.pin, a
				}
				serve := wsEcho
				if p.Mode == Fanout {
					serve = wsBroadcast(p.Seed == 2)
				}
				p.Addr = wsPeer(t, with, func(n int, s *wsServer) {
					if s.request.URL.String() != "/ws?a=b" || s.request.Host != s.LocalAddr().String() {
						t.Errorf("asked for %s of %s", s.request.URL, s.request.Host)
					}
					serve(n, s)
				})
				r := carryOut(t, p)
				wantErrors(t, r, nil)
				none := r.Totals.Messages+r.Totals.AfterEnd == 0
				if p.Mode == Idle && r.Totals.Planned == 0 { // on a machine too busy to plan any
					none = false
				}
				if none || r.Totals.Upgrades == 0 || r.Totals.Upgrades != r.Totals.ConnsOpened ||
					tt.tls != (r.Totals.Handshakes == r.Totals.Upgrades) {
					t.Errorf("totals %+v", r.Totals)
				}
				if r.Parameters.WS != p.WS || r.Parameters.WSText != p.WSText || r.Totals.BytesVerified != uint64(r.Parameters.SizeBytes)*r.Totals.Messages {
					t.Errorf("parameters %+v, totals %+v", r.Parameters, r.Totals)
				}
				d := r.Find("upgrade")
				if d == nil || d.Count == 0 || d.Count > r.Totals.Upgrades || p.Mode != Churn && d.Count != r.Totals.Upgrades || d.P50 <= 0 {
					t.Errorf("%d upgrades, timed %+v", r.Totals.Upgrades, d)
				}
			})
		})
	}
}

// A unix socket has no host; the request names localhost.
func TestWebSocketOverUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
			close(served)
			return
		}
		defer c.Close()
		s, err := wsAccept(c)
		if err != nil {
			t.Error(err)
			close(served)
			return
		}
		wsEcho(0, s)
		served <- s.request.Host
	}()
	p := short(Echo, "unix:"+path)
	p.Conns, p.WS = 1, "/"
	r := carryOut(t, p)
	wantErrors(t, r, nil)
	if host := <-served; host != "localhost" || r.Totals.Messages == 0 {
		t.Errorf("host %q, totals %+v", host, r.Totals)
	}
	l.Close()
}

// -tls-name is the name for SNI, for the certificate and for the request.
func TestTLSName(t *testing.T) {
	a := newAuthority(t)
	p := short(Echo, "")
	p.TLS, p.TLSCA, p.TLSName, p.WS = true, a.file, "elsewhere.example", "/"
	p.Addr = wsPeer(t, a, func(n int, s *wsServer) {
		_, port, _ := net.SplitHostPort(s.LocalAddr().String())
		if got := sni(s.Conn); got != p.TLSName || s.request.Host != p.TLSName+":"+port {
			t.Errorf("SNI %q, host %q", got, s.request.Host)
		}
		wsEcho(n, s)
	})
	wantErrors(t, carryOut(t, p), nil)
	p.TLSName = "nowhere.example"
	if _, err := Run(t.Context(), p, Options{}); !errors.Is(err, ErrNoConnection) || !strings.Contains(err.Error(), "not nowhere.example") {
		t.Errorf("error %v", err)
	}
}

// A message may come in any number of frames, with control frames between them and cut anywhere. Pings are answered.
func TestWebSocketFragments(t *testing.T) {
	for _, size := range []int{1, 64, 1000} {
		enough := make(chan struct{})
		var pongs atomic.Int32
		addr := wsPeer(t, nil, func(n int, s *wsServer) {
			for n := 0; ; n++ {
				first, m, err := s.read()
				if err != nil || first == closeFrame {
					return
				}
				ping := []byte(fmt.Sprint("ping ", n))
				var b []byte
				b = append(b, frame(first&^finBit, nil)...)
				b = append(b, frame(pingFrame, ping)...)
				b = append(b, frame(opContinuation, m[:n%len(m)])...)
				b = append(b, frame(pongFrame, nil)...)
				b = append(b, frame(opContinuation, m[n%len(m):])...)
				b = append(b, frame(finBit|opContinuation, nil)...)
				for len(b) > 0 {
					k := min(len(b), 1+n%7*(1+n%31))
					if _, err := s.Write(b[:k]); err != nil {
						return
					}
					b = b[k:]
				}
				if first, m, err = s.read(); err != nil || first != pongFrame || !bytes.Equal(m, ping) {
					if err == nil && first != closeFrame {
						t.Errorf("frame %x %q, not a pong with %q", first, m, ping)
					}
					return
				}
				if pongs.Add(1) == 300 {
					close(enough)
				}
			}
		})
		p := short(Echo, addr)
		p.WS, p.Size = "/", size
		r := carryOutUntil(t, p, enough)
		wantErrors(t, r, nil)
		if r.Totals.Messages+r.Totals.AfterEnd < 300-uint64(p.Conns) { // the last pong may leave before the end of its message has come
			t.Errorf("size %d: %d messages", size, r.Totals.Messages)
		}
	}
}

// A server that takes little at a time gets every byte all the same, and pongs stand between messages.
func TestWebSocketFullSocket(t *testing.T) {
	var pongs atomic.Int32
	p := short(Echo, peer(t, func(n int, c *net.TCPConn) {
		c.SetReadBuffer(64 << 10)
		s, err := wsAccept(c)
		if err != nil {
			return
		}
		for range 20 {
			s.Write(frame(pingFrame, make([]byte, controlMax)))
		}
		for {
			first, m, err := s.read()
			switch {
			case err != nil || first == closeFrame:
				return
			case first == pongFrame:
				pongs.Add(1)
			default:
				s.Write(frame(pingFrame, []byte("between")))
				if _, err := s.Write(frame(first, m)); err != nil {
					return
				}
			}
		}
	}))
	p.WS, p.Size, p.Conns = "/", 4<<20, 2
	r := carryOut(t, p)
	wantErrors(t, r, nil)
	if r.Totals.Messages+r.Totals.AfterEnd < 2 || pongs.Load() < 40 {
		t.Errorf("%d pongs, totals %+v", pongs.Load(), r.Totals)
	}
}

// Each fault of a server in a message is one error of its kind, says what came, and the run goes on.
func TestWebSocketLies(t *testing.T) {
	for _, tt := range []struct {
		name string
		text bool
		size int
		lie  func(first byte, m []byte) []byte
		want map[Kind]func(uint64) bool
		says string
	}{
		{"wrong byte", false, 64, func(first byte, m []byte) []byte { m[40] ^= 1; return frame(first, m) },
			map[Kind]func(uint64) bool{WrongBytes: exactly(1)}, "near message 11"},
		{"wrong byte in the header", false, 64, func(first byte, m []byte) []byte { m[9] ^= 1; return frame(first, m) },
			map[Kind]func(uint64) bool{WrongBytes: exactly(1)}, "near message 11"},
		{"wrong byte in a short message", true, 5, func(first byte, m []byte) []byte { m[4] ^= 1; return frame(first, m) },
			map[Kind]func(uint64) bool{WrongBytes: exactly(1)}, "near message 11"},
		{"wrong byte in text", true, 64, func(first byte, m []byte) []byte { m[3] ^= 0x80; return frame(first, m) },
			map[Kind]func(uint64) bool{WrongBytes: exactly(1)}, "near message 11"},
		{"truncated", false, 64, func(first byte, m []byte) []byte { return frame(first, m[:63]) },
			map[Kind]func(uint64) bool{WrongMessage: exactly(1)}, "a message of 63 bytes came in place of 64"},
		{"truncated within the header", false, 64, func(first byte, m []byte) []byte { return frame(first, m[:7]) },
			map[Kind]func(uint64) bool{WrongMessage: exactly(1)}, "a message of 7 bytes came in place of 64"},
		{"truncated short message", false, 8, func(first byte, m []byte) []byte { return frame(first, m[:7]) },
			map[Kind]func(uint64) bool{WrongMessage: exactly(1)}, "a message of 7 bytes came in place of 8"},
		{"empty", false, 64, func(first byte, m []byte) []byte { return frame(first, nil) },
			map[Kind]func(uint64) bool{WrongMessage: exactly(1)}, "a message of 0 bytes"},
		{"too long", false, 64, func(first byte, m []byte) []byte { return frame(first, append(m, 0)) },
			map[Kind]func(uint64) bool{WrongMessage: exactly(1)}, "a message of 65 bytes"},
		{"split", false, 64, func(first byte, m []byte) []byte { return append(frame(first, m[:32]), frame(first, m[32:])...) },
			map[Kind]func(uint64) bool{WrongMessage: exactly(2)}, "a message of 32 bytes"},
		{"repeated", false, 64, func(first byte, m []byte) []byte { return append(frame(first, m), frame(first, m)...) },
			map[Kind]func(uint64) bool{RepeatedMessage: exactly(1)}, "near message 11"},
		{"binary in place of text", true, 64, func(_ byte, m []byte) []byte { return frame(binaryFrame, m) },
			map[Kind]func(uint64) bool{WrongMessage: exactly(1)}, "a binary message came in place of text"},
		{"text in place of binary", false, 64, func(_ byte, m []byte) []byte { return frame(textFrame, m) },
			map[Kind]func(uint64) bool{WrongMessage: exactly(1)}, "a text message came in place of a binary one"},
		{"nobody has asked", false, 64, func(first byte, m []byte) []byte { return append(frame(first, m), frame(first, make([]byte, 64))...) },
			map[Kind]func(uint64) bool{WrongBytes: exactly(1)}, "near message 11"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			enough := make(chan struct{})
			p := short(Echo, wsPeer(t, nil, wsAnswers(func(n int, first byte, m []byte) []byte {
				switch n {
				case 10:
					return tt.lie(first, m)
				case goneOn:
					close(enough)
				}
				return frame(first, m)
			})))
			p.WS, p.WSText, p.Size, p.Conns = "/", tt.text, tt.size, 1
			r := carryOutUntil(t, p, enough)
			wantErrors(t, r, tt.want)
			if len(r.ErrorSamples) == 0 || !strings.Contains(r.ErrorSamples[0].Detail, tt.says) {
				t.Errorf("samples %+v do not say %q", r.ErrorSamples, tt.says)
			}
		})
	}
}

// With several messages in flight, a message that was left out is lost, and two in one are two errors.
func TestWebSocketLiesWithDepth(t *testing.T) {
	for name, want := range map[string]map[Kind]func(uint64) bool{
		"dropped": {LostMessage: exactly(1)}, "merged": {WrongMessage: exactly(1), LostMessage: exactly(1)},
	} {
		enough := make(chan struct{})
		var kept []byte
		p := short(Echo, wsPeer(t, nil, wsAnswers(func(n int, first byte, m []byte) []byte {
			switch {
			case n == 10:
				kept = m
				return nil
			case n == 11 && name == "merged":
				return frame(first, append(kept, m...))
			case n == goneOn:
				close(enough)
			}
			return frame(first, m)
		})))
		p.WS, p.Conns, p.Depth = "/", 1, 4
		wantErrors(t, carryOutUntil(t, p, enough), want)
	}
}

// A connection that the server ends, in order or not, is an error that says how, and so is one that breaks the rules.
func TestWebSocketEnds(t *testing.T) {
	closing := func(code uint16, reason string) []byte {
		return frame(closeFrame, append(binary.BigEndian.AppendUint16(nil, code), reason...))
	}
	message := bytes.Repeat([]byte{7}, 64)
	for _, tt := range []struct {
		name string
		send []byte
		kind Kind
		says string
		code uint16 // of the close frame that the client sends; 0 if it sends none
	}{
		{"too big", closing(1009, ""), EarlyEnd, "the server closed the WebSocket with code 1009 (message too big)", 1009},
		{"a reason", closing(4000, "no more"), EarlyEnd, `code 4000: "no more"`, 4000},
		{"no code", frame(closeFrame, nil), EarlyEnd, "without a code", 1000},
		{"FIN", nil, EarlyEnd, "without a close frame", 1000},
		{"FIN in a head", []byte{binaryFrame}, EarlyEnd, "within a message, after 0 bytes of it", 1000},
		{"FIN in a message", frame(binaryFrame, message)[:30], EarlyEnd, "within a message, after 28 bytes of it", 1000},
		{"FIN between frames", frame(opBinary, message[:9]), EarlyEnd, "within a message, after 9 bytes of it", 1000},
		{"a mask", []byte{binaryFrame, 0x80 | 64, 1, 2, 3, 4}, Protocol, "has a mask", 1002},
		{"a reserved bit", []byte{binaryFrame | 0x40, 64}, Protocol, "a reserved bit", 1002},
		{"an unknown opcode", []byte{0x83, 64}, Protocol, "unknown opcode 3", 1002},
		{"a control frame in parts", []byte{opPing, 0}, Protocol, "a control frame is in parts", 1002},
		{"a long ping", []byte{pingFrame, 126, 0, 126}, Protocol, "longer than 125 bytes", 1002},
		{"nothing to continue", []byte{finBit, 64}, Protocol, "none has begun", 1002},
		{"a message within another", []byte{opBinary, 0, binaryFrame, 64}, Protocol, "before the last frame of the one before", 1002},
		{"a long length", []byte{binaryFrame, 126, 0, 125}, Protocol, "shortest form", 1002},
		{"a longer length", []byte{binaryFrame, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, Protocol, "shortest form", 1002},
		{"a negative length", []byte{binaryFrame, 127, 0x80, 0, 0, 0, 0, 0, 0, 0}, Protocol, "the highest bit", 1002},
	} {
		t.Run(tt.name, func(t *testing.T) {
			steady.Run(t, func(t testing.TB) {
				codes := make(chan uint16, 4)
				p := short(Echo, wsPeer(t, nil, func(_ int, s *wsServer) {
					s.read()
					s.Write(tt.send)
					s.Conn.(*net.TCPConn).CloseWrite()
					for {
						first, m, err := s.read()
						if first == closeFrame && len(m) == 2 {
							codes <- binary.BigEndian.Uint16(m)
							return
						}
						if err != nil {
							codes <- 0
							return
						}
					}
				}))
				p.WS = "/"
				r := carryOut(t, p)
				wantErrors(t, r, map[Kind]func(uint64) bool{tt.kind: exactly(uint64(p.Conns))})
				if len(r.ErrorSamples) == 0 || !strings.Contains(r.ErrorSamples[0].Detail, tt.says) {
					t.Errorf("samples %+v do not say %q", r.ErrorSamples, tt.says)
				}
				for range p.Conns {
					if code := <-codes; code != tt.code {
						t.Errorf("the client closed with %d, not %d", code, tt.code)
					}
				}
			})
		})
	}
}

// At the end of a run every connection closes with 1000.
func TestWebSocketCloses(t *testing.T) {
	codes := make(chan []byte, 8)
	p := short(Echo, wsPeer(t, nil, func(_ int, s *wsServer) {
		for {
			first, m, err := s.read()
			if err != nil || first == closeFrame {
				codes <- m
				return
			}
			s.Write(frame(first, m))
		}
	}))
	p.WS = "/"
	wantErrors(t, carryOut(t, p), nil)
	for range p.Conns {
		if m := <-codes; !bytes.Equal(m, []byte{1000 >> 8, 1000 & 0xff}) {
			t.Errorf("closed with % x", m)
		}
	}
}

// What is not an upgrade ends the run, with an error that says what the server did.
func TestWebSocketRefused(t *testing.T) {
	a := newAuthority(t)
	silent := make(chan struct{})
	defer close(silent)
	const switching = "HTTP/1.1 101 Switching Protocols\r\n"
	answers := func(text string) string {
		return peer(t, func(_ int, c *net.TCPConn) {
			c.Write([]byte(text))
			io.Copy(io.Discard, c)
		})
	}
	for _, tt := range []struct {
		name, addr string
		change     func(*Plan)
		want       string
	}{
		{"403", answers("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"), nil, `the server answered "HTTP/1.1 403 Forbidden"`},
		{"403 with a text", answers("HTTP/1.1 403 Forbidden\r\n\r\norigin not allowed\nbye"), nil, `"HTTP/1.1 403 Forbidden": "origin not allowed"`},
		{"200", answers("HTTP/1.1 200 OK\r\n\r\n"), nil, `the server answered "HTTP/1.1 200 OK"`},
		{"not HTTP", answers("220 welcome\r\n"), nil, `the server does not speak HTTP: it sent "220 welcome\r\n"`},
		{"another key", answers(switching + "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"), nil,
			"Sec-WebSocket-Accept is"},
		{"no key", answers(switching + "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"), nil, "no Sec-WebSocket-Accept"},
		{"no Upgrade", answers(switching + "Connection: Upgrade\r\n\r\n"), nil, "no Upgrade: websocket"},
		{"no Connection", answers(switching + "Upgrade: websocket\r\n\r\n"), nil, "no Connection: Upgrade"},
		{"an extension", answers(switching + "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"), nil, "permessage-deflate, which was not asked for"},
		{"an endless header", answers(switching + strings.Repeat("A: b\r\n", mostAnswer/6+100)), nil, "longer than 16384 bytes"},
		{"a close", peer(t, func(_ int, c *net.TCPConn) { c.CloseWrite(); io.Copy(io.Discard, c) }), nil, "closed the connection before it had answered"},
		{"silence", peer(t, func(_ int, c *net.TCPConn) { <-silent }), func(p *Plan) { p.Timeout = 100 * time.Millisecond }, "not done 100ms after the connect"},
		{"silence behind TLS", a.peer(t, tlsEcho), func(p *Plan) { p.TLS, p.TLSPin = true, a.pin }, "the server does not speak HTTP: it sent \"GET /"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := short(Echo, tt.addr)
			p.WS = "/"
			if tt.change != nil {
				tt.change(&p)
			}
			r, err := Run(t.Context(), p, Options{})
			if !errors.Is(err, ErrNoConnection) || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v does not say %q", err, tt.want)
			}
			wantErrors(t, r, map[Kind]func(uint64) bool{Upgrade: exactly(uint64(p.Conns))})
			if r.Totals.Upgrades != 0 || r.Totals.ConnsOpened != 0 {
				t.Errorf("totals %+v", r.Totals)
			}
		})
	}
}

// An answer may come byte by byte, and frames with its end: no event follows them.
func TestWebSocketBytesWithTheUpgrade(t *testing.T) {
	for _, together := range []bool{false, true} {
		p := short(Idle, peer(t, func(_ int, c *net.TCPConn) {
			slow := &patient{Conn: c}
			s, err := wsAccept(slow)
			if err != nil {
				t.Error(err)
				return
			}
			s.Write(frame(binaryFrame, make([]byte, 64))) // nobody has asked for it
			if together {
				slow.flush()
			}
			for i := range slow.kept {
				c.Write(slow.kept[i : i+1])
			}
			io.Copy(io.Discard, c)
		}))
		p.WS = "/"
		r := carryOut(t, p)
		wantErrors(t, r, map[Kind]func(uint64) bool{WrongBytes: exactly(uint64(p.Conns))})
		if r.Totals.Upgrades != uint64(p.Conns) {
			t.Errorf("totals %+v", r.Totals)
		}
	}
}

// A plan with settings of WebSocket that do not fit is refused, with what to do.
func TestWebSocketPlans(t *testing.T) {
	for _, tt := range []struct {
		plan Plan
		want string // "" for none
	}{
		{Plan{WS: "/"}, ""},
		{Plan{WS: "/a%20b?c=d&e", WSText: true}, ""},
		{Plan{WSText: true}, "ws-text: it needs -ws"},
		{Plan{WS: "ws"}, "use the path of a URL"},
		{Plan{WS: "ws://host/ws"}, "use the path of a URL"},
		{Plan{WS: "/a b"}, "% escapes"},
		{Plan{WS: "/a\r\nX: y"}, "% escapes"},
		{Plan{WS: "/a#b"}, "% escapes"},
		{Plan{TLSName: "example.org"}, "tls-name example.org: it needs -tls"},
		{Plan{TLS: true, TLSName: "example.org\r\n"}, "use the name of a host"},
	} {
		tt.plan.Mode, tt.plan.Addr = Echo, "127.0.0.1:1"
		err := tt.plan.Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.plan, err, tt.want)
		}
	}
	for want, p := range map[string]Plan{
		"example.org:81": {Addr: "example.org:81"}, "[::1]:1": {Addr: "[::1]:1"}, "localhost:1": {Addr: ":1"}, "localhost": {Addr: "unix:/a:b"},
		"other:1": {Addr: "127.0.0.1:1", TLSName: "other"},
	} {
		if got := p.httpHost(); got != want {
			t.Errorf("%+v asks for the host %q", p, got)
		}
	}
}
