package engine_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/frame"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/internal/steady"
	"github.com/servercore-go/servercore/session"
)

// soon is a policy for tests that are to see several attempts.
var soon = engine.Policy{BaseDelay: 5 * time.Millisecond, MaxDelay: 20 * time.Millisecond, Timeout: kit.Patience}

// A server goes and comes back at the same address: every session is replaced by one that the factory made.
func TestReconnectThroughARestart(t *testing.T) {
	kit.OnNetworks(t, func(t *testing.T, network string, loops int) {
		const sessions = 20
		c := kit.Dialler(t, engine.Options{Loops: loops}, kit.Hooks{})
		s := kit.Prepare(t, network, kit.FixedAddress(t, network), engine.Options{Loops: loops}, kit.Hooks{})
		kit.Must(t, s.Start())
		a := s.Listener.Addr()
		old := make(map[*kit.Session]bool)
		for range sessions {
			p := c.DialTo(a, engine.Reconnect(soon))
			old[p] = true
			kit.Await(t, c.Arrivals, "OnConnected")
		}
		kit.Must(t, s.Close())
		for p := range old {
			kit.Await(t, p.Ended, "OnDisconnected")
		}
		kit.Eventually(t, "attempts fail", func() bool { return c.Stats().DialErrors > 2*sessions })
		again := kit.Prepare(t, network, a.String(), engine.Options{Loops: loops}, kit.Hooks{Recv: kit.Echo})
		kit.Must(t, again.Start())
		for range sessions {
			p := kit.Await(t, c.Arrivals, "OnConnected of a session that follows")
			if old[p] || p.Err() != nil {
				t.Errorf("session %d: %v", p.ID(), p.Err())
			}
			kit.Must(t, p.Send([]byte("here again")))
		}
		kit.Eventually(t, "the server answers", func() bool { return c.Stats().Total.BytesIn == sessions*uint64(len("here again")) })
		if st := c.Stats(); st.Dialed != 2*sessions || st.Sessions != sessions {
			t.Errorf("stats: %+v", st)
		}
	})
}

// Whether another session follows depends on who ended the last one.
func TestReconnectWhenContentDidNotEndIt(t *testing.T) {
	mine := errors.New("content's own reason")
	kit.OnLoops(t, func(t *testing.T, loops int) {
		for name, tt := range map[string]struct {
			o       engine.Options
			opts    []engine.Option
			end     func(*kit.Session, net.Conn)
			reason  error // the first one
			follows bool  // another session
		}{
			"peer closes": {end: func(_ *kit.Session, c net.Conn) { _ = c.Close() }, reason: session.ErrPeerClosed, follows: true},
			"peer resets": {end: func(_ *kit.Session, c net.Conn) { kit.Reset(t, c) }, reason: session.ErrPeerReset, follows: true},
			"idle":        {o: engine.Options{IdleTimeout: 20 * time.Millisecond}, end: func(*kit.Session, net.Conn) {}, reason: session.ErrIdle, follows: true},
			"panic":       {end: func(p *kit.Session, _ net.Conn) { _ = p.Post(func() { panic("on purpose") }) }, reason: session.ErrPanic, follows: true},
			"no packet": {opts: []engine.Option{engine.Framed(frame.ServerCore{})}, end: func(_ *kit.Session, c net.Conn) { kit.Write(t, c, []byte{0, 0, 0}) },
				reason: frame.ErrMalformed, follows: true},
			"write stall": {o: engine.Options{WriteTimeout: 50 * time.Millisecond, SendLimit: 16 << 20},
				end: func(p *kit.Session, _ net.Conn) { _ = p.Send(make([]byte, 12<<20)) }, reason: session.ErrWriteStall, follows: true},
			"send limit": {o: engine.Options{SlowPeer: engine.EndSession}, end: func(p *kit.Session, _ net.Conn) {
				for p.Send(make([]byte, 256<<10)) == nil {
				}
			}, reason: session.ErrSendLimit, follows: true},
			"too fast": {opts: []engine.Option{engine.RecvRate(engine.Rate{BytesPerSecond: 1000, End: true})},
				end: func(_ *kit.Session, c net.Conn) { _, _ = c.Write(make([]byte, 64<<10)) }, reason: session.ErrRecvRate, follows: true},
			"too large": {opts: []engine.Option{engine.Framed(frame.Line{Max: 10})}, end: func(_ *kit.Session, c net.Conn) { _, _ = c.Write(make([]byte, 100)) },
				reason: frame.ErrTooLarge, follows: true},
			"asked for":       {end: func(p *kit.Session, _ net.Conn) { p.DisconnectWith(session.ErrIdle) }, reason: session.ErrIdle, follows: true},
			"Disconnect":      {end: func(p *kit.Session, _ net.Conn) { p.Disconnect() }, reason: session.ErrDisconnected},
			"DisconnectWith":  {end: func(p *kit.Session, _ net.Conn) { p.DisconnectWith(mine) }, reason: mine},
			"Abort":           {end: func(p *kit.Session, _ net.Conn) { p.Abort() }, reason: session.ErrAborted},
			"then peer reset": {end: func(p *kit.Session, c net.Conn) { p.DisconnectWith(mine); kit.Reset(t, c) }, reason: mine},
			"then panic": {end: func(p *kit.Session, c net.Conn) {
				p.DisconnectWith(mine)
				_ = p.Post(func() { panic("on purpose") })
			}, reason: mine},
		} {
			l := kit.Listen(t, "tcp")
			tt.o.Loops, tt.o.LingerTimeout = loops, 20*time.Millisecond
			c := kit.Dialler(t, tt.o, kit.Hooks{})
			p := c.DialTo(l.Addr(), append(tt.opts, engine.Reconnect(soon))...)
			tt.end(p, kit.Accept(t, l))
			kit.WantError(t, name, kit.AwaitEnd(t, p), tt.reason)
			if tt.follows {
				remote := kit.Accept(t, l)
				kit.Eventually(t, name+": another session follows", func() bool { return c.Stats().Dialed >= 2 })
				kit.Must(t, remote.Close())
			} else {
				// A session of another engine that is replaced several times is the clock.
				other := kit.Listen(t, "tcp")
				kit.Dialler(t, engine.Options{Loops: loops}, kit.Hooks{}).DialTo(other.Addr(), engine.Reconnect(soon))
				for range 5 {
					kit.Must(t, kit.Accept(t, other).Close())
				}
				if st := c.Stats(); st.Dialed != 1 || st.DialErrors != 0 {
					t.Errorf("%s: %d sessions and %d failed attempts, want 1 and 0", name, st.Dialed, st.DialErrors)
				}
			}
			kit.Must(t, c.Close())
		}
	})
}

// A factory that fails when a session is to be replaced is one more attempt that failed.
func TestReconnectFactoryFails(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		s := kit.Serve(t, "tcp", engine.Options{Loops: loops}, kit.Hooks{})
		c := kit.Dialler(t, engine.Options{Loops: loops}, kit.Hooks{})
		var calls atomic.Int32
		_, err := c.Dial(t.Context(), "tcp", s.Listener.Addr().String(), func() session.Handler {
			switch calls.Add(1) {
			case 2:
				return nil
			case 3:
				panic("on purpose")
			case 4:
				runtime.Goexit()
			}
			return c.New()
		}, engine.Reconnect(soon))
		kit.Must(t, err)
		p := kit.Await(t, c.Arrivals, "OnConnected")
		kit.Await(t, s.Arrivals, "OnConnected of the server's session").Abort()
		kit.Await(t, p.Ended, "OnDisconnected")
		q := kit.Await(t, c.Arrivals, "OnConnected of the session that follows")
		if st := c.Stats(); p == q || st.Dialed != 2 || st.DialErrors != 3 || st.Refused.Factory != 3 {
			t.Errorf("stats: %+v", st)
		}
	})
}

// Dial's own attempt is the only one until there was a session.
func TestReconnectNotTheFirst(t *testing.T) {
	kit.NoLeaks(t)
	addr, _ := kit.NoServer(t, "tcp")
	c := kit.Dialler(t, engine.Options{}, kit.Hooks{})
	if _, err := c.Dial(t.Context(), "tcp", addr, c.New, engine.Reconnect(soon)); err == nil {
		t.Error("Dial to nobody succeeds")
	}
	kit.Must(t, c.Close())
	if n := c.Stats().DialErrors; n != 1 {
		t.Errorf("%d attempts, want 1", n)
	}
}

// After MaxAttempts it is given up, and logged.
func TestReconnectGivesUp(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		log := new(kit.Log)
		s := kit.Prepare(t, "tcp", kit.FixedAddress(t, "tcp"), engine.Options{Loops: loops}, kit.Hooks{}) // nobody is given its port when it has ended
		kit.Must(t, s.Start())
		c := kit.Dialler(t, engine.Options{Loops: loops, Logger: slog.New(log)}, kit.Hooks{})
		policy := soon
		policy.MaxAttempts = 3
		c.DialTo(s.Listener.Addr(), engine.Reconnect(policy))
		kit.Must(t, s.Close())
		given := func() (lines int) {
			for _, line := range log.Lines() {
				if strings.Contains(line["msg"].String(), "given up") {
					lines++
				}
			}
			return lines
		}
		kit.Eventually(t, "it is given up", func() bool { return given() == 1 })
		if n := c.Stats().DialErrors; n != 3 {
			t.Errorf("%d attempts, want 3", n)
		}
	})
}

// The engine's end does not wait for a delay.
func TestReconnectShutdownDuringADelay(t *testing.T) {
	kit.OnNetworks(t, func(t *testing.T, network string, loops int) {
		s := kit.Serve(t, network, engine.Options{Loops: loops}, kit.Hooks{})
		c := kit.Dialler(t, engine.Options{Loops: loops}, kit.Hooks{})
		for range 10 {
			p := c.DialTo(s.Listener.Addr(), engine.Reconnect(engine.Policy{BaseDelay: time.Hour}))
			kit.Await(t, s.Arrivals, "OnConnected of the server's session").Abort()
			kit.Await(t, p.Ended, "OnDisconnected")
		}
		ended := make(chan error, 1)
		go func() { ended <- c.Shutdown(context.Background()) }()
		kit.Must(t, kit.Await(t, ended, "Shutdown returns"))
	})
}

// Policy.Context ends the attempt under way and all that would follow, and leaves sessions alone.
func TestReconnectUntilContextEnds(t *testing.T) {
	kit.NoLeaks(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	policy := soon
	policy.Context, policy.Timeout = ctx, time.Hour
	c := kit.Dialler(t, engine.Options{Loops: 1}, kit.Hooks{})
	s := kit.Serve(t, "tcp", engine.Options{}, kit.Hooks{})
	stays := c.DialTo(s.Listener.Addr(), engine.Reconnect(policy))

	fd, a, fill := shortQueue(t)
	p := c.DialTo(a, engine.Reconnect(policy))
	remote, _, err := unix.Accept(fd)
	kit.Must(t, err)
	fill()
	kit.Must(t, unix.Close(remote))
	kit.Await(t, p.Ended, "OnDisconnected")
	stays.Run(t, func() {}) // on the same loop: p is not counted any more
	kit.Eventually(t, "an attempt is under way", func() bool { return c.Stats().Sessions == 2 })
	cancel()
	kit.Eventually(t, "it is interrupted", func() bool { return c.Stats().DialErrors == 1 })
	if stays.Err() != nil {
		t.Errorf("the other session has ended: %v", stays.Err())
	}
	kit.Must(t, s.Close())
	kit.Await(t, stays.Ended, "OnDisconnected")
	kit.Must(t, c.Close())
	if st := c.Stats(); st.Dialed != 2 || st.DialErrors != 1 {
		t.Errorf("stats: %+v", st)
	}
}

// T6: a policy that cannot work is refused by the name of its field.
func TestReconnectBadPolicy(t *testing.T) {
	kit.NoLeaks(t)
	c := kit.Dialler(t, engine.Options{}, kit.Hooks{})
	for field, p := range map[string]engine.Policy{
		"BaseDelay":   {BaseDelay: -1},
		"BaseDelay ":  {BaseDelay: 5}, // without its unit
		"BaseDelay  ": {BaseDelay: time.Millisecond - 1},
		"Multiplier":  {Multiplier: 0.5},
		"Jitter":      {Jitter: 1.5},
		"MaxDelay":    {BaseDelay: time.Second, MaxDelay: time.Millisecond},
		"MaxAttempts": {MaxAttempts: -1},
		"Timeout":     {Timeout: -1},
		"Timeout ":    {Timeout: 20},
	} {
		_, err := c.Dial(t.Context(), "unix", filepath.Join(t.TempDir(), "s"), c.New, engine.Reconnect(p))
		if err == nil || !strings.Contains(err.Error(), "Policy."+strings.TrimSpace(field)+" ") {
			t.Errorf("%s: error %v, want one that names the field", field, err)
		}
	}
}

// K14: however short the delays are, a server that resets every connection is not dialled more than a hundred times a second.
func TestReconnectNeverHammers(t *testing.T) {
	kit.OnNetworks(t, func(t *testing.T, network string, loops int) {
		const long = 300 * time.Millisecond
		for _, p := range []engine.Policy{
			{BaseDelay: time.Millisecond, MaxDelay: time.Millisecond},
			{BaseDelay: 5 * time.Millisecond, MaxDelay: 5 * time.Millisecond, Multiplier: 1, Jitter: 1},
		} {
			steady.Run(t, func(t testing.TB) {
				var resets atomic.Bool
				s := kit.Serve(t, network, engine.Options{Loops: loops}, kit.Hooks{Connected: func(p *kit.Session) {
					if resets.Load() {
						p.Abort()
					}
				}})
				c := kit.Dialler(t, engine.Options{Loops: loops}, kit.Hooks{})
				c.DialTo(s.Listener.Addr(), kit.InMode(t, engine.Options{Loops: loops}, []engine.Option{engine.Reconnect(p)})...)
				first := kit.Await(t, s.Arrivals, "OnConnected of the server's session")
				resets.Store(true)
				began := time.Now()
				first.Abort()
				time.Sleep(long)
				kit.Must(t, c.Close())
				most := uint64(time.Since(began)/(10*time.Millisecond)) + 2
				if st := c.Stats(); st.Dialed+st.DialErrors < 3 || st.Dialed+st.DialErrors > most {
					t.Errorf("%d sessions and %d attempts that failed in %v, want 3 to %d", st.Dialed, st.DialErrors, time.Since(began), most)
				}
			})
		}
	})
}

// The delays grow from one attempt to the next, whether it brings a session that is lost at once or none. They begin anew after a
// session that has lasted.
func TestReconnectDelaysGrow(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		steady.Run(t, func(t testing.TB) {
			const base = 10 * time.Millisecond
			l := kit.Listen(t, "tcp")
			c := kit.Dialler(t, engine.Options{Loops: loops}, kit.Hooks{})
			c.DialTo(l.Addr(), kit.InMode(t, engine.Options{Loops: loops},
				[]engine.Option{engine.Reconnect(engine.Policy{BaseDelay: base, Multiplier: 4, Jitter: -1})})...)
			remote := kit.Accept(t, l)
			for _, delay := range []time.Duration{base, 4 * base, 16 * base} {
				at := time.Now()
				kit.Must(t, remote.Close())
				remote = kit.Accept(t, l)
				if took := time.Since(at); took < delay {
					t.Errorf("dialled again after %v, want %v", took, delay)
				}
			}
			time.Sleep(100 * base) // 64 times base is the next delay
			at := time.Now()
			kit.Must(t, remote.Close())
			kit.Accept(t, l)
			if took := time.Since(at); took < base || took > 48*base {
				t.Errorf("dialled again after %v, want %v after a session that lasted", took, base)
			}
		})
	})
}

// Policy.Timeout bounds an attempt that the server does not answer.
func TestReconnectTimeout(t *testing.T) {
	kit.NoLeaks(t)
	fd, a, fill := shortQueue(t)
	c := kit.Dialler(t, engine.Options{Loops: 1}, kit.Hooks{})
	policy := soon
	policy.Timeout = 30 * time.Millisecond
	c.DialTo(a, engine.Reconnect(policy))
	remote, _, err := unix.Accept(fd)
	kit.Must(t, err)
	fill()
	kit.Must(t, unix.Close(remote))
	kit.Eventually(t, "attempts end", func() bool { return c.Stats().DialErrors >= 2 })
}
