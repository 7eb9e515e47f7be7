package servercore_test

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

func (s *server) wantRefused(want engine.Refused) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("%+v are refused", want), func() bool { return s.Stats().Refused == want })
	if want.Sum() != s.Stats().Refused.Sum() {
		s.t.Errorf("Sum is %d, want %d", s.Stats().Refused.Sum(), want.Sum())
	}
}

const goAway = "go away\n"

func TestGuardLetsIn(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		s := serve(t, "tcp", engine.Options{Loops: loops, LingerTimeout: 50 * time.Millisecond}, hooks{recv: echo}, engine.Guard(engine.Rules{
			Allow:          prefixes("127.0.0.0/16", "127.1.0.1/32"),
			Deny:           prefixes("127.0.9.0/24"),
			MaxPerAddress:  2,
			AcceptRate:     0.001,
			AcceptBurst:    4,
			RefusalMessage: []byte(goAway),
		}))
		refused(t, s.dialWith(from("127.0.9.1")), goAway)
		refused(t, s.dialWith(from("127.2.0.1")), goAway)
		s.wantRefused(engine.Refused{Denied: 2})
		first, p := s.session(s.dialWith(from("127.0.0.7")))
		exchange(t, first, "one")
		second, _ := s.session(s.dialWith(from("127.0.0.7")))
		exchange(t, second, "two")
		refused(t, s.dialWith(from("127.0.0.7")), goAway)
		s.wantRefused(engine.Refused{Denied: 2, PerAddress: 1})
		other, _ := s.session(s.dialWith(from("127.1.0.1")))
		exchange(t, other, "another")
		for range 2 { // two tokens are left
			must(t, first.Close())
			await(t, p.ended, "the session ends")
			eventually(t, "it has left", func() bool { return s.Stats().Total.Sessions == 2 })
			first, p = s.session(s.dialWith(from("127.0.0.7")))
			exchange(t, first, "again")
		}
		must(t, first.Close())
		await(t, p.ended, "the session ends")
		eventually(t, "it has left", func() bool { return s.Stats().Total.Sessions == 2 })
		refused(t, s.dialWith(from("127.0.0.7")), goAway)
		s.wantRefused(engine.Refused{Denied: 2, PerAddress: 1, AcceptRate: 1})
		exchange(t, second, "still served")
	})
}

func TestAdmit(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string, loops int) {
		var answer atomic.Value
		type ask func(netip.AddrPort) error
		answer.Store(ask(func(netip.AddrPort) error { return nil }))
		var made atomic.Int32
		log := new(lockedBuffer)
		s := watched(t, engine.Options{Loops: loops, Logger: slog.New(slog.NewTextHandler(log, nil))}, hooks{recv: echo})
		asked := make(chan netip.AddrPort, 16)
		opts := inMode(t, engine.Options{Loops: loops}, []engine.Option{engine.Admit(func(a netip.AddrPort) error {
			asked <- a
			return answer.Load().(ask)(a)
		})})
		var err error
		s.listener, err = s.Listen(network, freeAddress(t, network), func() session.Handler {
			made.Add(1)
			return s.newPeer()
		}, opts...)
		must(t, err)
		must(t, s.Start())
		check := func(c net.Conn) {
			t.Helper()
			a, want := await(t, asked, "Admit is called"), ""
			if network == "tcp" {
				want = c.LocalAddr().String()
			}
			if network == "tcp" && a.String() != want || network == "unix" && a.IsValid() {
				t.Errorf("Admit gets %v, want %q", a, want)
			}
		}
		c, _ := s.connect()
		check(c)
		exchange(t, c, "hello")
		for i, f := range []ask{
			func(netip.AddrPort) error { return errors.New("not today") },
			func(netip.AddrPort) error { panic("no idea") },
			func(netip.AddrPort) error { runtime.Goexit(); return nil },
		} {
			answer.Store(f)
			refused := s.dial()
			check(refused)
			closed(t, refused)
			s.wantRefused(engine.Refused{Admit: uint64(i + 1)})
		}
		if n := made.Load(); n != 1 {
			t.Errorf("the factory was called %d times, want once", n)
		}
		for _, want := range []string{"not today", "no idea"} {
			eventually(t, "the log tells "+want, func() bool { return strings.Contains(log.String(), want) }) // another goroutine writes it
		}
		exchange(t, c, "still here")
	})
}

func TestRefusalMessageWhenFull(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		s := serve(t, "tcp", engine.Options{Loops: loops, MaxSessions: 1}, hooks{recv: echo},
			engine.Guard(engine.Rules{MaxPerAddress: 2, RefusalMessage: []byte(goAway)}))
		c, p := s.connect()
		for range 3 { // being refused by MaxSessions is no session of the address
			refused(t, s.dial(), goAway)
		}
		s.wantRefused(engine.Refused{Full: 3})
		must(t, c.Close())
		await(t, p.ended, "the session ends")
		eventually(t, "it has left", func() bool { return s.Stats().Sessions == 0 })
		c, _ = s.connect()
		exchange(t, c, "room")
	})
}

// Every kind of refusal is logged, with its reason and the address.
func TestRefusalsAreLogged(t *testing.T) {
	noLeaks(t)
	for want, rules := range map[string]engine.Rules{
		"the address is not allowed":                     {Deny: prefixes("127.0.0.9/32")},
		"too many sessions of one address":               {MaxPerAddress: 1},
		"too many connections of one address per second": {AcceptRate: 0.001},
		"MaxSessions reached":                            {},
	} {
		log := new(lockedBuffer)
		s := serve(t, "tcp", engine.Options{Loops: 1, MaxSessions: 2, Logger: slog.New(slog.NewTextHandler(log, nil))}, hooks{recv: echo}, engine.Guard(rules))
		address := ""
		for range 3 {
			c := s.dialWith(from("127.0.0.9"))
			if _, err := c.Write([]byte("x")); err == nil {
				_, err = c.Read(make([]byte, 1))
				if err != nil {
					address = c.LocalAddr().String()
					break
				}
			}
		}
		eventually(t, want+" is logged", func() bool { return strings.Contains(log.String(), want) })
		if want != "MaxSessions reached" && !strings.Contains(log.String(), "remote="+address) {
			t.Errorf("the log does not name %s: %s", address, log)
		}
	}
	log := new(lockedBuffer)
	s := serve(t, "tcp", engine.Options{Loops: 1, Logger: slog.New(slog.NewTextHandler(log, nil))}, hooks{},
		engine.ProxyProtocol(prefixes("10.0.0.0/8")...))
	c := s.dial()
	closed(t, c)
	eventually(t, "an untrusted one is logged", func() bool {
		return strings.Contains(log.String(), "trusted proxy") && strings.Contains(log.String(), "remote="+c.LocalAddr().String())
	})
}

// One Guard for two listeners counts their sessions together, and a factory that fails is no session.
func TestGuardShared(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		g := engine.Guard(engine.Rules{MaxPerAddress: 1})
		s := prepare(t, "tcp", "127.0.0.1:0", engine.Options{Loops: loops}, hooks{recv: echo}, g)
		other, err := s.Listen("tcp", "127.0.0.1:0", func() session.Handler { return nil }, g)
		must(t, err)
		must(t, s.Start())
		dialOther := func() {
			c, err := net.Dial("tcp", other.Addr().String())
			must(t, err)
			defer c.Close()
			closed(t, c)
		}
		dialOther()
		s.wantRefused(engine.Refused{Factory: 1})
		eventually(t, "it has left", func() bool { return s.Stats().Sessions == 0 })
		c, _ := s.connect()
		dialOther()
		s.wantRefused(engine.Refused{Factory: 1, PerAddress: 1})
		exchange(t, c, "here")
	})
}

// Many addresses that knock all the time: the allowed ones are served, and every refusal has its cause.
func TestManyKnock(t *testing.T) {
	noLeaks(t)
	const addresses, knocks = 100, 20
	s := serve(t, "tcp", engine.Options{Loops: 2}, hooks{recv: echo}, engine.Guard(engine.Rules{
		Deny:          prefixes("127.0.2.0/24"),
		MaxPerAddress: 1,
		AcceptRate:    0.001,
		AcceptBurst:   5,
	}))
	c, _ := s.session(s.dialWith(from("127.0.3.1")))
	var all sync.WaitGroup
	for i := range addresses {
		all.Go(func() {
			d := from(fmt.Sprintf("127.0.%d.%d", 1+i%2, 1+i/2))
			d.Timeout = patience
			served := 0
			for range knocks {
				k, err := d.Dial("tcp", s.listener.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				_ = k.SetDeadline(time.Now().Add(patience))
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
	exchange(t, c, "served all along")
	r := s.Stats().Refused
	if r.Denied != addresses/2*knocks || r.Sum() != r.Denied+r.PerAddress+r.AcceptRate ||
		s.Stats().Accepted-1+r.PerAddress+r.AcceptRate != addresses/2*knocks {
		t.Errorf("%d accepted, refused %+v", s.Stats().Accepted, r)
	}
}
