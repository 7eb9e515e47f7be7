package session_test

import (
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/servercore-go/servercore/session"
)

// taker is a transport that takes everything, or what room leaves, and forgets it.
type taker struct {
	room    int // bytes taken per write, everything if 0
	wakes   int
	scratch *session.Scratch
}

func (t *taker) Scratch() *session.Scratch {
	if t.scratch == nil {
		t.scratch = session.NewScratch()
	}
	return t.scratch
}

func (t *taker) Wake() { t.wakes++ }
func (t *taker) WakeAll(all []session.Transport) {
	for _, t := range all {
		t.Wake()
	}
}
func (*taker) Again()                     {}
func (*taker) Now() time.Duration         { return time.Second }
func (*taker) Arm(time.Duration)          {}
func (*taker) CloseWrite() error          { return nil }
func (*taker) Reading(bool) error         { return nil }
func (*taker) Unread() bool               { return false }
func (*taker) Unsent() int                { return 0 }
func (*taker) Received() int              { return 0 }
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
	d, err := session.Bind(s, t, loop, nil, addr, addr)
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

// room binds n sessions, members of g.
func room(b *testing.B, g *session.Group, n int) []*session.Driver {
	b.Helper()
	loop := session.NewLoop(session.Limits{SendLimit: 1 << 20, PauseAbove: 1 << 18, Write: time.Second})
	addr := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7777}
	members := make([]*session.Driver, n)
	for i := range members {
		h := &benchSession{}
		d, err := session.Bind(h, &taker{}, loop, nil, addr, addr)
		if err != nil {
			b.Fatal(err)
		}
		d.Connected()
		g.Join(h)
		members[i] = d
	}
	return members
}

// One message to everybody in a room, and all the turns it asks for: the whole of a delivery but for the system calls.
// depth messages wait for each turn.
func BenchmarkBroadcast(b *testing.B) {
	for _, size := range []int{64, 1024} {
		for _, depth := range []int{1, 16} {
			for _, n := range []int{10, 1_000, 100_000} {
				b.Run(fmt.Sprintf("size=%d/depth=%d/members=%d", size, depth, n), func(b *testing.B) {
					var g session.Group
					members := room(b, &g, n)
					p := make([]byte, size)
					talk := func() {
						for range depth {
							g.Broadcast(p)
						}
						for _, d := range members {
							d.Turn()
						}
					}
					talk() // the pools fill
					b.ReportAllocs()
					for b.Loop() {
						talk()
					}
					deliveries := float64(b.N) * float64(depth*n)
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/deliveries, "ns/delivery")
				})
			}
		}
	}
}

// What rooms cost: 100,000 sessions that are all in one, and in ten of ten each.
func BenchmarkMemberships(b *testing.B) {
	const sessions = 100_000
	for _, tt := range []struct{ groups, each int }{{1, 1}, {100_000, 10}} {
		b.Run(fmt.Sprintf("groups=%d", tt.groups), func(b *testing.B) {
			var spare session.Group
			members := room(b, &spare, sessions) // what a first membership costs once, all have paid
			for _, d := range members {
				spare.Leave(d.Handler())
			}
			memberships := float64(sessions * tt.each)
			var memory runtime.MemStats
			heap := func() float64 {
				runtime.GC()
				runtime.ReadMemStats(&memory)
				return float64(memory.HeapAlloc)
			}
			var joining, leaving time.Duration
			var bytes float64
			for b.Loop() {
				groups := make([]session.Group, tt.groups)
				before := heap()
				began := time.Now()
				for i, d := range members {
					for j := range tt.each {
						groups[(i+j*7919)%tt.groups].Join(d.Handler())
					}
				}
				joining += time.Since(began)
				bytes = heap() - before
				began = time.Now()
				for i, d := range members {
					for j := range tt.each {
						groups[(i+j*7919)%tt.groups].Leave(d.Handler())
					}
				}
				leaving += time.Since(began)
			}
			b.ReportMetric(bytes/memberships, "B/membership")
			b.ReportMetric(float64(joining.Nanoseconds())/memberships/float64(b.N), "ns/join")
			b.ReportMetric(float64(leaving.Nanoseconds())/memberships/float64(b.N), "ns/leave")
		})
	}
}
