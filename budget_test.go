package servercore_test

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

// members connects n members of g, each with a client that reads all it gets, and returns a function that waits until each has got
// that many bytes.
func (s *server) members(g *session.Group, n int) (peers []*peer, got func(bytes int64)) {
	s.t.Helper()
	var clients []*reader
	for range n {
		c, p := s.connect()
		g.Join(p)
		r := &reader{wake: sync.NewCond(new(sync.Mutex))}
		go r.run(c)
		peers, clients = append(peers, p), append(clients, r)
	}
	return peers, func(bytes int64) {
		s.t.Helper()
		for i, r := range clients {
			if n := r.wait(bytes); n != bytes {
				s.t.Fatalf("client %d got %d bytes of %d, its session: %v", i, n, bytes, peers[i].Err())
			}
		}
	}
}

// reader is a client that reads and forgets.
type reader struct {
	wake *sync.Cond
	got  int64
	over bool
}

func (r *reader) run(c net.Conn) {
	_ = c.SetDeadline(time.Time{})
	_, _ = io.Copy(r, c)
	r.wake.L.Lock()
	defer r.wake.L.Unlock()
	r.over = true
	r.wake.Broadcast()
}

func (r *reader) Write(p []byte) (int, error) {
	r.wake.L.Lock()
	defer r.wake.L.Unlock()
	r.got += int64(len(p))
	r.wake.Broadcast()
	return len(p), nil
}

func (r *reader) wait(bytes int64) int64 {
	late := time.AfterFunc(2*patience, func() {
		r.wake.L.Lock()
		defer r.wake.L.Unlock()
		r.over = true
		r.wake.Broadcast()
	})
	defer late.Stop()
	r.wake.L.Lock()
	defer r.wake.L.Unlock()
	for r.got < bytes && !r.over {
		r.wake.Wait()
	}
	return r.got
}

// A burst of Broadcasts, more than loops and clients can keep up with and more than the budget: Broadcasts are refused, and nobody
// is ended, for all take what they are offered.
func TestBudgetAndABurst(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		const budget, size = 1 << 20, 64 << 10
		s := serve(t, "tcp", engine.Options{Loops: loops, SendBudget: budget}, hooks{})
		var g session.Group
		peers, _ := s.members(&g, 32)
		p := stream()[:size]
		rounds := 0
		for began := time.Now(); time.Since(began) < time.Second; rounds++ {
			g.Broadcast(p)
			if n := s.Stats().Queued; n > budget+budget/16 {
				t.Fatalf("%d bytes held of %d", n, budget)
			}
		}
		for _, p := range peers {
			if p.Err() != nil {
				t.Errorf("a healthy member has ended: %v", p.Err())
			}
		}
		eventually(t, "all has left", func() bool { return s.Stats().Queued == 0 })
		t.Logf("%d skipped of %d", g.Skipped(), rounds*32)
	})
}

// The example of old: a budget of 1 MiB, 32 members, one Broadcast of 64 KiB, and another when all have got it: everybody gets all
// of them.
func TestBudgetAndHealthyMembers(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string, loops int) {
		const budget, size, rounds = 1 << 20, 64 << 10, 40
		s := serve(t, network, engine.Options{Loops: loops, SendBudget: budget, SlowPeer: engine.EndSession}, hooks{})
		g := session.Group{EndSlow: true}
		_, got := s.members(&g, 32)
		for i := range rounds {
			if n := g.Broadcast(stream()[:size]); n != 32 {
				t.Fatalf("round %d reached %d", i, n)
			}
			got(int64(i+1) * size)
		}
		if g.Skipped() != 0 || s.Stats().Total.Ended.SendBudget != 0 {
			t.Errorf("%d skipped, %d ended", g.Skipped(), s.Stats().Total.Ended.SendBudget)
		}
		eventually(t, "all has left", func() bool { return s.Stats().Queued == 0 })
	})
}

// Slow members among healthy ones: these get everything, the slow ones miss some and are ended for the budget.
func TestBudgetAndSlowMembers(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string, loops int) {
		const budget, size, healthy, slow = 1 << 20, 64 << 10, 12, 4
		s := serve(t, network, engine.Options{Loops: loops, SendBudget: budget, SendBuffer: 64 << 10}, hooks{})
		var g session.Group
		peers, got := s.members(&g, healthy)
		for range slow {
			_, p := s.session(s.dialSmall())
			g.Join(p)
		}
		rounds := 0
		for began := time.Now(); s.Stats().Total.Ended.SendBudget == 0; rounds++ {
			if time.Since(began) > 4*patience {
				t.Fatalf("no slow member has ended after %d rounds, %d bytes held", rounds, s.Stats().Queued)
			}
			if n := g.Broadcast(stream()[:size]); n < healthy {
				t.Fatalf("round %d reached %d, %d bytes held", rounds, n, s.Stats().Queued)
			}
			got(int64(rounds+1) * size)
			if n := s.Stats().Queued; n > budget+budget/16+loops*64<<10 {
				t.Fatalf("%d bytes held", n)
			}
		}
		for _, p := range peers {
			if p.Err() != nil {
				t.Errorf("a healthy one has ended: %v", p.Err())
			}
		}
		t.Logf("%d rounds, %d skipped, %d ended", rounds, g.Skipped(), s.Stats().Total.Ended.SendBudget)
	})
}
