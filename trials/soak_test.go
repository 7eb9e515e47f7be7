//go:build linux

package trials

import (
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var (
	soakFor     = flag.Duration("soak", 0, "how long T41 lasts; without it T41 is not run")
	soakSamples = flag.String("samples", "", "the CSV file that T41 writes its samples to")
)

func init() {
	plans["T41"] = func() plan {
		p := plans["T11"]()
		p.thrift = false
		return p
	}
}

// soak is a run of T41. Its parts are goroutines that act as clients. One goroutine asks the server, takes the samples, and judges the
// clients that have ended, so that this process does not grow with time either.
type soak struct {
	o     *oracle
	stop  chan struct{}
	parts sync.WaitGroup

	mu   sync.Mutex
	done []retired // and not judged yet

	rounds                           sync.Map // by part: *atomic.Int64
	sessions, judged, wrong, flooded int
	tail                             []time.Duration // of the bystanders, each the p99 of one interval
	errors                           []string
	samples                          []sample
}

// retired is a client that has ended, and the expected reason of its session's end.
type retired struct {
	*client
	cause string
	at    time.Time
}

// sample is the state of the server process at one time.
type sample struct {
	at                                         time.Duration
	resident, descriptors, goroutines, buffers float64
	live, sessions                             int
	processor                                  time.Duration
	calm                                       time.Duration // p99 of the bystanders since the sample before
}

// T41: hours of resets, peers that read nothing or with pauses, streams byte by byte, and connection floods, all at once, each at a tenth
// of T2, T11, T13, T18 and T29. Nothing grows.
//
// Fails if anything of a session is kept: have finish in session/finish.go start a goroutine that waits for ever, every hundredth time.
func TestT41Soak(t *testing.T) {
	if *soakFor <= 0 {
		skip(t, "T41", "only by make soak, it takes as long as one likes")
	}
	s := &soak{o: begin(t, "T41", how{}), stop: make(chan struct{})}
	s.part("resets", time.Second, s.resets)
	s.part("zero windows", 8*time.Second, s.zeroWindows)
	s.part("pausing reader", 0, s.pausingReader(start(t, "reader")))
	s.part("byte by byte", 2*time.Second, s.bytes)
	s.part("flood", 50*time.Millisecond, s.flood)
	began := time.Now()
	every := max(time.Second, *soakFor/1000)
	for next, minute := began.Add(every), began; next.Before(began.Add(*soakFor)); next = next.Add(every) {
		time.Sleep(time.Until(next))
		s.sample(time.Since(began))
		if now := s.samples[len(s.samples)-1]; time.Since(minute) >= time.Minute {
			minute = time.Now()
			t.Logf("%v of %v: %d sessions, RSS %s, %.0f descriptors, %.0f goroutines, %.0f buffers, bystanders' p99 %v", now.at.Round(time.Second), *soakFor,
				now.sessions, size(int(now.resident)), now.descriptors, now.goroutines, now.buffers, round(now.calm))
		}
	}
	close(s.stop)
	s.parts.Wait()
	s.o.settledAt(0, patience)
	s.judgeRetired()
	must(t, s.write(*soakSamples))
	s.judge()
	s.o.finish()
}

// part calls round repeatedly, at most once per interval, until the soak is over.
func (s *soak) part(name string, every time.Duration, round func()) {
	count := new(atomic.Int64)
	s.rounds.Store(name, count)
	s.parts.Go(func() {
		for {
			next := time.Now().Add(every)
			round()
			count.Add(1)
			select {
			case <-s.stop:
				return
			case <-time.After(max(time.Until(next), time.Millisecond)): // not at once: it would be a coin that is tossed
			}
		}
	})
}

// connect makes a client that is judged when it retires, not at the end of the trial.
func (s *soak) connect(receive int) *client {
	s.o.t.Helper()
	c, err := s.o.dial(dialer(receive))
	must(s.o.t, err)
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

func (s *soak) retire(c *client, cause string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = append(s.done, retired{c, cause, time.Now()})
}

// resets is the part of T2.
func (s *soak) resets() {
	for _, state := range []string{"idle", "half a record", "8 MiB queued"} {
		for range 5 {
			c := s.connect(0)
			if err := c.echo(64); err != nil {
				s.o.t.Error(err)
			}
			switch state {
			case "half a record":
				_, _ = c.Write(c.out.add(nil, make([]byte, 100))[:60])
			case "8 MiB queued":
				_ = c.ask(request(verbGive, 8<<20))
				_ = c.take(make([]byte, 1024), nil, func() bool { return c.in.bytes > 1000 }) // it has begun
			}
			c.reset()
			s.retire(c, "reset")
		}
	}
}

// zeroWindows is the part of T11, with ten peers at a time.
func (s *soak) zeroWindows() {
	each(10, 10, func(int) {
		c := s.connect(4 << 10)
		_ = c.ask(request(verbPush, 640<<10))
		time.Sleep(5 * time.Second) // 1 MiB has been queued by then, and the session has ended
		if err := c.takeAll(); !errors.Is(err, syscall.ECONNRESET) {
			s.o.t.Errorf("a peer with a window of zero: %v", err)
		}
		_ = c.Close()
		s.retire(c, "send limit")
	})
}

// pausingReader is the part of T13, at a tenth of its rate.
func (s *soak) pausingReader(p *process) func() {
	return func() {
		const rounds = 5
		const total = 2 * rounds * 1_000_000
		if _, err := fmt.Fprintf(p.stdin, "read %s %d %d\n", s.o.at.Records, total, 2*rounds); err != nil {
			s.o.t.Error(err)
			return
		}
		heard[string](p, "connect")
		for range rounds {
			p.signal(syscall.SIGSTOP)
			time.Sleep(time.Second)
			p.signal(syscall.SIGCONT)
			time.Sleep(time.Second)
		}
		if r := heard[readAt](p, "read"); r.Err != "<nil>" || r.Bytes != total {
			s.o.t.Errorf("the pausing reader: %d of %d bytes, %s", r.Bytes, total, r.Err)
		}
	}
}

// bytes is the part of T18.
func (s *soak) bytes() {
	each(10, 10, func(int) {
		c := s.connect(0)
		payload := append([]byte{verbEcho}, make([]byte, 1<<10-headerSize-1)...)
		for _, b := range c.out.add(nil, payload) {
			_, _ = c.Write([]byte{b})
		}
		_ = c.CloseWrite()
		if err := c.takeAll(); err != nil || c.in.bytes != c.sent {
			s.o.t.Errorf("byte by byte: %d of %d came back, %v", c.in.bytes, c.sent, err)
		}
		_ = c.Close()
		s.retire(c, "peer closed")
	})
}

// flood is the part of T29: 400 connections per second that are opened and closed.
func (s *soak) flood() {
	for i := range 20 {
		c, err := net.DialTimeout("tcp", s.o.at.Records, patience)
		if err != nil {
			s.o.t.Error(err)
			return
		}
		if i%2 == 0 {
			_ = c.(*net.TCPConn).SetLinger(0)
		}
		_ = c.Close()
	}
}

// sample asks the server for its state.
func (s *soak) sample(at time.Duration) {
	o := s.o
	r := o.report()
	s.flooded += len(o.silent)
	o.silent = o.silent[:0]
	c := ask[calm](o.crowd, "look")
	s.errors = append(s.errors, c.Errors...)
	if c.Answers > 0 {
		s.tail = append(s.tail, c.P99)
	}
	s.sessions = r.Connected
	s.samples = append(s.samples, sample{at: at, resident: float64(o.server.memory("VmRSS")), descriptors: float64(o.server.descriptors()),
		goroutines: float64(r.Goroutines), buffers: float64(r.Buffers), live: r.Live, sessions: r.Connected, processor: time.Duration(r.CPU), calm: c.P99})
	s.judgeRetired()
}

// judgeRetired judges the clients whose sessions have ended, and forgets them.
func (s *soak) judgeRetired() {
	o := s.o
	s.mu.Lock()
	done := s.done
	s.done = nil
	s.mu.Unlock()
	var waiting []retired
	for _, c := range done {
		l, ended := o.lives[c.out.id]
		switch {
		case !ended && time.Since(c.at) < patience:
			waiting = append(waiting, c)
			continue
		case !because(l, c.cause):
			if s.wrong++; s.wrong <= 10 {
				o.t.Errorf("connection %x has ended for %q, want %s", c.out.id, l.Err, c.cause)
			}
		}
		o.judgeStream(c.client, l)
		s.judged++
		delete(o.lives, c.out.id)
	}
	s.mu.Lock()
	s.done = append(s.done, waiting...)
	s.mu.Unlock()
}

// judge judges the slopes after the first fifth of the time, when the heap has its size.
func (s *soak) judge() {
	o := s.o
	rounds := ""
	for _, part := range []string{"resets", "zero windows", "pausing reader", "byte by byte", "flood"} {
		n, _ := s.rounds.Load(part)
		rounds += fmt.Sprintf(", %s %d times", part, n.(*atomic.Int64).Load())
	}
	last := s.samples[len(s.samples)-1]
	o.check("the mix has run, every end for its reason", s.wrong == 0 && len(s.done) == 0 && s.flooded > 0, "%d sessions in %v, %d of them judged by their records%s; CPU %.1f %%",
		s.sessions, last.at.Round(time.Second), s.judged, rounds, 100*float64(last.processor)/float64(last.at))
	for _, m := range []struct {
		name    string
		of      func(sample) float64
		unit    float64
		in      string
		allowed float64
	}{
		{"RSS", func(x sample) float64 { return x.resident }, 1 << 20, " MiB", 4},
		{"descriptors", func(x sample) float64 { return x.descriptors }, 1, "", 5},
		{"goroutines", func(x sample) float64 { return x.goroutines }, 1, "", 5},
		{"live buffers", func(x sample) float64 { return x.buffers }, 1, "", 10},
	} {
		bins, span := binned(s.samples[len(s.samples)/5:], m.of)
		slope := theilSen(bins) * float64(len(bins)-1) / m.unit // over the time that is looked at
		o.check(fmt.Sprintf("%s grow by less than %.0f%s", m.name, m.allowed, m.in), slope < m.allowed, "%+.2f%s in %v (%+.2f an hour), from %.1f to %.1f, at most %.1f",
			slope, m.in, span.Round(time.Second), slope*float64(time.Hour)/float64(span), bins[0]/m.unit, bins[len(bins)-1]/m.unit, most(s.samples, m.of)/m.unit)
	}
	slices.Sort(s.tail)
	bound := max(20*time.Millisecond, 5*o.before.P99)
	half := percentile(s.tail, 50)
	o.check("bystanders: no error, p99 <= max(20 ms, 5 x before)", len(s.errors) == 0 && half <= bound, "%d errors; p99 of an interval: median %v, p99 %v, at most %v; before %v", len(s.errors), round(half),
		round(percentile(s.tail, 99)), round(percentile(s.tail, 100)), round(o.before.P99))
}

// binned returns the medians of 40 equal parts of the samples, or of fewer parts if there are few samples, and the time from the middle
// of the first part to that of the last.
func binned(samples []sample, of func(sample) float64) (bins []float64, span time.Duration) {
	n := min(40, len(samples))
	var first, last sample
	for i := range n {
		part := samples[i*len(samples)/n : (i+1)*len(samples)/n]
		values := make([]float64, len(part))
		for k, x := range part {
			values[k] = of(x)
		}
		slices.Sort(values)
		bins = append(bins, values[len(values)/2])
		if last = part[len(part)/2]; i == 0 {
			first = last
		}
	}
	return bins, last.at - first.at
}

// theilSen is the median of the slopes between any two values: a few that are far off do not move it (Sen, Estimates of the regression
// coefficient based on Kendall's tau, 1968).
func theilSen(values []float64) float64 {
	var slopes []float64
	for i := range values {
		for k := range i {
			slopes = append(slopes, (values[i]-values[k])/float64(i-k))
		}
	}
	if len(slopes) == 0 {
		return 0
	}
	slices.Sort(slopes)
	return slopes[len(slopes)/2]
}

func most(samples []sample, of func(sample) float64) (most float64) {
	for _, x := range samples {
		most = max(most, of(x))
	}
	return most
}

// write writes the samples to a file, for the plot and for a closer look.
func (s *soak) write(path string) error {
	if path == "" {
		return nil
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(writeSamples(f, s.samples), f.Close())
}

func writeSamples(f io.Writer, samples []sample) error {
	w := csv.NewWriter(f)
	_ = w.Write([]string{"seconds", "rss_bytes", "descriptors", "goroutines", "live_buffers", "live_sessions", "sessions", "cpu_seconds", "bystanders_p99_ms"})
	number := func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
	for _, x := range samples {
		_ = w.Write([]string{number(x.at.Seconds()), number(x.resident), number(x.descriptors), number(x.goroutines), number(x.buffers), strconv.Itoa(x.live),
			strconv.Itoa(x.sessions), number(x.processor.Seconds()), number(float64(x.calm.Microseconds()) / 1000)})
	}
	w.Flush()
	return w.Error()
}

// A slope is found, and one outlier does not make one.
func TestTheilSen(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0}, {[]float64{3}, 0}, {[]float64{5, 5, 5, 5}, 0}, {[]float64{1, 3, 5, 7}, 2}, {[]float64{1, 3, 500, 7, 9, 11}, 2}, {[]float64{9, 8, 7}, -1},
	} {
		if got := theilSen(tt.values); got != tt.want {
			t.Errorf("theilSen(%v) = %v, want %v", tt.values, got, tt.want)
		}
	}
	var samples []sample
	for i := range 1000 {
		samples = append(samples, sample{at: time.Duration(i) * time.Second, resident: float64(i)})
	}
	if bins, span := binned(samples, func(x sample) float64 { return x.resident }); len(bins) != 40 || bins[0] != 12 || span != 975*time.Second {
		t.Errorf("%d bins, the first %v, in %v", len(bins), bins[0], span)
	}
}
