package bench

import (
	"fmt"
	"runtime"
	"strings"
	"time"
)

// distributionTexts are the names and descriptions of the distributions of a result, those of single modes first.
var distributionTexts = [distributions]struct{ name, about string }{
	replyTime:     {"reply", "from the send to the reply"},
	plannedTime:   {"planned", "from the planned send to the reply: what a user who does not wait for others sees"},
	pacingLag:     {"pacing_lag", "from the planned send to the actual one where nothing stood in its way: the client's own lateness"},
	connectTime:   {"connect", "from connect to connected"},
	cycleTime:     {"cycle", "from connect to the last byte of the reply"},
	deliveryTime:  {"delivery", "from the publisher's send to one subscriber"},
	roundTime:     {"round", "from the publisher's send to the last subscriber"},
	handshakeTime: {"handshake", "from connected to the end of the TLS handshake"},
	upgradeTime:   {"upgrade", "from the request for WebSocket to the server's answer"},
}

// busyPct is the CPU use, in percent of its cores, from which the client counts as the limit of a run.
const busyPct = 90

// result returns the result of a run whose workers have ended.
func (r *run) result(c *collector, m marks) (*Result, error) {
	p := &r.plan
	out := &Result{
		Schema: SchemaVersion, Mode: p.Mode, Started: m.started, Interrupted: m.interrupted,
		Parameters: p.parameters(), Machine: thisMachine(m.started),
		Errors: c.total.errors, ErrorSamples: r.errorSamples(), Series: c.series, Warnings: r.notes, Steps: []Step{},
	}
	if out.Series == nil {
		out.Series = []Point{}
	}
	s := m.length.Seconds()
	per := func(n uint64) float64 {
		if s == 0 {
			return 0
		}
		return float64(n) / s
	}
	t := &c.total
	out.Totals = Totals{
		MeasuredS: s, AskedPerS: per(t.planned), SentPerS: per(t.offered), Messages: t.messages, MessagesPerS: per(t.messages),
		BytesPerS: per(t.bytes), Planned: t.planned, AfterEnd: t.afterEnd, Sent: t.sent, Unanswered: t.cut, Cycles: t.cycles, CyclesPerS: per(t.cycles),
		ConnsOpened: t.opened, ConnsInTime: t.inTime, ConnsAtStart: int(m.connected), BytesVerified: t.bytes,
		ConnsEchoed: t.echoed, Handshakes: t.handshakes, Resumed: t.resumed, Upgrades: t.upgrades,
	}
	if p.Mode == Rate {
		out.Totals.AskedPerS = p.Rate
	}
	out.Totals.FellBehind = t.behind(s)
	out.Distributions = r.distributions(t)
	out.Addresses = r.addresses(t, s)
	out.Client = client(m, p.Threads, t.messages)
	out.Server = server(m, p.PID, t.messages, r.heldAtEnd(c), c.series)
	r.warn(out)
	err := r.failure(out)
	if err != nil {
		out.Failure = err.Error()
	}
	return out, err
}

// behind reports whether fewer messages were answered in the s seconds of the measured part than were due in it. Some
// are under way at its end even if the server keeps up: those of a typical reply's time, if that is short, and of the
// moment by which the edges of the part are not sharp.
func (c *chunk) behind(s float64) bool {
	const (
		tolerance = 0.02 // of what was due
		underWay  = 0.05 // of what was due, at most
		edge      = 0.05 // seconds
	)
	due := float64(c.planned)
	missing := due - float64(c.messages) - float64(c.spoiled)
	reply := 0.0
	if h := c.times[replyTime]; h != nil && h.count() > 0 {
		reply = h.quantile(50) / 1e6
	}
	return s > 0 && missing > 2+due*(tolerance+edge/s+min(underWay, reply/s))
}

// behindText returns a sentence that says that the server did not keep up, or "" if it did.
func (r *Result) behindText() string {
	t := &r.Totals
	if !t.FellBehind {
		return ""
	}
	if r.Mode == Fanout {
		return fmt.Sprintf("the server did not keep up: deliveries of %s were asked for, and %s came in the measured part",
			perSecond(t.AskedPerS), perSecond(t.MessagesPerS))
	}
	return fmt.Sprintf("the server did not keep up: %s were asked for, %s were sent and %s were answered in the measured part",
		perSecond(t.AskedPerS), perSecond(t.SentPerS), perSecond(t.MessagesPerS))
}

// errorSamples returns the samples with their times since the beginning of the measured part, or since the start if there was none.
func (r *run) errorSamples() []ErrorSample {
	zero := r.from.Load()
	if zero == 0 {
		zero = int64(headStart)
	}
	list := make([]ErrorSample, 0, len(r.samples))
	for _, s := range r.samples {
		s.At = float64(s.at-zero) / 1e9
		list = append(list, s.ErrorSample)
	}
	return list
}

// heldAtEnd returns the number of connections in the last full interval.
func (r *run) heldAtEnd(c *collector) int {
	for i := len(c.series) - 1; i >= 0; i-- {
		if n := c.series[i].Conns; n > 0 {
			return n
		}
	}
	return 0
}

// failure returns why the run as a whole has failed, or nil.
func (r *run) failure(out *Result) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fatal != nil {
		if out.Errors[NoPorts] > 0 {
			return portAdvice(r.plan.Sources)
		}
		return r.firstError(r.fatal)
	}
	if out.Totals.ConnsOpened == 0 && !out.Interrupted {
		return r.firstError(fmt.Errorf("%w to %s could be made", ErrNoConnection, r.plan.Addr))
	}
	return nil
}

// firstError adds the first error of a connection to err. r.mu is held.
func (r *run) firstError(err error) error {
	if len(r.samples) == 0 {
		return err
	}
	return fmt.Errorf("%w; first error: %s (%s)", err, r.samples[0].Detail, r.samples[0].Kind)
}

func (r *run) distributions(t *chunk) []Distribution {
	list := []Distribution{}
	add := func(d distribution) {
		h := t.times[d]
		if h == nil {
			if d != r.plan.Mode.main() {
				return
			}
			h = newHistogram()
		}
		text := distributionTexts[d]
		if d == replyTime && r.plan.Mode == Rate {
			text.about = "from the actual send to the reply; leaves out the time a message waited for its turn"
		}
		if r.plan.Mode == Fanout && r.plan.Rate > 0 && (d == deliveryTime || d == roundTime) {
			text.about = strings.Replace(text.about, "the publisher's send", "the publisher's planned send", 1)
		}
		list = append(list, Distribution{Name: text.name, About: text.about, Summary: h.summary(), Curve: h.curve(), times: h})
	}
	add(r.plan.Mode.main())
	for d := range distributions {
		if d == r.plan.Mode.main() || d == pacingLag && !r.plan.paced() || d == plannedTime {
			continue
		}
		add(d)
	}
	return list
}

// paced reports whether the messages of the mode leave at planned times by a rate of which the client can fall short.
func (p *Plan) paced() bool { return p.Mode == Rate || p.Mode == Fanout && p.Rate > 0 }

func client(m marks, threads int, messages uint64) Client {
	used := m.clientTo.since(m.clientFrom)
	out := Client{UserS: used.user, SystemS: used.system, Threads: threads}
	if messages > 0 {
		out.PerMessageUS = used.total() * 1e6 / float64(messages)
	}
	if s := m.length.Seconds(); s > 0 {
		out.SharePct = 100 * used.total() / s / float64(min(threads, runtime.GOMAXPROCS(0)))
	}
	return out
}

func server(m marks, pid int, messages uint64, conns int, series []Point) *Server {
	if !m.serverFrom.ok || !m.serverTo.ok {
		return nil
	}
	used := m.serverTo.cpu.since(m.serverFrom.cpu)
	out := &Server{
		PID: pid, UserS: used.user, SystemS: used.system,
		RSSBefore: m.serverBefore.rss, RSSEnd: m.serverTo.rss, RSSMax: max(m.serverFrom.rss, m.serverTo.rss),
	}
	for _, p := range series {
		if p.ServerRSS != nil {
			out.RSSMax = max(out.RSSMax, *p.ServerRSS)
		}
	}
	if messages > 0 {
		out.PerMessageUS = used.total() * 1e6 / float64(messages)
	}
	if s := m.length.Seconds(); s > 0 {
		out.SharePct = 100 * used.total() / s
	}
	if conns > 0 {
		out.RSSPerConn = (float64(m.serverTo.rss) - float64(m.serverBefore.rss)) / float64(conns)
	}
	return out
}

// warn adds the warnings that a reader must know before using the figures.
func (r *run) warn(out *Result) {
	add := func(format string, args ...any) { out.Warnings = append(out.Warnings, fmt.Sprintf(format, args...)) }
	if out.Warnings == nil {
		out.Warnings = []string{}
	}
	p, t := &r.plan, &out.Totals
	if text := out.behindText(); text != "" {
		add("%s", text)
	}
	if out.Client.SharePct > busyPct {
		add("the client used %.0f %% of the cores its threads can use: it may be the limit rather than the server; use more -threads, or another machine",
			out.Client.SharePct)
	}
	if out.Errors[NoPorts] > 0 {
		add("%v", portAdvice(p.Sources))
	}
	if p.paced() && t.MeasuredS > 0 {
		due := p.Rate * t.MeasuredS
		if p.Mode == Fanout {
			due *= float64(r.fan.open.Load())
		}
		if float64(t.Planned) < 0.95*due && p.Arrival == Uniform {
			add("the client planned %d messages where %.0f were due: it could not keep up", t.Planned, due)
		}
		if lag := out.Find("pacing_lag"); lag != nil && lag.P99 > 1000 && lag.P99 > out.Main().P99/10 {
			add("the client sent late by itself: by %s at the 99th percentile", duration(lag.P99))
		}
	}
	if p.TLS && (p.Mode == Churn || p.Mode == Ramp) && p.Conns > p.Threads {
		add("the client's handshakes wait for each other on its %d thread(s), and so do replies: all times include that; for latency alone use as many -conns as -threads",
			p.Threads)
	}
	if h := int(t.ConnsAtStart); p.Mode != Churn && p.Mode != Ramp && h < p.total() && t.MeasuredS > 0 {
		add("only %d of %d connections could be made", h, p.total())
	}
	if late := t.ConnsOpened - t.ConnsInTime; p.Mode == Ramp && late > 0 {
		add("%d of %d connections were made only after the measured part", late, p.Conns)
	}
	if n := out.Main().Count; n > 0 && n < 10000 {
		add("%d values: p99.99 is the largest of them%s", n, map[bool]string{true: ", and so is p99.9"}[n < 1000])
	}
}

func (p *Plan) parameters() Parameters {
	return Parameters{
		Addr: p.Addr, Conns: p.Conns, SizeBytes: p.Size, DurationS: p.Duration.Seconds(), WarmupS: p.Warmup.Seconds(),
		Threads: p.Threads, Sources: p.Sources, TimeoutS: p.Timeout.Seconds(), Seed: p.Seed, Depth: p.Depth,
		RatePerS: p.Rate, Arrival: p.Arrival, Messages: p.Messages, Linger0: p.Linger0, Active: p.Active, EchoAll: p.EchoAll,
		ConnectRatePerS: p.ConnectRate, EveryS: p.Every.Seconds(), Stream: p.Stream, WindowBytes: p.Window, Subscribe: p.Subscribe,
		P99LimitUS: float64(p.P99) / 1e3, StepS: p.Step.Seconds(), PID: p.PID, SeriesIntervalS: p.interval().Seconds(), TLS: p.TLS, TLSResume: p.TLSResume, TLSName: p.TLSName,
		WS: p.WS, WSText: p.WSText,
	}
}

func thisMachine(at time.Time) Machine {
	kernel, cpu := machineNames()
	return Machine{
		OS: runtime.GOOS, Arch: runtime.GOARCH, Kernel: kernel, CPU: cpu, Cores: runtime.NumCPU(), MaxProcs: runtime.GOMAXPROCS(0),
		GoVersion: runtime.Version(), DescriptorLimit: descriptorLimit(), Date: at.Format(time.RFC3339),
	}
}
