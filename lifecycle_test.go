package servercore_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

// peer itself notices callbacks that overlap; here are those who try to provoke it.
func TestL1CallbacksOneAtATime(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string, loops int) {
		var posted atomic.Int64
		s := serve(t, network, engine.Options{Loops: loops, SendLimit: -1}, hooks{
			recv: func(p *peer, data []byte) {
				sent := p.sent.Load()
				echo(p, data)
				// What is asked for in a callback happens after it, and no lock is held meanwhile.
				must := p.Post(func() {
					defer p.enter("Post", open, open)()
					posted.Add(1)
				})
				_, _, _ = p.Pending(), p.Err(), p.server.Stats()
				for range p.server.Sessions() {
				}
				if must != nil || p.sent.Load() != sent {
					t.Errorf("Post in a callback: %v; OnSend within OnRecv: %d bytes", must, p.sent.Load()-sent)
				}
			},
			sent: func(p *peer, _ int) { _ = p.Pending() },
		})
		const clients, senders, sends, echoes = 4, 4, 200, 50
		var foreign, readers sync.WaitGroup
		for range clients {
			c, p := s.connect()
			for range senders {
				foreign.Go(func() {
					for range sends {
						if err := errors.Join(p.Send([]byte("s")), p.Post(func() { defer p.enter("Post", open, open)() })); err != nil {
							t.Error(err)
						}
					}
				})
			}
			readers.Go(func() {
				if n, err := io.CopyN(io.Discard, c, senders*sends+echoes); err != nil {
					t.Errorf("read %d bytes: %v", n, err)
				}
			})
			for range echoes {
				write(t, c, []byte("e"))
			}
		}
		foreign.Wait()
		readers.Wait()
		if posted.Load() == 0 {
			t.Error("nothing posted from a callback has run")
		}
	})
}

func TestL2FirstAndLastCallback(t *testing.T) {
	silence := func(*testing.T, *server, net.Conn) {}
	tests := []struct {
		name    string
		hooks   hooks
		act     func(*testing.T, *server, net.Conn)
		reasons []error
	}{
		{"bytes with the handshake", hooks{recv: echo}, func(t *testing.T, _ *server, c net.Conn) {
			exchange(t, c, "first")
			_ = c.Close()
		}, []error{session.ErrPeerClosed}},
		{"peer closes at once", hooks{}, func(_ *testing.T, _ *server, c net.Conn) { _ = c.Close() }, []error{session.ErrPeerClosed}},
		{"peer resets at once", hooks{}, func(t *testing.T, _ *server, c net.Conn) { reset(t, c) }, []error{session.ErrPeerReset}},
		{"Abort in OnConnected", hooks{connected: func(p *peer) { p.Abort() }}, silence, []error{session.ErrAborted}},
		{"Disconnect in OnConnected", hooks{connected: func(p *peer) { p.Disconnect() }}, func(_ *testing.T, _ *server, c net.Conn) {
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}, []error{session.ErrDisconnected}},
		{"panic in OnConnected", hooks{connected: func(*peer) { panic("no") }}, silence, []error{session.ErrPanic}},
		{"Abort and Disconnect from everywhere", hooks{recv: func(p *peer, _ []byte) { p.Abort() }, sent: func(p *peer, _ int) { p.Disconnect() },
			connected: func(p *peer) {
				_ = p.Send([]byte("hello"))
				for range 4 {
					go p.Disconnect()
					go p.Abort()
				}
			}}, func(_ *testing.T, _ *server, c net.Conn) { _, _ = c.Write([]byte("x")) }, nil},
		{"engine closed", hooks{}, func(_ *testing.T, s *server, _ net.Conn) { go s.Close() }, []error{session.ErrShutdown, session.ErrAborted}},
	}
	noLeaks(t)
	for _, tt := range tests {
		for _, loops := range []int{1, 4} {
			t.Run(fmt.Sprintf("%s,loops=%d", tt.name, loops), func(t *testing.T) {
				t.Parallel()
				s := serve(t, "tcp", engine.Options{Loops: loops}, tt.hooks)
				const clients = 10
				var conns []net.Conn
				for range clients {
					conns = append(conns, s.dial())
				}
				var peers []*peer
				for range clients {
					peers = append(peers, await(t, s.arrivals, "OnConnected"))
				}
				for _, c := range conns {
					tt.act(t, s, c)
				}
				for _, p := range peers {
					await(t, p.ended, "OnDisconnected")
					wantError(t, "reason", p.Err(), tt.reasons...)
				}
				eventually(t, "no session is left", func() bool { return s.Stats().Sessions == 0 })
			})
		}
	}
}

func TestL3NothingAfterTheEnd(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		s := serve(t, "tcp", engine.Options{Loops: loops}, hooks{recv: echo})
		var stale []*peer
		for round := range 20 {
			// One comes and goes. The next gets its descriptor, as the system gives out the lowest that is free.
			c, p := s.connect()
			exchange(t, c, "old")
			if round%2 == 0 {
				must(t, c.Close())
			} else {
				reset(t, c)
			}
			await(t, p.ended, "OnDisconnected")
			stale = append(stale, p)

			c, live := s.connect()
			before := live.sent.Load()
			for _, p := range stale {
				wantError(t, "late Send", p.Send([]byte("secret")), session.ErrClosed, net.ErrClosed)
				b := pool.Get()
				b.B = append(b.B, "secret"...)
				wantError(t, "late SendBuffer", p.SendBuffer(b), session.ErrClosed, net.ErrClosed)
				wantError(t, "late Post", p.Post(func() { t.Error("a late posted function has run") }), session.ErrClosed)
				err := p.Err()
				p.PauseRecv()
				p.ResumeRecv()
				p.Disconnect()
				p.DisconnectWith(errors.New("late"))
				p.Abort()
				if got := p.Err(); got != err {
					t.Errorf("the reason has changed from %v to %v", err, got)
				}
				if p.RemoteAddr().String() == "" || p.LocalAddr().String() != s.listener.Addr().String() {
					t.Errorf("addresses after the end: %v, %v", p.RemoteAddr(), p.LocalAddr())
				}
			}
			live.run(t, func() {}) // whatever they asked for would have happened before
			exchange(t, c, "new")
			if n := live.sent.Load() - before; live.Err() != nil || n > 3 {
				t.Fatalf("a stale session has reached another one: %v, %d bytes sent", live.Err(), n)
			}
			must(t, c.Close())
			await(t, live.ended, "OnDisconnected")
		}
	})
}

func TestL4PanicEndsThatSessionOnly(t *testing.T) {
	// Sessions whose client has asked for it fail in one of the callbacks.
	fail := map[string]func(){"panic": func() { panic("on purpose") }, "Goexit": runtime.Goexit, "out of range": func() { _ = make([]int, 1)[time.Now().Unix()] }}
	noLeaks(t)
	for _, where := range []string{"OnConnected", "OnRecv", "OnSend", "OnDisconnected", "Post"} {
		for how, fail := range fail {
			for _, loops := range []int{1, 4} {
				for _, mode := range modes {
					t.Run(fmt.Sprintf("%s in %s,loops=%d%s", how, where, loops, mode), func(t *testing.T) {
						t.Parallel()
						testL4(t, loops, where, fail)
					})
				}
			}
		}
	}
}

func testL4(t *testing.T, loops int, where string, fail func()) {
	var armed atomic.Bool
	bad := make(map[*peer]bool) // filled before Start of what follows; read-only on the loops
	var mu sync.Mutex
	maybe := func(callback string, p *peer) {
		mu.Lock()
		b := bad[p]
		mu.Unlock()
		if b && callback == where {
			fail()
		}
	}
	s := serve(t, "tcp", engine.Options{Loops: loops}, hooks{
		connected: func(p *peer) {
			if armed.Load() {
				mu.Lock()
				bad[p] = true
				mu.Unlock()
			}
			maybe("OnConnected", p)
		},
		recv: func(p *peer, data []byte) {
			if where == "Post" {
				_ = p.Post(func() { maybe("Post", p) })
			}
			maybe("OnRecv", p)
			echo(p, data)
		},
		sent:         func(p *peer, _ int) { maybe("OnSend", p) },
		disconnected: func(p *peer) { maybe("OnDisconnected", p) },
	})
	var bystanders []net.Conn
	for range 2 * loops {
		c, _ := s.connect()
		exchange(t, c, "hello") // its OnConnected is over
		bystanders = append(bystanders, c)
	}
	armed.Store(true)
	for round := range 5 {
		c, p := s.connect()
		_, told := c.Write([]byte("now")) // it may be reset already; a reset is told once
		if where == "OnDisconnected" {
			expect(t, c, "now")
			must(t, c.Close())
		}
		await(t, p.ended, "OnDisconnected")
		if where == "OnDisconnected" {
			wantError(t, "reason", p.Err(), session.ErrPeerClosed)
		} else {
			wantError(t, "reason", p.Err(), session.ErrPanic)
			_, err := io.Copy(io.Discard, c)
			if err = errors.Join(told, err); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("the client sees %v, want a reset", err)
			}
		}
		for i, c := range bystanders {
			exchange(t, c, fmt.Sprintf("bystander %d in round %d", i, round))
		}
	}
	if n := s.Stats().Total.Ended.Panic; where != "OnDisconnected" && n != 5 {
		t.Errorf("stats count %d panics, want 5", n)
	}
}

func TestL4FactoryFails(t *testing.T) {
	tests := []struct {
		name string
		make func() session.Handler
	}{
		{"panic", func() session.Handler { panic("on purpose") }},
		{"Goexit", func() session.Handler { runtime.Goexit(); return nil }},
		{"nil", func() session.Handler { return nil }},
		{"nil pointer", func() session.Handler { return (*session.Session)(nil) }},
		{"nil content", func() session.Handler { return (*peer)(nil) }},
		{"the same twice", nil},
	}
	noLeaks(t)
	for _, tt := range tests {
		for _, loops := range []int{1, 4} {
			t.Run(fmt.Sprintf("%s,loops=%d", tt.name, loops), func(t *testing.T) {
				t.Parallel()
				s := prepare(t, "tcp", "127.0.0.1:0", engine.Options{Loops: loops}, hooks{recv: echo})
				factory := tt.make
				if factory == nil {
					once := &peer{server: s, ended: make(chan struct{})}
					factory = func() session.Handler { return once }
				}
				bad, err := s.Listen("tcp", "127.0.0.1:0", factory)
				must(t, err)
				must(t, s.Start())
				good, _ := s.connect()
				refused := 5
				if tt.make == nil { // the first is fine
					c, err := net.Dial("tcp", bad.Addr().String())
					must(t, err)
					defer c.Close()
					exchange(t, c, "hello")
				}
				for range refused {
					c, err := net.Dial("tcp", bad.Addr().String())
					must(t, err)
					must(t, c.SetDeadline(time.Now().Add(patience)))
					if n, err := c.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("read %d bytes, %v, want the end", n, err)
					}
					must(t, c.Close())
					exchange(t, good, "still there")
				}
				eventually(t, "all is counted", func() bool { return s.Stats().Refused.Factory == uint64(refused) })
				if st := s.Stats(); st.Refused.Sum() != uint64(refused) {
					t.Errorf("%+v", st.Refused)
				}
			})
		}
	}
}

func TestL5Reasons(t *testing.T) {
	mine := errors.New("mine")
	short := 100 * time.Millisecond
	full := func(p *peer) { // more than the kernel takes
		for p.Send(stream()[:256<<10]) == nil {
		}
	}
	wait := func(*testing.T, *server, net.Conn) {}
	tests := []struct {
		name    string
		options engine.Options
		hooks   hooks
		act     func(*testing.T, *server, net.Conn)
		reasons []error
	}{
		{"peer closed", engine.Options{}, hooks{}, func(t *testing.T, _ *server, c net.Conn) { must(t, c.Close()) }, []error{session.ErrPeerClosed, io.EOF}},
		{"peer reset", engine.Options{}, hooks{}, func(t *testing.T, _ *server, c net.Conn) { reset(t, c) }, []error{session.ErrPeerReset, syscall.ECONNRESET}},
		{"disconnected", engine.Options{LingerTimeout: short}, hooks{connected: func(p *peer) { p.Disconnect() }}, wait, []error{session.ErrDisconnected}},
		{"disconnected for nothing", engine.Options{LingerTimeout: short}, hooks{connected: func(p *peer) { p.DisconnectWith(nil) }}, wait, []error{session.ErrDisconnected}},
		{"a reason given", engine.Options{LingerTimeout: short}, hooks{connected: func(p *peer) { p.DisconnectWith(fmt.Errorf("because: %w", mine)) }}, wait, []error{mine}},
		{"aborted", engine.Options{}, hooks{connected: func(p *peer) { p.Abort() }}, wait, []error{session.ErrAborted}},
		{"the first stands", engine.Options{}, hooks{connected: func(p *peer) { p.DisconnectWith(mine); p.Disconnect(); p.Abort() }}, wait, []error{mine, session.ErrAborted}},
		{"send limit", engine.Options{SlowPeer: engine.EndSession}, hooks{connected: full}, wait, []error{session.ErrSendLimit}},
		{"idle", engine.Options{IdleTimeout: short, LingerTimeout: short}, hooks{}, wait, []error{session.ErrIdle, os.ErrDeadlineExceeded}},
		{"no first byte", engine.Options{FirstByteTimeout: short, LingerTimeout: short}, hooks{}, wait, []error{session.ErrIdle, os.ErrDeadlineExceeded}},
		{"write stall", engine.Options{WriteTimeout: short, SendLimit: 16 << 20}, hooks{connected: full}, wait, []error{session.ErrWriteStall, os.ErrDeadlineExceeded}},
		{"drain timeout", engine.Options{DrainTimeout: short, SendLimit: 16 << 20}, hooks{connected: func(p *peer) { full(p); p.Disconnect() }}, wait,
			[]error{session.ErrDisconnected, session.ErrDrainTimeout, os.ErrDeadlineExceeded}},
		{"panic", engine.Options{}, hooks{connected: func(*peer) { panic("on purpose") }}, wait, []error{session.ErrPanic}},
		{"shutdown", engine.Options{LingerTimeout: short}, hooks{}, func(t *testing.T, s *server, _ net.Conn) { must(t, s.Shutdown(t.Context())) }, []error{session.ErrShutdown}},
		{"close", engine.Options{}, hooks{}, func(t *testing.T, s *server, _ net.Conn) { must(t, s.Close()) }, []error{session.ErrShutdown, session.ErrAborted}},
	}
	sentinels := []error{session.ErrPeerClosed, session.ErrPeerReset, session.ErrDisconnected, session.ErrAborted, session.ErrSendLimit,
		session.ErrIdle, session.ErrWriteStall, session.ErrDrainTimeout, session.ErrPanic, session.ErrShutdown}
	noLeaks(t)
	for _, tt := range tests {
		for _, loops := range []int{1, 4} {
			t.Run(fmt.Sprintf("%s,loops=%d", tt.name, loops), func(t *testing.T) {
				t.Parallel()
				o := tt.options
				o.Loops = loops
				s := serve(t, "tcp", o, tt.hooks)
				c, p := s.session(s.dialSmall())
				tt.act(t, s, c)
				await(t, p.ended, "OnDisconnected")
				wantError(t, "reason", p.Err(), tt.reasons...)
				for _, other := range sentinels {
					if errors.Is(p.Err(), other) && !matchesAny(other, tt.reasons) {
						t.Errorf("reason %v matches %v", p.Err(), other)
					}
				}
			})
		}
	}
}

func matchesAny(err error, targets []error) bool {
	for _, target := range targets {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// L4, E2: a peer's end that the loop had been told of, and not yet served, when Goexit took its goroutine down is not missed.
func TestL4GoexitLosesNoEnd(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		s := serve(t, "tcp", engine.Options{Loops: 1}, hooks{recv: func(p *peer, data []byte) {
			if string(data) == "die" {
				runtime.Goexit()
			}
			echo(p, data)
		}})
		for range 5 {
			dies, p := s.connect()
			var others []net.Conn
			var ends []*peer
			for range 3 {
				c, q := s.connect()
				others, ends = append(others, c), append(ends, q)
			}
			release := p.hold(t)
			write(t, dies, []byte("die"))
			for _, c := range others {
				write(t, c, []byte("last words"))
				closeWrite(t, c)
			}
			release()
			await(t, p.ended, "OnDisconnected")
			for i, c := range others {
				must(t, readAll(c, []byte("last words")))
				await(t, ends[i].ended, "OnDisconnected")
			}
		}
	})
}
