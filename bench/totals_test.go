package bench

import (
	"context"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/steady"
)

// A ledger is what a scripted server knows of a run: the truth that the totals must match.
type ledger struct {
	conns, messages atomic.Uint64
}

// scripted is an echo for messages of size bytes that keeps a ledger. work is called before each reply and takes its
// time; no reply is sent if it returns false.
func scripted(t testing.TB, size int, work func() bool) (addr string, l *ledger) {
	l = &ledger{}
	return peer(t, func(_ int, c *net.TCPConn) {
		l.conns.Add(1)
		message := make([]byte, size)
		for {
			if _, err := io.ReadFull(c, message); err != nil {
				return
			}
			l.messages.Add(1)
			if !work() {
				continue
			}
			if _, err := c.Write(message); err != nil {
				return
			}
		}
	}), l
}

// perSecondAtMost is the work of a server that answers no more than rate messages per second, all connections together.
func perSecondAtMost(rate float64) func() bool {
	var mu sync.Mutex
	var next time.Time
	return func() bool {
		mu.Lock()
		defer mu.Unlock()
		time.Sleep(time.Until(next))
		next = time.Now().Add(time.Duration(float64(time.Second) / rate))
		return true
	}
}

func taking(d time.Duration) func() bool { return func() bool { time.Sleep(d); return true } }

func never() bool { return false }

// wantSums wants the totals that are made of others to be right, and the series to show the same messages.
func wantSums(t testing.TB, r *Result) {
	t.Helper()
	s, size := &r.Totals, uint64(r.Parameters.SizeBytes)
	for name, pair := range map[string][2]float64{
		"messages_per_s":       {s.MessagesPerS, float64(s.Messages) / s.MeasuredS},
		"received_bytes_per_s": {s.BytesPerS, float64(s.Messages*size) / s.MeasuredS},
		"bytes_verified":       {float64(s.BytesVerified), float64(s.Messages * size)},
		"cycles_per_s":         {s.CyclesPerS, float64(s.Cycles) / s.MeasuredS},
	} {
		if !near(pair[0], pair[1]) {
			t.Errorf("%s is %v, want %v; %+v", name, pair[0], pair[1], *s)
		}
	}
	messages, bytes, length := 0.0, 0.0, 0.0
	for _, p := range r.Series {
		if !near(p.At, length) {
			t.Errorf("a point is at %v s, the one before ends at %v s", p.At, length)
		}
		messages, bytes, length = messages+p.Messages*p.Length, bytes+p.Bytes*p.Length, length+p.Length
	}
	if !near(messages, float64(s.Messages)) || !near(bytes, float64(s.BytesVerified)) || !near(length, s.MeasuredS) {
		t.Errorf("the series has %v messages, %v bytes in %v s; %+v", messages, bytes, length, *s)
	}
}

// What a closed loop gets back after the end is not part of its throughput, nor is its warm-up.
func TestClosedLoopTotals(t *testing.T) {
	steady.Run(t, func(t testing.TB) {
		const delay, conns = 40 * time.Millisecond, 8
		for _, tt := range []struct {
			depth  int
			warmup time.Duration
		}{{1, -1}, {4, -1}, {1, 300 * time.Millisecond}} {
			addr, l := scripted(t, 64, taking(delay))
			p := short(Echo, addr)
			p.Conns, p.Depth, p.Warmup, p.Duration = conns, tt.depth, tt.warmup, 500*time.Millisecond
			r := carryOut(t, p)
			wantErrors(t, r, nil)
			wantSums(t, r)
			s := &r.Totals
			if most := uint64(conns * (p.Duration/delay + 1)); s.Messages > most || s.Messages == 0 {
				t.Errorf("%+v: %d messages, %d are possible", tt, s.Messages, most)
			}
			if s.Sent != l.messages.Load() || s.ConnsOpened != conns || s.ConnsAtStart != conns || l.conns.Load() != conns {
				t.Errorf("%+v: %+v, the server got %d on %d connections", tt, *s, l.messages.Load(), l.conns.Load())
			}
			sent := uint64(math.Round(s.SentPerS * s.MeasuredS))
			if n := r.Main().Count; n != sent || s.AfterEnd == 0 || s.AfterEnd > uint64(conns*tt.depth) || tt.warmup < 0 && (sent != s.Sent || s.Messages+s.AfterEnd != s.Sent) {
				t.Errorf("%+v: %+v, %d latencies", tt, *s, n)
			}
			if tt.warmup > 0 && sent+uint64(conns) > s.Sent {
				t.Errorf("%+v: %d messages sent, %d of them in the measured part: there was a warm-up", tt, s.Sent, sent)
			}
			for _, point := range r.Series {
				if point.Opened != 0 || point.Conns != conns {
					t.Errorf("%+v: all connections were opened before, the series has %+v", tt, point)
				}
			}
		}
	})
}

func TestChurnTotals(t *testing.T) {
	steady.Run(t, func(t testing.TB) {
		const conns, messages = 6, 3
		for _, warmup := range []time.Duration{-1, 200 * time.Millisecond} {
			addr, l := scripted(t, 64, taking(5*time.Millisecond))
			p := short(Churn, addr)
			p.Conns, p.Messages, p.Warmup, p.Duration, p.Linger0 = conns, messages, warmup, 400*time.Millisecond, true
			r := carryOut(t, p)
			wantErrors(t, r, nil)
			wantSums(t, r)
			s := &r.Totals
			if s.ConnsOpened != l.conns.Load() || s.Sent != l.messages.Load() || s.Sent != messages*s.ConnsOpened {
				t.Errorf("%d connections, %d messages sent; the server saw %d and %d", s.ConnsOpened, s.Sent, l.conns.Load(), l.messages.Load())
			}
			if s.Cycles == 0 || s.Messages+conns*messages < messages*s.Cycles || s.Messages > messages*(s.Cycles+conns) {
				t.Errorf("%d cycles of %d messages, %d messages", s.Cycles, messages, s.Messages)
			}
			cycles := r.Find("cycle").Count // those that began in the measured part
			if s.ConnsInTime > s.ConnsOpened || warmup < 0 && s.ConnsInTime+conns < s.ConnsOpened || warmup > 0 && s.ConnsInTime >= s.ConnsOpened-conns {
				t.Errorf("%d connections, %d of them in time", s.ConnsOpened, s.ConnsInTime)
			}
			// A cycle that has begun is completed; one may begin in the moment of the end.
			if warmup < 0 && (cycles > s.ConnsOpened || cycles+conns < s.ConnsOpened || s.Cycles > cycles || s.Cycles+conns < cycles ||
				s.Messages+s.AfterEnd > s.Sent || s.Messages+s.AfterEnd+conns*messages < s.Sent) {
				t.Errorf("%d cycles have a time, %d ended in the measured part, %d connections; %+v", cycles, s.Cycles, s.ConnsOpened, *s)
			}
			opened := 0.0
			for _, point := range r.Series {
				opened += point.Opened * point.Length
			}
			if n := uint64(math.Round(opened)); n != s.ConnsInTime || n+conns < s.Cycles || n > s.Cycles+conns {
				t.Errorf("the series has %d connections, %d were made in time, %d cycles ended in it", n, s.ConnsInTime, s.Cycles)
			}
		}
	})
}

// What is unanswered at the end is a timeout, each message of it.
func TestUnansweredAtTheEnd(t *testing.T) {
	const conns = 2
	for _, tt := range []struct {
		name   string
		want   func(*Totals) (timeouts, sent uint64) // at least: an overdue message makes place for the next
		change func(*Plan)
	}{
		{"echo", func(*Totals) (uint64, uint64) { return conns, conns }, func(p *Plan) { p.Mode = Echo }},
		{"pipelined", func(*Totals) (uint64, uint64) { return 5 * conns, 5 * conns }, func(p *Plan) { p.Mode, p.Depth = Echo, 5 }},
		{"rate", func(s *Totals) (uint64, uint64) { return s.Planned, conns }, func(p *Plan) {}},
		{"rate, deep", func(s *Totals) (uint64, uint64) { return s.Planned, s.Planned }, func(p *Plan) { p.Depth = 1000 }},
		{"idle", func(s *Totals) (uint64, uint64) { return s.Planned, conns }, func(p *Plan) { p.Mode, p.Active = Idle, conns }},
		{"churn", func(*Totals) (uint64, uint64) { return 3 * conns, 3 * conns }, func(p *Plan) { p.Mode, p.Messages, p.Depth = Churn, 3, 3 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // it waits most of the time
			steady.Run(t, func(t testing.TB) {
				addr, l := scripted(t, 64, never)
				p := short(Rate, addr)
				p.Conns, p.Rate, p.Duration, p.Timeout = conns, 500, 100*time.Millisecond, time.Second
				tt.change(&p)
				r := carryOut(t, p)
				s := &r.Totals
				timeouts, sent := tt.want(s)
				wantErrors(t, r, map[Kind]func(uint64) bool{Timeout: exactly(timeouts)})
				if s.Sent < sent || s.Sent > sent+conns || s.Sent > timeouts || l.messages.Load() != s.Sent || s.Unanswered != 0 || s.Messages != 0 || s.BytesVerified != 0 || s.AfterEnd != 0 || s.Cycles != 0 {
					t.Errorf("%s: %+v, the server got %d", tt.name, *s, l.messages.Load())
				}
				if open := p.Mode == Rate || p.Mode == Idle; open != (s.Planned >= 49 && s.Planned <= 51) || open != s.FellBehind {
					t.Errorf("%s: %+v", tt.name, *s)
				}
				if p.Mode == Rate && (r.Main().Count != s.Planned || r.Main().Min < 900e3) {
					t.Errorf("%s: %d planned, their ages %+v", tt.name, s.Planned, r.Main().Summary)
				}
			})
		})
	}
}

// The same for deliveries: one round is under way when the server falls silent.
func TestUndeliveredAtTheEnd(t *testing.T) {
	steady.Run(t, func(t testing.TB) {
		var silent atomic.Bool
		var mu sync.Mutex
		members := map[*net.TCPConn]bool{}
		var published atomic.Uint64
		addr := peer(t, func(_ int, c *net.TCPConn) {
			mu.Lock()
			members[c] = true
			mu.Unlock()
			message := make([]byte, 64)
			for {
				if _, err := io.ReadFull(c, message); err != nil {
					return
				}
				published.Add(1)
				mu.Lock()
				for m := range members {
					if m != c && !silent.Load() {
						m.Write(message)
					}
				}
				mu.Unlock()
			}
		})
		p := short(Fanout, addr)
		p.Conns, p.Duration, p.Timeout = 4, 500*time.Millisecond, 2*time.Second
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		r, err := Run(ctx, p, Options{Progress: func(p Progress) {
			if p.Phase == "running" {
				mu.Lock()
				silent.Store(true)
				mu.Unlock()
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		wantErrors(t, r, map[Kind]func(uint64) bool{Timeout: exactly(4)})
		if s := &r.Totals; s.Messages != 4*s.Cycles || s.Sent != published.Load() || r.Find("delivery").Count != s.Messages {
			t.Errorf("%+v, the server got %d", *s, published.Load())
		}
	})
}

// What is under way when its connection ends is unanswered, each message of it, and no timeout.
func TestUnansweredWithTheirConnections(t *testing.T) {
	for _, mode := range []Mode{Echo, Rate} {
		p := short(mode, peer(t, func(_ int, c *net.TCPConn) { io.CopyN(io.Discard, c, 4*64) })) // then it closes
		p.Conns, p.Depth, p.Rate, p.Duration = 2, 4, 1000, 20*time.Second
		r := carryOut(t, p)
		if ends := r.Errors[EarlyEnd] + r.Errors[Reset]; ends != 2 || r.Errors.Total() != 2 {
			t.Errorf("%s: errors %v", mode, r.Errors)
		}
		if s := &r.Totals; mode == Echo && s.Unanswered != 8 || mode == Rate && s.Unanswered != s.Planned || s.Messages != 0 || s.Sent < 8 {
			t.Errorf("%s: %+v", mode, *s)
		}
	}
}

// The same for deliveries: a subscriber is cut off in the place of one.
func TestUndeliveredWithTheirConnection(t *testing.T) {
	var cut atomic.Bool
	var mu sync.Mutex
	var members []*net.TCPConn
	p := short(Fanout, peer(t, func(_ int, c *net.TCPConn) {
		mu.Lock()
		members = append(members, c)
		mu.Unlock()
		message := make([]byte, 64)
		for {
			if _, err := io.ReadFull(c, message); err != nil {
				return
			}
			mu.Lock()
			for i := 0; i < len(members); i++ {
				switch m := members[i]; {
				case m == c:
				case cut.CompareAndSwap(true, false):
					m.CloseWrite()
					members = append(members[:i], members[i+1:]...)
					i--
				default:
					m.Write(message)
				}
			}
			mu.Unlock()
		}
	}))
	p.Duration = 500 * time.Millisecond
	var once sync.Once
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := Run(ctx, p, Options{Progress: func(p Progress) {
		if p.Phase == "running" {
			once.Do(func() { cut.Store(true) })
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	wantErrors(t, r, map[Kind]func(uint64) bool{EarlyEnd: exactly(1)})
	if s := &r.Totals; s.Unanswered != 1 {
		t.Errorf("%+v", *s)
	}
}
