package guide_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

func Example_guard() {
	e := value(engine.New(engine.Options{MaxSessions: 1000, Logger: discard}))
	l := value(e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return new(counter) },
		engine.Guard(engine.Rules{
			Deny:          []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
			MaxPerAddress: 2,
			AcceptRate:    5, // new sessions a second for each address
			AcceptBurst:   20,
		})))
	must(e.Start())
	defer e.Close()

	for range 2 {
		c := value(net.Dial("tcp", l.Addr().String()))
		defer c.Close()
		fmt.Fprintln(c, "hello")
		value(c.Read(make([]byte, 100)))
	}
	third := value(net.Dial("tcp", l.Addr().String()))
	defer third.Close()
	_, err := io.ReadAll(third)
	fmt.Println(err, e.Stats().Refused.PerAddress)
	// Output: <nil> 1
}

var errBanned = errors.New("banned")

func Example_admit() {
	e := value(engine.New(engine.Options{Logger: discard}))
	l := value(e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return new(counter) },
		engine.Admit(func(remote netip.AddrPort) error { // on the event loops: look in memory, do not wait
			if remote.Addr().IsLoopback() {
				return errBanned
			}
			return nil
		})))
	must(e.Start())
	defer e.Close()

	c := value(net.Dial("tcp", l.Addr().String()))
	defer c.Close()
	io.ReadAll(c)
	fmt.Println(e.Stats().Refused.Admit)
	// Output: 1
}

func Example_proxy() {
	proxies := netip.MustParsePrefix("127.0.0.0/8")
	e := value(engine.New(engine.Options{}))
	events := session.Events{OnConnected: func(s *session.Session, remote net.Addr) { s.Send(fmt.Appendln(nil, remote)) }}
	l := value(e.Listen("tcp", "127.0.0.1:0", events.Factory(), engine.ProxyProtocol(proxies)))
	must(e.Start())
	defer e.Close()

	// What a proxy sends before the client's bytes.
	fmt.Println(ask(l.Addr(), "PROXY TCP4 203.0.113.7 192.0.2.1 50000 7777\r"))
	// Output: 203.0.113.7:50000
}
