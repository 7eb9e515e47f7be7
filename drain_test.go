package servercore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

// readSlowly reads in small pieces to the end, and says something meanwhile if it talks. It returns how much came.
func readSlowly(c net.Conn, every time.Duration, talks bool) (n int, err error) {
	buf := make([]byte, 8<<10)
	for {
		time.Sleep(every)
		if talks {
			if _, err := c.Write([]byte("x")); err != nil {
				return n, fmt.Errorf("talking: %w", err)
			}
		}
		got, err := c.Read(buf)
		if n += got; err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, err
		}
	}
}

// E1, E2b: a peer that steadily takes what it is sent gets all of it, far beyond DrainTimeout and LingerTimeout, whether it talks or
// not, and however the session ends. What the kernel has taken is not yet the peer's.
func TestE2bASteadyPeerGetsEverything(t *testing.T) {
	const size = 256 << 10 // 32 reads, 50 ms apart
	reply := pattern(size)
	ways := map[string]struct {
		end    func(*server, *peer) error
		client func(testing.TB, net.Conn)
		reason error
	}{
		"Disconnect": {end: func(_ *server, p *peer) error { p.Disconnect(); return nil }, reason: session.ErrDisconnected},
		"Shutdown":   {end: func(s *server, _ *peer) error { return s.Shutdown(context.Background()) }, reason: session.ErrShutdown},
		"peer's FIN": {end: func(*server, *peer) error { return nil }, client: closeWrite, reason: session.ErrPeerClosed},
		"CloseWrite and the peer's FIN": {
			end: func(_ *server, p *peer) error { p.CloseWrite(); return nil }, client: closeWrite, reason: session.ErrPeerClosed},
		"an idle timeout": {end: func(_ *server, p *peer) error { p.DisconnectWith(session.ErrIdle); return nil }, reason: session.ErrIdle},
	}
	onNetworks(t, func(t *testing.T, network string, loops int) {
		var all sync.WaitGroup
		for name, way := range ways {
			for _, buffer := range []int{0, 16 << 10} { // all of it in the kernel at once, and most of it in the queue
				for _, talks := range []bool{false, true} {
					if talks && way.client != nil {
						continue // it has finished
					}
					s := serve(t, network, engine.Options{Loops: loops, DrainTimeout: time.Second, LingerTimeout: 200 * time.Millisecond,
						SendBuffer: buffer}, hooks{connected: func(p *peer) { must(t, p.Send(reply)) }})
					c, p := s.session(s.dialSmallOn(network))
					if way.client != nil {
						way.client(t, c)
					}
					all.Go(func() { // the end, which may wait for the reader
						if err := way.end(s, p); err != nil {
							t.Errorf("%s: %v", name, err)
						}
					})
					all.Go(func() {
						n, err := readSlowly(c, 50*time.Millisecond, talks)
						if n != size || err != nil {
							t.Errorf("%s, talks %t, SendBuffer %d: the peer read %d of %d bytes, %v; Err %v", name, talks, buffer, n, size, err, p.Err())
						}
						_ = c.Close()
						<-p.ended
						if !errors.Is(p.Err(), way.reason) || errors.Is(p.Err(), session.ErrDrainTimeout) || s.Stats().Total.BytesUnacked > 0 {
							t.Errorf("%s: Err %v, %d bytes not acknowledged", name, p.Err(), s.Stats().Total.BytesUnacked)
						}
					})
				}
			}
		}
		all.Wait()
	})
}

// E1, E2b: a peer that takes nothing is bounded by DrainTimeout, though it talks, and Err and the counters say that it has not got everything.
func TestE2bAPeerThatTakesNothing(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		for _, talks := range []bool{false, true} {
			s := serve(t, "tcp", engine.Options{Loops: loops, DrainTimeout: 300 * time.Millisecond, LingerTimeout: time.Minute},
				hooks{connected: func(p *peer) {
					must(t, p.Send(make([]byte, 256<<10)))
					p.Disconnect()
				}})
			c := s.dialSmall()
			p := await(t, s.arrivals, "OnConnected")
			began := time.Now()
			stop := make(chan struct{})
			if talks {
				go func() {
					for {
						select {
						case <-stop:
							return
						case <-time.After(20 * time.Millisecond):
							_, _ = c.Write([]byte("x"))
						}
					}
				}()
			}
			await(t, p.ended, "OnDisconnected")
			close(stop)
			if took := time.Since(began); took < 250*time.Millisecond {
				t.Errorf("talks %t: ended after %v", talks, took)
			}
			wantError(t, "reason", p.Err(), session.ErrDisconnected, session.ErrDrainTimeout)
			eventually(t, "it is counted", func() bool {
				st := s.Stats().Total
				return st.Ended.DrainTimeout == 1 && st.BytesUnacked > 0 && st.BytesUnacked < st.BytesOut
			})
		}
	})
}

// E2b, E4: Shutdown does not say that all is well while the kernel still has bytes of ours.
func TestE4ShutdownTellsOfBytesThatAreOnTheirWay(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		s := serve(t, "tcp", engine.Options{Loops: loops, DrainTimeout: time.Minute}, hooks{connected: func(p *peer) { must(t, p.Send(make([]byte, 256<<10))) }})
		_, p := s.session(s.dialSmall())
		p.run(t, func() {})
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		wantError(t, "Shutdown", s.Shutdown(ctx), context.DeadlineExceeded)
		wantError(t, "reason", p.Err(), session.ErrShutdown, session.ErrAborted)
		if st := s.Stats().Total; st.BytesUnacked == 0 || st.BytesOut != 256<<10 {
			t.Errorf("%d bytes out, %d not acknowledged", st.BytesOut, st.BytesUnacked)
		}
	})
}

// E1: a peer that has everything and talks is left after LingerTimeout, in order.
func TestE1ATalkerIsLeftAfterTheLinger(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string, loops int) {
		s := serve(t, network, engine.Options{Loops: loops, LingerTimeout: 200 * time.Millisecond}, hooks{connected: func(p *peer) {
			must(t, p.Send([]byte("bye")))
			p.Disconnect()
		}})
		c, p := s.connect()
		expect(t, c, "bye")
		began := time.Now()
		for running := true; running; {
			select {
			case <-p.ended:
				running = false
			case <-time.After(10 * time.Millisecond):
				_, _ = c.Write([]byte("x"))
			}
		}
		if took := time.Since(began); took < 150*time.Millisecond {
			t.Errorf("left after %v", took)
		}
		if p.Err() != session.ErrDisconnected {
			t.Errorf("Err %v", p.Err())
		}
	})
}

// halfFed goes on after its peer's FIN.
type halfFed struct {
	peer
	half chan struct{}
}

func (p *halfFed) OnHalfClose() { close(p.half) }

// E2d: a half-closed session that is not fed ends by itself, by its own timeout or IdleTimeout's; one that is fed goes on.
func TestE2dAHalfClosedSessionIsNotHeldForEver(t *testing.T) {
	const soon = 300 * time.Millisecond
	for name, o := range map[string]engine.Options{
		"HalfCloseTimeout": {HalfCloseTimeout: soon},
		"IdleTimeout":      {IdleTimeout: soon},
		"both":             {HalfCloseTimeout: soon, IdleTimeout: 20 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			onNetworks(t, func(t *testing.T, network string, loops int) {
				o := o
				o.Loops = loops
				s := watched(t, o, hooks{})
				made := make(chan *halfFed, 1)
				l, err := s.Listen(network, freeAddress(t, network), func() session.Handler {
					p := &halfFed{peer: peer{server: s, ended: make(chan struct{})}, half: make(chan struct{})}
					made <- p
					return p
				}, inMode(t, o, nil)...)
				must(t, err)
				s.listener = l
				must(t, s.Start())
				c := s.dial()
				closeWrite(t, c)
				p := await(t, made, "the factory")
				await(t, p.half, "OnHalfClose")
				for range 5 {
					time.Sleep(soon / 3)
					must(t, p.Send([]byte("fed")))
					expect(t, c, "fed")
				}
				began := time.Now()
				await(t, p.ended, "OnDisconnected")
				if took := time.Since(began); took < soon/2 {
					t.Errorf("ended %v after it was fed", took)
				}
				wantError(t, "reason", p.Err(), session.ErrIdle)
				if _, err := c.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("the client reads %v, want the end", err)
				}
			})
		})
	}
}
