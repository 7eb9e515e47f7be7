package bench

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/steady"
)

func TestModes(t *testing.T) {
	echo := peer(t, plainEcho)
	for _, tt := range []struct {
		name   string
		change func(*Plan)
	}{
		{"echo", func(p *Plan) { p.Mode = Echo }},
		{"pipelined", func(p *Plan) { p.Mode, p.Depth = Echo, 16 }},
		{"one byte", func(p *Plan) { p.Mode, p.Size, p.Depth = Echo, 1, 7 }},
		{"header only", func(p *Plan) { p.Mode, p.Size, p.Depth = Echo, headerSize, 3 }},
		{"larger than every buffer", func(p *Plan) { p.Mode, p.Size, p.Depth = Echo, 1<<20+13, 2 }},
		{"more threads than connections", func(p *Plan) { p.Mode, p.Conns, p.Threads = Echo, 1, 4 }},
		{"rate", func(p *Plan) { p.Mode, p.Rate = Rate, 2000 }},
		{"rate, poisson, deep", func(p *Plan) { p.Mode, p.Rate, p.Arrival, p.Depth = Rate, 2000, Poisson, 8 }},
		{"churn", func(p *Plan) { p.Mode = Churn }},
		{"churn with resets", func(p *Plan) { p.Mode, p.Linger0, p.Messages, p.Depth = Churn, true, 5, 2 }},
		{"idle", func(p *Plan) { p.Mode, p.Conns, p.Active, p.Rate = Idle, 50, 5, 500 }},
		{"ramp", func(p *Plan) { p.Mode, p.Conns, p.ConnectRate, p.Every = Ramp, 20, 200, 5*time.Millisecond }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			steady.Run(t, func(t testing.TB) {
				p := short(Echo, echo)
				tt.change(&p)
				r := carryOut(t, p)
				wantErrors(t, r, nil)
				if r.Totals.Messages == 0 || r.Main().Count == 0 || r.Totals.Unanswered != 0 {
					t.Errorf("totals %+v, %d latencies", r.Totals, r.Main().Count)
				}
				if got := r.Totals.BytesVerified; got != r.Totals.Messages*uint64(max(p.Size, r.Parameters.SizeBytes)) {
					t.Errorf("%d bytes in %d messages", got, r.Totals.Messages)
				}
				if p.Mode == Rate && r.Main().Count != r.Totals.Planned {
					t.Errorf("%d planned, %d latencies from the planned time", r.Totals.Planned, r.Main().Count)
				}
			})
		})
	}
}

func TestIdleWithoutTraffic(t *testing.T) {
	steady.Run(t, func(t testing.TB) {
		p := short(Idle, peer(t, plainEcho))
		p.Duration = time.Second // on a busy machine the last point may come after the connections have been closed
		r := carryOut(t, p)
		wantErrors(t, r, nil)
		most := 0
		for _, point := range r.Series {
			most = max(most, point.Conns)
		}
		if most != p.Conns {
			t.Errorf("the points count %d connections, want %d", most, p.Conns)
		}
		if r.Totals.Messages != 0 || r.Totals.ConnsAtStart != p.Conns || len(r.Series) == 0 {
			t.Errorf("totals %+v, %d points", r.Totals, len(r.Series))
		}
	})
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			group.Go(func() { defer c.Close(); io.Copy(c, c) })
		}
	})
	defer group.Wait()
	defer l.Close()
	for _, mode := range []Mode{Echo, Churn} {
		r := carryOut(t, short(mode, "unix:"+path))
		wantErrors(t, r, nil)
		if r.Totals.Messages == 0 {
			t.Errorf("%s: no message", mode)
		}
	}
}

func TestFanout(t *testing.T) {
	for _, stream := range []bool{false, true} {
		p := short(Fanout, peer(t, broadcast()))
		p.Conns, p.Stream, p.Window = 9, stream, 4096
		r := carryOut(t, p)
		wantErrors(t, r, nil)
		window := uint64(1) // of messages, under way when the measured part ends
		if stream {
			window = 4096 / 64
		}
		if m, c := r.Totals.Messages, r.Totals.Cycles; c == 0 || m < 9*c || m > 9*(c+window) {
			t.Errorf("stream %v: %d deliveries in %d rounds to 9 subscribers", stream, m, c)
		}
		if n := r.Find("round").Count; n < r.Totals.Cycles || r.Find("delivery").Count != 9*n || r.Totals.Messages+r.Totals.AfterEnd != 9*n {
			t.Errorf("stream %v: %d rounds have a time, %d deliveries, %d of them after the end", stream, n, r.Find("delivery").Count, r.Totals.AfterEnd)
		}
	}
}

// A server that takes longer for a message than the time between two of them, and gets to know another client only when
// it has no second one to do, must not be drowned in messages before it knows everybody.
func TestFanoutIntroducesEverybody(t *testing.T) {
	var mu sync.Mutex
	var members, waiting []*net.TCPConn
	p := short(Fanout, peer(t, func(_ int, c *net.TCPConn) {
		mu.Lock()
		if len(members) < 2 { // at least one of them subscribes
			members = append(members, c)
		} else {
			waiting = append(waiting, c)
		}
		mu.Unlock()
		for b := make([]byte, 64<<10); ; {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			mu.Lock()
			for message := range slices.Chunk(b[:n], 64) {
				time.Sleep(50 * time.Millisecond) // the work
				for _, m := range members {
					if m != c {
						m.Write(message)
					}
				}
			}
			if n == 64 && len(waiting) > 0 {
				members, waiting = append(members, waiting[0]), waiting[1:]
			}
			mu.Unlock()
		}
	}))
	p.Timeout = 2 * time.Second
	r := carryOut(t, p)
	wantErrors(t, r, nil)
	if r.Totals.Messages == 0 {
		t.Error("nothing was delivered")
	}
}

func TestFanoutAgainstEcho(t *testing.T) {
	p := short(Fanout, peer(t, plainEcho))
	p.Timeout = 200 * time.Millisecond
	r, err := Run(t.Context(), p, Options{})
	if !errors.Is(err, ErrNotBroadcast) || r == nil || r.Failure == "" {
		t.Errorf("error %v", err)
	}
}

// A subscriber that leaves is counted once, and the others go on.
func TestFanoutLosesSubscriber(t *testing.T) {
	all := broadcast()
	p := short(Fanout, peer(t, func(n int, c *net.TCPConn) {
		if n == 3 {
			time.AfterFunc(50*time.Millisecond, func() { c.CloseRead(); c.CloseWrite() })
		}
		all(n, c)
	}))
	p.Duration = 400 * time.Millisecond
	r := carryOut(t, p)
	if n := r.Errors[EarlyEnd] + r.Errors[Reset]; n == 0 {
		t.Errorf("errors %v", r.Errors)
	}
}

func TestSearch(t *testing.T) {
	p := short(Search, peer(t, plainEcho))
	p.Rate, p.Step, p.P99, p.Duration = 500, 100*time.Millisecond, time.Second, 3*time.Second // a busy machine makes few steps
	r := carryOut(t, p)
	wantSearched(t, r, 500)
	p.P99 = time.Microsecond // nothing is as fast as that
	r = carryOut(t, p)
	wantSearched(t, r, 500)
	if r.Steps[0].Passed || r.Steps[1].RatePerS != 250 {
		t.Errorf("steps %+v", r.Steps)
	}
}

// wantSearched wants the steps to be those that their verdicts ask for: doubled from first on until one fails, or halved
// until one passes, then the middle.
func wantSearched(t testing.TB, r *Result, first float64) {
	t.Helper()
	if len(r.Steps) < 2 || r.Mode != Search {
		t.Fatalf("steps %+v", r.Steps)
	}
	rate, passed, failed := first, 0.0, 0.0
	for _, s := range r.Steps {
		if s.RatePerS != rate || s.Passed != (s.Why == "") {
			t.Fatalf("step %+v, want %v/s; all: %+v", s, rate, r.Steps)
		}
		if s.Passed {
			passed, rate = rate, rate*2
		} else {
			failed, rate = rate, rate/2
		}
		if passed > 0 && failed > 0 {
			rate = (passed + failed) / 2
		}
	}
}

func TestInterrupt(t *testing.T) {
	addr := peer(t, plainEcho)
	for _, mode := range []Mode{Echo, Rate, Churn, Idle, Search} {
		ctx, cancel := context.WithCancel(t.Context())
		p := short(mode, addr)
		p.Duration, p.Step, p.Active = time.Minute, time.Minute, 2
		var once sync.Once
		r, err := Run(ctx, p, Options{Progress: func(p Progress) {
			if p.Phase == "running" && p.Elapsed > 50*time.Millisecond {
				once.Do(cancel)
			}
		}})
		cancel()
		if err != nil || !r.Interrupted || r.Totals.Messages == 0 {
			t.Fatalf("%s: error %v, result %+v", mode, err, r)
		}
		if s := r.Totals.MeasuredS; s <= 0 || s > 20 {
			t.Errorf("%s: measured for %v s", mode, s)
		}
		wantErrors(t, r, nil)
	}
}

func TestInterruptWhileConnecting(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, err := Run(ctx, short(Echo, peer(t, plainEcho)), Options{})
	if err != nil || !r.Interrupted || r.Totals.MeasuredS != 0 {
		t.Errorf("error %v, result %+v", err, r)
	}
}

// The server takes connections and stops answering for a second. Every message that was due in that second has waited, though
// few messages were on the way: time from the plan says so, time from the send does not.
func TestStallShowsFromPlannedTime(t *testing.T) {
	const stall = time.Second
	var gate sync.RWMutex
	addr := peer(t, echoes(64, func(_ int, m []byte) []byte {
		gate.RLock()
		defer gate.RUnlock()
		return m
	}))
	p := short(Rate, addr)
	p.Conns, p.Rate, p.Duration, p.Threads = 2, 2000, 2*time.Second, 1
	var once sync.Once
	stalled := make(chan struct{})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := Run(ctx, p, Options{Progress: func(p Progress) {
		if p.Phase == "running" && p.Elapsed > 200*time.Millisecond {
			once.Do(func() {
				gate.Lock()
				time.AfterFunc(stall, func() { gate.Unlock(); close(stalled) })
			})
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	<-stalled
	wantErrors(t, r, nil)
	planned, actual := r.Find("planned"), r.Find("reply")
	if planned.P999 < 500e3 || planned.Max < 900e3 {
		t.Errorf("from the planned time: %+v", planned.Summary)
	}
	if actual.P999 > 500e3 {
		t.Errorf("from the actual send: %+v", actual.Summary)
	}
	if actual.Max < 900e3 { // the few that were on the way saw it all the same
		t.Errorf("from the actual send, max: %+v", actual.Summary)
	}
	slow := 0
	for _, point := range r.Series {
		if point.Max > 500e3 {
			slow++
		}
	}
	if slow == 0 {
		t.Error("the series does not show the stall")
	}
}
