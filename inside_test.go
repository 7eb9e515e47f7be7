package servercore_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/session"
)

// places are the callbacks of a session, each with what brings it about. act runs in it once.
var places = []struct {
	callback string
	hooks    func(act func()) hooks
	handler  func(s *server, act func()) session.Handler
	option   func(act func()) engine.Option
	onLoop   bool // also with Offload
}{
	{callback: "OnConnected", hooks: func(act func()) hooks { return hooks{connected: func(*peer) { act() }} }},
	{callback: "OnRecv", hooks: func(act func()) hooks { return hooks{recv: func(*peer, []byte) { act() }} }},
	{callback: "OnSend", hooks: func(act func()) hooks { return hooks{recv: echo, sent: func(*peer, int) { act() }} }},
	{callback: "OnDisconnected", hooks: func(act func()) hooks {
		return hooks{recv: func(p *peer, _ []byte) { p.Abort() }, disconnected: func(*peer) { act() }}
	}},
	{callback: "Post", hooks: func(act func()) hooks { return hooks{recv: func(p *peer, _ []byte) { _ = p.Post(act) }} }},
	{callback: "AfterFunc", hooks: func(act func()) hooks { return hooks{recv: func(p *peer, _ []byte) { p.AfterFunc(0, act) }} }},
	{callback: "OnHalfClose", handler: func(s *server, act func()) session.Handler {
		return &halfCloser{peer{server: s, ended: make(chan struct{})}, act}
	}},
	{callback: "OnWritable", hooks: func(func()) hooks {
		return hooks{recv: func(p *peer, _ []byte) { _ = p.Send(make([]byte, 512<<10)) }} // more than the kernel takes
	}, handler: func(s *server, act func()) session.Handler {
		return &markDawdler{peer{server: s, ended: make(chan struct{})}, act}
	}},
	{callback: "Framer.Split", option: func(act func()) engine.Option { return engine.Framed(&actingFramer{frame.Line{Max: 100}, act}) }},
	{callback: "Factory", onLoop: true, handler: func(s *server, act func()) session.Handler {
		act()
		return s.newPeer()
	}},
	{callback: "Admit", onLoop: true, option: func(act func()) engine.Option {
		return engine.Admit(func(netip.AddrPort) error { act(); return nil })
	}},
}

// halfCloser acts in OnHalfClose.
type halfCloser struct {
	peer
	act func()
}

func (p *halfCloser) OnHalfClose() {
	p.act()
	p.CloseWrite()
}

// actingFramer acts in Split, once there are bytes.
type actingFramer struct {
	frame.Framer
	act func()
}

func (f *actingFramer) Split(data []byte) ([]byte, int, error) {
	if len(data) > 0 {
		f.act()
	}
	return f.Framer.Split(data)
}

// inEachPlace runs call once in each callback, on loops and on workers, and check on what it returned.
func inEachPlace(t *testing.T, call func(*server) error, check func(t *testing.T, s *server, p string, onLoop bool, err error)) {
	noLeaks(t)
	for _, network := range []string{"tcp", "unix"} {
		for _, mode := range modes {
			for _, place := range places {
				t.Run(network+","+place.callback+mode, func(t *testing.T) {
					result := make(chan error, 1)
					var s *server
					var once sync.Once
					act := func() { once.Do(func() { result <- call(s) }) }
					var h hooks
					if place.hooks != nil {
						h = place.hooks(act)
					}
					o := engine.Options{Loops: 2, SendBuffer: 32 << 10, HighWater: 32 << 10, LingerTimeout: 50 * time.Millisecond,
						DrainTimeout: 50 * time.Millisecond}
					s = watched(t, o, h)
					s.framed = place.option != nil
					make := s.newPeer
					if place.handler != nil {
						make = func() session.Handler { return place.handler(s, act) }
					}
					var opts []engine.Option
					if place.option != nil {
						opts = append(opts, place.option(act))
					}
					l, err := s.Listen(network, freeAddress(t, network), make, inMode(t, o, opts)...)
					must(t, err)
					s.listener = l
					must(t, s.Start())
					c := s.dial()
					_, _ = c.Write([]byte("x\n"))
					if place.callback == "OnHalfClose" {
						closeWrite(t, c)
					}
					check(t, s, place.callback, mode == "" || place.onLoop, await(t, result, "the call in the callback returns"))
				})
			}
		}
	}
}

// wantInside checks an error that says where a method was called.
func wantInside(t *testing.T, err error, method, callback string) {
	t.Helper()
	wantError(t, method, err, engine.ErrInCallback)
	if err == nil || !strings.HasPrefix(err.Error(), "engine: "+method+" called from a callback ("+callback) ||
		!strings.Contains(err.Error(), "inside_test.go:") {
		t.Errorf("%q, want what was called, that it was in %s, and the line", err, callback)
	}
}

// K14, E4: Shutdown in a callback returns at once and says why. The engine ends all the same.
func TestShutdownInACallback(t *testing.T) {
	inEachPlace(t, func(s *server) error { return s.Shutdown(context.Background()) },
		func(t *testing.T, s *server, callback string, _ bool, err error) {
			wantInside(t, err, "Shutdown", callback)
			await(t, s.Done(), "the engine ends")
			wantError(t, "Err", s.Err(), engine.ErrClosed)
			wantError(t, "once more", s.Shutdown(t.Context()), engine.ErrClosed)
		})
}

func TestCloseInACallback(t *testing.T) {
	inEachPlace(t, func(s *server) error { return s.Close() },
		func(t *testing.T, s *server, callback string, _ bool, err error) {
			wantInside(t, err, "Close", callback)
			await(t, s.Done(), "the engine ends")
			wantError(t, "Err", s.Err(), engine.ErrClosed)
		})
}

// Run and Dial in a callback do nothing.
func TestRunInACallback(t *testing.T) {
	inEachPlace(t, func(s *server) error { return s.Run(context.Background()) },
		func(t *testing.T, s *server, callback string, _ bool, err error) {
			wantInside(t, err, "Run", callback)
			if s.Err() != nil {
				t.Errorf("the engine ends: %v", s.Err())
			}
		})
}

func TestDialInACallback(t *testing.T) {
	inEachPlace(t, func(s *server) error {
		a := s.listener.Addr()
		_, err := s.Dial(context.Background(), a.Network(), a.String(), func() session.Handler {
			s.t.Error("the factory is called")
			return nil
		})
		return err
	}, func(t *testing.T, s *server, callback string, _ bool, err error) {
		wantInside(t, err, "Dial", callback)
		if st := s.Stats(); st.Dialed != 0 || st.DialErrors != 0 {
			t.Errorf("stats: %+v", st)
		}
	})
}

// On a worker Ping works, for the loops can answer.
func TestPingInACallback(t *testing.T) {
	inEachPlace(t, func(s *server) error { return s.Ping(context.Background()) },
		func(t *testing.T, _ *server, callback string, onLoop bool, err error) {
			if !onLoop {
				must(t, err)
				return
			}
			wantInside(t, err, "Ping", callback)
		})
}

// A context that is cancelled when Shutdown has returned, as deferred functions do, does not cut the end short in a callback. Its
// deadline holds.
func TestShutdownInACallbackDrains(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string, loops int) {
		reply := pattern(4 << 20)
		for _, long := range []time.Duration{patience, 50 * time.Millisecond} {
			s := serve(t, network, engine.Options{Loops: loops, SendLimit: len(reply), LingerTimeout: -1}, hooks{recv: func(p *peer, _ []byte) {
				ctx, cancel := context.WithTimeout(context.Background(), long)
				defer cancel()
				must(t, p.Send(reply))
				wantError(t, "Shutdown", p.server.Shutdown(ctx), engine.ErrInCallback)
			}})
			c, p := s.connect()
			write(t, c, []byte("x"))
			if long == patience {
				eventually(t, "the end has begun", func() bool { return s.Err() != nil })
				must(t, readAll(c, reply))
				must(t, c.Close())
				wantError(t, "reason", awaitEnd(t, p), session.ErrShutdown)
				if errors.Is(p.Err(), session.ErrAborted) {
					t.Errorf("the session was aborted: %v", p.Err())
				}
			} else {
				wantError(t, "reason", awaitEnd(t, p), session.ErrShutdown, session.ErrAborted) // nobody reads
			}
			await(t, s.Done(), "the engine ends")
		}
	})
}

// From a goroutine that a callback has started it is allowed, and so is what concerns another engine.
func TestShutdownBesideACallback(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		results := make(chan error, 1)
		s := serve(t, "tcp", engine.Options{Loops: loops, LingerTimeout: 50 * time.Millisecond}, hooks{recv: func(p *peer, _ []byte) {
			go func() { results <- p.server.Shutdown(context.Background()) }()
		}})
		c, _ := s.connect()
		write(t, c, []byte("x"))
		must(t, await(t, results, "Shutdown returns"))
	})
}

func TestOtherEngineInACallback(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		o := engine.Options{Loops: loops, LingerTimeout: 50 * time.Millisecond}
		other := serve(t, "tcp", o, hooks{})
		_, p := other.connect()
		results := make(chan error, 3)
		s := serve(t, "tcp", o, hooks{recv: func(*peer, []byte) {
			a := other.listener.Addr()
			_, err := other.Dial(context.Background(), a.Network(), a.String(), other.newPeer)
			results <- err
			results <- other.Ping(context.Background())
			results <- other.Close()
		}})
		c, _ := s.connect()
		write(t, c, []byte("x"))
		for range 3 {
			must(t, await(t, results, "what concerns another engine is done"))
		}
		await(t, p.ended, "OnDisconnected")
	})
}

// waits is an engine whose only session is in a callback that waits for a Shutdown without a limit, made on another goroutine:
// the engine cannot know. It returns what that Shutdown returns.
func waits(t *testing.T, s *server) <-chan error {
	t.Helper()
	ended := make(chan error, 1)
	c, p := s.connect()
	must(t, p.Post(func() {
		done := make(chan struct{})
		go func() {
			defer close(done)
			ended <- s.Shutdown(context.Background())
		}()
		<-done
	}))
	_ = c
	eventually(t, "the end has begun", func() bool { return s.Err() != nil })
	return ended
}

// Close ends what a Shutdown without a limit waits for in vain.
func TestCloseAfterAShutdownThatHangs(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string, loops int) {
		s := serve(t, network, engine.Options{Loops: loops}, hooks{})
		ended := waits(t, s)
		select {
		case err := <-ended:
			t.Fatalf("Shutdown returns %v, and a callback runs", err)
		case <-time.After(50 * time.Millisecond):
		}
		wantError(t, "Close", s.Close(), engine.ErrClosed)
		if err := await(t, ended, "Shutdown returns"); err == nil || !strings.Contains(err.Error(), "callback does not return") {
			t.Errorf("Shutdown returns %v, want that a callback does not return", err)
		}
		await(t, s.Done(), "the engine ends")
	})
}

// Run keeps its own limit beside a Shutdown that has none.
func TestRunBesideAShutdownWithoutALimit(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		const limit = 100 * time.Millisecond
		s := prepare(t, "tcp", "127.0.0.1:0", engine.Options{Loops: loops, DrainTimeout: limit, LingerTimeout: -1}, hooks{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ran := make(chan error, 1)
		go func() { ran <- s.Run(ctx) }()
		eventually(t, "the engine listens", func() bool { return s.listener.Addr().String() != "127.0.0.1:0" })
		_, p := s.connect() // its client does not close: the session lingers without end
		ended := make(chan error, 1)
		go func() { ended <- s.Shutdown(context.Background()) }()
		eventually(t, "the end has begun", func() bool { return s.Err() != nil })
		select {
		case err := <-ran:
			t.Fatalf("Run returns %v before its context has ended", err)
		case <-time.After(2 * limit):
		}
		began := time.Now()
		cancel()
		must(t, await(t, ran, "Run returns"))
		if took := time.Since(began); took < limit/2 {
			t.Errorf("Run has returned after %v, and may take %v", took, limit)
		}
		wantError(t, "reason", awaitEnd(t, p), session.ErrShutdown)
		must(t, await(t, ended, "Shutdown returns"))
	})
}

// Run returns though a callback never does: after its limit, and the second that sessions have to end. So it does when the Shutdown is
// not its own.
func TestRunReturnsWithoutACallback(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		for _, beside := range []bool{false, true} {
			s := prepare(t, "tcp", "127.0.0.1:0", engine.Options{Loops: loops, DrainTimeout: 50 * time.Millisecond}, hooks{})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ran := make(chan error, 1)
			go func() { ran <- s.Run(ctx) }()
			eventually(t, "the engine listens", func() bool { return s.listener.Addr().String() != "127.0.0.1:0" })
			_, p := s.connect()
			release := p.hold(t)
			ended := make(chan error, 1)
			if beside {
				go func() { ended <- s.Shutdown(context.Background()) }()
				eventually(t, "the end has begun", func() bool { return s.Err() != nil })
			}
			cancel()
			if err := await(t, ran, "Run returns"); err == nil || !strings.Contains(err.Error(), "callback does not return") {
				t.Errorf("Run returns %v, want that a callback does not return", err)
			}
			select {
			case <-s.Done():
				t.Error("the engine has ended, and a callback runs")
			default:
			}
			if beside {
				if err := await(t, ended, "Shutdown returns"); err == nil {
					t.Error("Shutdown returns nil, and a callback runs")
				}
			}
			release()
			await(t, s.Done(), "the engine ends")
		}
	})
}
