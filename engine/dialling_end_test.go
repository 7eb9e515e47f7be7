package engine_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/session"
)

// giveUp dials with a context that ends when the dial is where it is to be left, and checks that Dial returns then.
func giveUp(t *testing.T, c *kit.Server, a net.Addr, f session.Factory, there func(), opts ...engine.Option) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	result := make(chan error, 1)
	go func() {
		h, err := c.Dial(ctx, a.Network(), a.String(), f, opts...)
		if h != nil {
			err = errors.Join(err, errors.New("there is a handler"))
		}
		result <- err
	}()
	there()
	select {
	case err := <-result:
		t.Fatalf("Dial returns %v, and its context has not ended", err)
	case <-time.After(20 * time.Millisecond):
	}
	cancel()
	kit.WantError(t, "Dial", kit.Await(t, result, "Dial returns"), context.Canceled)
}

// T6b: Dial returns when its context ends, though OnConnected does not. That session is aborted.
func TestDialLeavesOnConnected(t *testing.T) {
	kit.OnNetworks(t, func(t *testing.T, network string, loops int) {
		s := kit.Serve(t, network, engine.Options{Loops: loops}, kit.Hooks{})
		entered, gate := make(chan *kit.Session, 1), make(chan struct{})
		c := kit.Dialler(t, engine.Options{Loops: loops}, kit.Hooks{Connected: func(p *kit.Session) {
			entered <- p
			<-gate
		}})
		var p *kit.Session
		giveUp(t, c, s.Listener.Addr(), c.New, func() { p = kit.Await(t, entered, "OnConnected") },
			kit.InMode(t, engine.Options{Loops: loops}, []engine.Option{engine.Reconnect(soon)})...)
		close(gate)
		kit.WantError(t, "reason", kit.AwaitEnd(t, p), session.ErrAborted)
		why := map[string]error{"tcp": session.ErrPeerReset, "unix": session.ErrPeerClosed}[network] // a unix socket knows no reset
		kit.WantError(t, "the server's reason", kit.AwaitEnd(t, kit.Await(t, s.Arrivals, "OnConnected of the server's session")), why)
		kit.Eventually(t, "the end is counted", func() bool { return c.Stats().Total.Ended.Aborted == 1 })
		if st := c.Stats(); st.Dialed != 1 || st.DialErrors != 1 {
			t.Errorf("stats: %+v", st) // nor does another one follow
		}
	})
}

// T6b: nor does it wait for a factory.
func TestDialLeavesTheFactory(t *testing.T) {
	kit.OnNetworks(t, func(t *testing.T, network string, loops int) {
		s := kit.Serve(t, network, engine.Options{Loops: loops}, kit.Hooks{})
		c := kit.Dialler(t, engine.Options{Loops: loops}, kit.Hooks{})
		entered, gate := make(chan struct{}), make(chan struct{})
		giveUp(t, c, s.Listener.Addr(), func() session.Handler {
			close(entered)
			<-gate
			return c.New()
		}, func() { kit.Await(t, entered, "the factory is called") }, kit.InMode(t, engine.Options{Loops: loops}, nil)...)
		close(gate)
		kit.WantError(t, "reason", kit.AwaitEnd(t, kit.Await(t, c.Arrivals, "OnConnected")), session.ErrAborted)
		kit.Eventually(t, "no session is left", func() bool { return c.Stats().Sessions == 0 })
	})
}

// T6b: nor for workers that are all at work.
func TestDialLeavesWorkers(t *testing.T) {
	kit.NoLeaks(t)
	for _, network := range []string{"tcp", "unix"} {
		s := kit.Serve(t, network, engine.Options{}, kit.Hooks{})
		a := s.Listener.Addr()
		crew := engine.Offload(1)
		c := kit.Dialler(t, engine.Options{Loops: 1}, kit.Hooks{})
		release := c.DialTo(a, crew).Hold(t)
		giveUp(t, c, a, c.New, func() {
			kit.Eventually(t, "it waits for a worker", func() bool { return c.Stats().Waiting == 1 })
		}, crew)
		p := kit.Await(t, c.Arrivals, "OnConnected of the first")
		release()
		q := kit.Await(t, c.Arrivals, "OnConnected")
		kit.WantError(t, "reason", kit.AwaitEnd(t, q), session.ErrAborted)
		if p == q || p.Err() != nil {
			t.Errorf("the other session: %v", p.Err())
		}
	}
}

// The engine's end has Dial return as well, though OnConnected does not. The session ends as all do.
func TestDialLeavesOnConnectedAtTheEnd(t *testing.T) {
	kit.OnNetworks(t, func(t *testing.T, network string, loops int) {
		s := kit.Serve(t, network, engine.Options{Loops: loops}, kit.Hooks{})
		a := s.Listener.Addr()
		entered, gate := make(chan *kit.Session, 1), make(chan struct{})
		c := kit.Dialler(t, engine.Options{Loops: loops}, kit.Hooks{Connected: func(p *kit.Session) {
			entered <- p
			<-gate
		}})
		result := make(chan error, 1)
		go func() {
			_, err := c.Dial(context.Background(), a.Network(), a.String(), c.New, kit.InMode(t, engine.Options{Loops: loops}, nil)...)
			result <- err
		}()
		p := kit.Await(t, entered, "OnConnected")
		ended := make(chan error, 1)
		go func() { ended <- c.Shutdown(context.Background()) }()
		kit.WantError(t, "Dial", kit.Await(t, result, "Dial returns"), engine.ErrClosed)
		close(gate)
		kit.Must(t, kit.Await(t, ended, "Shutdown returns"))
		kit.WantError(t, "reason", kit.AwaitEnd(t, p), session.ErrShutdown)
		if errors.Is(p.Err(), session.ErrAborted) {
			t.Errorf("the session was aborted: %v", p.Err())
		}
	})
}

// watchedContext is a context that knows how many contexts have been made of it and have not ended: package context asks a parent that has
// such a method to tell it of the end, and no longer when the child has ended.
type watchedContext struct {
	context.Context
	done chan struct{}
	open atomic.Int32
}

func (c *watchedContext) Done() <-chan struct{} { return c.done }

func (c *watchedContext) AfterFunc(func()) (stop func() bool) {
	c.open.Add(1)
	return func() bool { c.open.Add(-1); return true }
}

// An attempt of Reconnect has succeeded when there is a session: its Timeout does not count against OnConnected.
func TestReconnectWaitsForOnConnected(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		l := kit.Listen(t, "tcp")
		entered, gate := make(chan *kit.Session, 1), make(chan struct{})
		first := true
		c := kit.Dialler(t, engine.Options{Loops: 1}, kit.Hooks{Connected: func(p *kit.Session) {
			if first {
				first = false
				return
			}
			entered <- p
			<-gate
		}})
		attempts := &watchedContext{Context: context.Background(), done: make(chan struct{})}
		p := soon
		p.Timeout, p.Context = time.Second, attempts // on a busy machine an attempt may be over before its session is made
		c.DialTo(l.Addr(), kit.InMode(t, engine.Options{Loops: loops}, []engine.Option{engine.Reconnect(p)})...)
		kit.Must(t, kit.Accept(t, l).Close())
		q := kit.Await(t, entered, "OnConnected of the next")
		before := c.Stats().DialErrors
		kit.Eventually(t, "the attempt's time is over, or nobody looks at it any more", func() bool { return attempts.open.Load() == 0 })
		close(gate)
		q.Run(t, func() {})
		if st := c.Stats(); q.Err() != nil || st.DialErrors != before || st.Dialed != 2 {
			t.Errorf("the session has ended: %v; stats: %+v, %d DialErrors before", q.Err(), st, before)
		}
	})
}

// Dialled sessions go to the loop that has the fewest.
func TestDialSpreads(t *testing.T) {
	kit.NoLeaks(t)
	s := kit.Serve(t, "tcp", engine.Options{}, kit.Hooks{})
	c := kit.Dialler(t, engine.Options{Loops: 3}, kit.Hooks{})
	for range 9 {
		c.DialTo(s.Listener.Addr())
	}
	for i, l := range c.Stats().Loops {
		if l.Sessions != 3 {
			t.Errorf("loop %d has %d sessions, want 3", i, l.Sessions)
		}
	}
}

// T6: options of Listen, and options and addresses that cannot work, are refused before anything is dialled.
func TestDialRefusesOptions(t *testing.T) {
	kit.NoLeaks(t)
	c := kit.Dialler(t, engine.Options{Loops: 1}, kit.Hooks{})
	l := kit.Listen(t, "tcp")
	anywhere := netip.MustParsePrefix("0.0.0.0/0")
	for name, tt := range map[string]struct {
		network, address string
		option           engine.Option
		says             string
	}{
		"From":          {"tcp", "127.0.0.1:1", engine.From(l.(syscall.Conn)), "From is an option of Listen"},
		"Admit":         {"tcp", "127.0.0.1:1", engine.Admit(func(netip.AddrPort) error { return nil }), "options of Listen"},
		"Guard":         {"tcp", "127.0.0.1:1", engine.Guard(engine.Rules{}), "options of Listen"},
		"ProxyProtocol": {"tcp", "127.0.0.1:1", engine.ProxyProtocol(anywhere), "options of Listen"},
		"bad option":    {"tcp", "127.0.0.1:1", engine.Offload(0), "Offload"},
		"network":       {"udp", "127.0.0.1:1", engine.Offload(1), "udp"},
		"address":       {"tcp", "127.0.0.1", engine.Offload(1), "host:port"},
	} {
		_, err := c.Dial(t.Context(), tt.network, tt.address, c.New, tt.option)
		if err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", name, err, tt.says)
		}
	}
	if st := c.Stats(); st.DialErrors != 0 {
		t.Errorf("stats: %+v", st)
	}
}
