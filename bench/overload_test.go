package bench

import (
	"bytes"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/steady"
)

// Above its capacity a server is reported with what it did, not with what it was asked for.
func TestOverload(t *testing.T) {
	const capacity, asked, conns = 200, 400, 4
	for _, tt := range []struct {
		name   string
		warmup time.Duration
		change func(*Plan)
	}{
		{"rate", -1, func(p *Plan) {}},
		{"rate after a warm-up", 500 * time.Millisecond, func(p *Plan) {}},
		{"rate, deep", 200 * time.Millisecond, func(p *Plan) { p.Depth = 1000 }},
		{"rate, poisson", -1, func(p *Plan) { p.Arrival = Poisson }},
		{"idle", 200 * time.Millisecond, func(p *Plan) { p.Mode, p.Active = Idle, conns }},
		{"ramp", -1, func(p *Plan) { p.Mode, p.ConnectRate, p.Every = Ramp, 1000, 10*time.Millisecond }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // they wait most of the time
			steady.Run(t, func(t testing.TB) {
				addr, l := scripted(t, 64, perSecondAtMost(capacity))
				p := short(Rate, addr)
				p.Rate, p.Conns, p.Duration, p.Warmup, p.Timeout = asked, conns, time.Second, tt.warmup, 20*time.Second
				tt.change(&p)
				r := carryOut(t, p)
				wantErrors(t, r, nil)
				wantSums(t, r)
				s, depth := &r.Totals, max(p.Depth, 1)
				if s.Messages > capacity+2 || s.Messages == 0 {
					t.Errorf("%d messages in %v s, the server can do %d/s", s.Messages, s.MeasuredS, capacity)
				}
				if !s.FellBehind || math.Abs(s.AskedPerS-asked) > asked/20 || math.Abs(float64(s.Planned)-asked) > asked/5 {
					t.Errorf("fell behind: %v, asked %v/s, planned %d", s.FellBehind, s.AskedPerS, s.Planned)
				}
				if p.Arrival != Poisson && p.Mode == Rate && math.Abs(float64(s.Planned)-asked) > 2 {
					t.Errorf("%d planned, want %d", s.Planned, asked)
				}
				if sent := s.SentPerS * s.MeasuredS; sent < float64(s.Messages)-float64(conns*depth)-0.5 || depth == 1 && sent > float64(s.Messages+conns)+0.5 {
					t.Errorf("%v sent in the measured part, %d answered, %d can be under way", sent, s.Messages, conns*depth)
				}
				if depth > asked && s.SentPerS < asked*0.8 {
					t.Errorf("%v/s sent, want %d/s: nothing has to wait", s.SentPerS, asked)
				}
				if s.Sent != l.messages.Load() || s.Unanswered != 0 {
					t.Errorf("%d sent, the server got %d; %d unanswered", s.Sent, l.messages.Load(), s.Unanswered)
				}
				if n := r.Find("reply").Count; n != s.Planned || tt.warmup < 0 && s.Messages+s.AfterEnd != n || s.AfterEnd == 0 || s.Messages+s.AfterEnd < n {
					t.Errorf("%d planned, %d replies have a time, %d came in the measured part, %d after it", s.Planned, n, s.Messages, s.AfterEnd)
				}
				for _, point := range r.Series {
					if most := capacity*point.Length + 3; point.Messages*point.Length > most {
						t.Errorf("%v messages in the interval at %v s, at most %v are possible", point.Messages*point.Length, point.At, most)
					}
				}
				if p.Mode == Rate {
					wantSlow(t, r)
				}
				wantSaysBehind(t, r)
			})
		})
	}
}

// wantSlow wants latency from the planned time to have the whole delay: it does not end with the measured part.
func wantSlow(t testing.TB, r *Result) {
	t.Helper()
	if d := r.Main(); d.Name != "planned" || d.Count != r.Totals.Planned || d.Max < 800e3 || d.P50 < 200e3 {
		t.Errorf("%s: %+v", d.Name, d.Summary)
	}
}

// wantSaysBehind wants every form of the result to say that the server did not keep up.
func wantSaysBehind(t testing.TB, r *Result) {
	t.Helper()
	const said = "the server did not keep up"
	if len(r.Warnings) == 0 || !strings.HasPrefix(r.Warnings[0], said) {
		t.Errorf("warnings %q", r.Warnings)
	}
	if table := tableOf(t, r); !strings.HasPrefix(table, "BEHIND   "+said) || !strings.Contains(table, "\nasked  ") || !strings.Contains(table, "WARNING  "+said) {
		t.Error(table)
	}
	if text, _ := readPage(t, pageOf(t, r.WriteHTML)); strings.Count(text, "he server did not keep up") != 1 || strings.Contains(text, "No errors ") {
		t.Errorf("the page says it %d times", strings.Count(text, "he server did not keep up"))
	}
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil || !bytes.Contains(b.Bytes(), []byte(`"fell_behind": true`)) {
		t.Errorf("JSON: %v", err)
	}
	two := []Compared{{"quiet", made()}, {"late", r}}
	b.Reset()
	if err := WriteComparison(&b, two); err != nil || !strings.Contains(b.String(), "WARNING  late: "+said) || !strings.Contains(b.String(), "\nasked/s") {
		t.Errorf("comparison: %v\n%s", err, &b)
	}
	b.Reset()
	if err := WriteSummary(&b, two); err != nil || !strings.Contains(b.String(), "WARNING  late: "+said) {
		t.Errorf("summary: %v\n%s", err, &b)
	}
	for name, write := range map[string]func(io.Writer) error{
		"tour":       func(w io.Writer) error { return WriteTour(w, "A tour", two) },
		"comparison": func(w io.Writer) error { return WriteComparisonHTML(w, two) },
	} {
		if text, _ := readPage(t, pageOf(t, write)); !strings.Contains(text, "late: Did not keep up") {
			t.Errorf("the page of a %s does not say it", name)
		}
	}
}

// A server that does what it is asked for is not said to fall behind.
func TestKeepsUp(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Plan)
	}{
		{"rate", func(p *Plan) {}},
		{"idle", func(p *Plan) { p.Mode, p.Active = Idle, 2 }},
		{"ramp", func(p *Plan) { p.Mode, p.ConnectRate, p.Every = Ramp, 100, 50*time.Millisecond }},
		{"echo", func(p *Plan) { p.Mode = Echo }},
		{"churn", func(p *Plan) { p.Mode = Churn }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // it waits most of the time
			addr, l := scripted(t, 64, taking(time.Millisecond))
			p := short(Rate, addr)
			p.Rate, p.Duration = 100, 800*time.Millisecond
			tt.change(&p)
			r := carryOut(t, p)
			wantErrors(t, r, nil)
			wantSums(t, r)
			s := &r.Totals
			if s.Sent != l.messages.Load() || s.ConnsOpened != l.conns.Load() {
				t.Errorf("%s: %d messages sent, %d connections opened; the server saw %d and %d", tt.name, s.Sent, s.ConnsOpened, l.messages.Load(), l.conns.Load())
			}
			if open := tt.name != "echo" && tt.name != "churn"; open != (s.AskedPerS > 0) || open != (s.Planned > 0) || !open && s.FellBehind {
				t.Errorf("%s: %+v", tt.name, *s)
			}
			if table := tableOf(t, r); !s.FellBehind && !strings.HasPrefix(table, "OK ") {
				t.Error(table)
			}
		})
	}
}

// What a server that is not behind leaves for after the end is no reason to say that it is.
func TestBehind(t *testing.T) {
	chunkOf := func(planned, messages, spoiled uint64, reply time.Duration) *chunk {
		c := &chunk{planned: planned, messages: messages, spoiled: spoiled}
		if reply > 0 {
			c.times[replyTime] = newHistogram()
			c.times[replyTime].record(int64(reply))
		}
		return c
	}
	for _, tt := range []struct {
		name    string
		c       *chunk
		seconds float64
		want    bool
	}{
		{"a closed loop plans nothing", chunkOf(0, 1000, 0, time.Millisecond), 1, false},
		{"all answered", chunkOf(1000, 1000, 0, time.Millisecond), 1, false},
		{"more than planned: the warm-up's", chunkOf(1000, 1100, 0, time.Millisecond), 1, false},
		{"half", chunkOf(1000, 500, 0, time.Millisecond), 1, true},
		{"nothing", chunkOf(1000, 0, 0, 0), 1, true},
		{"a tenth missing in ten seconds", chunkOf(10000, 9000, 0, time.Millisecond), 10, true},
		{"4 % missing in ten seconds", chunkOf(10000, 9600, 0, time.Millisecond), 10, true},
		{"2 % missing in ten seconds", chunkOf(10000, 9800, 0, time.Millisecond), 10, false},
		{"4 % missing, but a reply takes 200 ms", chunkOf(10000, 9600, 0, 200*time.Millisecond), 10, false},
		{"a tenth missing, replies take long for that reason", chunkOf(10000, 9000, 0, 5*time.Second), 10, true},
		{"two of three, the last moment", chunkOf(3, 1, 0, time.Millisecond), 10, false},
		{"wrong replies are replies", chunkOf(1000, 0, 1000, 0), 1, false},
		{"nothing was measured", chunkOf(10, 0, 0, 0), 0, false},
	} {
		if got := tt.c.behind(tt.seconds); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

// A search finds no more than a server can do.
func TestSearchFindsTheCapacity(t *testing.T) {
	for _, tt := range []struct {
		name     string
		conns    int
		work     func() bool
		capacity float64
	}{
		{"one at a time", 4, perSecondAtMost(200), 200},
		{"10 ms each, on 16 connections", 16, taking(10 * time.Millisecond), 1600},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // it waits most of the time
			steady.Run(t, func(t testing.TB) {
				addr, _ := scripted(t, 64, tt.work)
				r := carryOut(t, Plan{Mode: Search, Addr: addr, Conns: tt.conns, Rate: tt.capacity / 3, P99: 10 * time.Second,
					Step: 500 * time.Millisecond, Warmup: 100 * time.Millisecond, Duration: 6 * time.Second, Timeout: 10 * time.Second})
				wantErrors(t, r, nil)
				if best := r.bestStep(); best > tt.capacity*1.02 || best == 0 {
					t.Errorf("%s: %v/s found, it can do %v/s; steps %+v", tt.name, best, tt.capacity, r.Steps)
				}
				failed := false
				for _, s := range r.Steps {
					if s.AchievedPerS > tt.capacity*1.05 || s.Passed && s.RatePerS > tt.capacity*1.3 {
						t.Errorf("%s: step %+v", tt.name, s)
					}
					failed = failed || s.Why == "the server did not keep up"
				}
				if !failed || r.Totals.MessagesPerS > tt.capacity*1.05 {
					t.Errorf("%s: %+v, steps %+v", tt.name, r.Totals, r.Steps)
				}
			})
		})
	}
}
