package engine_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/session"
)

// behindProxy trusts who dials in tests.
var behindProxy = engine.ProxyProtocol(netip.MustParsePrefix("127.0.0.0/8"))

const (
	v1Header = "PROXY TCP4 192.0.2.1 198.51.100.2 12345 80\r\n"
	client   = "192.0.2.1:12345"
	server80 = "198.51.100.2:80"
)

// v2Header makes a header of version 2 for TCP, with a TLV of that size if it is not negative.
func v2Header(source, destination string, tlv int) string {
	a, b := netip.MustParseAddrPort(source), netip.MustParseAddrPort(destination)
	body := append(a.Addr().AsSlice(), b.Addr().AsSlice()...)
	body = binary.BigEndian.AppendUint16(body, a.Port())
	body = binary.BigEndian.AppendUint16(body, b.Port())
	if tlv >= 0 {
		body = append(body, 4)
		body = binary.BigEndian.AppendUint16(body, uint16(tlv))
		body = append(body, make([]byte, tlv)...)
	}
	family := byte(0x11)
	if a.Addr().Is6() {
		family = 0x21
	}
	h := append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21"), family)
	return string(append(binary.BigEndian.AppendUint16(h, uint16(len(body))), body...))
}

func TestProxyHeaders(t *testing.T) {
	v6 := [2]string{"[2001:db8::1]:443", "[2001:db8::2]:8443"}
	big := v2Header(client, server80, 3000)
	const own = "the connection's own"
	for _, tt := range []struct{ name, header, remote, local string }{
		{"v1", v1Header, client, server80},
		{"v1 IPv6", "PROXY TCP6 2001:db8::1 2001:db8::2 443 8443\r\n", v6[0], v6[1]},
		{"v1 mapped", "PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.2 12345 80\r\n", client, server80},
		{"v1 mixed", "PROXY TCP6 2001:db8::1 127.0.0.1 443 7843\r\n", v6[0], "127.0.0.1:7843"},
		{"v1 mixed the other way", "PROXY TCP4 192.0.2.1 2001:db8::2 12345 8443\r\n", client, v6[1]},
		{"v1 to a unix socket", "PROXY TCP4 192.0.2.1 unix:/run/x 12345 0\r\n", client, own},
		{"v1 unknown", "PROXY UNKNOWN\r\n", own, own},
		{"v1 unknown with addresses", "PROXY UNKNOWN 192.0.2.1 198.51.100.2 12345 80\r\n", own, own},
		{"v2", v2Header(client, server80, -1), client, server80},
		{"v2 IPv6", v2Header(v6[0], v6[1], 20), v6[0], v6[1]},
		{"v2 large", big, client, server80},
		{"v2 local", "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", own, own},
	} {
		t.Run(tt.name, func(t *testing.T) {
			kit.OnLoops(t, func(t *testing.T, loops int) {
				asked := make(chan netip.AddrPort, 8)
				s := kit.Serve(t, "tcp", engine.Options{Loops: loops}, kit.Hooks{Recv: kit.Echo}, behindProxy,
					engine.Admit(func(a netip.AddrPort) error { asked <- a; return nil }))
				all := []byte(tt.header + "\r\nPROXY me")
				for _, piece := range []int{len(all), len(tt.header), 7, 1} {
					c := s.Client()
					for b := range splitBy(all, piece) {
						kit.Write(t, c, b)
					}
					remote, local, admit := tt.remote, tt.local, tt.remote
					if remote == own {
						remote, admit = c.LocalAddr().String(), netip.AddrPort{}.String()
					}
					if local == own {
						local = c.RemoteAddr().String()
					}
					p := kit.Await(t, s.Arrivals, "OnConnected")
					kit.Expect(t, c, "\r\nPROXY me")
					if p.RemoteAddr().String() != remote || p.LocalAddr().String() != local {
						t.Errorf("addresses %v and %v, want %s and %s", p.RemoteAddr(), p.LocalAddr(), remote, local)
					}
					if a := kit.Await(t, asked, "Admit is called"); a.String() != admit {
						t.Errorf("Admit gets %v, want %s", a, admit)
					}
					kit.Exchange(t, c, "and on")
					kit.Must(t, c.Close())
					kit.Await(t, p.Ended, "OnDisconnected")
				}
				s.WantRefused(engine.Refused{})
			})
		})
	}
}

// splitBy yields b in pieces of n bytes.
func splitBy(b []byte, n int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			n := min(n, len(b))
			if !yield(b[:n]) {
				return
			}
			b = b[n:]
		}
	}
}

// The rules are for the client the header tells of.
func TestProxyGuard(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		s := kit.Serve(t, "tcp", engine.Options{Loops: loops}, kit.Hooks{Recv: kit.Echo}, behindProxy, engine.Guard(engine.Rules{
			Deny: prefixes("192.0.2.0/24"), MaxPerAddress: 1, RefusalMessage: []byte(goAway),
		}))
		as := func(source string) net.Conn {
			c := s.Client()
			kit.Write(t, c, []byte(v2Header(source, server80, -1)))
			return c
		}
		refused(t, as("192.0.2.9:1"), goAway)
		s.WantRefused(engine.Refused{Denied: 1})
		c, p := s.Accepted(as("192.0.3.9:1"))
		refused(t, as("192.0.3.9:2"), goAway)
		s.WantRefused(engine.Refused{Denied: 1, PerAddress: 1})
		other, _ := s.Accepted(as("192.0.3.10:1"))
		kit.Exchange(t, other, "one of many")
		kit.Must(t, c.Close())
		kit.Await(t, p.Ended, "OnDisconnected")
		kit.Eventually(t, "it has left", func() bool { return s.Stats().Total.Sessions == 1 })
		c, _ = s.Accepted(as("192.0.3.9:3"))
		kit.Exchange(t, c, "again")
	})
}

// What cannot become a header is refused at once: not by a timeout, which is a minute here, and not by an end.
func TestProxyRefuses(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		s := kit.Serve(t, "tcp", engine.Options{Loops: loops, FirstByteTimeout: time.Minute}, kit.Hooks{Recv: kit.Echo}, behindProxy)
		var want engine.Refused
		header := func(what string, f func(net.Conn)) {
			t.Helper()
			c := s.Client()
			f(c)
			want.ProxyHeader++
			s.WantRefused(want)
			if what != "" {
				closed(t, c)
			}
		}
		for _, b := range []string{
			"GET / HTTP/1.1\r\n\r\n", "p", "PROXY TCP5", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", "PROXY UNKNOWN\n", "PROXY TCP4 1.2.3.256",
			"PROXY TCP6 1.2.3.4 ::1 1 2\r\n", signature2 + "\x31", signature2 + "\x21\x03", signature2 + "\x21\x41", signature2 + "\x22",
			signature2 + "\x21\x00\x00\x07\x03\x00\x04abcd", v2Header(client, server80, 5000),
		} {
			header(b, func(c net.Conn) { kit.Write(t, c, []byte(b)) })
		}
		header("in pieces", func(c net.Conn) { kit.Write(t, c, []byte(v1Header[:20])); kit.Write(t, c, []byte("x y z\r\n")) })
		header("cut off", func(c net.Conn) { kit.Write(t, c, []byte(v1Header[:30])); kit.CloseWrite(t, c) })
		header("nothing", func(c net.Conn) { kit.CloseWrite(t, c) })
		header("", func(c net.Conn) { kit.Write(t, c, []byte(v1Header[:30])); kit.Reset(t, c) })
		header("", func(c net.Conn) { kit.Reset(t, c) })
		kit.Eventually(t, "all have left", func() bool { return s.Stats().Sessions == 0 })

		s = kit.Serve(t, "tcp", engine.Options{Loops: loops}, kit.Hooks{}, engine.ProxyProtocol(prefixes("10.0.0.0/8", "127.0.0.2/32")...))
		c := s.Client()
		closed(t, c)
		s.WantRefused(engine.Refused{Untrusted: 1})
		_, p := s.Accepted(func() net.Conn { c := s.ClientOf(from("127.0.0.2")); kit.Write(t, c, []byte(v1Header)); return c }())
		if p.RemoteAddr().String() != client {
			t.Errorf("RemoteAddr is %v, want %s", p.RemoteAddr(), client)
		}
	})
}

// A header that does not become whole is refused when its time is over, not before, however slowly it comes.
func TestProxyLate(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		const timeout = 200 * time.Millisecond
		s := kit.Serve(t, "tcp", engine.Options{Loops: loops, FirstByteTimeout: timeout}, kit.Hooks{Recv: kit.Echo}, behindProxy)
		for i, part := range []string{"", "P", v1Header[:len(v1Header)-1], v2Header(client, server80, 9)[:30]} {
			began := time.Now()
			c := s.Client()
			kit.Write(t, c, []byte(part))
			closed(t, c)
			if took := time.Since(began); took < timeout || took > kit.Patience {
				t.Errorf("part %d is refused after %v, want %v", i, took, timeout)
			}
			s.WantRefused(engine.Refused{ProxyLate: uint64(i + 1)})
		}
		began := time.Now()
		c := s.Client()
		for b := range splitBy([]byte(v1Header), 1) { // each byte is progress, and does not count
			if _, err := c.Write(b); err != nil || time.Since(began) > kit.Patience {
				break
			}
			time.Sleep(timeout / 20)
		}
		closed(t, c)
		if took := time.Since(began); took < timeout || took > kit.Patience {
			t.Errorf("byte by byte: refused after %v, want %v", took, timeout)
		}
		s.WantRefused(engine.Refused{ProxyLate: 5})
		kit.Eventually(t, "all have left", func() bool { return s.Stats().Sessions == 0 })
	})
}

// The log line says what is wrong with the header, quotes it, and has the proxy's address.
func TestProxyLog(t *testing.T) {
	kit.NoLeaks(t)
	for _, tt := range []struct {
		name, sent string
		end        bool
		within     time.Duration
		says       []string
	}{
		{"family", "PROXY TCP6 192.0.2.1 ::1 1 2\r\n", false, time.Minute, []string{"source is", "192.0.2.1", "want an address of TCP6", "PROXY TCP6 192.0.2.1 ::1 1 2"}},
		{"LF", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\nsecret", false, time.Minute, []string{"the line ends with LF, want CR LF", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2"}},
		{"no header", "GET /index.html?password=secret", false, time.Minute, []string{"neither version", "GET /index.html"}},
		{"checksum", signature2 + "\x21\x00\x00\x07\x03\x00\x04abcd", false, time.Minute, []string{"the header says 0x61626364", "QUIT"}},
		{"cut off", "PROXY TCP4 192.0.2", true, time.Minute, []string{"unexpected EOF after 18 bytes", "PROXY TCP4 192.0.2"}},
		{"late", "PROXY TCP4 192.0.2", false, 2 * time.Second, []string{"not whole within 2s: 18 bytes came", "PROXY TCP4 192.0.2"}},
		{"silent", "", false, 300 * time.Millisecond, []string{"not whole within 300ms: 0 bytes came"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			log := new(lockedBuffer)
			s := kit.Serve(t, "tcp", engine.Options{Loops: 1, FirstByteTimeout: tt.within, Logger: slog.New(slog.NewTextHandler(log, nil))},
				kit.Hooks{}, behindProxy)
			c := s.Client()
			kit.Write(t, c, []byte(tt.sent))
			if tt.end {
				kit.CloseWrite(t, c)
			}
			closed(t, c)
			kit.Eventually(t, "a line is logged", func() bool { return strings.Contains(log.String(), "because of its PROXY header") })
			for _, want := range append(tt.says, c.LocalAddr().String()) {
				if !strings.Contains(log.String(), want) {
					t.Errorf("the log does not say %q: %s", want, log.String())
				}
			}
			if line := log.String(); len(line) > 1000 || strings.Contains(line, "secret") || strings.Count(line, "\n") != 1 {
				t.Errorf("the log says %s", line)
			}
		})
	}
}

// Connections that end, in either way, before they have sent a byte are how some health checks look: counted, and not logged.
func TestProxyLogsNoEmptyConnection(t *testing.T) {
	kit.NoLeaks(t)
	log := new(lockedBuffer)
	s := kit.Serve(t, "tcp", engine.Options{Loops: 1, Logger: slog.New(slog.NewTextHandler(log, nil))}, kit.Hooks{}, behindProxy)
	for i := range 3 {
		c := s.Client()
		kit.Eventually(t, "it waits", func() bool { return s.Stats().Sessions == 1 })
		kit.Reset(t, c)
		s.WantRefused(engine.Refused{ProxyHeader: uint64(2*i + 1)})
		c = s.Client()
		kit.Eventually(t, "it waits", func() bool { return s.Stats().Sessions == 1 })
		kit.CloseWrite(t, c)
		closed(t, c)
		s.WantRefused(engine.Refused{ProxyHeader: uint64(2*i + 2)})
		kit.Eventually(t, "it has left", func() bool { return s.Stats().Sessions == 0 })
	}
	if log.String() != "" {
		t.Errorf("the log says %s", log)
	}
}

// E2 behind a header: a FIN that has come with it, or just after, ends the session once everything was delivered.
func TestProxyThenEnd(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		s := kit.Serve(t, "tcp", engine.Options{Loops: loops}, kit.Hooks{Recv: kit.Echo}, behindProxy)
		for _, first := range []int{0, 10, len(v1Header)} {
			for range 10 {
				c := s.Client()
				kit.Write(t, c, []byte(v1Header[:first]))
				if first == 10 {
					kit.Eventually(t, "it waits", func() bool { return s.Stats().Sessions == 1 })
				}
				kit.Write(t, c, []byte(v1Header[first:]+"last words"))
				kit.CloseWrite(t, c)
				kit.Must(t, kit.ReadAll(c, []byte("last words")))
				p := kit.Await(t, s.Arrivals, "OnConnected")
				kit.Await(t, p.Ended, "OnDisconnected")
				kit.WantError(t, "Err", p.Err(), session.ErrPeerClosed)
				kit.Eventually(t, "it has left", func() bool { return s.Stats().Sessions == 0 })
			}
		}
	})
}

// Who waits with half a header counts for MaxSessions, and goes when the engine ends.
func TestProxyWaiting(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		for _, end := range []func(*kit.Server) error{
			func(s *kit.Server) error { return s.Close() },
			func(s *kit.Server) error {
				ctx, cancel := context.WithTimeout(t.Context(), kit.Patience)
				defer cancel()
				return s.Shutdown(ctx)
			},
		} {
			s := kit.Serve(t, "tcp", engine.Options{Loops: loops, MaxSessions: 3}, kit.Hooks{}, behindProxy)
			var waiting []net.Conn
			for range 3 {
				c := s.Client()
				kit.Write(t, c, []byte(v1Header[:10]))
				waiting = append(waiting, c)
			}
			kit.Eventually(t, "all wait", func() bool { return s.Stats().Sessions == 3 })
			closed(t, s.Client())
			s.WantRefused(engine.Refused{Full: 1})
			if n := s.Stats().Total.Sessions; n != 0 {
				t.Errorf("%d sessions are open, want none", n)
			}
			began := time.Now()
			kit.Must(t, end(s))
			if took := time.Since(began); took > kit.Patience-time.Second {
				t.Errorf("the end took %v", took)
			}
			for _, c := range waiting {
				closed(t, c)
			}
			s.WantRefused(engine.Refused{Full: 1, Closing: 3})
		}
	})
}

// L4: Goexit in another session, or in the one whose header has just come, takes nothing from who waits.
func TestProxyGoexit(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		s := kit.Serve(t, "tcp", engine.Options{Loops: loops}, kit.Hooks{
			Connected: func(p *kit.Session) {
				if strings.HasPrefix(p.RemoteAddr().String(), "192.0.2.66:") {
					runtime.Goexit()
				}
			},
			Recv: func(p *kit.Session, data []byte) {
				if bytes.Equal(data, []byte("die")) {
					runtime.Goexit()
				}
				kit.Echo(p, data)
			},
		}, behindProxy)
		for range 10 {
			waits := s.Client()
			kit.Write(t, waits, []byte(v1Header[:10]))
			kit.Eventually(t, "it waits", func() bool { return s.Stats().Sessions == 1 })
			dies, p := s.Accepted(func() net.Conn { c := s.Client(); kit.Write(t, c, []byte(v1Header)); return c }())
			kit.Write(t, dies, []byte("die"))
			kit.Write(t, waits, []byte(v1Header[10:20]))
			kit.Await(t, p.Ended, "OnDisconnected")
			never := s.Client()
			kit.Write(t, never, []byte(v2Header("192.0.2.66:1", server80, -1)))
			q := kit.Await(t, s.Arrivals, "OnConnected")
			kit.Await(t, q.Ended, "OnDisconnected")
			if kit.WantError(t, "Err", q.Err(), session.ErrPanic); errors.Is(q.Err(), session.ErrPeerClosed) {
				t.Errorf("Err %v", q.Err())
			}
			kit.Write(t, waits, []byte(v1Header[20:]+"hello"))
			kit.Expect(t, waits, "hello")
			r := kit.Await(t, s.Arrivals, "OnConnected")
			kit.Must(t, waits.Close())
			kit.Await(t, r.Ended, "OnDisconnected")
			kit.Eventually(t, "all have left", func() bool { return s.Stats().Sessions == 0 })
		}
	})
}
