package engine_test

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
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/session"
)

// places are the callbacks of a session, each with what brings it about. act runs in it once.
var places = []struct {
	callback string
	hooks    func(act func()) kit.Hooks
	handler  func(s *kit.Server, act func()) session.Handler
	option   func(act func()) engine.Option
	onLoop   bool // also with Offload
}{
	{callback: "OnConnected", hooks: func(act func()) kit.Hooks { return kit.Hooks{Connected: func(*kit.Session) { act() }} }},
	{callback: "OnRecv", hooks: func(act func()) kit.Hooks { return kit.Hooks{Recv: func(*kit.Session, []byte) { act() }} }},
	{callback: "OnSend", hooks: func(act func()) kit.Hooks { return kit.Hooks{Recv: kit.Echo, Sent: func(*kit.Session, int) { act() }} }},
	{callback: "OnDisconnected", hooks: func(act func()) kit.Hooks {
		return kit.Hooks{Recv: func(p *kit.Session, _ []byte) { p.Abort() }, Disconnected: func(*kit.Session) { act() }}
	}},
	{callback: "Post", hooks: func(act func()) kit.Hooks { return kit.Hooks{Recv: func(p *kit.Session, _ []byte) { _ = p.Post(act) }} }},
	{callback: "AfterFunc", hooks: func(act func()) kit.Hooks {
		return kit.Hooks{Recv: func(p *kit.Session, _ []byte) { p.AfterFunc(0, act) }}
	}},
	{callback: "OnHalfClose", handler: func(s *kit.Server, act func()) session.Handler {
		return &halfCloser{s.NewSession(), act}
	}},
	{callback: "OnWritable", hooks: func(func()) kit.Hooks {
		return kit.Hooks{Recv: func(p *kit.Session, _ []byte) { _ = p.Send(make([]byte, 512<<10)) }} // more than the kernel takes
	}, handler: func(s *kit.Server, act func()) session.Handler {
		return &markDawdler{s.NewSession(), act}
	}},
	{callback: "Framer.Split", option: func(act func()) engine.Option { return engine.Framed(&actingFramer{frame.Line{Max: 100}, act}) }},
	{callback: "Factory", onLoop: true, handler: func(s *kit.Server, act func()) session.Handler {
		act()
		return s.New()
	}},
	{callback: "Admit", onLoop: true, option: func(act func()) engine.Option {
		return engine.Admit(func(netip.AddrPort) error { act(); return nil })
	}},
}

// halfCloser acts in OnHalfClose.
type halfCloser struct {
	*kit.Session
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
func inEachPlace(t *testing.T, call func(*kit.Server) error, check func(t *testing.T, s *kit.Server, p string, onLoop bool, err error)) {
	kit.NoLeaks(t)
	for _, network := range []string{"tcp", "unix"} {
		for _, mode := range kit.Modes {
			for _, place := range places {
				t.Run(network+","+place.callback+mode, func(t *testing.T) {
					result := make(chan error, 1)
					var s *kit.Server
					var once sync.Once
					act := func() { once.Do(func() { result <- call(s) }) }
					var h kit.Hooks
					if place.hooks != nil {
						h = place.hooks(act)
					}
					o := engine.Options{Loops: 2, SendBuffer: 32 << 10, HighWater: 32 << 10, LingerTimeout: 50 * time.Millisecond,
						DrainTimeout: 50 * time.Millisecond}
					s = kit.NewServer(t, o, h)
					s.Wire = place.option != nil
					make := s.New
					if place.handler != nil {
						make = func() session.Handler { return place.handler(s, act) }
					}
					var opts []engine.Option
					if place.option != nil {
						opts = append(opts, place.option(act))
					}
					l, err := s.Listen(network, kit.FreeAddress(t, network), make, kit.InMode(t, o, opts)...)
					kit.Must(t, err)
					s.Listener = l
					kit.Must(t, s.Start())
					c := s.Client()
					_, _ = c.Write([]byte("x\n"))
					if place.callback == "OnHalfClose" {
						kit.CloseWrite(t, c)
					}
					check(t, s, place.callback, mode == "" || place.onLoop, kit.Await(t, result, "the call in the callback returns"))
				})
			}
		}
	}
}

// wantInside checks an error that says where a method was called.
func wantInside(t *testing.T, err error, method, callback string) {
	t.Helper()
	kit.WantError(t, method, err, engine.ErrInCallback)
	if err == nil || !strings.HasPrefix(err.Error(), "engine: "+method+" called from a callback ("+callback) ||
		!strings.Contains(err.Error(), "inside_test.go:") {
		t.Errorf("%q, want what was called, that it was in %s, and the line", err, callback)
	}
}

// K14, E4: Shutdown in a callback returns at once and says why. The engine ends all the same.
func TestShutdownInACallback(t *testing.T) {
	inEachPlace(t, func(s *kit.Server) error { return s.Shutdown(context.Background()) },
		func(t *testing.T, s *kit.Server, callback string, _ bool, err error) {
			wantInside(t, err, "Shutdown", callback)
			kit.Await(t, s.Done(), "the engine ends")
			kit.WantError(t, "Err", s.Err(), engine.ErrClosed)
			kit.WantError(t, "once more", s.Shutdown(t.Context()), engine.ErrClosed)
		})
}

func TestCloseInACallback(t *testing.T) {
	inEachPlace(t, func(s *kit.Server) error { return s.Close() },
		func(t *testing.T, s *kit.Server, callback string, _ bool, err error) {
			wantInside(t, err, "Close", callback)
			kit.Await(t, s.Done(), "the engine ends")
			kit.WantError(t, "Err", s.Err(), engine.ErrClosed)
		})
}

// Run and Dial in a callback do nothing.
func TestRunInACallback(t *testing.T) {
	inEachPlace(t, func(s *kit.Server) error { return s.Run(context.Background()) },
		func(t *testing.T, s *kit.Server, callback string, _ bool, err error) {
			wantInside(t, err, "Run", callback)
			if s.Err() != nil {
				t.Errorf("the engine ends: %v", s.Err())
			}
		})
}

func TestDialInACallback(t *testing.T) {
	inEachPlace(t, func(s *kit.Server) error {
		a := s.Listener.Addr()
		_, err := s.Dial(context.Background(), a.Network(), a.String(), func() session.Handler {
			s.T.Error("the factory is called")
			return nil
		})
		return err
	}, func(t *testing.T, s *kit.Server, callback string, _ bool, err error) {
		wantInside(t, err, "Dial", callback)
		if st := s.Stats(); st.Dialed != 0 || st.DialErrors != 0 {
			t.Errorf("stats: %+v", st)
		}
	})
}

// On a worker Ping works, for the loops can answer.
func TestPingInACallback(t *testing.T) {
	inEachPlace(t, func(s *kit.Server) error { return s.Ping(context.Background()) },
		func(t *testing.T, _ *kit.Server, callback string, onLoop bool, err error) {
			if !onLoop {
				kit.Must(t, err)
				return
			}
			wantInside(t, err, "Ping", callback)
		})
}

// A context that is cancelled when Shutdown has returned, as deferred functions do, does not cut the end short in a callback. Its
// deadline holds.
func TestShutdownInACallbackDrains(t *testing.T) {
	kit.OnNetworks(t, func(t *testing.T, network string, loops int) {
		reply := kit.Pattern(4 << 20)
		for _, long := range []time.Duration{kit.Patience, 50 * time.Millisecond} {
			var s *kit.Server
			s = kit.Prepare(t, network, kit.FreeAddress(t, network), engine.Options{Loops: loops, SendLimit: len(reply), LingerTimeout: -1}, kit.Hooks{Recv: func(p *kit.Session, _ []byte) {
				ctx, cancel := context.WithTimeout(context.Background(), long)
				defer cancel()
				kit.Must(t, p.Send(reply))
				kit.WantError(t, "Shutdown", s.Shutdown(ctx), engine.ErrInCallback)
			}})
			kit.Must(t, s.Start())
			c, p := s.Connect()
			kit.Write(t, c, []byte("x"))
			if long == kit.Patience {
				kit.Eventually(t, "the end has begun", func() bool { return s.Err() != nil })
				kit.Must(t, kit.ReadAll(c, reply))
				kit.Must(t, c.Close())
				kit.WantError(t, "reason", kit.AwaitEnd(t, p), session.ErrShutdown)
				if errors.Is(p.Err(), session.ErrAborted) {
					t.Errorf("the session was aborted: %v", p.Err())
				}
			} else {
				kit.WantError(t, "reason", kit.AwaitEnd(t, p), session.ErrShutdown, session.ErrAborted) // nobody reads
			}
			kit.Await(t, s.Done(), "the engine ends")
		}
	})
}

// From a goroutine that a callback has started it is allowed, and so is what concerns another engine.
func TestShutdownBesideACallback(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		results := make(chan error, 1)
		var s *kit.Server
		s = kit.Prepare(t, "tcp", "127.0.0.1:0", engine.Options{Loops: loops, LingerTimeout: 50 * time.Millisecond}, kit.Hooks{Recv: func(p *kit.Session, _ []byte) {
			go func() { results <- s.Shutdown(context.Background()) }()
		}})
		kit.Must(t, s.Start())
		c, _ := s.Connect()
		kit.Write(t, c, []byte("x"))
		kit.Must(t, kit.Await(t, results, "Shutdown returns"))
	})
}

func TestOtherEngineInACallback(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		o := engine.Options{Loops: loops, LingerTimeout: 50 * time.Millisecond}
		other := kit.Serve(t, "tcp", o, kit.Hooks{})
		_, p := other.Connect()
		results := make(chan error, 3)
		s := kit.Serve(t, "tcp", o, kit.Hooks{Recv: func(*kit.Session, []byte) {
			a := other.Listener.Addr()
			_, err := other.Dial(context.Background(), a.Network(), a.String(), other.New)
			results <- err
			results <- other.Ping(context.Background())
			results <- other.Close()
		}})
		c, _ := s.Connect()
		kit.Write(t, c, []byte("x"))
		for range 3 {
			kit.Must(t, kit.Await(t, results, "what concerns another engine is done"))
		}
		kit.Await(t, p.Ended, "OnDisconnected")
	})
}

// waits is an engine whose only session is in a callback that waits for a Shutdown without a limit, made on another goroutine:
// the engine cannot know. It returns what that Shutdown returns.
func waits(t *testing.T, s *kit.Server) <-chan error {
	t.Helper()
	ended := make(chan error, 1)
	c, p := s.Connect()
	kit.Must(t, p.Post(func() {
		done := make(chan struct{})
		go func() {
			defer close(done)
			ended <- s.Shutdown(context.Background())
		}()
		<-done
	}))
	_ = c
	kit.Eventually(t, "the end has begun", func() bool { return s.Err() != nil })
	return ended
}

// Close ends what a Shutdown without a limit waits for in vain.
func TestCloseAfterAShutdownThatHangs(t *testing.T) {
	kit.OnNetworks(t, func(t *testing.T, network string, loops int) {
		s := kit.Serve(t, network, engine.Options{Loops: loops}, kit.Hooks{})
		ended := waits(t, s)
		select {
		case err := <-ended:
			t.Fatalf("Shutdown returns %v, and a callback runs", err)
		case <-time.After(50 * time.Millisecond):
		}
		kit.WantError(t, "Close", s.Close(), engine.ErrClosed)
		if err := kit.Await(t, ended, "Shutdown returns"); err == nil || !strings.Contains(err.Error(), "callback does not return") {
			t.Errorf("Shutdown returns %v, want that a callback does not return", err)
		}
		kit.Await(t, s.Done(), "the engine ends")
	})
}

// Run keeps its own limit beside a Shutdown that has none.
func TestRunBesideAShutdownWithoutALimit(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		const limit = 100 * time.Millisecond
		s := kit.Prepare(t, "tcp", "127.0.0.1:0", engine.Options{Loops: loops, DrainTimeout: limit, LingerTimeout: -1}, kit.Hooks{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ran := make(chan error, 1)
		go func() { ran <- s.Run(ctx) }()
		kit.Eventually(t, "the engine listens", func() bool { return s.Listener.Addr().String() != "127.0.0.1:0" })
		_, p := s.Connect() // its client does not close: the session lingers without end
		ended := make(chan error, 1)
		go func() { ended <- s.Shutdown(context.Background()) }()
		kit.Eventually(t, "the end has begun", func() bool { return s.Err() != nil })
		select {
		case err := <-ran:
			t.Fatalf("Run returns %v before its context has ended", err)
		case <-time.After(2 * limit):
		}
		began := time.Now()
		cancel()
		kit.Must(t, kit.Await(t, ran, "Run returns"))
		if took := time.Since(began); took < limit/2 {
			t.Errorf("Run has returned after %v, and may take %v", took, limit)
		}
		kit.WantError(t, "reason", kit.AwaitEnd(t, p), session.ErrShutdown)
		kit.Must(t, kit.Await(t, ended, "Shutdown returns"))
	})
}

// Run returns though a callback never does: after its limit, and the second that sessions have to end. So it does when the Shutdown is
// not its own.
func TestRunReturnsWithoutACallback(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		for _, beside := range []bool{false, true} {
			s := kit.Prepare(t, "tcp", "127.0.0.1:0", engine.Options{Loops: loops, DrainTimeout: 50 * time.Millisecond}, kit.Hooks{})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ran := make(chan error, 1)
			go func() { ran <- s.Run(ctx) }()
			kit.Eventually(t, "the engine listens", func() bool { return s.Listener.Addr().String() != "127.0.0.1:0" })
			_, p := s.Connect()
			release := p.Hold(t)
			ended := make(chan error, 1)
			if beside {
				go func() { ended <- s.Shutdown(context.Background()) }()
				kit.Eventually(t, "the end has begun", func() bool { return s.Err() != nil })
			}
			cancel()
			if err := kit.Await(t, ran, "Run returns"); err == nil || !strings.Contains(err.Error(), "callback does not return") {
				t.Errorf("Run returns %v, want that a callback does not return", err)
			}
			select {
			case <-s.Done():
				t.Error("the engine has ended, and a callback runs")
			default:
			}
			if beside {
				if err := kit.Await(t, ended, "Shutdown returns"); err == nil {
					t.Error("Shutdown returns nil, and a callback runs")
				}
			}
			release()
			kit.Await(t, s.Done(), "the engine ends")
		}
	})
}
