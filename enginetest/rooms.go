package enginetest

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
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/session"
)

// rooms is what session.Group promises, see docs/decisions/0008-rooms.md.
var rooms = []promise{
	{"R1", "members hear one room in one order", 0, roomHearsInOneOrder},
	{"R2", "a Broadcast wakes each loop once", 0, roomWakesOncePerLoop},
	{"R3", "a slow member disturbs nobody, and misses messages", 0, slowMemberDisturbsNobody(false)},
	{"R3", "a slow member disturbs nobody, and is ended by EndSlow", resets, slowMemberDisturbsNobody(true)},
	{"R4", "members leave by themselves", resets, membersLeaveByThemselves},
	{"R4", "rooms and members come and go in a rush", accepting | resets, roomsInARush},
}

func roomHearsInOneOrder(t testing.TB, v *Variant) {
	const members, speakers, each = 12, 3, 400
	var g session.Group
	s := v.serveRoom(t, &g, engine.Options{}, kit.Hooks{Recv: func(p *kit.Session, data []byte) {
		for _, b := range data {
			if n := g.Broadcast([]byte{b}, p); n != members-1 {
				t.Errorf("reached %d, want %d", n, members-1)
			}
		}
	}})
	var conns []net.Conn
	var peers []*kit.Session
	for range members {
		c, p := s.connect()
		conns, peers = append(conns, c), append(peers, p)
	}
	kit.Eventually(t, "all have joined", func() bool { return g.Len() == members })
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
}

func roomWakesOncePerLoop(t testing.TB, v *Variant) {
	const members, messages = 64, 200
	var g session.Group
	s := v.serveRoom(t, &g, engine.Options{}, kit.Hooks{})
	var conns []net.Conn
	var peers []*kit.Session
	for range members {
		c, p := s.connect()
		conns, peers = append(conns, c), append(peers, p)
	}
	kit.Eventually(t, "all have joined", func() bool { return g.Len() == members }) // the last is told of before it joins
	speak := func(most int) {
		t.Helper()
		before := s.Stats().Total.WakeUps
		for range messages {
			if n := g.Broadcast([]byte("8 bytes.")); n != members {
				t.Errorf("reached %d, want %d", n, members)
			}
		}
		if n := s.Stats().Total.WakeUps - before; n > uint64(most) {
			t.Errorf("%d wake-ups for %d messages to a room on %d v.Loops, want %d at most", n, messages, v.Loops, most)
		}
	}
	// The v.Loops work off one Broadcast while the next is made: one wake-up for each and each loop at most.
	speak(messages * v.Loops)
	// New connections go where there are fewest, so the first ones are on different loops.
	var held []func()
	for _, p := range peers[:v.Loops] {
		held = append(held, p.Hold(t))
	}
	speak(v.Loops)
	for _, release := range held {
		release()
	}
	for _, c := range conns {
		if _, err := io.CopyN(io.Discard, c, 2*8*messages); err != nil {
			t.Fatal(err)
		}
	}
}

// The table has a row for each of the two ways.
func slowMemberDisturbsNobody(ends bool) func(testing.TB, *Variant) {
	return func(t testing.TB, v *Variant) {
		g := session.Group{EndSlow: ends}
		s := v.serveRoom(t, &g, engine.Options{SendLimit: 128 << 10, SendBuffer: 16 << 10}, kit.Hooks{})
		const members = 5
		var conns []net.Conn
		for range members {
			c, _ := s.connect()
			conns = append(conns, c)
		}
		lazy, slow := s.session(s.smallClient()) // does not read
		kit.Eventually(t, "all have joined", func() bool { return g.Len() == members+1 })
		message := kit.Stream()[:4000]
		missed, taken := 0, 0
		for i := 0; missed == 0 || !ends && missed < 100; i++ {
			if i == 100_000 {
				t.Fatal("a member that does not read took everything")
			}
			reached := g.Broadcast(message)
			missed += members + 1 - reached
			taken += reached - members
			for _, c := range conns { // nobody else is ever behind
				kit.Expect(t, c, string(message))
			}
		}
		if n := g.Skipped(); n != uint64(missed) {
			t.Errorf("%d skipped, want %d", n, missed)
		}
		if ends {
			kit.Await(t, slow.Ended, "OnDisconnected")
			kit.WantError(t, "reason", slow.Err(), session.ErrSendLimit)
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
			kit.Expect(t, lazy, string(message))
		}
		kit.Eventually(t, "the queue is empty", func() bool { return slow.Pending() == 0 }) // its loop may not have counted the last write yet
		if n := g.Broadcast(message); n != members+1 {
			t.Errorf("reached %d, want %d", n, members+1)
		}
		slow.Disconnect()
		rest, err := io.ReadAll(lazy)
		if err != nil || len(rest)%len(message) != 0 || !bytes.HasSuffix(rest, message) {
			t.Errorf("%d bytes and %v at the end", len(rest), err)
		}
	}
}

func membersLeaveByThemselves(t testing.TB, v *Variant) {
	var g session.Group
	var told atomic.Int64
	s := v.serveRoom(t, &g, engine.Options{}, kit.Hooks{
		Recv: func(_ *kit.Session, data []byte) {
			if data[0] == 'P' {
				panic("simulated")
			}
		},
		Disconnected: func(p *kit.Session) {
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
	kit.Eventually(t, "the witness has joined", func() bool { return g.Len() == 1 })
	ends := []func(c net.Conn, p *kit.Session){
		func(c net.Conn, _ *kit.Session) { _ = c.Close() },
		func(c net.Conn, _ *kit.Session) { kit.Reset(t, c) },
		func(_ net.Conn, p *kit.Session) { p.Abort() },
		func(c net.Conn, p *kit.Session) { p.Disconnect(); _ = c.Close() },
		func(c net.Conn, _ *kit.Session) { kit.Write(t, c, []byte("P")) },
	}
	for _, end := range ends {
		c, p := s.connect()
		end(c, p)
		kit.Await(t, p.Ended, "OnDisconnected")
		kit.Expect(t, witness, "gone ")
		if n := g.Len(); n != 1 {
			t.Errorf("%d members, want the witness", n)
		}
	}
	if n := told.Load(); n != int64(len(ends)) {
		t.Errorf("the news reached %d, want %d", n, len(ends))
	}
}

// Rooms and their members come and go on all loops at once.
func roomsInARush(t testing.TB, v *Variant) {
	var rooms [8]session.Group
	s := v.serve(t, engine.Options{}, kit.Hooks{
		Connected: func(p *kit.Session) {
			rooms[p.ID()%8].Join(p)
			rooms[(p.ID()+3)%8].Join(p)
		},
		Recv:         func(p *kit.Session, data []byte) { rooms[p.ID()%8].Broadcast(data) },
		Disconnected: func(p *kit.Session) { rooms[(p.ID()+3)%8].Broadcast([]byte("x")) },
	})
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			for range 40 {
				c, err := s.try()
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = c.Write([]byte("hello"))
				_, _ = io.ReadFull(c, make([]byte, 5)) // a reset by a neighbour is none of ours
				if i%2 == 0 {
					_ = c.(*client).SetLinger(0)
				}
				_ = c.Close()
			}
		})
	}
	clients.Wait()
	for i := range rooms {
		kit.Eventually(t, "a room is empty", func() bool { return rooms[i].Len() == 0 })
	}
}

// serveRoom is serve, with every session a member of g.
func (v *Variant) serveRoom(t testing.TB, g *session.Group, o engine.Options, h kit.Hooks) *server {
	t.Helper()
	h.Connected = func(p *kit.Session) { g.Join(p) }
	return v.serve(t, o, h)
}
