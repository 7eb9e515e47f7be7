package session_test

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/budget"
	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

// Senders on goroutines of their own, several loops, sessions that come and go: the accounts are exact at the end, and never
// beyond the bound.
func TestBudgetStress(t *testing.T) {
	const limit, slots, senders = 1 << 20, 24, 4
	rounds := 60_000
	if raced || testing.Short() {
		rounds = 20_000
	}
	b := budget.New(limit)
	limits := session.Limits{Budget: b, SendLimit: 256 << 10, PauseAbove: 64 << 10, HighWater: 8 << 10, LowWater: 4 << 10}
	loops := []*testkit.Loop{newLoop(t, limits), newLoop(t, limits), newLoop(t, limits)}
	var g session.Group
	var place [slots]atomic.Pointer[testkit.Conn]
	var ended atomic.Int64
	connect := func(slot int) {
		h := &testkit.Handler{Quiet: true}
		h.Connected = func(h *testkit.Handler) { g.Join(h) }
		h.Disconnected = func(h *testkit.Handler) {
			if errors.Is(h.Err(), session.ErrSendBudget) {
				ended.Add(1)
			}
		}
		c, err := loops[slot%len(loops)].Bind(h, nil)
		if err != nil {
			t.Error(err)
			return
		}
		c.Kernel = 1 + 2000*(slot%4)
		c.Take = func([]byte) {}
		c.Connected()
		place[slot].Store(c)
	}
	for i, l := range loops {
		l.Start()
		l.Do(func() {
			for slot := i; slot < slots; slot += len(loops) {
				connect(slot)
			}
		})
	}
	begun := time.Now()
	var sending, world sync.WaitGroup
	for sender := range senders {
		sending.Go(func() {
			r := rand.New(rand.NewPCG(uint64(sender), 11))
			p := make([]byte, 8000)
			for round := 0; round < rounds || ended.Load() == 0 && time.Since(begun) < time.Minute; round++ { // only after a while is a session stuck
				slot := r.IntN(slots)
				s := place[slot].Load().Session()
				n := r.IntN(1000)
				if slot%4 == 0 {
					n = min(n, 899) // those whose peers read nothing are not ended but for the budget
				}
				switch {
				case n < 700:
					_ = s.Send(p[:r.IntN(len(p))])
				case n < 850:
					_ = s.SendBuffer(buffer(string(p[:r.IntN(len(p))])))
				case n < 900:
					g.Broadcast(p[:r.IntN(2000)])
				case n < 905:
					s.Disconnect()
				case n < 910:
					s.Abort()
				}
				if n := b.Held(); n > limit+limit/16+len(loops)*64<<10 { // and what is sent while a callback runs
					t.Errorf("%d bytes held of %d", n, limit)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	for i, l := range loops {
		world.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 12))
			for {
				select {
				case <-done:
					return
				default:
				}
				l.Do(func() {
					for slot := i; slot < slots; slot += len(loops) {
						c := place[slot].Load()
						if c.Ended {
							connect(slot)
							continue
						}
						if slot%4 > 0 {
							c.PeerRead(r.IntN(300))
						}
						if c.FINSent {
							c.PeerFIN()
						}
					}
				})
				runtime.Gosched()
			}
		})
	}
	sending.Wait()
	close(done)
	world.Wait()
	for _, l := range loops {
		l.Stop()
	}
	for _, l := range loops {
		l.Run()
	}
	var live []*testkit.Handler
	for _, l := range loops {
		for _, c := range l.Live() {
			live = append(live, c.Driver.Handler().(*testkit.Handler))
		}
	}
	wantHeld(t, b, live)
	if ended.Load() == 0 {
		t.Error("nobody was ended for the budget: no stress")
	}
	for _, l := range loops {
		l.Abort()
	}
	if b.Held() != 0 {
		t.Errorf("%d bytes charged when no session is left", b.Held())
	}
	t.Logf("%d sessions ended for the budget", ended.Load())
}
