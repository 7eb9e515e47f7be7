package session_test

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

// Members of several loops come, go and end in every way while others broadcast, on goroutines of their own and in
// callbacks. Each message carries its number, given out under a lock that makes the numbers the order of the Broadcasts of
// a room: each member must get rising numbers only.
func TestGroupStress(t *testing.T) {
	const speakers, rooms, slots = 3, 3, 12
	rounds := 15_000
	if raced || testing.Short() {
		rounds = 3_000
	}
	limits := session.Limits{SendLimit: 8 << 10, PauseAbove: 2 << 10, Write: time.Minute, Drain: time.Minute, Linger: time.Minute}
	loops := []*testkit.Loop{newLoop(t, limits), newLoop(t, limits), newLoop(t, limits)}
	groups := make([]session.Group, rooms)
	groups[1].EndSlow = true
	var numbers [rooms]struct {
		sync.Mutex
		last    uint32
		reached int
	}
	speak := func(room int, size int, except ...session.Handler) {
		n := &numbers[room]
		n.Lock()
		defer n.Unlock()
		n.last++
		n.reached += groups[room].Broadcast(stressMessage(room, n.last, size), except...)
	}

	type member struct {
		h      *testkit.Handler
		c      *testkit.Conn
		stream stressSession // takes messages apart
	}
	var mu sync.Mutex
	var all []*member
	var born atomic.Int64 // sessions
	var place [slots]atomic.Pointer[member]
	connect := func(slot int) { // on the loop
		x := &member{h: &testkit.Handler{Quiet: true}}
		x.h.Connected = func(h *testkit.Handler) { groups[slot%rooms].Join(h) }
		x.h.Recv = func(h *testkit.Handler, p []byte) {
			switch p[0] {
			case 'P':
				panic("simulated")
			case 'B':
				speak(slot%rooms, 10, h)
			}
		}
		x.h.Disconnected = func(h *testkit.Handler) { speak(slot%rooms, 700) }
		c, err := loops[slot%len(loops)].Bind(x.h, nil)
		if err != nil {
			t.Error(err)
			return
		}
		x.c = c
		c.Kernel = 4 << 10
		c.Take = x.stream.take
		mu.Lock()
		all = append(all, x)
		mu.Unlock()
		born.Add(1)
		c.Connected()
		place[slot].Store(x)
	}
	for i, l := range loops {
		l.Start()
		l.Do(func() {
			for slot := i; slot < slots; slot += len(loops) {
				connect(slot)
			}
		})
	}

	var speaking, world sync.WaitGroup
	for speaker := range speakers {
		speaking.Go(func() {
			r := rand.New(rand.NewPCG(uint64(speaker), 9))
			for round := 0; round < rounds || born.Load() < stressed*slots; round++ {
				x := place[r.IntN(slots)].Load()
				g := &groups[r.IntN(rooms)]
				switch n := r.IntN(1000); {
				case n < 600:
					speak(r.IntN(rooms), r.IntN(1200))
				case n < 750:
					g.Join(x.h)
				case n < 900:
					g.Leave(x.h)
				case n < 950:
					for h := range g.All() {
						g.Leave(h)
						g.Join(h)
						break
					}
				case n < 990:
					n := g.Len()
					mu.Lock()
					if n > len(all) {
						t.Error("more members than sessions")
					}
					mu.Unlock()
				case n < 997:
					x.h.Disconnect()
				default:
					x.h.Abort()
				}
			}
		})
	}
	done := make(chan struct{})
	for i, l := range loops {
		world.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 10))
			for {
				select {
				case <-done:
					return
				default:
				}
				l.Do(func() {
					for slot := i; slot < slots; slot += len(loops) {
						x := place[slot].Load()
						x.c.PeerRead(r.IntN(8 << 10))
						switch n := r.IntN(300); {
						case x.c.Ended:
							connect(slot)
						case n < 100:
							x.c.PeerWrite([]byte("B"))
						case n == 100:
							x.c.PeerWrite([]byte("P"))
						case n == 101:
							x.c.PeerReset(errors.New("reset"))
						case x.h.Err() != nil:
							x.c.PeerFIN()
						}
					}
				})
				runtime.Gosched()
			}
		})
	}
	speaking.Wait()
	close(done)
	world.Wait()
	for _, l := range loops {
		l.Stop()
	}

	// The test's goroutine is all loops now. OnDisconnected of one speaks to others: until all is still.
	for moved := true; moved; {
		moved = false
		for _, l := range loops {
			l.Advance(time.Second)
		}
		for _, x := range all {
			if !x.c.Closed {
				moved = true
				x.c.PeerRead(x.c.Held())
				x.c.PeerFIN()
			}
		}
	}
	reached, delivered, skipped := 0, 0, uint64(0)
	for i := range groups {
		reached += numbers[i].reached
		skipped += groups[i].Skipped()
		if n := groups[i].Len(); n != 0 {
			t.Errorf("room %d has %d members at the end", i, n)
		}
	}
	for _, x := range all {
		if x.stream.bad > 0 {
			t.Errorf("session %d: %d messages damaged", x.h.ID(), x.stream.bad)
		}
		for room, taken := range x.stream.taken {
			if !slices.IsSorted(taken) || len(slices.Compact(slices.Clone(taken))) != len(taken) {
				t.Errorf("session %d: the messages of room %d came out of order", x.h.ID(), room)
			}
			delivered += len(taken)
		}
	}
	if delivered > reached || delivered == 0 || skipped == 0 || len(all) < stressed*slots {
		t.Errorf("%d sessions, %d messages accepted, %d delivered, %d skipped", len(all), reached, delivered, skipped)
	}
	sent, dropped := 0, 0
	for _, l := range loops {
		sent += int(l.Shared.Counters.BytesOut.Load())
		dropped += int(l.Shared.Counters.BytesDropped.Load())
	}
	if dropped == 0 && delivered != reached {
		t.Errorf("%d of %d messages were delivered, and no byte dropped", delivered, reached)
	}
	t.Logf("%d sessions, %d messages accepted, %d delivered, %d skipped, %d bytes sent, %d dropped",
		len(all), reached, delivered, skipped, sent, dropped)
}
