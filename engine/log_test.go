package engine_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/internal/steady"
	"github.com/servercore-go/servercore/session"
)

// deaf is a slog.Handler that blocks, in Enabled or in Handle, until it is let go.
type deaf struct {
	inEnabled bool
	entered   chan struct{} // closed when it blocks
	gate      chan struct{}
	once      sync.Once
}

func newDeaf(t testing.TB, inEnabled bool) *deaf {
	d := &deaf{inEnabled: inEnabled, entered: make(chan struct{}), gate: make(chan struct{})}
	t.Cleanup(func() { close(d.gate) })
	return d
}

func (d *deaf) WithAttrs([]slog.Attr) slog.Handler { return d }
func (d *deaf) WithGroup(string) slog.Handler      { return d }
func (d *deaf) Enabled(context.Context, slog.Level) bool {
	if d.inEnabled {
		d.block()
	}
	return true
}

func (d *deaf) Handle(context.Context, slog.Record) error {
	d.block()
	return nil
}

func (d *deaf) block() {
	d.once.Do(func() { close(d.entered) })
	<-d.gate
}

// K5: a Logger that blocks holds up nothing, whatever is logged: sessions are served, Stats and Addr answer, the next connection
// is accepted, and the end comes.
func TestLoggerThatBlocks(t *testing.T) {
	kit.NoLeaks(t)
	everywhere := netip.MustParsePrefix("0.0.0.0/0")
	refuse := func(s *kit.Server) { _, _ = s.Client().Read(make([]byte, 1)) }
	ask := func(message string) func(*kit.Server) {
		return func(s *kit.Server) {
			c := s.Client()
			_, _ = c.Write([]byte(message))
			_, _ = c.Read(make([]byte, 1))
		}
	}
	for name, tt := range map[string]struct {
		o       engine.Options
		opts    []engine.Option // of the listener that provokes
		factory session.Factory
		provoke func(*kit.Server)
	}{
		"MaxSessions": {o: engine.Options{MaxSessions: 1}, provoke: refuse},
		"Guard":       {opts: []engine.Option{engine.Guard(engine.Rules{Deny: []netip.Prefix{everywhere}})}, provoke: refuse},
		"Admit":       {opts: []engine.Option{engine.Admit(func(netip.AddrPort) error { return errors.New("no") })}, provoke: refuse},
		"Admit panic": {opts: []engine.Option{engine.Admit(func(netip.AddrPort) error { panic("no") })}, provoke: refuse},
		"untrusted":   {opts: []engine.Option{engine.ProxyProtocol(netip.MustParsePrefix("10.0.0.0/8"))}, provoke: refuse},
		"header":      {opts: []engine.Option{engine.ProxyProtocol(everywhere)}, provoke: ask("no header\r\n")},
		"factory":     {factory: func() session.Handler { return nil }, provoke: refuse},
		"panic":       {factory: func() session.Handler { panic("no") }, provoke: refuse},
		"callback":    {factory: session.Events{OnRecv: func(*session.Session, []byte) { panic("no") }}.Factory(), provoke: ask("x")},
		"offloaded": {factory: session.Events{OnRecv: func(*session.Session, []byte) { panic("no") }}.Factory(), provoke: ask("x"),
			opts: []engine.Option{engine.Offload(1)}},
		"stall": {o: engine.Options{StallWarning: 50 * time.Millisecond}, factory: session.Events{OnRecv: func(s *session.Session, _ []byte) {
			time.Sleep(200 * time.Millisecond)
			s.Abort()
		}}.Factory(), provoke: func(s *kit.Server) { // again if the machine was so busy that it is no stall
			before, began := s.Stats().Total.Stalls, time.Now()
			for s.Stats().Total.Stalls == before && time.Since(began) < kit.Patience {
				ask("x")(s)
			}
		}},
		"reconnecting": {provoke: func(s *kit.Server) {
			l := kit.Listen(t, "tcp")
			_, err := s.Dial(context.Background(), "tcp", l.Addr().String(), session.Events{}.Factory(), engine.Reconnect(soon))
			kit.Must(t, err)
			c := kit.Accept(t, l)
			kit.Must(t, l.Close())
			kit.Must(t, c.Close())
		}},
	} {
		for _, where := range []string{"Handle", "Enabled"} {
			t.Run(name+","+where, func(t *testing.T) {
				t.Parallel()
				steady.Run(t, func(t testing.TB) {
					log := newDeaf(t, where == "Enabled")
					o := tt.o
					o.Loops, o.Logger, o.LingerTimeout = 1, slog.New(log), 50*time.Millisecond
					e, err := engine.New(o)
					kit.Must(t, err)
					s := &kit.Server{Engine: e, Watch: kit.NewWatch(t, kit.Hooks{})}
					t.Cleanup(func() { _ = s.Close() })
					good, err := s.Listen("tcp", "127.0.0.1:0", session.Events{OnRecv: func(s *session.Session, p []byte) { _ = s.Send(p) }}.Factory())
					kit.Must(t, err)
					factory := tt.factory
					if factory == nil {
						factory = session.Events{}.Factory()
					}
					s.Listener, err = s.Listen("tcp", "127.0.0.1:0", factory, tt.opts...)
					kit.Must(t, err)
					kit.Must(t, s.Start())
					dialGood := func() net.Conn {
						c, err := net.Dial("tcp", good.Addr().String())
						kit.Must(t, err)
						t.Cleanup(func() { _ = c.Close() })
						kit.Must(t, c.SetDeadline(time.Now().Add(kit.Patience)))
						return c
					}
					client := dialGood()
					kit.Exchange(t, client, "before")
					tt.provoke(s)
					kit.Await(t, log.entered, "the Logger blocks")
					tt.provoke(s)
					kit.Exchange(t, client, "meanwhile")
					if tt.o.MaxSessions == 0 {
						kit.Exchange(t, dialGood(), "another one")
					}
					answered := make(chan struct{})
					go func() {
						defer close(answered)
						_, _ = s.Stats(), s.Listener.Addr()
					}()
					kit.Await(t, answered, "Stats and Addr")
					ctx, cancel := context.WithTimeout(context.Background(), time.Second)
					defer cancel()
					ended := make(chan error, 1)
					go func() { ended <- s.Shutdown(ctx) }()
					kit.Must(t, kit.Await(t, ended, "Shutdown returns"))
					kit.Await(t, s.Done(), "Done")
				})
			})
		}
	}
}

// A Logger may call the engine.
func TestLoggerThatCallsTheEngine(t *testing.T) {
	kit.OnNetworks(t, func(t *testing.T, network string, loops int) {
		var s *kit.Server
		calls := make(chan error, 1)
		log := &calling{call: func() {
			_, _ = s.Stats(), s.Listener.Addr()
			for range s.Sessions() {
			}
			err := errors.Join(s.Ping(context.Background()), s.Shutdown(context.Background()))
			select {
			case calls <- err:
			default:
			}
		}}
		s = kit.Prepare(t, network, kit.FreeAddress(t, network), engine.Options{Loops: loops, MaxSessions: 1, LingerTimeout: 50 * time.Millisecond,
			Logger: slog.New(log)}, kit.Hooks{})
		kit.Must(t, s.Start())
		s.Connect()
		_, _ = s.Client().Read(make([]byte, 1))
		kit.Must(t, kit.Await(t, calls, "the Logger has called"))
		kit.Await(t, s.Done(), "the engine ends")
	})
}

// calling is a slog.Handler that calls.
type calling struct{ call func() }

func (c *calling) WithAttrs([]slog.Attr) slog.Handler        { return c }
func (c *calling) WithGroup(string) slog.Handler             { return c }
func (*calling) Enabled(context.Context, slog.Level) bool    { return true }
func (c *calling) Handle(context.Context, slog.Record) error { c.call(); return nil }

// What was logged is written when Run returns.
func TestLogIsWrittenAtTheEnd(t *testing.T) {
	kit.NoLeaks(t)
	log := new(kit.Log)
	o := engine.Options{Loops: 1, DrainTimeout: 50 * time.Millisecond, LingerTimeout: -1, Logger: slog.New(log)}
	s := kit.Prepare(t, "tcp", "127.0.0.1:0", o, kit.Hooks{Recv: func(*kit.Session, []byte) { panic("on purpose") }})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ran := make(chan error, 1)
	var lines []map[string]slog.Value
	go func() {
		err := s.Run(ctx)
		lines = log.Lines()
		ran <- err
	}()
	kit.Eventually(t, "the engine listens", func() bool { return s.Listener.Addr().String() != "127.0.0.1:0" })
	s.Connect() // stays, and is not drained in time
	c, p := s.Connect()
	kit.Write(t, c, []byte("x"))
	kit.Await(t, p.Ended, "OnDisconnected")
	cancel()
	kit.Must(t, kit.Await(t, ran, "Run returns"))
	if len(lines) != 2 || lines[0]["panic"].String() != "on purpose" || !strings.Contains(lines[1]["msg"].String(), "not drained in time") {
		t.Errorf("%d lines: %v", len(lines), lines)
	}
	if n := s.Stats().LogDropped; n != 0 {
		t.Errorf("%d records were dropped", n)
	}
}

// So it is when Shutdown or Close return, though the handler takes its time.
func TestLogIsWrittenWhenTheEngineHasEnded(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		for _, end := range []func(*kit.Server) error{
			func(s *kit.Server) error { return s.Shutdown(context.Background()) },
			func(s *kit.Server) error { return s.Close() },
		} {
			steady.Run(t, func(t testing.TB) { // the engine waits for 100 ms
				var written atomic.Bool
				s := kit.Serve(t, "tcp", engine.Options{Loops: loops, Logger: slog.New(&calling{func() {
					time.Sleep(20 * time.Millisecond)
					written.Store(true)
				}})}, kit.Hooks{Disconnected: func(*kit.Session) { panic("on purpose") }})
				c, p := s.Connect()
				kit.Must(t, c.Close())
				kit.Await(t, p.Ended, "OnDisconnected")
				kit.Must(t, end(s))
				if !written.Load() {
					t.Error("a line is not written, and the engine has ended")
				}
			})
		}
	})
}

// Stats tell how many records were dropped.
func TestStatsOfTheLog(t *testing.T) {
	kit.NoLeaks(t)
	s := kit.Serve(t, "tcp", engine.Options{Loops: 1, Logger: slog.New(&calling{func() { panic("on purpose") }})},
		kit.Hooks{Recv: func(*kit.Session, []byte) { panic("on purpose too") }})
	c, p := s.Connect()
	kit.Write(t, c, []byte("x"))
	kit.Await(t, p.Ended, "OnDisconnected")
	kit.Eventually(t, "the record is counted", func() bool { return s.Stats().LogDropped == 1 })
}
