package engine_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/session"
)

// from returns a dialler that comes from an address of the loopback.
func from(address string) net.Dialer {
	return net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
}

func prefixes(s ...string) (list []netip.Prefix) {
	for _, p := range s {
		list = append(list, netip.MustParsePrefix(p))
	}
	return list
}

// refused reads what a refused connection is told, to its end in order.
func refused(t testing.TB, c net.Conn, message string) {
	t.Helper()
	if got, err := io.ReadAll(c); err != nil || string(got) != message {
		t.Errorf("a refused connection reads %q, %v, want %q and its end", got, err, message)
	}
}

// closed waits until the server has closed the connection, in whatever way.
func closed(t testing.TB, c net.Conn) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d, %v, want the end", n, err)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

const goAway = "go away\n"

func TestGuardLetsIn(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		s := kit.Serve(t, "tcp", engine.Options{Loops: loops, LingerTimeout: 50 * time.Millisecond}, kit.Hooks{Recv: kit.Echo}, engine.Guard(engine.Rules{
			Allow:          prefixes("127.0.0.0/16", "127.1.0.1/32"),
			Deny:           prefixes("127.0.9.0/24"),
			MaxPerAddress:  2,
			AcceptRate:     0.001,
			AcceptBurst:    4,
			RefusalMessage: []byte(goAway),
		}))
		refused(t, s.ClientOf(from("127.0.9.1")), goAway)
		refused(t, s.ClientOf(from("127.2.0.1")), goAway)
		s.WantRefused(engine.Refused{Denied: 2})
		first, p := s.Accepted(s.ClientOf(from("127.0.0.7")))
		kit.Exchange(t, first, "one")
		second, _ := s.Accepted(s.ClientOf(from("127.0.0.7")))
		kit.Exchange(t, second, "two")
		refused(t, s.ClientOf(from("127.0.0.7")), goAway)
		s.WantRefused(engine.Refused{Denied: 2, PerAddress: 1})
		other, _ := s.Accepted(s.ClientOf(from("127.1.0.1")))
		kit.Exchange(t, other, "another")
		for range 2 { // two tokens are left
			kit.Must(t, first.Close())
			kit.Await(t, p.Ended, "the session ends")
			kit.Eventually(t, "it has left", func() bool { return s.Stats().Total.Sessions == 2 })
			first, p = s.Accepted(s.ClientOf(from("127.0.0.7")))
			kit.Exchange(t, first, "again")
		}
		kit.Must(t, first.Close())
		kit.Await(t, p.Ended, "the session ends")
		kit.Eventually(t, "it has left", func() bool { return s.Stats().Total.Sessions == 2 })
		refused(t, s.ClientOf(from("127.0.0.7")), goAway)
		s.WantRefused(engine.Refused{Denied: 2, PerAddress: 1, AcceptRate: 1})
		kit.Exchange(t, second, "still served")
	})
}

func TestAdmit(t *testing.T) {
	kit.OnNetworks(t, func(t *testing.T, network string, loops int) {
		var answer atomic.Value
		type ask func(netip.AddrPort) error
		answer.Store(ask(func(netip.AddrPort) error { return nil }))
		var made atomic.Int32
		log := new(lockedBuffer)
		s := kit.NewServer(t, engine.Options{Loops: loops, Logger: slog.New(slog.NewTextHandler(log, nil))}, kit.Hooks{Recv: kit.Echo})
		asked := make(chan netip.AddrPort, 16)
		opts := kit.InMode(t, engine.Options{Loops: loops}, []engine.Option{engine.Admit(func(a netip.AddrPort) error {
			asked <- a
			return answer.Load().(ask)(a)
		})})
		var err error
		s.Listener, err = s.Listen(network, kit.FreeAddress(t, network), func() session.Handler {
			made.Add(1)
			return s.New()
		}, opts...)
		kit.Must(t, err)
		kit.Must(t, s.Start())
		check := func(c net.Conn) {
			t.Helper()
			a, want := kit.Await(t, asked, "Admit is called"), ""
			if network == "tcp" {
				want = c.LocalAddr().String()
			}
			if network == "tcp" && a.String() != want || network == "unix" && a.IsValid() {
				t.Errorf("Admit gets %v, want %q", a, want)
			}
		}
		c, _ := s.Connect()
		check(c)
		kit.Exchange(t, c, "hello")
		for i, f := range []ask{
			func(netip.AddrPort) error { return errors.New("not today") },
			func(netip.AddrPort) error { panic("no idea") },
			func(netip.AddrPort) error { runtime.Goexit(); return nil },
		} {
			answer.Store(f)
			refused := s.Client()
			check(refused)
			closed(t, refused)
			s.WantRefused(engine.Refused{Admit: uint64(i + 1)})
		}
		if n := made.Load(); n != 1 {
			t.Errorf("the factory was called %d times, want once", n)
		}
		for _, want := range []string{"not today", "no idea"} {
			kit.Eventually(t, "the log tells "+want, func() bool { return strings.Contains(log.String(), want) }) // another goroutine writes it
		}
		kit.Exchange(t, c, "still here")
	})
}

func TestRefusalMessageWhenFull(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		s := kit.Serve(t, "tcp", engine.Options{Loops: loops, MaxSessions: 1}, kit.Hooks{Recv: kit.Echo},
			engine.Guard(engine.Rules{MaxPerAddress: 2, RefusalMessage: []byte(goAway)}))
		c, p := s.Connect()
		for range 3 { // being refused by MaxSessions is no session of the address
			refused(t, s.Client(), goAway)
		}
		s.WantRefused(engine.Refused{Full: 3})
		kit.Must(t, c.Close())
		kit.Await(t, p.Ended, "the session ends")
		kit.Eventually(t, "it has left", func() bool { return s.Stats().Sessions == 0 })
		c, _ = s.Connect()
		kit.Exchange(t, c, "room")
	})
}

// Every kind of refusal is logged, with its reason and the address.
func TestRefusalsAreLogged(t *testing.T) {
	kit.NoLeaks(t)
	for want, rules := range map[string]engine.Rules{
		"the address is not allowed":                     {Deny: prefixes("127.0.0.9/32")},
		"too many sessions of one address":               {MaxPerAddress: 1},
		"too many connections of one address per second": {AcceptRate: 0.001},
		"MaxSessions reached":                            {},
	} {
		log := new(lockedBuffer)
		s := kit.Serve(t, "tcp", engine.Options{Loops: 1, MaxSessions: 2, Logger: slog.New(slog.NewTextHandler(log, nil))}, kit.Hooks{Recv: kit.Echo}, engine.Guard(rules))
		address := ""
		for range 3 {
			c := s.ClientOf(from("127.0.0.9"))
			if _, err := c.Write([]byte("x")); err == nil {
				_, err = c.Read(make([]byte, 1))
				if err != nil {
					address = c.LocalAddr().String()
					break
				}
			}
		}
		kit.Eventually(t, want+" is logged", func() bool { return strings.Contains(log.String(), want) })
		if want != "MaxSessions reached" && !strings.Contains(log.String(), "remote="+address) {
			t.Errorf("the log does not name %s: %s", address, log)
		}
	}
	log := new(lockedBuffer)
	s := kit.Serve(t, "tcp", engine.Options{Loops: 1, Logger: slog.New(slog.NewTextHandler(log, nil))}, kit.Hooks{},
		engine.ProxyProtocol(prefixes("10.0.0.0/8")...))
	c := s.Client()
	closed(t, c)
	kit.Eventually(t, "an untrusted one is logged", func() bool {
		return strings.Contains(log.String(), "trusted proxy") && strings.Contains(log.String(), "remote="+c.LocalAddr().String())
	})
}

// One Guard for two listeners counts their sessions together, and a factory that fails is no session.
func TestGuardShared(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		g := engine.Guard(engine.Rules{MaxPerAddress: 1})
		s := kit.Prepare(t, "tcp", "127.0.0.1:0", engine.Options{Loops: loops}, kit.Hooks{Recv: kit.Echo}, g)
		other, err := s.Listen("tcp", "127.0.0.1:0", func() session.Handler { return nil }, g)
		kit.Must(t, err)
		kit.Must(t, s.Start())
		dialOther := func() {
			c, err := net.Dial("tcp", other.Addr().String())
			kit.Must(t, err)
			defer c.Close()
			closed(t, c)
		}
		dialOther()
		s.WantRefused(engine.Refused{Factory: 1})
		kit.Eventually(t, "it has left", func() bool { return s.Stats().Sessions == 0 })
		c, _ := s.Connect()
		dialOther()
		s.WantRefused(engine.Refused{Factory: 1, PerAddress: 1})
		kit.Exchange(t, c, "here")
	})
}

// Many addresses that connect all the time: the allowed ones are served, and every refusal has its cause.
func TestManyKnock(t *testing.T) {
	kit.NoLeaks(t)
	const addresses, knocks = 100, 20
	s := kit.Serve(t, "tcp", engine.Options{Loops: 2}, kit.Hooks{Recv: kit.Echo}, engine.Guard(engine.Rules{
		Deny:          prefixes("127.0.2.0/24"),
		MaxPerAddress: 1,
		AcceptRate:    0.001,
		AcceptBurst:   5,
	}))
	c, _ := s.Accepted(s.ClientOf(from("127.0.3.1")))
	var all sync.WaitGroup
	for i := range addresses {
		all.Go(func() {
			d := from(fmt.Sprintf("127.0.%d.%d", 1+i%2, 1+i/2))
			d.Timeout = kit.Patience
			served := 0
			for range knocks {
				k, err := d.Dial("tcp", s.Listener.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				_ = k.SetDeadline(time.Now().Add(kit.Patience))
				_, _ = k.Write([]byte("x"))
				if _, err := io.ReadFull(k, make([]byte, 1)); err == nil {
					served++
				}
				_ = k.(*net.TCPConn).SetLinger(0) // or ports run out
				_ = k.Close()
			}
			if i%2 == 0 && (served == 0 || served > 5) || i%2 == 1 && served != 0 {
				t.Errorf("address %d was served %d times", i, served)
			}
		})
	}
	all.Wait()
	kit.Exchange(t, c, "served all along")
	r := s.Stats().Refused
	if r.Denied != addresses/2*knocks || r.Sum() != r.Denied+r.PerAddress+r.AcceptRate ||
		s.Stats().Accepted-1+r.PerAddress+r.AcceptRate != addresses/2*knocks {
		t.Errorf("%d accepted, refused %+v", s.Stats().Accepted, r)
	}
}
