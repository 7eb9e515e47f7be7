package servercore_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
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
	for _, tt := range []struct{ name, header, remote, local string }{
		{"v1", v1Header, client, server80},
		{"v1 IPv6", "PROXY TCP6 2001:db8::1 2001:db8::2 443 8443\r\n", v6[0], v6[1]},
		{"v1 unknown", "PROXY UNKNOWN\r\n", "", ""},
		{"v2", v2Header(client, server80, -1), client, server80},
		{"v2 IPv6", v2Header(v6[0], v6[1], 20), v6[0], v6[1]},
		{"v2 large", big, client, server80},
		{"v2 local", "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onLoops(t, func(t *testing.T, loops int) {
				asked := make(chan netip.AddrPort, 8)
				s := serve(t, "tcp", engine.Options{Loops: loops}, hooks{recv: echo}, behindProxy,
					engine.Admit(func(a netip.AddrPort) error { asked <- a; return nil }))
				all := []byte(tt.header + "\r\nPROXY me")
				for _, piece := range []int{len(all), len(tt.header), 7, 1} {
					c := s.dial()
					for b := range splitBy(all, piece) {
						write(t, c, b)
					}
					remote, local := tt.remote, tt.local
					if remote == "" {
						remote, local = c.LocalAddr().String(), c.RemoteAddr().String()
					}
					p := await(t, s.arrivals, "OnConnected")
					expect(t, c, "\r\nPROXY me")
					if p.RemoteAddr().String() != remote || p.LocalAddr().String() != local {
						t.Errorf("addresses %v and %v, want %s and %s", p.RemoteAddr(), p.LocalAddr(), remote, local)
					}
					if a := await(t, asked, "Admit is called"); a.String() != remote {
						t.Errorf("Admit gets %v, want %s", a, remote)
					}
					exchange(t, c, "and on")
					must(t, c.Close())
					await(t, p.ended, "OnDisconnected")
				}
				s.wantRefused(engine.Refused{})
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
	onLoops(t, func(t *testing.T, loops int) {
		s := serve(t, "tcp", engine.Options{Loops: loops}, hooks{recv: echo}, behindProxy, engine.Guard(engine.Rules{
			Deny: prefixes("192.0.2.0/24"), MaxPerAddress: 1, Farewell: []byte(goAway),
		}))
		as := func(source string) net.Conn {
			c := s.dial()
			write(t, c, []byte(v2Header(source, server80, -1)))
			return c
		}
		refused(t, as("192.0.2.9:1"), goAway)
		s.wantRefused(engine.Refused{Denied: 1})
		c, p := s.session(as("192.0.3.9:1"))
		refused(t, as("192.0.3.9:2"), goAway)
		s.wantRefused(engine.Refused{Denied: 1, PerAddress: 1})
		other, _ := s.session(as("192.0.3.10:1"))
		exchange(t, other, "one of many")
		must(t, c.Close())
		await(t, p.ended, "OnDisconnected")
		eventually(t, "it has left", func() bool { return s.Stats().Total.Sessions == 1 })
		c, _ = s.session(as("192.0.3.9:3"))
		exchange(t, c, "again")
	})
}

func TestProxyRefuses(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		o := engine.Options{Loops: loops, FirstByteTimeout: 100 * time.Millisecond}
		s := serve(t, "tcp", o, hooks{recv: echo}, behindProxy)
		var want engine.Refused
		header := func(what string, f func(net.Conn)) {
			t.Helper()
			c := s.dial()
			f(c)
			want.ProxyHeader++
			s.wantRefused(want)
			if _, ok := c.(resetConn); !ok && what != "" {
				closed(t, c)
			}
		}
		header("not a header", func(c net.Conn) { write(t, c, []byte("GET / HTTP/1.1\r\n\r\n")) })
		header("in pieces", func(c net.Conn) { write(t, c, []byte(v1Header[:20])); write(t, c, []byte("x y z\r\n")) })
		header("oversized", func(c net.Conn) { write(t, c, []byte(v2Header(client, server80, 5000))) })
		header("cut off", func(c net.Conn) { write(t, c, []byte(v1Header[:30])); closeWrite(t, c) })
		header("nothing", func(c net.Conn) { closeWrite(t, c) })
		header("", func(c net.Conn) { write(t, c, []byte(v1Header[:30])); reset(t, c) })
		for i, part := range []string{"", "P", v1Header[:len(v1Header)-1], v2Header(client, server80, 9)[:30]} {
			c := s.dial()
			write(t, c, []byte(part))
			closed(t, c)
			want.ProxyLate++
			if s.wantRefused(want); t.Failed() {
				t.Fatalf("part %d", i)
			}
		}
		eventually(t, "nobody is left", func() bool { return s.Stats().Sessions == 0 })

		s = serve(t, "tcp", engine.Options{Loops: loops}, hooks{}, engine.ProxyProtocol(prefixes("10.0.0.0/8", "127.0.0.2/32")...))
		c := s.dial()
		closed(t, c)
		s.wantRefused(engine.Refused{Untrusted: 1})
		_, p := s.session(func() net.Conn { c := s.dialWith(from("127.0.0.2")); write(t, c, []byte(v1Header)); return c }())
		if p.RemoteAddr().String() != client {
			t.Errorf("RemoteAddr is %v, want %s", p.RemoteAddr(), client)
		}
	})
}

// E2 behind a header: a FIN that has come with it, or just after, ends the session once everything was delivered.
func TestProxyThenEnd(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		s := serve(t, "tcp", engine.Options{Loops: loops}, hooks{recv: echo}, behindProxy)
		for _, first := range []int{0, 10, len(v1Header)} {
			for range 10 {
				c := s.dial()
				write(t, c, []byte(v1Header[:first]))
				if first == 10 {
					eventually(t, "it waits", func() bool { return s.Stats().Sessions == 1 })
				}
				write(t, c, []byte(v1Header[first:]+"last words"))
				closeWrite(t, c)
				must(t, readAll(c, []byte("last words")))
				p := await(t, s.arrivals, "OnConnected")
				await(t, p.ended, "OnDisconnected")
				wantError(t, "Err", p.Err(), session.ErrPeerClosed)
				eventually(t, "it has left", func() bool { return s.Stats().Sessions == 0 })
			}
		}
	})
}

// Who waits with half a header counts for MaxSessions, and goes when the engine ends.
func TestProxyWaiting(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		for _, end := range []func(*server) error{
			func(s *server) error { return s.Close() },
			func(s *server) error {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				return s.Shutdown(ctx)
			},
		} {
			s := serve(t, "tcp", engine.Options{Loops: loops, MaxSessions: 3}, hooks{}, behindProxy)
			var waiting []net.Conn
			for range 3 {
				c := s.dial()
				write(t, c, []byte(v1Header[:10]))
				waiting = append(waiting, c)
			}
			eventually(t, "all wait", func() bool { return s.Stats().Sessions == 3 })
			closed(t, s.dial())
			s.wantRefused(engine.Refused{Full: 1})
			if n := s.Stats().Total.Sessions; n != 0 {
				t.Errorf("%d sessions are open, want none", n)
			}
			began := time.Now()
			must(t, end(s))
			if took := time.Since(began); took > patience-time.Second {
				t.Errorf("the end took %v", took)
			}
			for _, c := range waiting {
				closed(t, c)
			}
			s.wantRefused(engine.Refused{Full: 1, Closing: 3})
		}
	})
}

// L4: Goexit in another session, or in the one whose header has just come, takes nothing from who waits.
func TestProxyGoexit(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		s := serve(t, "tcp", engine.Options{Loops: loops}, hooks{
			connected: func(p *peer) {
				if strings.HasPrefix(p.RemoteAddr().String(), "192.0.2.66:") {
					runtime.Goexit()
				}
			},
			recv: func(p *peer, data []byte) {
				if bytes.Equal(data, []byte("die")) {
					runtime.Goexit()
				}
				echo(p, data)
			},
		}, behindProxy)
		for range 10 {
			waits := s.dial()
			write(t, waits, []byte(v1Header[:10]))
			eventually(t, "it waits", func() bool { return s.Stats().Sessions == 1 })
			dies, p := s.session(func() net.Conn { c := s.dial(); write(t, c, []byte(v1Header)); return c }())
			write(t, dies, []byte("die"))
			write(t, waits, []byte(v1Header[10:20]))
			await(t, p.ended, "OnDisconnected")
			never := s.dial()
			write(t, never, []byte(v2Header("192.0.2.66:1", server80, -1)))
			q := await(t, s.arrivals, "OnConnected")
			await(t, q.ended, "OnDisconnected")
			if wantError(t, "Err", q.Err(), session.ErrPanic); errors.Is(q.Err(), session.ErrPeerClosed) {
				t.Errorf("Err %v", q.Err())
			}
			write(t, waits, []byte(v1Header[20:]+"hello"))
			expect(t, waits, "hello")
			r := await(t, s.arrivals, "OnConnected")
			must(t, waits.Close())
			await(t, r.ended, "OnDisconnected")
			eventually(t, "all have left", func() bool { return s.Stats().Sessions == 0 })
		}
	})
}
