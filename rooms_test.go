package servercore_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

// serveRoom is serve, with every session a member of g.
func serveRoom(t *testing.T, g *session.Group, o engine.Options, h hooks) *server {
	h.connected = func(p *peer) { g.Join(p) }
	return serve(t, "tcp", o, h)
}

func TestR1RoomHearsInOneOrder(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		const members, speakers, each = 12, 3, 400
		var g session.Group
		s := serveRoom(t, &g, engine.Options{Loops: loops}, hooks{recv: func(p *peer, data []byte) {
			for _, b := range data {
				if n := g.Broadcast([]byte{b}, p); n != members-1 {
					t.Errorf("reached %d, want %d", n, members-1)
				}
			}
		}})
		var conns []net.Conn
		var peers []*peer
		for range members {
			c, p := s.connect()
			conns, peers = append(conns, c), append(peers, p)
		}
		// Some speak, each in his callbacks and from a goroutine of his own; the rest listens.
		var speaking sync.WaitGroup
		for i := range speakers {
			speaking.Go(func() {
				if _, err := conns[i].Write(bytes.Repeat([]byte{byte('a' + i)}, each)); err != nil {
					t.Error(err)
				}
				for range each {
					g.Broadcast([]byte{byte('A' + i)}, peers[i])
				}
			})
		}
		var heard [members][]byte
		for i, c := range conns[speakers:] {
			heard[i] = make([]byte, 2*speakers*each)
			if _, err := io.ReadFull(c, heard[i]); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(heard[i], heard[0]) {
				t.Error("two members heard the same in different orders")
			}
		}
		speaking.Wait()
		if g.Len() != members || g.Skipped() != 0 {
			t.Errorf("%d members, %d messages skipped", g.Len(), g.Skipped())
		}
	})
}

func TestR2OneWakeUpPerLoop(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		const members, messages = 64, 200
		var g session.Group
		s := serveRoom(t, &g, engine.Options{Loops: loops}, hooks{})
		var conns []net.Conn
		var peers []*peer
		for range members {
			c, p := s.connect()
			conns, peers = append(conns, c), append(peers, p)
		}
		speak := func(most int) {
			t.Helper()
			before := s.Stats().Total.WakeUps
			for range messages {
				if n := g.Broadcast([]byte("8 bytes.")); n != members {
					t.Errorf("reached %d, want %d", n, members)
				}
			}
			if n := s.Stats().Total.WakeUps - before; n > uint64(most) {
				t.Errorf("%d wake-ups for %d messages to a room on %d loops, want %d at most", n, messages, loops, most)
			}
		}
		// The loops work off one Broadcast while the next is made: one wake-up for each and each loop at most.
		speak(messages * loops)
		// Newcomers go where there are fewest, so the first ones are on different loops.
		var held []func()
		for _, p := range peers[:loops] {
			held = append(held, p.hold(t))
		}
		speak(loops)
		for _, release := range held {
			release()
		}
		for _, c := range conns {
			if _, err := io.CopyN(io.Discard, c, 2*8*messages); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestR3SlowMemberDisturbsNobody(t *testing.T) {
	for _, ends := range []bool{false, true} {
		name := "skipped"
		if ends {
			name = "ended"
		}
		t.Run(name, func(t *testing.T) {
			onLoops(t, func(t *testing.T, loops int) {
				g := session.Group{EndSlow: ends}
				s := serveRoom(t, &g, engine.Options{Loops: loops, SendLimit: 128 << 10, SendBuffer: 16 << 10}, hooks{})
				const members = 5
				var conns []net.Conn
				for range members {
					c, _ := s.connect()
					conns = append(conns, c)
				}
				lazy, slow := s.session(s.dialSmall()) // does not read
				eventually(t, "all have joined", func() bool { return g.Len() == members+1 })
				message := stream()[:4000]
				missed, taken := 0, 0
				for i := 0; missed == 0 || !ends && missed < 100; i++ {
					if i == 100_000 {
						t.Fatal("a member that does not read took everything")
					}
					reached := g.Broadcast(message)
					missed += members + 1 - reached
					taken += reached - members
					for _, c := range conns { // nobody else is ever behind
						expect(t, c, string(message))
					}
				}
				if n := g.Skipped(); n != uint64(missed) {
					t.Errorf("%d skipped, want %d", n, missed)
				}
				if ends {
					await(t, slow.ended, "OnDisconnected")
					wantError(t, "reason", slow.Err(), session.ErrSendLimit)
					if _, err := io.Copy(io.Discard, lazy); !errors.Is(err, syscall.ECONNRESET) {
						t.Errorf("the slow member sees %v, want a reset", err)
					}
					if g.Len() != members {
						t.Errorf("%d members, want %d", g.Len(), members)
					}
					return
				}
				// What it took is whole messages, and it gets the next as soon as it reads.
				for range taken {
					expect(t, lazy, string(message))
				}
				if n := g.Broadcast(message); n != members+1 {
					t.Errorf("reached %d, want %d", n, members+1)
				}
				slow.Disconnect()
				rest, err := io.ReadAll(lazy)
				if err != nil || len(rest)%len(message) != 0 || !bytes.HasSuffix(rest, message) {
					t.Errorf("%d bytes and %v at the end", len(rest), err)
				}
			})
		})
	}
}

func TestR4MembersLeaveByThemselves(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		var g session.Group
		var told atomic.Int64
		s := serveRoom(t, &g, engine.Options{Loops: loops}, hooks{
			recv: func(_ *peer, data []byte) {
				if data[0] == 'P' {
					panic("simulated")
				}
			},
			disconnected: func(p *peer) {
				for h := range g.All() {
					if h == session.Handler(p) {
						t.Error("a member in its OnDisconnected")
					}
				}
				told.Add(int64(g.Broadcast([]byte("gone "))))
				g.Join(p)
			},
		})
		witness, _ := s.connect()
		ends := []func(c net.Conn, p *peer){
			func(c net.Conn, _ *peer) { _ = c.Close() },
			func(c net.Conn, _ *peer) { reset(t, c) },
			func(_ net.Conn, p *peer) { p.Abort() },
			func(c net.Conn, p *peer) { p.Disconnect(); _ = c.Close() },
			func(c net.Conn, _ *peer) { write(t, c, []byte("P")) },
		}
		for _, end := range ends {
			c, p := s.connect()
			end(c, p)
			await(t, p.ended, "OnDisconnected")
			expect(t, witness, "gone ")
			if n := g.Len(); n != 1 {
				t.Errorf("%d members, want the witness", n)
			}
		}
		if n := told.Load(); n != int64(len(ends)) {
			t.Errorf("the news reached %d, want %d", n, len(ends))
		}
	})
}

// Rooms and their members come and go on all loops at once.
func TestRoomsInARush(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		var rooms [8]session.Group
		s := serve(t, "tcp", engine.Options{Loops: loops}, hooks{
			connected: func(p *peer) {
				rooms[p.ID()%8].Join(p)
				rooms[(p.ID()+3)%8].Join(p)
			},
			recv:         func(p *peer, data []byte) { rooms[p.ID()%8].Broadcast(data) },
			disconnected: func(p *peer) { rooms[(p.ID()+3)%8].Broadcast([]byte("x")) },
		})
		var clients sync.WaitGroup
		for i := range 8 {
			clients.Go(func() {
				for range 40 {
					c, err := net.Dial("tcp", s.listener.Addr().String())
					if err != nil {
						t.Error(err)
						return
					}
					_, _ = c.Write([]byte("hello"))
					_, _ = io.ReadFull(c, make([]byte, 5)) // a reset by a neighbour is none of ours
					if i%2 == 0 {
						_ = c.(*net.TCPConn).SetLinger(0)
					}
					_ = c.Close()
				}
			})
		}
		clients.Wait()
		for i := range rooms {
			eventually(t, "a room is empty", func() bool { return rooms[i].Len() == 0 })
		}
	})
}
