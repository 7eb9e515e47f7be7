package engine_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/internal/steady"
	"github.com/servercore-go/servercore/session"
)

// told is what a Trace was told.
type told struct {
	mu     sync.Mutex
	lines  []string
	closed []engine.ClosedSession
	stalls []engine.TraceStall
	fails  bool // each function panics when it has noted its line
}

func (r *told) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
	if r.fails {
		panic("by a test")
	}
}

// all returns the lines so far that begin with one of these words.
func (r *told) all(words ...string) (lines []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.lines {
		if word, _, _ := strings.Cut(line, " "); len(words) == 0 || slices.Contains(words, word) {
			lines = append(lines, line)
		}
	}
	return lines
}

func (r *told) trace() *engine.Trace {
	return &engine.Trace{
		Accept: func(a engine.TraceAccept) { r.note("accept %s %v %v", a.Listener, a.Local, a.Remote) },
		Refuse: func(f engine.TraceRefuse) { r.note("refuse %s %v %s %v", f.Listener, f.Remote, f.Cause, f.Err) },
		Open: func(o engine.TraceOpen) {
			r.note("open %s %d %v", o.Listener, o.Session.ID(), o.Handler.(*kit.Session).Stage.Load() == kit.Fresh)
		},
		Close: func(c engine.ClosedSession) {
			r.mu.Lock()
			r.closed = append(r.closed, c)
			r.mu.Unlock()
			r.note("close %s %d %s", c.Listener, c.ID, c.Cause)
		},
		Stall: func(s engine.TraceStall) {
			r.mu.Lock()
			r.stalls = append(r.stalls, s)
			r.mu.Unlock()
			r.note("stall %d %s", s.Loop, s.Callback)
		},
	}
}

// A Trace is told of each connection in order: accepted, opened before OnConnected, closed after OnDisconnected; or refused. A panic in each of
// its functions changes nothing.
func TestTraceIsTold(t *testing.T) {
	for _, fails := range []bool{false, true} {
		t.Run(fmt.Sprintf("fails=%v", fails), func(t *testing.T) {
			kit.OnLoops(t, func(t *testing.T, loops int) {
				r := &told{fails: fails}
				s := kit.Serve(t, "tcp", engine.Options{Loops: loops, Trace: r.trace()}, kit.Hooks{Recv: kit.Echo}, engine.Guard(engine.Rules{MaxPerAddress: 1}))
				name := s.Stats().Listeners[0].Listener
				c, p := s.Connect()
				kit.Exchange(t, c, "hello")
				second := s.Client()
				if _, err := second.Read(make([]byte, 1)); err == nil {
					t.Error("the second connection is not refused")
				}
				kit.Eventually(t, "the refusal is told", func() bool { return len(r.all("refuse")) == 1 })
				stage := p.Stage.Load()
				kit.Must(t, c.Close())
				kit.Eventually(t, "the end is told", func() bool { return len(r.all("close")) == 1 })
				local, remote := c.LocalAddr(), second.LocalAddr()
				want := []string{
					fmt.Sprintf("accept %s %v %v", name, s.Listener.Addr(), local),
					fmt.Sprintf("open %s %d true", name, p.ID()),
					fmt.Sprintf("accept %s %v %v", name, s.Listener.Addr(), remote),
					fmt.Sprintf("refuse %s %v per_address <nil>", name, remote),
					fmt.Sprintf("close %s %d peer_closed", name, p.ID()),
				}
				if got := r.all(); !slices.Equal(got, want) || stage != kit.Open || p.Stage.Load() != kit.Gone {
					t.Errorf("told %q\nwant %q", got, want)
				}
				r.mu.Lock()
				heard := r.closed[0]
				r.mu.Unlock()
				if known := closedOf(t, s.Engine, p); known.BytesOut != 5 || known.ID != heard.ID || known.BytesOut != heard.BytesOut || known.Reason != heard.Reason {
					t.Errorf("Close was told %+v, Closed has %+v", heard, known)
				}
				third, _ := s.Connect() // all goes on
				kit.Exchange(t, third, "hello")
			})
		})
	}
}

// The functions of a Trace may ask the engine what it has while it accepts and refuses.
func TestTraceMayLook(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		var e *engine.Engine
		looks := make(chan string, 8)
		look := func(what string) {
			n := e.Stats().Sessions
			for s := range e.SessionStats() {
				if _, open := e.Session(s.ID); !open {
					what += ", one of which is not found"
				}
			}
			for range e.Closed() {
				what += ", one has ended"
			}
			looks <- fmt.Sprintf("%s with %d sessions", what, n)
		}
		s := kit.Prepare(t, "tcp", kit.FreeAddress(t, "tcp"), engine.Options{Loops: loops, MaxSessions: 1, Trace: &engine.Trace{
			Accept: func(engine.TraceAccept) { look("accept") },
			Refuse: func(r engine.TraceRefuse) { look(r.Cause) },
		}}, kit.Hooks{Recv: kit.Echo})
		e = s.Engine
		kit.Must(t, s.Start())
		c, _ := s.Connect()
		kit.Exchange(t, c, "hello")
		if _, err := s.Client().Read(make([]byte, 1)); err == nil {
			t.Error("the second connection is not refused")
		}
		for _, want := range []string{"accept with 0 sessions", "accept with 1 sessions", "full with 1 sessions"} {
			if got := <-looks; got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
	})
}

// A Trace is told of what is dialled: opened and closed, without a listener; and of a Dial that is refused.
func TestTraceOfADial(t *testing.T) {
	kit.NoLeaks(t)
	r := &told{}
	s := kit.Dialler(t, engine.Options{Loops: 1, MaxSessions: 1, Trace: r.trace()}, kit.Hooks{})
	sink := kit.Listen(t, "tcp")
	p := s.DialTo(sink.Addr())
	if _, err := s.Dial(t.Context(), "tcp", sink.Addr().String(), s.New); err == nil {
		t.Error("a second session is dialled")
	}
	p.Abort()
	kit.Eventually(t, "the end is told", func() bool { return len(r.all("close")) == 1 })
	want := []string{fmt.Sprintf("open  %d true", p.ID()), "refuse  <nil> full " + engine.ErrFull.Error(), fmt.Sprintf("close  %d aborted", p.ID())}
	if got := r.all(); !slices.Equal(got, want) {
		t.Errorf("told %q\nwant %q", got, want)
	}
}

// A Trace is told of a stall, once, while it lasts. Without KeepClosed it is told of the end as well.
func TestTraceOfAStall(t *testing.T) {
	kit.NoLeaks(t)
	r := &told{}
	s := kit.Serve(t, "tcp", engine.Options{Loops: 1, KeepClosed: -1, StallWarning: 20 * time.Millisecond, Trace: r.trace()}, kit.Hooks{})
	_, p := s.Connect()
	release := p.Hold(t)
	kit.Eventually(t, "the stall is told", func() bool { return len(r.all("stall")) > 0 })
	release()
	p.Abort()
	kit.Eventually(t, "the end is told", func() bool { return len(r.all("close")) == 1 })
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.stalls, func(s engine.TraceStall) bool { return s.Callback == "Post" })
	if i < 0 || r.stalls[i].Loop != 0 || r.stalls[i].Session != &p.Session || r.stalls[i].For < 20*time.Millisecond {
		t.Errorf("stalls: %+v", r.stalls)
	}
	for range s.Closed() {
		t.Error("a session is kept")
	}
}

// The lag of a loop that stands shows at once as how long it has not looked, and afterwards in its histogram, once for each question in vain. Other
// loops have none. It is measured with StallWarning off too.
func TestLagOfALoop(t *testing.T) {
	kit.NoLeaks(t)
	for _, warning := range []time.Duration{-1, 0} {
		steady.Run(t, func(t testing.TB) {
			s := kit.Serve(t, "tcp", engine.Options{Loops: 2, StallWarning: warning}, kit.Hooks{Recv: kit.Echo})
			c, p := s.Connect()
			st, _ := statsOf(s.Engine, p)
			release := p.Hold(t)
			kit.Eventually(t, "the loop does not look", func() bool { return s.Stats().Loops[st.Loop].Unresponsive > 350*time.Millisecond })
			if all := s.Stats().Loops; all[1-st.Loop].Unresponsive >= all[st.Loop].Unresponsive {
				t.Errorf("the loops have not looked for %v and %v; one is held", all[0].Unresponsive, all[1].Unresponsive)
			}
			release()
			kit.Exchange(t, c, "hello")
			late := func() (n uint64) { // than the greatest bound below 100 ms
				h := s.Stats().Loops[st.Loop].Lag
				for i, bound := range engine.HistogramBounds() {
					if bound >= 100*time.Millisecond {
						n += h.Buckets[i+1]
					}
				}
				return n
			}
			least, sum := uint64(2), 500*time.Millisecond
			if warning < 0 { // a loop is asked once a second
				least, sum = 1, 350*time.Millisecond
			}
			kit.Eventually(t, "the lag is counted", func() bool { return late() >= least })
			if h := s.Stats().Loops[st.Loop].Lag; h.Sum < sum || h.Count() < late() {
				t.Errorf("the lags: %+v", h)
			}
		})
	}
}

// Callbacks and queue delays are in buckets.
func TestTimesAreInBuckets(t *testing.T) {
	kit.NoLeaks(t)
	s := kit.Serve(t, "tcp", engine.Options{Loops: 1}, kit.Hooks{Recv: kit.Echo})
	c, _ := s.Connect()
	for range 600 {
		kit.Exchange(t, c, "hello")
	}
	st := s.Stats()
	if n := st.QueueDelay.Count(); n < 2 || n > 3 || st.QueueDelay.Sum <= 0 {
		t.Errorf("%d of 600 answers were timed, %v in all, want 2 or 3", n, st.QueueDelay.Sum)
	}
	i := slices.IndexFunc(st.Callbacks, func(c engine.CallbackStats) bool { return c.Callback == session.CallRecv.String() })
	if i < 0 {
		t.Fatalf("callbacks: %+v", st.Callbacks)
	}
	for _, timing := range s.Timings() {
		if timing.Callback == "OnRecv" && (st.Callbacks[i].Times.Count() != timing.Timed || st.Callbacks[i].Times.Sum < timing.Max) {
			t.Errorf("%+v, and in buckets %+v", timing, st.Callbacks[i])
		}
	}
}
