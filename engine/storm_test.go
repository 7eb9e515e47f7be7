package engine_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

var stormFor = flag.Duration("storm", 3*time.Second, "how long TestStorm lasts")

// A storm record is 20 bytes of header (session id, sequence number, payload length, checksum) and a payload, so that
// a stream proves by itself that it is complete, in order and its own.
const stormHeader = 20

func stormRecord(id uint64, seq uint32, size int) []byte {
	r := make([]byte, stormHeader+size)
	binary.LittleEndian.PutUint64(r, id)
	binary.LittleEndian.PutUint32(r[8:], seq)
	binary.LittleEndian.PutUint32(r[12:], uint32(size))
	for i := range r[stormHeader:] {
		r[stormHeader+i] = byte(id) + byte(seq) + byte(i)
	}
	binary.LittleEndian.PutUint32(r[16:], crc32.ChecksumIEEE(r[stormHeader:])^uint32(id)^seq)
	return r
}

// stormSession sends records and misbehaves at random, in callbacks and, through weather, from other goroutines.
type stormSession struct {
	session.Session
	storm *storm

	sendMu sync.Mutex // orders the numbering of records with their Sends
	seq    uint32

	inside       atomic.Int32
	connected    atomic.Int32
	disconnected atomic.Int32
}

type storm struct {
	t        *testing.T
	live     sync.Map // *stormSession -> nil
	sessions atomic.Int64
	ended    atomic.Int64
	records  atomic.Int64
	refused  atomic.Int64
	clean    atomic.Int64
	broken   atomic.Int64
}

func (s *stormSession) enter() func() {
	if s.inside.Add(1) != 1 {
		s.storm.t.Error("two callbacks of one session overlap")
	}
	if s.disconnected.Load() != 0 {
		s.storm.t.Error("a callback after OnDisconnected")
	}
	return func() { s.inside.Add(-1) }
}

func (s *stormSession) OnConnected(net.Addr) {
	defer s.enter()()
	s.connected.Add(1)
	s.storm.sessions.Add(1)
	s.storm.live.Store(s, nil)
	s.gust()
}

func (s *stormSession) OnRecv([]byte) {
	defer s.enter()()
	s.gust()
}

func (s *stormSession) OnSend(int) {
	defer s.enter()()
	if rand.IntN(4) == 0 {
		s.gust()
	}
}

func (s *stormSession) OnDisconnected(net.Addr) {
	leave := s.enter()
	s.storm.live.Delete(s)
	s.gust()
	leave()
	if s.connected.Load() != 1 || s.disconnected.Add(1) != 1 {
		s.storm.t.Error("OnConnected and OnDisconnected do not pair")
	}
	s.storm.ended.Add(1)
}

func (s *stormSession) send() {
	s.sendMu.Lock()
	defer s.sendMu.Unlock()
	size := rand.IntN(200)
	if rand.IntN(50) == 0 {
		size = rand.IntN(100 << 10)
	}
	r := stormRecord(s.ID(), s.seq, size)
	var err error
	if rand.IntN(3) == 0 {
		b := pool.Get()
		b.B = append(b.B, r...)
		err = s.SendBuffer(b)
	} else {
		err = s.Send(r)
	}
	if err == nil {
		s.seq++
		s.storm.records.Add(1)
		return
	}
	s.storm.refused.Add(1)
	if !errors.Is(err, session.ErrClosed) && !errors.Is(err, session.ErrSendLimit) {
		s.storm.t.Errorf("Send: %v", err)
	}
}

// gust does one thing that content may do at any time.
func (s *stormSession) gust() {
	switch n := rand.IntN(1000); {
	case n < 900:
		s.send()
	case n < 920:
		s.Disconnect()
	case n < 925:
		s.Abort()
	case n < 950:
		s.PauseRecv()
	case n < 980:
		s.ResumeRecv()
	default:
		_ = s.Post(func() {
			defer s.enter()()
			s.send()
		})
	}
}

// client connects, reads and checks until its nature or the server ends it.
func (w *storm) client(address string) error {
	c, err := net.Dial("tcp", address)
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		w.broken.Add(1) // aborted in OnConnected
		return nil
	}
	if err != nil {
		return err
	}
	defer c.Close()
	tcp := c.(*net.TCPConn)
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	nature := rand.IntN(10)
	if nature < 3 {
		_ = tcp.SetReadBuffer(4 << 10)
	}
	_, err = c.Write([]byte("hello"))
	wasReset := err != nil // told to a write: the next read then sees a plain end
	in := bufio.NewReader(c)
	header := make([]byte, stormHeader)
	var id uint64
	for seq := uint32(0); ; seq++ {
		switch {
		case nature == 0 && rand.IntN(40) == 0:
			_ = tcp.SetLinger(0) // leaves by reset
			return nil
		case nature == 1 && seq == 20:
			_ = tcp.CloseWrite()
		case nature == 2 && rand.IntN(40) == 0:
			return nil // leaves without reading the rest
		case nature == 3:
			time.Sleep(time.Millisecond)
		case rand.IntN(4) == 0:
			_, err := c.Write(header)
			wasReset = wasReset || err != nil
		}
		if _, err := io.ReadFull(in, header); err != nil {
			switch {
			case err == io.EOF && !wasReset:
				w.clean.Add(1)
			case err == io.ErrUnexpectedEOF && !wasReset:
				return errors.New("an orderly end cut a record")
			default:
				w.broken.Add(1)
			}
			return nil
		}
		got := binary.LittleEndian.Uint64(header)
		if seq == 0 {
			id = got
		}
		if at := binary.LittleEndian.Uint32(header[8:]); got != id || at != seq {
			return fmt.Errorf("session %d got record %d of session %d, want record %d", id, at, got, seq)
		}
		size := binary.LittleEndian.Uint32(header[12:])
		if size > 100<<10 {
			return fmt.Errorf("session %d: record of %d bytes", id, size)
		}
		payload := make([]byte, size)
		if _, err := io.ReadFull(in, payload); err != nil {
			if (err == io.EOF || err == io.ErrUnexpectedEOF) && !wasReset {
				return errors.New("an orderly end cut a record")
			}
			w.broken.Add(1)
			return nil
		}
		if crc32.ChecksumIEEE(payload)^uint32(id)^seq != binary.LittleEndian.Uint32(header[16:]) {
			return fmt.Errorf("session %d: record %d is damaged", id, seq)
		}
	}
}

// TestStorm has 100 goroutines send to, pause, disconnect and abort 100 sessions at once, inside callbacks and out,
// while clients reset, half-close and leave, so that descriptors are reused all the time (L1, L2, L3, S1, E1). Half of
// the sessions are on loops, the others on workers. Give
// it more time with: go test -race -run TestStorm -storm 60s ./engine
func TestStorm(t *testing.T) {
	w := &storm{t: t}
	e, err := engine.New(engine.Options{Loops: 4, DrainTimeout: 20 * time.Second, LingerTimeout: 300 * time.Millisecond,
		SendBuffer: 16 << 10})
	if err != nil {
		t.Fatal(err)
	}
	var listeners [2]*engine.Listener
	for i, opts := range [][]engine.Option{nil, {engine.Offload(8)}} {
		listeners[i], err = e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return &stormSession{storm: w} }, opts...)
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	time.AfterFunc(*stormFor, func() { close(over) })
	isOver := func() bool {
		select {
		case <-over:
			return true
		default:
			return false
		}
	}
	var wg sync.WaitGroup
	for i := range 100 {
		l := listeners[i%2]
		wg.Go(func() {
			for !isOver() {
				if err := w.client(l.Addr().String()); err != nil && !isOver() {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for !isOver() {
				n := 0
				w.live.Range(func(k, _ any) bool {
					if rand.IntN(20) == 0 {
						k.(*stormSession).gust()
						n++
					}
					return n < 5
				})
				time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
			}
		})
	}
	<-over
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := e.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if w.sessions.Load() != w.ended.Load() {
		t.Errorf("%d sessions began, %d ended", w.sessions.Load(), w.ended.Load())
	}
	if n := pool.Live(); n != 0 {
		t.Errorf("%d buffers are still live", n)
	}
	if w.clean.Load() == 0 || w.broken.Load() == 0 || w.refused.Load() == 0 || e.Stats().Total.WouldBlock == 0 {
		t.Error("the storm was too weak: it must see clean ends, resets, refused Sends and full kernel buffers")
	}
	s := e.Stats().Total
	t.Logf("%d sessions, %d records, %d refused; %d clean ends, %d broken; %d pauses, %d would block; ended %+v",
		w.sessions.Load(), w.records.Load(), w.refused.Load(), w.clean.Load(), w.broken.Load(), s.Pauses, s.WouldBlock, s.Ended)
}
