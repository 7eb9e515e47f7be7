package engine_test

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/frame"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/internal/steady"
	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

// stallLine is a log line.
type stallLine struct {
	message string
	attrs   map[string]slog.Value
}

// recorder is a slog.Handler that keeps the lines about stalls.
type recorder struct {
	mu    sync.Mutex
	lines []stallLine
}

func (*recorder) Enabled(context.Context, slog.Level) bool { return true }
func (r *recorder) WithAttrs([]slog.Attr) slog.Handler     { return r }
func (r *recorder) WithGroup(string) slog.Handler          { return r }
func (r *recorder) Handle(_ context.Context, line slog.Record) error {
	if !strings.Contains(line.Message, "holds its loop") {
		return nil
	}
	attrs := make(map[string]slog.Value)
	line.Attrs(func(a slog.Attr) bool {
		attrs[a.Key] = a.Value
		return true
	})
	r.mu.Lock()
	r.lines = append(r.lines, stallLine{line.Message, attrs})
	r.mu.Unlock()
	return nil
}

func (r *recorder) all() []stallLine {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]stallLine(nil), r.lines...)
}

// stallAfter is long enough that a busy machine does not make a stall of a short callback.
const stallAfter = 250 * time.Millisecond

// dawdle holds a loop until its watchdog has said so. It is what a stack must name.
//
//go:noinline
func dawdle(log *recorder) {
	for end := time.Now().Add(kit.Patience); len(log.all()) == 0 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
}

// halfDawdler dawdles in OnHalfClose.
type halfDawdler struct {
	*kit.Session
	log *recorder
}

func (p *halfDawdler) OnHalfClose() {
	dawdle(p.log)
	p.CloseWrite()
}

// markDawdler dawdles when it is told to wait.
type markDawdler struct {
	*kit.Session
	dawdle func()
}

func (p *markDawdler) OnWritable(bool) { p.dawdle() }

// dawdlingFramer does so when it cuts a packet.
type dawdlingFramer struct {
	frame.Framer
	log *atomic.Pointer[recorder] // nil: not yet
}

func (f dawdlingFramer) Split(data []byte) ([]byte, int, error) {
	if log := f.log.Load(); log != nil && len(data) > 0 {
		dawdle(log)
	}
	return f.Framer.Split(data)
}

// A callback that holds its loop is named, whichever it is: with its session, its client, its loop and its stack, once.
func TestStallIsNamed(t *testing.T) {
	kit.NoLeaks(t)
	testStallIsNamed(t)
}

// So it is in a process with so many goroutines that its stack is found another way.
func TestStallIsNamedAmongMany(t *testing.T) {
	testkit.Crowd(t, 1000)
	testStallIsNamed(t)
}

func testStallIsNamed(t *testing.T) {
	var current, framing atomic.Pointer[recorder]
	var once sync.Once
	late := func() { once.Do(func() { dawdle(current.Load()) }) }
	for _, c := range []struct {
		callback string
		hooks    kit.Hooks
		factory  func(s *kit.Server) session.Handler
		opts     []engine.Option
	}{
		{callback: "OnConnected", hooks: kit.Hooks{Connected: func(*kit.Session) { late() }}},
		{callback: "OnRecv", hooks: kit.Hooks{Recv: func(*kit.Session, []byte) { late() }}},
		{callback: "OnSend", hooks: kit.Hooks{Recv: kit.Echo, Sent: func(*kit.Session, int) { late() }}},
		{callback: "OnDisconnected", hooks: kit.Hooks{Disconnected: func(*kit.Session) { late() }}},
		{callback: "Post", hooks: kit.Hooks{Connected: func(p *kit.Session) { _ = p.Post(late) }}},
		{callback: "AfterFunc", hooks: kit.Hooks{Connected: func(p *kit.Session) { p.AfterFunc(0, late) }}},
		{callback: "OnHalfClose", factory: func(s *kit.Server) session.Handler {
			return &halfDawdler{s.NewSession(), current.Load()}
		}},
		{callback: "OnWritable", hooks: kit.Hooks{Connected: func(p *kit.Session) {
			kit.Must(t, p.Send(make([]byte, 256<<10))) // more than the kernel takes
		}}, factory: func(s *kit.Server) session.Handler {
			return &markDawdler{s.NewSession(), late}
		}},
		{callback: "Admit", opts: []engine.Option{engine.Admit(func(netip.AddrPort) error { late(); return nil })}},
		{callback: "Framer.Split", opts: []engine.Option{engine.Framed(dawdlingFramer{frame.Line{Max: 100}, &framing})}},
		{callback: "Factory", factory: func(s *kit.Server) session.Handler {
			late()
			return s.New()
		}},
	} {
		t.Run(c.callback, func(t *testing.T) {
			once = sync.Once{}
			var log recorder
			current.Store(&log)
			o := engine.Options{Loops: 1, SendBuffer: 32 << 10, HighWater: 32 << 10, Logger: slog.New(&log)}
			s := kit.NewServer(t, o, c.hooks)
			s.Wire = len(c.opts) > 0
			make := s.New
			if c.factory != nil {
				make = func() session.Handler { return c.factory(s) }
			}
			l, err := s.Listen("tcp", "127.0.0.1:0", make, c.opts...)
			kit.Must(t, err)
			s.Listener = l
			kit.Must(t, s.Start())
			framing.Store(&log)

			client := s.SmallClient()
			kit.Write(t, client, []byte("x\n"))
			if c.callback == "OnHalfClose" || c.callback == "OnDisconnected" {
				kit.CloseWrite(t, client)
			}
			kit.Eventually(t, "the stall is counted, and over", func() bool {
				st := s.Stats().Total
				return st.Stalls == 1 && st.Stalled >= 50*time.Millisecond
			})
			lines := log.all()
			if len(lines) != 1 {
				t.Fatalf("%d lines, want one: %v", len(lines), lines)
			}
			a := lines[0].attrs
			if got := a["callback"].String(); got != c.callback {
				t.Errorf("it names %s", got)
			}
			if got := a["remote"].String(); got != client.LocalAddr().String() {
				t.Errorf("remote %s, want %s", got, client.LocalAddr())
			}
			if id, ok := a["session"]; c.callback != "Factory" && c.callback != "Admit" && (!ok || id.Uint64() == 0) {
				t.Errorf("session %v", id)
			}
			if d := a["for"].Duration(); d < 100*time.Millisecond || d > 5*time.Second {
				t.Errorf("for %v", d)
			}
			if a["loop"].Int64() != 0 || !strings.Contains(a["stack"].String(), "dawdle") {
				t.Errorf("loop %v, stack:\n%s", a["loop"], a["stack"])
			}
			if !slices.ContainsFunc(s.Timings(), func(timing engine.Timing) bool {
				return timing.Callback == c.callback && timing.Max >= 50*time.Millisecond
			}) {
				t.Errorf("timings: %+v", s.Timings())
			}
		})
	}
}

// Each loop has its own, and who waits behind it is counted.
func TestStallsOfTwoLoops(t *testing.T) {
	kit.NoLeaks(t)
	var log recorder
	gate := make(chan struct{})
	o := engine.Options{Loops: 2, StallWarning: 2 * time.Second, Logger: slog.New(&log)} // time for the clients
	s := kit.Serve(t, "tcp", o, kit.Hooks{Recv: func(_ *kit.Session, data []byte) {
		if data[0] == 'w' {
			<-gate
		}
	}})
	var conns []net.Conn
	for range 6 { // three on each loop
		c, _ := s.Connect()
		conns = append(conns, c)
	}
	for _, c := range conns {
		kit.Write(t, c, []byte("w"))
	}
	kit.Eventually(t, "both are known", func() bool {
		st := s.Stats()
		return st.Loops[0].Stalls == 1 && st.Loops[1].Stalls == 1 && len(log.all()) == 2
	})
	close(gate)
	loops := make(map[int64]bool)
	for _, line := range log.all() {
		loops[line.attrs["loop"].Int64()] = true
		if n := line.attrs["waiting"].Int64(); n != 2 {
			t.Errorf("%d wait behind it, want 2", n)
		}
	}
	if len(loops) != 2 {
		t.Errorf("stalls of loops %v were logged, want both", loops)
	}
}

// Who waits behind a stall is counted, and none the worse for it: the watchdog looks at sockets that are not its own.
func TestStallTellsWhoWaits(t *testing.T) {
	kit.NoLeaks(t)
	var log recorder
	o := engine.Options{Loops: 1, StallWarning: 2 * stallAfter, Logger: slog.New(&log)} // time for the clients
	s := kit.Serve(t, "tcp", o, kit.Hooks{Recv: kit.Echo})
	_, holder := s.Connect()
	s.Connect() // has nothing to do
	talking, _ := s.Connect()
	finishing, finished := s.Connect()
	broken, lost := s.Connect()
	_, posting := s.Connect()

	release := holder.Hold(t)
	kit.Write(t, talking, []byte("x"))
	kit.CloseWrite(t, finishing)
	kit.Reset(t, broken)
	kit.Must(t, posting.Post(func() {}))
	kit.Eventually(t, "the stall is logged", func() bool { return len(log.all()) == 1 })
	release()

	a := log.all()[0].attrs
	if a["waiting"].Int64() != 4 || a["sessions"].Int64() != 6 {
		t.Errorf("%v of %v sessions wait, want 4 of 6", a["waiting"], a["sessions"])
	}
	if got := a["session"].Uint64(); got != holder.ID() {
		t.Errorf("session %d, want %d", got, holder.ID())
	}
	kit.Expect(t, talking, "x")
	kit.Await(t, finished.Ended, "OnDisconnected")
	kit.WantError(t, "after a FIN", finished.Err(), session.ErrPeerClosed)
	kit.Await(t, lost.Ended, "OnDisconnected")
	kit.WantError(t, "after a reset", lost.Err(), session.ErrPeerReset)
}

// A stall that ends together with the engine is timed as well, and the watchdog is silent from then on.
func TestStallAtTheEnd(t *testing.T) {
	kit.NoLeaks(t)
	var log recorder
	s := kit.Serve(t, "tcp", engine.Options{Loops: 1, StallWarning: stallAfter, Logger: slog.New(&log)}, kit.Hooks{})
	_, p := s.Connect()
	release := p.Hold(t)
	kit.Eventually(t, "the stall is counted", func() bool { return s.Stats().Total.Stalls == 1 })
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = s.Close()
	}()
	kit.Eventually(t, "the engine ends", func() bool { return s.Err() != nil })
	release()
	kit.Await(t, s.Done(), "Done")
	kit.Await(t, closed, "Close returns")
	if st := s.Stats().Total; st.Stalls != 1 || st.Stalled < stallAfter || len(log.all()) != 1 {
		t.Errorf("%d stalls of %v, %d lines, want one of %v or more", st.Stalls, st.Stalled, len(log.all()), stallAfter)
	}
}

// A loop whose goroutine was taken down has another one, and its stack is found.
func TestStallAfterGoexit(t *testing.T) {
	kit.NoLeaks(t)
	var log recorder
	s := kit.Serve(t, "tcp", engine.Options{Loops: 1, StallWarning: stallAfter, Logger: slog.New(&log)},
		kit.Hooks{Recv: func(*kit.Session, []byte) { runtime.Goexit() }})
	c, lost := s.Connect()
	kit.Write(t, c, []byte("x"))
	kit.Await(t, lost.Ended, "OnDisconnected")
	_, p := s.Connect()
	kit.Must(t, p.Post(func() { dawdle(&log) }))
	kit.Eventually(t, "the stall is over", func() bool { return s.Stats().Total.Stalled > 0 })
	if lines := log.all(); len(lines) != 1 || !strings.Contains(lines[0].attrs["stack"].String(), "dawdle") {
		t.Errorf("want one line with the stack of dawdle: %v", lines)
	}
}

// The watchdog of an engine where nothing happens rests. It finds a stall all the same, as early as any other, and sessions know when they were active.
func TestStallAfterARest(t *testing.T) {
	kit.NoLeaks(t)
	for _, warning := range []time.Duration{stallAfter, 600 * time.Millisecond} {
		var log recorder
		s := kit.Serve(t, "tcp", engine.Options{Loops: 2, StallWarning: warning, Logger: slog.New(&log)}, kit.Hooks{Recv: func(p *kit.Session, data []byte) {
			if data[0] == 'w' {
				dawdle(&log)
			}
			kit.Echo(p, data)
		}})
		c, p := s.Connect()
		for range 2 {
			kit.Exchange(t, c, "x")
			time.Sleep(4 * warning)            // ten rounds of a quarter each at the most, and some more
			steady.Run(t, func(t testing.TB) { // the clock of a process that does not run is late
				before := time.Now()
				kit.Exchange(t, c, "x")
				for info := range s.SessionStats() {
					if info.ID == p.ID() && info.Active.Before(before.Add(-100*time.Millisecond)) { // a step is 67 ms
						t.Errorf("warning %v: active at %v by an echo at %v or later", warning, info.Active, before)
					}
				}
			})
		}
		time.Sleep(4 * warning)
		kit.Exchange(t, c, "w")
		lines := log.all()
		if len(lines) != 1 {
			t.Fatalf("warning %v: %d lines, want 1", warning, len(lines))
		}
		if took := lines[0].attrs["for"].Duration(); took < warning || took > warning+kit.Patience/10 {
			t.Errorf("warning %v: found after %v", warning, took)
		}
		if n := s.Stats().Total.Stalls; n != 1 {
			t.Errorf("warning %v: %d stalls, want 1", warning, n)
		}
	}
}

// A loop that is busy with many short callbacks is not stalled; nor is a worker that waits.
func TestNoStall(t *testing.T) {
	kit.NoLeaks(t)
	var log recorder
	o := engine.Options{Loops: 1, StallWarning: 50 * time.Millisecond, Logger: slog.New(&log)}
	const stallFor = 300 * time.Millisecond
	s := kit.Prepare(t, "tcp", "127.0.0.1:0", o, kit.Hooks{Recv: func(p *kit.Session, data []byte) {
		if data[0] == 'w' {
			time.Sleep(stallFor)
		}
	}}, engine.Offload(1))
	kit.Must(t, s.Start())
	c, p := s.Connect()
	kit.Write(t, c, []byte("w"))
	kit.Eventually(t, "it has waited", func() bool { return p.Got.Load() == 1 && s.Stats().Working == 0 })

	busy := kit.Serve(t, "tcp", o, kit.Hooks{})
	_, p = busy.Connect()
	end := time.Now().Add(stallFor)
	done := make(chan struct{})
	var again func()
	again = func() {
		if time.Now().After(end) {
			close(done)
			return
		}
		kit.Must(t, p.Post(again))
	}
	kit.Must(t, p.Post(again))
	kit.Await(t, done, "the posts")
	if n := s.Stats().Total.Stalls + busy.Stats().Total.Stalls; n != 0 {
		t.Errorf("%d stalls: %v", n, log.all())
	}
}

// With the watchdog off nothing is timed, on workers neither.
func TestStallWarningOff(t *testing.T) {
	kit.NoLeaks(t)
	for _, opts := range [][]engine.Option{nil, {engine.Offload(1)}} {
		s := kit.Serve(t, "tcp", engine.Options{Loops: 1, StallWarning: -1}, kit.Hooks{Recv: kit.Echo}, opts...)
		c, _ := s.Connect()
		for range 16 { // one of them would be timed
			kit.Exchange(t, c, "x")
		}
		if list := s.Timings(); len(list) != 0 {
			t.Errorf("timings: %v", list)
		}
	}
}
