package enginetest

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/session"
)

// ending is chapter 5 of the contract.
var ending = []promise{
	{"E1", "Disconnect delivers what was accepted", 0, disconnectDelivers},
	{"E1", "the wait for the peer ends by LingerTimeout or DrainTimeout", 0, lingerAndDrainEnd},
	{"E2", "a half-close loses no byte of the answer", 0, halfCloseLosesNothing},
	{"E2", "streaming from OnSend goes on after the half-close", 0, streamingGoesOnAfterHalfClose},
	{"E2", "OnHalfClose tells of the peer's end, and the session goes on", 0, onHalfClose},
	{"E2", "CloseWrite ends our side, and the answer still comes", 0, closeWrite},
	{"E3", "Abort resets at once", exact | resets, abortResets},
	{"E4", "Shutdown delivers what was accepted", 0, shutdownDrains},
	{"E4", "Shutdown aborts the rest when its context ends", 0, shutdownInTime},
	{"E4", "Close waits while sessions end", 0, closeWaitsWhileSessionsEnd},
	{"E4", "Close tells of a callback that does not return", 0, closeTellsOfACallback},
	{"E4", "Run and Shutdown panic without a context", 0, nilContext},
	{"E4", "the end may be asked for any number of times", 0, endingTwice},
	{"E4", "Run serves until its context ends, then drains", 0, run},
	{"E4", "Run ends in time, however steadily a peer reads", 0, runEndsInTime},
	{"E4", "Shutdown in a rush leaves nothing behind", accepting, shutdownInARush},
	{"E4", "a session that is being made when Shutdown begins is ended", accepting, shutdownWhileASessionIsMade},
	{"E4", "Shutdown tells of bytes that are on their way", resets, shutdownTellsOfBytesOnTheirWay},
}

// E1: what was accepted before Disconnect arrives, although the client goes on sending what nobody reads.
func disconnectDelivers(t testing.TB, v *Variant) {
	reply := kit.Pattern(1 << 20)
	var once sync.Map
	s := v.serve(t, engine.Options{SendLimit: 2 << 20}, kit.Hooks{Recv: func(p *kit.Session, _ []byte) {
		if _, again := once.LoadOrStore(p, true); again {
			t.Error("OnRecv after Disconnect")
		}
		if err := p.Send(reply); err != nil {
			t.Error(err)
		}
		p.Disconnect()
		p.Disconnect()
		if err := p.Send(reply); !errors.Is(err, session.ErrClosed) {
			t.Errorf("Send after Disconnect: %v", err)
		}
	}})
	for range 20 {
		c, p := s.connect()
		over := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			chunk := make([]byte, 10_000)
			for {
				select {
				case <-over:
					return
				default:
					if _, err := c.Write(chunk); err != nil {
						return
					}
				}
			}
		})
		err := kit.ReadAll(c, reply)
		close(over)
		if err != nil {
			t.Error(err)
		}
		kit.Must(t, c.Close())
		wg.Wait()
		kit.Await(t, p.Ended, "OnDisconnected")
		kit.WantError(t, "reason", p.Err(), session.ErrDisconnected)
		if n := p.Sent.Load(); n != int64(len(reply)) {
			t.Errorf("OnSend told of %d bytes, want %d", n, len(reply))
		}
	}
}

// E1: a peer that does not close is waited for no longer than LingerTimeout; one that does not read, no longer
// than DrainTimeout.
func lingerAndDrainEnd(t testing.TB, v *Variant) {
	s := v.serve(t, engine.Options{LingerTimeout: 50 * time.Millisecond}, kit.Hooks{})
	_, p := s.connect()
	p.Disconnect()
	kit.Await(t, p.Ended, "OnDisconnected of a session whose peer stays")
	if err := p.Err(); err != session.ErrDisconnected {
		t.Errorf("Err %v, want ErrDisconnected alone", err)
	}

	s = v.serve(t, engine.Options{DrainTimeout: 50 * time.Millisecond, SendLimit: 16 << 20}, kit.Hooks{})
	_, p = s.session(s.smallClient())
	kit.Must(t, p.Send(make([]byte, 8<<20)))
	p.Disconnect()
	kit.Await(t, p.Ended, "OnDisconnected of a session whose peer does not read")
	kit.WantError(t, "reason", p.Err(), session.ErrDisconnected, session.ErrDrainTimeout)
}

// E2: a client that sends a request, shuts down its writing side and reads slowly gets every byte.
func halfCloseLosesNothing(t testing.TB, v *Variant) {
	reply := kit.Pattern(16 << 20) // for each of the eight servers at once
	s := v.serve(t, engine.Options{SendLimit: len(reply) + 1024}, kit.Hooks{Recv: func(p *kit.Session, _ []byte) {
		if err := p.Send(reply); err != nil {
			t.Error(err)
		}
	}})
	c, p := s.connect()
	kit.Write(t, c, []byte("please"))
	kit.CloseWrite(t, c)
	kit.Eventually(t, "the FIN is seen", func() bool { return p.Err() != nil })
	kit.WantError(t, "reason", p.Err(), session.ErrPeerClosed)
	select {
	case <-p.Ended:
		t.Error("OnDisconnected before the reply was out")
	default:
	}
	kit.Must(t, kit.ReadAll(c, reply))
	kit.Await(t, p.Ended, "OnDisconnected")
	if n := p.Sent.Load(); n != int64(len(reply)) {
		t.Errorf("OnSend told of %d bytes, want %d", n, len(reply))
	}
}

// E2: content that streams from OnSend is not cut off by the client's half-close.
func streamingGoesOnAfterHalfClose(t testing.TB, v *Variant) {
	const chunks = 200
	chunk := kit.Pattern(50_000)
	var next atomic.Int64
	more := func(p *kit.Session) {
		if p.Pending() == 0 && next.Load() < chunks {
			next.Add(1)
			if err := p.Send(chunk); err != nil {
				t.Errorf("chunk %d: %v", next.Load(), err)
			}
		}
	}
	s := v.serve(t, engine.Options{}, kit.Hooks{
		Recv: func(p *kit.Session, _ []byte) { more(p) },
		Sent: func(p *kit.Session, _ int) { more(p) },
	})
	c, p := s.connect()
	kit.Write(t, c, []byte("please"))
	kit.CloseWrite(t, c)
	n, err := io.Copy(io.Discard, c)
	if err != nil || n != chunks*int64(len(chunk)) {
		t.Errorf("got %d of %d bytes, %v", n, chunks*len(chunk), err)
	}
	kit.Await(t, p.Ended, "OnDisconnected")
}

// The peer's end is told, and the session goes on until content has finished too.
func onHalfClose(t testing.TB, v *Variant) {
	s, arrivals := v.serveHalfOpen(t, engine.Options{})
	c := s.client()
	p := kit.Await(t, arrivals, "a session")
	kit.Write(t, c, []byte("request"))
	kit.CloseWrite(t, c)
	kit.Await(t, p.told, "OnHalfClose")
	if n := p.Got.Load(); n != 7 {
		t.Errorf("%d bytes before it, want 7", n)
	}
	answer := kit.Stream()[:200_000]
	kit.Must(t, p.Send(answer[:1000]))
	kit.Must(t, p.Send(answer[1000:]))
	p.CloseWrite()
	got, err := io.ReadAll(c)
	kit.Must(t, err)
	if string(got) != string(answer) {
		t.Errorf("%d bytes of an answer of %d, or others", len(got), len(answer))
	}
	kit.Await(t, p.Ended, "OnDisconnected")
	kit.WantError(t, "Err", p.Err(), session.ErrPeerClosed, io.EOF)

	if v.Network == "unix" {
		return // it has no resets
	}
	c = s.client()
	p = kit.Await(t, arrivals, "a session")
	kit.CloseWrite(t, c)
	kit.Await(t, p.told, "OnHalfClose")
	kit.Reset(t, c)
	kit.Await(t, p.Ended, "OnDisconnected after a reset")
	kit.WantError(t, "Err", p.Err(), session.ErrPeerReset)
}

// CloseWrite is a request that is complete: the answer still comes.
func closeWrite(t testing.TB, v *Variant) {
	s := v.serve(t, engine.Options{LingerTimeout: time.Millisecond}, kit.Hooks{Connected: func(p *kit.Session) {
		kit.Must(t, p.Send([]byte("question")))
		p.CloseWrite()
	}})
	c, p := s.connect()
	got, err := io.ReadAll(c)
	kit.Must(t, err)
	if string(got) != "question" {
		t.Errorf("got %q", got)
	}
	kit.Write(t, c, kit.Stream())
	kit.CloseWrite(t, c)
	kit.Await(t, p.Ended, "OnDisconnected")
	if n := p.Got.Load(); n != int64(len(kit.Stream())) {
		t.Errorf("%d bytes of the answer, want %d", n, len(kit.Stream()))
	}
	kit.WantError(t, "Err", p.Err(), session.ErrPeerClosed)
}

// E3: Abort resets at once and drops what is queued.
func abortResets(t testing.TB, v *Variant) {
	s := v.serve(t, engine.Options{SendLimit: 16 << 20}, kit.Hooks{})
	c, p := s.session(s.smallClient())
	kit.Must(t, p.Send(make([]byte, 8<<20)))
	kit.Eventually(t, "the kernel is full", func() bool { return s.Stats().Total.WouldBlock > 0 })
	p.Abort()
	p.Abort()
	kit.Await(t, p.Ended, "OnDisconnected")
	kit.WantError(t, "reason", p.Err(), session.ErrAborted)
	if n, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) || n >= 8<<20 {
		t.Errorf("the client got %d bytes and %v, want a reset", n, err)
	}
	if d := s.Stats().Total.BytesDropped; int64(d) != 8<<20-p.Sent.Load() {
		t.Errorf("%d bytes were dropped, want %d", d, 8<<20-p.Sent.Load())
	}
}

// E4: Shutdown delivers what was accepted and returns nil; the address is free again.
func shutdownDrains(t testing.TB, v *Variant) {
	reply := kit.Pattern(4 << 20)
	s := v.serve(t, engine.Options{SendLimit: len(reply) + 1024}, kit.Hooks{})
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
	select {
	case <-s.Done():
	default:
		t.Error("Done is open after Shutdown")
	}
	kit.WantError(t, "Err", s.Err(), engine.ErrClosed)
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
	kit.WantError(t, "Err", s.Err(), engine.ErrClosed)
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
	kit.Await(t, s.Done(), "the engine has ended")
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
	case <-s.Done():
		t.Error("Done is closed though a callback runs")
	default:
	}
	close(held)
	kit.Await(t, s.Done(), "the engine ends when the callback has returned")
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
	panics("Run", func() { _ = e.Run(nil) })
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
	kit.Await(t, s.Done(), "Done")
	kit.WantError(t, "Start after the end", s.Start(), engine.ErrClosed)

	never := v.prepare(t, engine.Options{}, kit.Hooks{})
	kit.Must(t, never.Close())
	kit.Await(t, never.Done(), "Done of an engine that never started")
	kit.WantError(t, "Start after Close", never.Start(), engine.ErrClosed)
}

// E4: Run serves until ctx ends, then drains.
func run(t testing.TB, v *Variant) {
	s := v.prepare(t, engine.Options{LingerTimeout: 50 * time.Millisecond}, kit.Hooks{Recv: kit.Echo})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- s.Run(ctx) }()
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
	go func() { ran <- s.Run(ctx) }()
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
		for s.Err() == nil { // until the end has begun: microseconds
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
