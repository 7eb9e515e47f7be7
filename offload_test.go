package servercore_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

// What the contract says of every session is tested with workers too, see onLoops. Here is what only they promise.

// Sessions that wait on workers hold neither the loop nor anybody without workers, and no more of them are at work than there
// are workers.
func TestOffloadHoldsNobodyElse(t *testing.T) {
	noLeaks(t)
	const workers, waiting = 3, 10
	gate := make(chan struct{})
	var plain *engine.Listener
	s := prepare(t, "tcp", "127.0.0.1:0", engine.Options{Loops: 1}, hooks{recv: func(p *peer, data []byte) {
		if p.LocalAddr().String() != plain.Addr().String() {
			<-gate
		}
		echo(p, data)
	}}, engine.Offload(workers))
	plain, err := s.Listen("tcp", "127.0.0.1:0", s.newPeer)
	must(t, err)
	must(t, s.Start())

	var conns []net.Conn
	for range waiting {
		c := s.dial()
		write(t, c, []byte("wait"))
		conns = append(conns, c)
	}
	eventually(t, "all workers are at work", func() bool {
		st := s.Stats()
		return st.Working == workers && st.Waiting == waiting-workers
	})
	s.listener = plain
	c := s.dial()
	for range 100 {
		write(t, c, []byte("ping"))
		expect(t, c, "ping")
	}
	if st := s.Stats(); st.Working != workers || st.Waiting != waiting-workers {
		t.Errorf("%d at work, %d waiting, want %d and %d", st.Working, st.Waiting, workers, waiting-workers)
	}
	close(gate)
	for _, c := range conns {
		expect(t, c, "wait")
	}
	eventually(t, "the workers have nothing to do", func() bool {
		st := s.Stats()
		return st.Working == 0 && st.Waiting == 0
	})
}

// The messages of each session come in order, one at a time, whichever workers bring them.
func TestOffloadOrder(t *testing.T) {
	noLeaks(t)
	const sessions, messages = 20, 5000
	var done atomic.Int32
	var next sync.Map // what each session's next message is: *peer -> *uint32
	s := serve(t, "tcp", engine.Options{Loops: 2}, hooks{recv: func(p *peer, data []byte) {
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
		c, _ := s.connect()
		conns = append(conns, c)
	}
	var p [4]byte
	for n := range uint32(messages) {
		binary.LittleEndian.PutUint32(p[:], n)
		for _, c := range conns {
			write(t, c, p[:])
		}
	}
	eventually(t, "all messages are there", func() bool { return done.Load() == sessions })
}

// A full set of workers leaves input where it is: nothing is read, nothing is held, and all of it comes when one is free.
func TestOffloadFullPoolPausesReading(t *testing.T) {
	noLeaks(t)
	gate, held := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	s := serve(t, "tcp", engine.Options{Loops: 1}, hooks{recv: func(*peer, []byte) {
		if !first.Swap(true) {
			close(held)
			<-gate
		}
	}}, engine.Offload(1))
	holder, _ := s.connect()
	c, p := s.connect()
	write(t, holder, []byte("x"))
	await(t, held, "the worker is held")

	// The kernel takes what it has room for; then the client waits.
	block := make([]byte, 1<<20)
	sent := 0
	for {
		must(t, c.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
		n, err := c.Write(block)
		sent += n
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
			break
		}
	}
	if n := p.got.Load(); n != 0 {
		t.Errorf("%d bytes were read", n)
	}
	if n := pool.Live(); n != 0 {
		t.Errorf("%d buffers are held", n)
	}
	close(gate)
	eventually(t, "everything arrives", func() bool { return p.got.Load() == int64(sent) })
}

// A dialled session with workers is there when Dial returns, OnConnected included, and its timers and posts run in its order.
func TestOffloadDial(t *testing.T) {
	noLeaks(t)
	far := serve(t, "tcp", engine.Options{Loops: 1}, hooks{recv: echo})
	var connected atomic.Bool
	d := dialler(t, engine.Options{Loops: 1}, hooks{connected: func(*peer) {
		time.Sleep(10 * time.Millisecond)
		connected.Store(true)
	}})
	h, err := d.Dial(context.Background(), "tcp", far.listener.Addr().String(), d.newPeer, engine.Offload(2))
	must(t, err)
	if !connected.Load() {
		t.Error("Dial returned before OnConnected")
	}
	p := h.(*peer)
	timed, posted := make(chan struct{}), make(chan struct{})
	p.AfterFunc(time.Millisecond, func() {
		defer p.enter("AfterFunc", open, open)()
		close(timed)
	})
	p.run(t, func() { close(posted) })
	await(t, posted, "the post")
	await(t, timed, "the timer")
	must(t, p.Send([]byte("hello")))
	eventually(t, "the echo", func() bool { return p.got.Load() == 5 })
	p.Disconnect()
	await(t, p.ended, "OnDisconnected")
}

func TestOffloadRefusesNonsense(t *testing.T) {
	e, err := engine.New(engine.Options{Logger: quiet})
	must(t, err)
	for _, n := range []int{-1, 0, 100_001} {
		_, err := e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return new(peer) }, engine.Offload(n))
		if err == nil || !strings.Contains(err.Error(), "Offload") {
			t.Errorf("Offload(%d): %v", n, err)
		}
	}
	_ = e.Close()
}

// halfPeer answers when its client has finished.
type halfPeer struct {
	peer
	told chan struct{}
}

func (p *halfPeer) OnHalfClose() {
	defer p.enter("OnHalfClose", open, open)()
	close(p.told)
}

// The peer's end is told, and the session goes on until content has finished too.
func TestHalfClose(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string, loops int) {
		arrivals := make(chan *halfPeer, 1)
		s := watched(t, engine.Options{Loops: loops}, hooks{})
		l, err := s.Listen(network, freeAddress(t, network), func() session.Handler {
			p := &halfPeer{peer: peer{server: s, ended: make(chan struct{})}, told: make(chan struct{})}
			arrivals <- p
			return p
		}, inMode(t, engine.Options{Loops: loops}, nil)...)
		must(t, err)
		s.listener = l
		must(t, s.Start())

		c := s.dial()
		p := await(t, arrivals, "a session")
		write(t, c, []byte("request"))
		closeWrite(t, c)
		await(t, p.told, "OnHalfClose")
		if n := p.got.Load(); n != 7 {
			t.Errorf("%d bytes before it, want 7", n)
		}
		answer := stream()[:200_000]
		must(t, p.Send(answer[:1000]))
		must(t, p.Send(answer[1000:]))
		p.CloseWrite()
		got, err := io.ReadAll(c)
		must(t, err)
		if string(got) != string(answer) {
			t.Errorf("%d bytes of an answer of %d, or others", len(got), len(answer))
		}
		await(t, p.ended, "OnDisconnected")
		wantError(t, "Err", p.Err(), session.ErrPeerClosed, io.EOF)

		if network == "unix" {
			return // it has no resets
		}
		c = s.dial()
		p = await(t, arrivals, "a session")
		closeWrite(t, c)
		await(t, p.told, "OnHalfClose")
		reset(t, c)
		await(t, p.ended, "OnDisconnected after a reset")
		wantError(t, "Err", p.Err(), session.ErrPeerReset)
	})
}

// CloseWrite is a request that is complete: the answer still comes.
func TestCloseWrite(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string, loops int) {
		s := serve(t, network, engine.Options{Loops: loops, LingerTimeout: time.Millisecond}, hooks{connected: func(p *peer) {
			must(t, p.Send([]byte("question")))
			p.CloseWrite()
		}})
		c, p := s.connect()
		got, err := io.ReadAll(c)
		must(t, err)
		if string(got) != "question" {
			t.Errorf("got %q", got)
		}
		write(t, c, stream())
		closeWrite(t, c)
		await(t, p.ended, "OnDisconnected")
		if n := p.got.Load(); n != int64(len(stream())) {
			t.Errorf("%d bytes of the answer, want %d", n, len(stream()))
		}
		wantError(t, "Err", p.Err(), session.ErrPeerClosed)
	})
}
