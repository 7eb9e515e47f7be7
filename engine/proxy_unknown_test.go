package engine_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
)

// signature2 begins a header of version 2.
const signature2 = "\r\n\r\n\x00\r\nQUIT\n"

// noClient has headers that tell of no client; writeHeader sends one.
var noClient = []struct{ name, header string }{
	{"v1 UNKNOWN", "PROXY UNKNOWN\r\n"},
	{"v1 UNKNOWN with addresses", "PROXY UNKNOWN 127.0.0.1 127.0.0.1 1 2\r\n"},
	{"v2 LOCAL", signature2 + "\x20\x00\x00\x00"},
	{"v2 LOCAL with addresses", signature2 + "\x20\x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01\x00\x01\x00\x02"},
	{"v2 UNSPEC", signature2 + "\x21\x00\x00\x00"},
	{"v2 AF_UNIX", signature2 + "\x21\x31\x00\xd8" + strings.Repeat("\x00", 216)},
	{"v1 the connection's own addresses", ownV1},
	{"v2 the connection's own addresses", ownV2},
	{"v2 datagrams", signature2 + "\x21\x12\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01\x00\x01\x00\x02"},
}

const ownV1, ownV2 = "own, version 1", "own, version 2"

// writeHeader sends a header, or one that repeats the addresses of c.
func writeHeader(t *testing.T, c net.Conn, header string) {
	source, destination := c.LocalAddr().(*net.TCPAddr), c.RemoteAddr().(*net.TCPAddr)
	switch header {
	case ownV1:
		family := 4
		if source.IP.To4() == nil {
			family = 6
		}
		header = fmt.Sprintf("PROXY TCP%d %v %v %d %d\r\n", family, source.IP, destination.IP, source.Port, destination.Port)
	case ownV2:
		header = v2Header(source.String(), destination.String(), -1)
	}
	kit.Write(t, c, []byte(header))
}

// A connection whose client nobody told, as a proxy's health check is, is not judged by the proxy's address, and not counted for it.
func TestProxyUnknownClient(t *testing.T) {
	for name, rules := range map[string]engine.Rules{
		"Allow":         {Allow: prefixes("192.0.2.0/24")},
		"Deny":          {Deny: prefixes("127.0.0.0/8", "::/0", "0.0.0.0/1")},
		"MaxPerAddress": {MaxPerAddress: 1},
		"AcceptRate":    {AcceptRate: 1e-6, AcceptBurst: 1},
	} {
		t.Run(name, func(t *testing.T) {
			kit.OnLoops(t, func(t *testing.T, loops int) {
				s := kit.Serve(t, "tcp", engine.Options{Loops: loops}, kit.Hooks{Recv: kit.Echo}, behindProxy, engine.Guard(rules))
				open := func(header string) (net.Conn, *kit.Session) {
					return s.Accepted(func() net.Conn { c := s.Client(); writeHeader(t, c, header); return c }())
				}
				for range 2 { // before a client has the proxy's address, and while it has
					for _, tt := range noClient {
						c, p := open(tt.header)
						kit.Exchange(t, c, tt.name)
						if p.RemoteAddr().String() != c.LocalAddr().String() || p.LocalAddr().String() != c.RemoteAddr().String() {
							t.Errorf("%s: addresses %v and %v, want the connection's own", tt.name, p.RemoteAddr(), p.LocalAddr())
						}
					}
					s.WantRefused(engine.Refused{})
					if len(rules.Allow)+len(rules.Deny) == 0 && s.Stats().Accepted == uint64(len(noClient)) {
						open("PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n")
					}
				}
				// The client's address is judged as ever, and those without one have left no mark on it.
				same := s.Client()
				kit.Write(t, same, []byte("PROXY TCP4 127.0.0.1 127.0.0.1 3 4\r\n"))
				closed(t, same)
				for i := range 2 { // one of the connection's own two addresses is not both
					same = s.Client()
					a := [2]string{same.LocalAddr().String(), same.RemoteAddr().String()}
					a[i] = "127.0.0.1:99"
					kit.Write(t, same, []byte(v2Header(a[0], a[1], -1)))
					closed(t, same)
				}
				want := engine.Refused{Denied: 3}
				switch name {
				case "MaxPerAddress":
					want = engine.Refused{PerAddress: 3}
				case "AcceptRate":
					want = engine.Refused{AcceptRate: 3}
				}
				s.WantRefused(want)
			})
		})
	}
}

// A listener on all addresses, of both families, knows the connection's own addresses for what they are.
func TestProxyUnknownClientOnAllAddresses(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		s := kit.Prepare(t, "tcp", "[::]:0", engine.Options{Loops: loops}, kit.Hooks{Recv: kit.Echo},
			engine.ProxyProtocol(prefixes("127.0.0.1/32", "::1/128")...), engine.Guard(engine.Rules{Allow: prefixes("192.0.2.0/24")}))
		kit.Must(t, s.Start())
		for _, ip := range []string{"127.0.0.1", "::1"} {
			address := net.JoinHostPort(ip, fmt.Sprint(s.Listener.Addr().(*net.TCPAddr).Port))
			for _, header := range []string{ownV1, ownV2, noClient[0].header} {
				c, err := net.Dial("tcp", address)
				kit.Must(t, err)
				defer c.Close()
				kit.Must(t, c.SetDeadline(time.Now().Add(3*kit.Patience)))
				writeHeader(t, c, header)
				_, p := s.Accepted(c)
				if kit.Exchange(t, c, "ping"); p.RemoteAddr().String() != c.LocalAddr().String() || p.LocalAddr().String() != address {
					t.Errorf("%s: addresses %v and %v, want %v and %s", header, p.RemoteAddr(), p.LocalAddr(), c.LocalAddr(), address)
				}
			}
		}
		s.WantRefused(engine.Refused{})
	})
}

// Admit and MaxSessions are asked about them all the same, and a refusal has its message.
func TestProxyUnknownClientIsRefused(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		s := kit.Serve(t, "tcp", engine.Options{Loops: loops, MaxSessions: 2}, kit.Hooks{Recv: kit.Echo}, behindProxy,
			engine.Guard(engine.Rules{Allow: prefixes("192.0.2.0/24"), RefusalMessage: []byte(goAway)}),
			engine.Admit(func(a netip.AddrPort) error {
				if !a.IsValid() {
					return errors.New("no health checks here")
				}
				return nil
			}))
		for i, tt := range noClient {
			c := s.Client()
			writeHeader(t, c, tt.header)
			refused(t, c, goAway)
			s.WantRefused(engine.Refused{Admit: uint64(i + 1)})
		}
		kit.Eventually(t, "all have left", func() bool { return s.Stats().Sessions == 0 })
	})
	kit.OnLoops(t, func(t *testing.T, loops int) {
		s := kit.Serve(t, "tcp", engine.Options{Loops: loops, MaxSessions: len(noClient)}, kit.Hooks{Recv: kit.Echo}, behindProxy)
		for _, tt := range noClient {
			c := s.Client()
			writeHeader(t, c, tt.header)
			s.Accepted(c)
		}
		closed(t, s.Client())
		s.WantRefused(engine.Refused{Full: 1})
	})
}
