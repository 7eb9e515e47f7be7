package engine_test

import (
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/session"
)

// Sessions that wait for a worker are served in the order in which they began to wait.
func TestOffloadLineIsServedInOrder(t *testing.T) {
	kit.NoLeaks(t)
	const waiting = 5
	served := make(chan *kit.Session, waiting)
	s := kit.Serve(t, "tcp", engine.Options{Loops: 1}, kit.Hooks{Recv: func(p *kit.Session, _ []byte) { served <- p }}, engine.Offload(1))
	var conns []net.Conn
	var peers []*kit.Session
	for range waiting {
		c, p := s.Connect()
		conns, peers = append(conns, c), append(peers, p)
	}
	_, holder := s.Connect()
	kit.Eventually(t, "the worker is free", func() bool { st := s.Stats(); return st.Working == 0 && st.Waiting == 0 })
	release := holder.Hold(t)
	for i, c := range conns {
		kit.Write(t, c, []byte("x"))
		kit.Eventually(t, "it waits", func() bool { return s.Stats().Waiting == i+1 })
	}
	release()
	for i, want := range peers {
		if p := kit.Await(t, served, "OnRecv"); p != want {
			t.Errorf("session %d was served as number %d, want session %d", p.ID(), i+1, want.ID())
		}
	}
}

// A worker does not stay with a session that has much to read: the next in line is served after a read that brought much.
func TestOffloadShare(t *testing.T) {
	kit.NoLeaks(t)
	const bulk = 512 << 10
	var reads atomic.Int32
	small := make(chan int32, 1)
	s := kit.Serve(t, "tcp", engine.Options{Loops: 1}, kit.Hooks{Recv: func(_ *kit.Session, data []byte) {
		if len(data) == 1 {
			small <- reads.Load()
			return
		}
		reads.Add(1)
	}}, engine.Offload(1))
	much, big := s.Connect()
	little, _ := s.Connect()
	_, holder := s.Connect()
	kit.Eventually(t, "the worker is free", func() bool { st := s.Stats(); return st.Working == 0 && st.Waiting == 0 })
	release := holder.Hold(t)
	kit.Write(t, much, kit.Stream()[:bulk])
	kit.Eventually(t, "the first waits", func() bool { return s.Stats().Waiting == 1 })
	kit.Write(t, little, []byte("x"))
	kit.Eventually(t, "the second waits", func() bool { return s.Stats().Waiting == 2 })
	release()
	if n := kit.Await(t, small, "OnRecv of a byte"); n > 1 {
		t.Errorf("a byte waited for %d reads of another session, each of which brought much, want one", n)
	}
	kit.Eventually(t, "everything arrives", func() bool { return big.Got.Load() == bulk })
}

// A session on a worker has timers like any other: the earliest comes first, whichever was set first, and each of them comes.
func TestOffloadTimers(t *testing.T) {
	kit.NoLeaks(t)
	s := kit.Serve(t, "tcp", engine.Options{Loops: 1, IdleTimeout: 300 * time.Millisecond}, kit.Hooks{}, engine.Offload(1))
	_, p := s.Connect() // is armed for IdleTimeout
	for range 3 {
		ran := make(chan struct{})
		p.AfterFunc(10*time.Millisecond, func() { close(ran) })
		kit.Await(t, ran, "the timer")
	}
	kit.Await(t, p.Ended, "OnDisconnected")
	kit.WantError(t, "reason", p.Err(), session.ErrIdle)

	s = kit.Serve(t, "tcp", engine.Options{Loops: 1}, kit.Hooks{}, engine.Offload(1))
	_, p = s.Connect()
	p.AfterFunc(time.Hour, func() { t.Error("an hour is over") })
	early, late := make(chan time.Time, 1), make(chan time.Time, 1)
	p.AfterFunc(3*time.Second, func() { late <- time.Now() })
	p.Run(t, func() {})
	p.AfterFunc(10*time.Millisecond, func() { early <- time.Now() })
	// If the loop were not told of the earlier one, both would run when the later one is due.
	if between := -kit.Await(t, early, "the timer that was set after one for later").Sub(kit.Await(t, late, "the other timer")); between < time.Second {
		t.Errorf("the two timers ran %v apart, want 3 s", between)
	}
}

// A callback that takes its worker down leaves the counts right, and another worker in its place.
func TestOffloadGoexitIsCounted(t *testing.T) {
	kit.NoLeaks(t)
	s := kit.Serve(t, "tcp", engine.Options{Loops: 1}, kit.Hooks{Recv: func(p *kit.Session, data []byte) {
		if data[0] == 'g' {
			runtime.Goexit()
		}
		kit.Echo(p, data)
	}}, engine.Offload(1))
	for range 3 {
		c, p := s.Connect()
		kit.Write(t, c, []byte("g"))
		kit.Await(t, p.Ended, "OnDisconnected")
		kit.WantError(t, "reason", p.Err(), session.ErrPanic)
	}
	c, _ := s.Connect()
	kit.Exchange(t, c, "served")
	kit.Eventually(t, "nobody is at work, nobody waits", func() bool { st := s.Stats(); return st.Working == 0 && st.Waiting == 0 })
}
