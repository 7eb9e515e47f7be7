package servercore_test

import (
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

// Sessions that wait for a worker are served in the order in which they began to wait.
func TestOffloadLineIsServedInOrder(t *testing.T) {
	noLeaks(t)
	const waiting = 5
	served := make(chan *peer, waiting)
	s := serve(t, "tcp", engine.Options{Loops: 1}, hooks{recv: func(p *peer, _ []byte) { served <- p }}, engine.Offload(1))
	var conns []net.Conn
	var peers []*peer
	for range waiting {
		c, p := s.connect()
		conns, peers = append(conns, c), append(peers, p)
	}
	_, holder := s.connect()
	eventually(t, "the worker is free", func() bool { st := s.Stats(); return st.Working == 0 && st.Waiting == 0 })
	release := holder.hold(t)
	for i, c := range conns {
		write(t, c, []byte("x"))
		eventually(t, "it waits", func() bool { return s.Stats().Waiting == i+1 })
	}
	release()
	for i, want := range peers {
		if p := await(t, served, "OnRecv"); p != want {
			t.Errorf("session %d was served as number %d, want session %d", p.ID(), i+1, want.ID())
		}
	}
}

// A worker does not stay with a session that has much to read: the next in line is served after a read that brought much.
func TestOffloadShare(t *testing.T) {
	noLeaks(t)
	const bulk = 512 << 10
	var reads atomic.Int32
	small := make(chan int32, 1)
	s := serve(t, "tcp", engine.Options{Loops: 1}, hooks{recv: func(_ *peer, data []byte) {
		if len(data) == 1 {
			small <- reads.Load()
			return
		}
		reads.Add(1)
	}}, engine.Offload(1))
	much, big := s.connect()
	little, _ := s.connect()
	_, holder := s.connect()
	eventually(t, "the worker is free", func() bool { st := s.Stats(); return st.Working == 0 && st.Waiting == 0 })
	release := holder.hold(t)
	write(t, much, stream()[:bulk])
	eventually(t, "the first waits", func() bool { return s.Stats().Waiting == 1 })
	write(t, little, []byte("x"))
	eventually(t, "the second waits", func() bool { return s.Stats().Waiting == 2 })
	release()
	if n := await(t, small, "OnRecv of a byte"); n > 1 {
		t.Errorf("a byte waited for %d reads of another session, each of which brought much, want one", n)
	}
	eventually(t, "everything arrives", func() bool { return big.got.Load() == bulk })
}

// A session on a worker has timers like any other: the earliest comes first, whichever was set first, and each of them comes.
func TestOffloadTimers(t *testing.T) {
	noLeaks(t)
	s := serve(t, "tcp", engine.Options{Loops: 1, IdleTimeout: 300 * time.Millisecond}, hooks{}, engine.Offload(1))
	_, p := s.connect() // is armed for IdleTimeout
	for range 3 {
		ran := make(chan struct{})
		p.AfterFunc(10*time.Millisecond, func() { close(ran) })
		await(t, ran, "the timer")
	}
	await(t, p.ended, "OnDisconnected")
	wantError(t, "reason", p.Err(), session.ErrIdle)

	s = serve(t, "tcp", engine.Options{Loops: 1}, hooks{}, engine.Offload(1))
	_, p = s.connect()
	p.AfterFunc(time.Hour, func() { t.Error("an hour is over") })
	p.run(t, func() {})
	ran := make(chan struct{})
	p.AfterFunc(10*time.Millisecond, func() { close(ran) })
	await(t, ran, "the timer that was set after one for later")
}

// A callback that takes its worker down leaves the counts right, and another worker in its place.
func TestOffloadGoexitIsCounted(t *testing.T) {
	noLeaks(t)
	s := serve(t, "tcp", engine.Options{Loops: 1}, hooks{recv: func(p *peer, data []byte) {
		if data[0] == 'g' {
			runtime.Goexit()
		}
		echo(p, data)
	}}, engine.Offload(1))
	for range 3 {
		c, p := s.connect()
		write(t, c, []byte("g"))
		await(t, p.ended, "OnDisconnected")
		wantError(t, "reason", p.Err(), session.ErrPanic)
	}
	c, _ := s.connect()
	exchange(t, c, "served")
	eventually(t, "nobody is at work, nobody waits", func() bool { st := s.Stats(); return st.Working == 0 && st.Waiting == 0 })
}
