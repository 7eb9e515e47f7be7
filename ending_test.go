package servercore_test

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
	"github.com/servercore-go/servercore/session"
)

// pattern is n bytes that repeat with no power of two, so that a lost or doubled buffer shows.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

// S7: an echo server needs no code for a client that writes everything before it reads anything.
func TestS7EchoOfAClientThatDoesNotRead(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string, loops int) {
		const sendLimit, pauseAbove = 128 << 10, 96 << 10 // less than one read apart
		var most atomic.Int64
		s := serve(t, network, engine.Options{Loops: loops, SendLimit: sendLimit, PauseAbove: pauseAbove, SendBuffer: 64 << 10},
			hooks{recv: func(p *peer, data []byte) {
				echo(p, data)
				most.Store(max(most.Load(), int64(p.Pending())))
			}})
		c, p := s.connect()
		data := pattern(32 << 20)
		wrote := make(chan error, 1)
		go func() {
			_, err := c.Write(data)
			wrote <- errors.Join(err, c.(interface{ CloseWrite() error }).CloseWrite())
		}()
		eventually(t, "reading is paused", func() bool { return s.Stats().Total.Pauses > 0 })
		must(t, readAll(c, data))
		must(t, await(t, wrote, "the client has written"))
		await(t, p.ended, "OnDisconnected")
		wantError(t, "reason", p.Err(), session.ErrPeerClosed)
		if n := most.Load(); n > sendLimit || n <= 0 {
			t.Errorf("%d bytes were pending, want 1 to %d", n, sendLimit)
		}
	})
}

// S7: PauseRecv stops OnRecv and holds the peer; nothing is lost; the FIN waits behind the bytes before it.
func TestS7PauseAndResume(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string, loops int) {
		paused := make(chan struct{})
		var once sync.Once
		s := serve(t, network, engine.Options{Loops: loops}, hooks{recv: func(p *peer, _ []byte) {
			once.Do(func() {
				p.PauseRecv()
				close(paused)
			})
		}})
		c, p := s.connect()
		const total = 16 << 20
		wrote := make(chan error, 1)
		go func() {
			_, err := c.Write(make([]byte, total))
			wrote <- errors.Join(err, c.(interface{ CloseWrite() error }).CloseWrite())
		}()
		await(t, paused, "the first OnRecv")
		p.run(t, func() {}) // the turn that paused is over
		before := p.got.Load()
		for range 20 {
			p.run(t, func() {
				if err := p.Send([]byte("x")); err != nil { // a paused session still sends
					t.Error(err)
				}
			})
		}
		expect(t, c, "xxxxxxxxxxxxxxxxxxxx")
		if got := p.got.Load(); got != before || got >= total {
			t.Errorf("a paused session received %d bytes, %d at the pause", got, before)
		}
		select {
		case err := <-wrote:
			t.Errorf("the peer was not held: it wrote %d bytes, %v", total, err)
		default:
		}
		if p.Err() != nil {
			t.Errorf("Err of a paused session: %v", p.Err())
		}
		p.ResumeRecv()
		must(t, await(t, wrote, "the client has written"))
		await(t, p.ended, "OnDisconnected")
		if got := p.got.Load(); got != total {
			t.Errorf("received %d of %d bytes", got, total)
		}
		wantError(t, "reason", p.Err(), session.ErrPeerClosed)
	})
}

// S7: a paused session notices a reset, and a FIN that no byte precedes.
func TestS7PausedSessionNoticesTheEnd(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		for name, end := range map[string]struct {
			act    func(testing.TB, net.Conn)
			reason error
		}{
			"reset": {reset, session.ErrPeerReset},
			"FIN":   {func(t testing.TB, c net.Conn) { must(t, c.Close()) }, session.ErrPeerClosed},
		} {
			t.Run(name, func(t *testing.T) {
				s := serve(t, "tcp", engine.Options{Loops: loops}, hooks{connected: func(p *peer) { p.PauseRecv() }})
				c, p := s.connect()
				eventually(t, "reading is paused", func() bool { return s.Stats().Total.Pauses == 1 })
				end.act(t, c)
				await(t, p.ended, "OnDisconnected")
				wantError(t, "reason", p.Err(), end.reason)
			})
		}
	})
}

// E1: what was accepted before Disconnect arrives, although the client goes on sending what nobody reads.
func TestE1DisconnectDeliversWhatWasAccepted(t *testing.T) {
	reply := pattern(1 << 20)
	onNetworks(t, func(t *testing.T, network string, loops int) {
		var once sync.Map
		s := serve(t, network, engine.Options{Loops: loops, SendLimit: 2 << 20}, hooks{recv: func(p *peer, _ []byte) {
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
			err := readAll(c, reply)
			close(over)
			if err != nil {
				t.Error(err)
			}
			must(t, c.Close())
			wg.Wait()
			await(t, p.ended, "OnDisconnected")
			wantError(t, "reason", p.Err(), session.ErrDisconnected)
			if n := p.sent.Load(); n != int64(len(reply)) {
				t.Errorf("OnSend told of %d bytes, want %d", n, len(reply))
			}
		}
	})
}

// E1: a peer that does not close is waited for no longer than LingerTimeout; one that does not read, no longer
// than DrainTimeout.
func TestE1LingerAndDrainEnd(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		s := serve(t, "tcp", engine.Options{Loops: loops, LingerTimeout: 50 * time.Millisecond, DrainTimeout: 50 * time.Millisecond,
			SendLimit: 16 << 20}, hooks{})
		_, p := s.connect()
		p.Disconnect()
		await(t, p.ended, "OnDisconnected of a session whose peer stays")
		if err := p.Err(); err != session.ErrDisconnected {
			t.Errorf("Err %v, want ErrDisconnected alone", err)
		}

		_, p = s.session(s.dialSmall())
		must(t, p.Send(make([]byte, 8<<20)))
		p.Disconnect()
		await(t, p.ended, "OnDisconnected of a session whose peer does not read")
		wantError(t, "reason", p.Err(), session.ErrDisconnected, session.ErrDrainTimeout)
	})
}

// E2: a client that sends a request, shuts down its writing side and reads slowly gets every byte.
func TestE2HalfCloseLosesNothing(t *testing.T) {
	reply := pattern(16 << 20) // for each of the eight servers at once
	onNetworks(t, func(t *testing.T, network string, loops int) {
		s := serve(t, network, engine.Options{Loops: loops, SendLimit: len(reply)}, hooks{recv: func(p *peer, _ []byte) {
			if err := p.Send(reply); err != nil {
				t.Error(err)
			}
		}})
		c, p := s.connect()
		write(t, c, []byte("please"))
		closeWrite(t, c)
		eventually(t, "the FIN is seen", func() bool { return p.Err() != nil })
		wantError(t, "reason", p.Err(), session.ErrPeerClosed)
		select {
		case <-p.ended:
			t.Error("OnDisconnected before the reply was out")
		default:
		}
		must(t, readAll(c, reply))
		await(t, p.ended, "OnDisconnected")
		if n := p.sent.Load(); n != int64(len(reply)) {
			t.Errorf("OnSend told of %d bytes, want %d", n, len(reply))
		}
	})
}

// E2: content that streams from OnSend is not cut off by the client's half-close.
func TestE2StreamingGoesOnAfterHalfClose(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		const chunks = 200
		chunk := pattern(50_000)
		var next atomic.Int64
		more := func(p *peer) {
			if p.Pending() == 0 && next.Load() < chunks {
				next.Add(1)
				if err := p.Send(chunk); err != nil {
					t.Errorf("chunk %d: %v", next.Load(), err)
				}
			}
		}
		s := serve(t, "tcp", engine.Options{Loops: loops}, hooks{
			recv: func(p *peer, _ []byte) { more(p) },
			sent: func(p *peer, _ int) { more(p) },
		})
		c, p := s.connect()
		write(t, c, []byte("please"))
		closeWrite(t, c)
		n, err := io.Copy(io.Discard, c)
		if err != nil || n != chunks*int64(len(chunk)) {
			t.Errorf("got %d of %d bytes, %v", n, chunks*len(chunk), err)
		}
		await(t, p.ended, "OnDisconnected")
	})
}

// E3: Abort resets at once and drops what is queued.
func TestE3AbortResets(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		s := serve(t, "tcp", engine.Options{Loops: loops, SendLimit: 16 << 20}, hooks{})
		c, p := s.session(s.dialSmall())
		must(t, p.Send(make([]byte, 8<<20)))
		eventually(t, "the kernel is full", func() bool { return s.Stats().Total.WouldBlock > 0 })
		p.Abort()
		p.Abort()
		await(t, p.ended, "OnDisconnected")
		wantError(t, "reason", p.Err(), session.ErrAborted)
		if n, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) || n >= 8<<20 {
			t.Errorf("the client got %d bytes and %v, want a reset", n, err)
		}
		if d := s.Stats().Total.BytesDropped; int64(d) != 8<<20-p.sent.Load() {
			t.Errorf("%d bytes were dropped, want %d", d, 8<<20-p.sent.Load())
		}
	})
}

// E4: Shutdown delivers what was accepted and returns nil; the address is free again.
func TestE4ShutdownDrains(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string, loops int) {
		reply := pattern(4 << 20)
		s := serve(t, network, engine.Options{Loops: loops, SendLimit: len(reply)}, hooks{})
		const clients = 10
		results := make(chan error, clients)
		for range clients {
			c, p := s.connect()
			must(t, p.Send(reply))
			go func() {
				err := readAll(c, reply)
				results <- errors.Join(err, c.Close())
			}()
		}
		must(t, s.Shutdown(t.Context()))
		for range clients {
			must(t, await(t, results, "a client has read"))
		}
		select {
		case <-s.Done():
		default:
			t.Error("Done is open after Shutdown")
		}
		wantError(t, "Err", s.Err(), engine.ErrClosed)
		a := s.listener.Addr()
		if c, err := net.Dial(a.Network(), a.String()); err == nil {
			c.Close()
			t.Error("somebody still listens")
		}
		again, err := net.Listen(a.Network(), a.String())
		must(t, err)
		must(t, again.Close())
	})
}

// E4: what is not drained when ctx ends is aborted, and ctx's error returned.
func TestE4ShutdownInTime(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		s := serve(t, "tcp", engine.Options{Loops: loops, SendLimit: 16 << 20}, hooks{})
		_, p := s.session(s.dialSmall())
		must(t, p.Send(make([]byte, 8<<20)))
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		wantError(t, "Shutdown", s.Shutdown(ctx), context.DeadlineExceeded)
		await(t, p.ended, "OnDisconnected")
		wantError(t, "reason", p.Err(), session.ErrShutdown)
		wantError(t, "Err", s.Err(), engine.ErrClosed)
	})
}

// E4: callbacks that take long one after the other are not those that do not return.
func TestE4CloseWaitsWhileSessionsEnd(t *testing.T) {
	const n = 8
	s := serve(t, "tcp", engine.Options{Loops: 1}, hooks{disconnected: func(*peer) { time.Sleep(200 * time.Millisecond) }})
	for range n {
		s.connect()
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	await(t, s.Done(), "the engine has ended")
}

// E4: one that does not return is named after a second, and the engine ends when it does.
func TestE4CloseWithACallbackThatDoesNotReturn(t *testing.T) {
	held := make(chan struct{})
	s := serve(t, "tcp", engine.Options{Loops: 1}, hooks{disconnected: func(*peer) { <-held }})
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
	await(t, s.Done(), "the engine ends when the callback has returned")
}

// Nothing has begun where the context is nil.
func TestNilContext(t *testing.T) {
	panics := func(what string, f func()) {
		defer func() {
			if recover() == nil {
				t.Errorf("%s: no panic", what)
			}
		}()
		f()
	}
	s := serve(t, "tcp", engine.Options{}, hooks{recv: echo})
	client, _ := s.connect()
	//lint:ignore SA1012 that is what is tested
	panics("Shutdown", func() { _ = s.Shutdown(nil) })
	e, err := engine.New(engine.Options{Logger: quiet})
	must(t, err)
	//lint:ignore SA1012 that is what is tested
	panics("Run", func() { _ = e.Run(nil) })
	must(t, e.Start())
	must(t, e.Close())
	_, err = client.Write([]byte("x"))
	must(t, err)
	_, err = io.ReadFull(client, make([]byte, 1))
	must(t, err)
}

// E4: the end can be asked for in any order, by anybody, any number of times.
func TestE4EndingTwice(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		s := serve(t, "tcp", engine.Options{Loops: loops}, hooks{})
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
		await(t, p.ended, "OnDisconnected")
		await(t, s.Done(), "Done")
		wantError(t, "Start after the end", s.Start(), engine.ErrClosed)

		never := prepare(t, "tcp", "127.0.0.1:0", engine.Options{Loops: loops}, hooks{})
		must(t, never.Close())
		await(t, never.Done(), "Done of an engine that never started")
		wantError(t, "Start after Close", never.Start(), engine.ErrClosed)
	})
}

// E4: Run serves until ctx ends, then drains.
func TestE4Run(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		s := prepare(t, "tcp", "127.0.0.1:0", engine.Options{Loops: loops, LingerTimeout: 50 * time.Millisecond}, hooks{recv: echo})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		result := make(chan error, 1)
		go func() { result <- s.Run(ctx) }()
		eventually(t, "the engine listens", func() bool { return s.listener.Addr().String() != "127.0.0.1:0" })
		c, p := s.connect()
		exchange(t, c, "hello")
		cancel()
		must(t, await(t, result, "Run returns"))
		await(t, p.ended, "OnDisconnected")
		wantError(t, "reason", p.Err(), session.ErrShutdown)
	})
}

// E4: an end in the middle of a rush leaves nothing behind: each connection became a session that ended, or was
// refused.
func TestE4ShutdownInARush(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		for range 5 {
			s := serve(t, "tcp", engine.Options{Loops: loops, LingerTimeout: 50 * time.Millisecond}, hooks{
				recv: func(p *peer, data []byte) { _ = p.Send(data) }})
			a := s.listener.Addr().String()
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
						if c, err := net.Dial("tcp", a); err == nil {
							_, _ = c.Write([]byte("x"))
							_ = c.Close()
						}
					}
				})
			}
			eventually(t, "some were accepted", func() bool { return s.Stats().Accepted > 100 })
			must(t, s.Shutdown(t.Context()))
			close(over)
			wg.Wait()
			if n := s.Stats().Sessions; n != 0 {
				t.Errorf("%d sessions are left", n)
			}
		}
	})
}

// E4: a session that is being made when the end begins is ended too, whichever of the two comes first.
func TestE4ShutdownWhileASessionIsMade(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		for range 50 {
			entered, release := make(chan struct{}), make(chan struct{})
			s := prepare(t, "tcp", "127.0.0.1:0", engine.Options{Loops: loops, LingerTimeout: 10 * time.Millisecond}, hooks{})
			slow, err := s.Listen("tcp", "127.0.0.1:0", func() session.Handler {
				close(entered)
				<-release
				return s.newPeer()
			})
			must(t, err)
			must(t, s.Start())
			c, err := net.Dial("tcp", slow.Addr().String())
			must(t, err)
			await(t, entered, "the factory is called")
			ended := make(chan error, 1)
			go func() { ended <- s.Shutdown(context.Background()) }()
			for s.Err() == nil { // until the end has begun: microseconds
				runtime.Gosched()
			}
			close(release)
			must(t, await(t, ended, "Shutdown returns"))
			must(t, c.Close())
		}
	})
}
