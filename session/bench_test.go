package session_test

import (
	"net"
	"testing"
	"time"

	"github.com/servercore-go/servercore/session"
)

// taker is a transport that takes everything, or what room leaves, and forgets it.
type taker struct {
	room  int // bytes taken per write, everything if 0
	wakes int
}

func (t *taker) Wake()                    { t.wakes++ }
func (*taker) Again()                     {}
func (*taker) Now() time.Duration         { return time.Second }
func (*taker) Arm(time.Duration)          {}
func (*taker) CloseWrite() error          { return nil }
func (*taker) Reading(bool) error         { return nil }
func (*taker) Unread() bool               { return false }
func (*taker) Unsent() int                { return 0 }
func (*taker) Close(bool)                 {}
func (*taker) Done()                      {}
func (*taker) Failed(string, any, []byte) {}
func (t *taker) Write(bufs [][]byte) (int, error) {
	n := 0
	for _, b := range bufs {
		n += len(b)
	}
	if t.room > 0 && n > t.room {
		n = t.room
	}
	return n, nil
}

type benchSession struct {
	session.Session
	recv func(s *benchSession, data []byte)
}

func (s *benchSession) OnRecv(data []byte) {
	if s.recv != nil {
		s.recv(s, data)
	}
}

func bind(b *testing.B, t *taker, recv func(*benchSession, []byte)) (*benchSession, *session.Driver) {
	b.Helper()
	s := &benchSession{recv: recv}
	addr := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7777}
	loop := session.NewLoop(session.Limits{SendLimit: 16 << 20, PauseAbove: 8 << 20, Write: time.Second})
	d, err := session.Bind(s, t, loop, addr, addr)
	if err != nil {
		b.Fatal(err)
	}
	d.Connected()
	b.ReportAllocs()
	return s, d
}

// A message received and not answered.
func BenchmarkReceive(b *testing.B) {
	_, d := bind(b, &taker{}, nil)
	data := make([]byte, 64)
	for b.Loop() {
		d.Receive(data)
	}
}

// A message received and answered in the callback: the whole of an echo but for the system calls.
func BenchmarkSendInCallback(b *testing.B) {
	_, d := bind(b, &taker{}, func(s *benchSession, data []byte) { _ = s.Send(data) })
	data := make([]byte, 64)
	for b.Loop() {
		d.Receive(data)
	}
}

// 64 messages of another goroutine, gathered and sent; per operation.
func BenchmarkGatheredFlush(b *testing.B) {
	s, d := bind(b, &taker{}, nil)
	data := make([]byte, 256)
	for b.Loop() {
		for range 64 {
			_ = s.Send(data)
		}
		d.Turn()
	}
}

// One message of another goroutine and the turn it asks for.
func BenchmarkSendFromOutside(b *testing.B) {
	s, d := bind(b, &taker{}, nil)
	data := make([]byte, 64)
	for b.Loop() {
		_ = s.Send(data)
		d.Turn()
	}
}

// A queue of 1 MiB that leaves 16 KiB at a time.
func BenchmarkPartialWrites(b *testing.B) {
	s, d := bind(b, &taker{room: 16 << 10}, nil)
	data := make([]byte, 1<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		_ = s.Send(data)
		for s.Pending() > 0 {
			d.Resume()
		}
	}
}
