package engine_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

// What the contract says of every session is tested with workers too, see onLoops. Here is what only they promise.

// Sessions that wait on workers hold neither the loop nor anybody without workers, and no more of them are at work than there
// are workers.
func TestOffloadHoldsNobodyElse(t *testing.T) {
	kit.NoLeaks(t)
	const workers, waiting = 3, 10
	gate := make(chan struct{})
	var plain *engine.Listener
	s := kit.Prepare(t, "tcp", "127.0.0.1:0", engine.Options{Loops: 1}, kit.Hooks{Recv: func(p *kit.Session, data []byte) {
		if p.LocalAddr().String() != plain.Addr().String() {
			<-gate
		}
		kit.Echo(p, data)
	}}, engine.Offload(workers))
	plain, err := s.Listen("tcp", "127.0.0.1:0", s.New)
	kit.Must(t, err)
	kit.Must(t, s.Start())

	var conns []net.Conn
	for range waiting {
		c := s.Client()
		kit.Write(t, c, []byte("wait"))
		conns = append(conns, c)
	}
	kit.Eventually(t, "all workers are at work", func() bool {
		st := s.Stats()
		return st.Working == workers && st.Waiting == waiting-workers
	})
	s.Listener = plain
	c := s.Client()
	for range 100 {
		kit.Write(t, c, []byte("ping"))
		kit.Expect(t, c, "ping")
	}
	if st := s.Stats(); st.Working != workers || st.Waiting != waiting-workers {
		t.Errorf("%d at work, %d waiting, want %d and %d", st.Working, st.Waiting, workers, waiting-workers)
	}
	close(gate)
	for _, c := range conns {
		kit.Expect(t, c, "wait")
	}
	kit.Eventually(t, "the workers have nothing to do", func() bool {
		st := s.Stats()
		return st.Working == 0 && st.Waiting == 0
	})
}

// The messages of each session come in order, one at a time, whichever workers bring them.
func TestOffloadOrder(t *testing.T) {
	kit.NoLeaks(t)
	const sessions, messages = 20, 5000
	var done atomic.Int32
	var next sync.Map // what each session's next message is: *peer -> *uint32
	s := kit.Serve(t, "tcp", engine.Options{Loops: 2}, kit.Hooks{Recv: func(p *kit.Session, data []byte) {
		v, _ := next.LoadOrStore(p, new(uint32))
		st := v.(*uint32)
		for ; len(data) > 0; data = data[4:] {
			if n := binary.LittleEndian.Uint32(data); n != *st {
				t.Errorf("session %d: message %d, want %d", p.ID(), n, *st)
			}
			*st++
		}
		if *st == messages {
			done.Add(1)
		}
	}}, engine.Offload(4))
	var conns []net.Conn
	for range sessions {
		c, _ := s.Connect()
		conns = append(conns, c)
	}
	var p [4]byte
	for n := range uint32(messages) {
		binary.LittleEndian.PutUint32(p[:], n)
		for _, c := range conns {
			kit.Write(t, c, p[:])
		}
	}
	kit.Eventually(t, "all messages are there", func() bool { return done.Load() == sessions })
}

// A full set of workers leaves input where it is: nothing is read, nothing is held, and all of it comes when one is free.
func TestOffloadFullPoolPausesReading(t *testing.T) {
	kit.NoLeaks(t)
	gate, held := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	s := kit.Serve(t, "tcp", engine.Options{Loops: 1}, kit.Hooks{Recv: func(*kit.Session, []byte) {
		if !first.Swap(true) {
			close(held)
			<-gate
		}
	}}, engine.Offload(1))
	holder, _ := s.Connect()
	c, p := s.Connect()
	kit.Write(t, holder, []byte("x"))
	kit.Await(t, held, "the worker is held")

	// The kernel takes what it has room for; then the client waits.
	block := make([]byte, 1<<20)
	sent := 0
	for {
		kit.Must(t, c.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
		n, err := c.Write(block)
		sent += n
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
			break
		}
	}
	if n := p.Got.Load(); n != 0 {
		t.Errorf("%d bytes were read", n)
	}
	if n := pool.Live(); n != 0 {
		t.Errorf("%d buffers are held", n)
	}
	close(gate)
	kit.Eventually(t, "everything arrives", func() bool { return p.Got.Load() == int64(sent) })
}

// A dialled session with workers is there when Dial returns, OnConnected included, and its timers and posts run in its order.
func TestOffloadDial(t *testing.T) {
	kit.NoLeaks(t)
	far := kit.Serve(t, "tcp", engine.Options{Loops: 1}, kit.Hooks{Recv: kit.Echo})
	var connected atomic.Bool
	d := kit.Dialler(t, engine.Options{Loops: 1}, kit.Hooks{Connected: func(*kit.Session) {
		time.Sleep(10 * time.Millisecond)
		connected.Store(true)
	}})
	h, err := d.Dial(context.Background(), "tcp", far.Listener.Addr().String(), d.New, engine.Offload(2))
	kit.Must(t, err)
	if !connected.Load() {
		t.Error("Dial returned before OnConnected")
	}
	p := h.(*kit.Session)
	timed, posted := make(chan struct{}), make(chan struct{})
	p.AfterFunc(time.Millisecond, func() {
		defer p.Enter("AfterFunc", kit.Open, kit.Open)()
		close(timed)
	})
	p.Run(t, func() { close(posted) })
	kit.Await(t, posted, "the post")
	kit.Await(t, timed, "the timer")
	kit.Must(t, p.Send([]byte("hello")))
	kit.Eventually(t, "the echo", func() bool { return p.Got.Load() == 5 })
	p.Disconnect()
	kit.Await(t, p.Ended, "OnDisconnected")
}

func TestOffloadRefusesNonsense(t *testing.T) {
	e, err := engine.New(engine.Options{Logger: kit.Quiet})
	kit.Must(t, err)
	for _, n := range []int{-1, 0, 100_001} {
		_, err := e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return new(kit.Session) }, engine.Offload(n))
		if err == nil || !strings.Contains(err.Error(), "Offload") {
			t.Errorf("Offload(%d): %v", n, err)
		}
	}
	_ = e.Close()
}
