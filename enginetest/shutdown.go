package enginetest

import (
	"context"
	"errors"
	"net"
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

// E4: Shutdown delivers what was accepted and returns nil; the address is free again.
func shutdownDrains(t testing.TB, v *Variant) {
	reply := kit.Pattern(4 << 20)
	s := v.atFixedAddress().serve(t, engine.Options{SendLimit: len(reply) + 1024}, kit.Hooks{})
	const clients = 10
	results := make(chan error, clients)
	for range clients {
		c, p := s.connect()
		kit.Must(t, p.Send(reply))
		go func() {
			err := kit.ReadAll(c, reply)
			results <- errors.Join(err, c.Close())
		}()
	}
	kit.Must(t, s.Shutdown(t.Context()))
	for range clients {
		kit.Must(t, kit.Await(t, results, "a client has read"))
	}
	if e, ok := s.Server.(Engine); ok {
		select {
		case <-e.Done():
		default:
			t.Error("Done is open after Shutdown")
		}
		kit.WantError(t, "Err", e.Err(), engine.ErrClosed)
	}
	if s.addr == nil {
		return // it has dialled
	}
	a := s.addr()
	if c, err := net.Dial(a.Network(), a.String()); err == nil {
		c.Close()
		t.Error("somebody still listens")
	}
	again, err := net.Listen(a.Network(), a.String())
	kit.Must(t, err)
	kit.Must(t, again.Close())
}

// E4: what is not drained when ctx ends is aborted, and ctx's error returned.
func shutdownInTime(t testing.TB, v *Variant) {
	s := v.serve(t, engine.Options{SendLimit: 16 << 20}, kit.Hooks{})
	_, p := s.session(s.smallClient())
	kit.Must(t, p.Send(make([]byte, 8<<20)))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	kit.WantError(t, "Shutdown", s.Shutdown(ctx), context.DeadlineExceeded)
	kit.Await(t, p.Ended, "OnDisconnected")
	kit.WantError(t, "reason", p.Err(), session.ErrShutdown)
	if e, ok := s.Server.(Engine); ok {
		kit.WantError(t, "Err", e.Err(), engine.ErrClosed)
	}
}

// E4: callbacks that take long one after the other are not those that do not return.
func closeWaitsWhileSessionsEnd(t testing.TB, v *Variant) {
	const n = 8
	s := v.serve(t, engine.Options{}, kit.Hooks{Disconnected: func(*kit.Session) { time.Sleep(200 * time.Millisecond) }})
	for range n {
		s.connect()
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	s.awaitDone()
}

// E4: one that does not return is named after a second, and the engine ends when it does.
func closeTellsOfACallback(t testing.TB, v *Variant) {
	held := make(chan struct{})
	s := v.serve(t, engine.Options{}, kit.Hooks{Disconnected: func(*kit.Session) { <-held }})
	s.connect()
	if err := s.Close(); err == nil || !strings.Contains(err.Error(), "1 sessions cannot be ended") {
		t.Errorf("Close: %v", err)
	}
	select {
	case <-s.engine().Done():
		t.Error("Done is closed though a callback runs")
	default:
	}
	close(held)
	kit.Await(t, s.engine().Done(), "the engine ends when the callback has returned")
}

// Nothing has begun where the context is nil.
func nilContext(t testing.TB, v *Variant) {
	panics := func(what string, f func()) {
		defer func() {
			if recover() == nil {
				t.Errorf("%s: no panic", what)
			}
		}()
		f()
	}
	s := v.serve(t, engine.Options{}, kit.Hooks{Recv: kit.Echo})
	client, _ := s.connect()
	//lint:ignore SA1012 that is what is tested
	panics("Shutdown", func() { _ = s.Shutdown(nil) })
	e := v.prepare(t, engine.Options{}, kit.Hooks{})
	//lint:ignore SA1012 that is what is tested
	panics("Run", func() { _ = e.engine().Run(nil) })
	kit.Must(t, e.Start())
	kit.Must(t, e.Close())
	kit.Exchange(t, client, "x")
}

// E4: the end can be asked for in any order, by anybody, any number of times.
func endingTwice(t testing.TB, v *Variant) {
	s := v.serve(t, engine.Options{}, kit.Hooks{})
	_, p := s.connect()
	var firsts atomic.Int32
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			var err error
			if i%2 == 0 {
				err = s.Close()
			} else {
				err = s.Shutdown(t.Context())
			}
			switch {
			case err == nil:
				firsts.Add(1)
			case !errors.Is(err, engine.ErrClosed):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := firsts.Load(); n != 1 {
		t.Errorf("%d callers ended the engine, want 1", n)
	}
	kit.Await(t, p.Ended, "OnDisconnected")
	kit.Await(t, s.engine().Done(), "Done")
	kit.WantError(t, "Start after the end", s.Start(), engine.ErrClosed)

	never := v.prepare(t, engine.Options{}, kit.Hooks{})
	kit.Must(t, never.Close())
	kit.Await(t, never.engine().Done(), "Done of an engine that never started")
	kit.WantError(t, "Start after Close", never.Start(), engine.ErrClosed)
}

// E4: Run serves until ctx ends, then drains.
func run(t testing.TB, v *Variant) {
	s := v.prepare(t, engine.Options{LingerTimeout: 50 * time.Millisecond}, kit.Hooks{Recv: kit.Echo})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- s.engine().Run(ctx) }()
	kit.Eventually(t, "the engine listens", s.ready)
	c, p := s.connect()
	kit.Exchange(t, c, "hello")
	cancel()
	kit.Must(t, kit.Await(t, result, "Run returns"))
	kit.Await(t, p.Ended, "OnDisconnected")
	kit.WantError(t, "reason", p.Err(), session.ErrShutdown)
}

// E4: Run's own end is bounded by DrainTimeout, also for a peer that reads so steadily that no deadline of its session cuts it off.
func runEndsInTime(t testing.TB, v *Variant) {
	const drain = 300 * time.Millisecond
	s := v.prepare(t, engine.Options{DrainTimeout: drain, SendBuffer: 16 << 10, SendLimit: 64 << 20}, kit.Hooks{
		Connected: func(p *kit.Session) { kit.Must(t, p.Send(kit.Stream())) },
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ran := make(chan error, 1)
	go func() { ran <- s.engine().Run(ctx) }()
	kit.Eventually(t, "it accepts", s.ready)
	c := s.smallClient()
	p := kit.Await(t, s.Arrivals, "OnConnected")
	kit.Eventually(t, "much is queued", func() bool { return p.Pending() > 0 })
	read := make(chan struct{})
	go func() { // 16 KiB each 5 ms: the whole takes ten seconds
		defer close(read)
		b := make([]byte, 16<<10)
		for {
			if _, err := c.Read(b); err != nil {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	began := time.Now()
	cancel()
	kit.Must(t, kit.Await(t, ran, "Run returns"))
	if took := time.Since(began); took < drain || took > kit.Patience {
		t.Errorf("Run returned after %v, want %v", took, drain)
	}
	kit.Await(t, read, "the client is reset")
}

// E4: an end in the middle of a rush leaves nothing behind: each connection became a session that ended, or was
// refused.
func shutdownInARush(t testing.TB, v *Variant) {
	for range 5 {
		s := v.serve(t, engine.Options{LingerTimeout: 50 * time.Millisecond}, kit.Hooks{
			Recv: func(p *kit.Session, data []byte) { _ = p.Send(data) }})
		over := make(chan struct{})
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				for {
					select {
					case <-over:
						return
					default:
					}
					if c, err := s.try(); err == nil {
						_, _ = c.Write([]byte("x"))
						_ = c.Close()
					}
				}
			})
		}
		kit.Eventually(t, "some were accepted", func() bool { return s.Stats().Accepted > 100 })
		kit.Must(t, s.Shutdown(t.Context()))
		close(over)
		wg.Wait()
		if n := s.Stats().Sessions; n != 0 {
			t.Errorf("%d sessions are left", n)
		}
	}
}

// E4: a session that is being made when the end begins is ended too, whichever of the two comes first.
func shutdownWhileASessionIsMade(t testing.TB, v *Variant) {
	for range 12 {
		entered, release := make(chan struct{}), make(chan struct{})
		w := kit.NewWatch(t, kit.Hooks{})
		s := v.prepareWith(t, engine.Options{LingerTimeout: 10 * time.Millisecond}, w, func() session.Handler {
			close(entered)
			<-release
			return w.New()
		})
		kit.Must(t, s.Start())
		c, err := s.try()
		kit.Must(t, err)
		kit.Await(t, entered, "the factory is called")
		ended := make(chan error, 1)
		go func() { ended <- s.Shutdown(context.Background()) }()
		for s.engine().Err() == nil { // until the end has begun: microseconds
			runtime.Gosched()
		}
		close(release)
		kit.Must(t, kit.Await(t, ended, "Shutdown returns"))
		kit.Must(t, c.Close())
	}
}

// E2b, E4: Shutdown does not say that all is well while the kernel still has bytes of ours.
func shutdownTellsOfBytesOnTheirWay(t testing.TB, v *Variant) {
	s := v.serve(t, engine.Options{DrainTimeout: time.Minute}, kit.Hooks{Connected: func(p *kit.Session) { kit.Must(t, p.Send(make([]byte, 256<<10))) }})
	_, p := s.session(s.smallClient())
	p.Run(t, func() {})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	kit.WantError(t, "Shutdown", s.Shutdown(ctx), context.DeadlineExceeded)
	kit.WantError(t, "reason", p.Err(), session.ErrShutdown, session.ErrAborted)
	if st := s.Stats().Total; st.BytesUnacked == 0 || st.BytesOut < 256<<10 {
		t.Errorf("%d bytes out, %d not acknowledged", st.BytesOut, st.BytesUnacked)
	}
}
