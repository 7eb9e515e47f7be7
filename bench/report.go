package bench

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// WriteTable writes the result for people: what failed first, then what was run, the figures, and the warnings.
func (r *Result) WriteTable(w io.Writer) error {
	t := &table{}
	r.headline(t)
	r.about(t)
	r.throughput(t)
	r.latencies(t)
	r.addresses(t)
	r.cost(t)
	r.errorList(t)
	if len(r.Steps) > 0 {
		r.stepList(t)
	}
	for _, warning := range r.Warnings {
		t.line("WARNING  %s", warning)
	}
	_, err := io.WriteString(w, t.String())
	return err
}

type table struct{ strings.Builder }

func (t *table) line(format string, args ...any) { fmt.Fprintf(t, format+"\n", args...) }

// headline is the first line: whether the figures can be used as they are.
func (r *Result) headline(t *table) {
	switch n := r.Errors.Total(); {
	case r.Failure != "":
		t.line("FAILED   %s", r.Failure)
		if n > 0 {
			t.line("ERRORS   %d: %s", n, r.errorSummary())
		}
	case n > 0:
		t.line("ERRORS   %d: %s", n, r.errorSummary())
	case r.Totals.FellBehind:
		t.line("BEHIND   %s", r.behindText())
		t.line("         no error, every byte that came back was right")
	case r.Interrupted:
		t.line("OK so far, interrupted after %.1f s: no error, every byte that came back was right", r.Totals.MeasuredS)
	case r.Totals.Messages == 0:
		t.line("OK       no error; no messages were exchanged")
	default:
		t.line("OK       no error, every byte that came back was right")
	}
	if r.Interrupted && (r.Errors.Total() > 0 || r.Failure != "" || r.Totals.FellBehind) {
		t.line("         interrupted after %.1f s", r.Totals.MeasuredS)
	}
}

func (r *Result) errorSummary() string {
	var parts []string
	for k, n := range r.Errors {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", Kind(k), n))
		}
	}
	return strings.Join(parts, ", ")
}

func (r *Result) about(t *table) {
	p := &r.Parameters
	t.line("")
	t.line("%-9s%s%s, %s, %d B messages, %s measured after %s, %d thread(s), seed %d", r.Mode, r.addrText(), r.layerText(), r.shape(),
		p.SizeBytes, seconds(r.Totals.MeasuredS), seconds(p.WarmupS), r.Client.Threads, p.Seed)
	m := &r.Machine
	t.line("%-9s%s/%s %s, %s, %s, %s, %d files, %s", "machine", m.OS, m.Arch, m.Kernel, m.CPU, m.coresText(), m.GoVersion,
		m.DescriptorLimit, m.Date)
}

// layerText returns what there is to say of TLS and WebSocket, with a space before it, or "".
func (r *Result) layerText() string {
	var parts []string
	if r.Parameters.TLS {
		parts = append(parts, fmt.Sprintf("TLS (%d handshakes, %d resumed)", r.Totals.Handshakes, r.Totals.Resumed))
	}
	if p := &r.Parameters; p.WS != "" {
		kind := "binary"
		if p.WSText {
			kind = "text"
		}
		parts = append(parts, fmt.Sprintf("WebSocket at %s (%d upgrades, %s messages)", p.WS, r.Totals.Upgrades, kind))
	}
	if len(parts) == 0 {
		return ""
	}
	return " over " + strings.Join(parts, " and ")
}

// coresText returns the number of cores, and how many of them the client may use if that is less.
func (m *Machine) coresText() string {
	if m.MaxProcs > 0 && m.MaxProcs != m.Cores {
		return fmt.Sprintf("%d cores (%d for the client)", m.Cores, m.MaxProcs)
	}
	return fmt.Sprintf("%d cores", m.Cores)
}

// shape returns the parameters that are special to the mode.
func (r *Result) shape() string {
	p := &r.Parameters
	s := fmt.Sprintf("%d connections", p.Conns)
	if p.Sources > 0 {
		s += fmt.Sprintf(" from %d addresses", p.Sources)
	}
	switch r.Mode {
	case Echo:
		s += fmt.Sprintf(", %d in flight on each", p.Depth)
	case Rate:
		s += fmt.Sprintf(", %s msg/s in all, %s, at most %d in flight on each", number(p.RatePerS), p.Arrival, p.Depth)
	case Churn:
		s += fmt.Sprintf(" at a time, %d message(s) on each", p.Messages)
	case Idle:
		s += fmt.Sprintf(", %d of them active", p.Active)
		if p.Active > 0 {
			s += fmt.Sprintf(" with %s msg/s in all", number(p.RatePerS))
		}
		if p.EchoAll {
			s += fmt.Sprintf(", %d exchanged a message before", r.Totals.ConnsEchoed)
		}
	case Fanout:
		s = fmt.Sprintf("1 publisher, %d subscribers, the publisher waits for all of them", p.Conns)
		if p.RatePerS > 0 {
			s = fmt.Sprintf("1 publisher, %s msg/s, %s, %d subscribers, at most %d B ahead of the slowest", number(p.RatePerS), p.Arrival, p.Conns, p.WindowBytes)
		}
		if p.Stream {
			s = fmt.Sprintf("1 publisher, %d subscribers, the publisher at most %d B ahead of the slowest", p.Conns, p.WindowBytes)
		}
	case Ramp:
		s += fmt.Sprintf(", %s more per second, a message every %s on each", number(p.ConnectRatePerS), seconds(p.EveryS))
	case Search:
		s += fmt.Sprintf(", %s, p99 to stay under %s", p.Arrival, duration(p.P99LimitUS))
	}
	return s
}

func (r *Result) throughput(t *table) {
	s := &r.Totals
	t.line("")
	what := "messages"
	if r.Mode == Fanout {
		what = "deliveries"
	}
	switch r.Mode {
	case Churn:
		t.line("%-12s%14s   %d", "connections", perSecond(s.CyclesPerS), s.Cycles)
	case Ramp:
		t.line("%-12s%14s   %d made, %d wanted", "connections", "", s.ConnsInTime, r.Parameters.Conns)
	case Fanout:
		t.line("%-12s%14s   %d", "rounds", perSecond(s.CyclesPerS), s.Cycles)
	case Idle:
		t.line("%-12s%14s   %d held, %d wanted", "connections", "", s.ConnsAtStart, r.Parameters.Conns)
	}
	if s.Messages > 0 {
		t.line("%-12s%14s   %d, %.2f MB/s", what, perSecond(s.MessagesPerS), s.Messages, s.BytesPerS/1e6)
	}
	if s.Planned > 0 {
		t.line("%-12s%14s   %d planned in the measured part", "asked", perSecond(s.AskedPerS), s.Planned)
		sent := "in the measured part"
		if r.Mode == Fanout {
			sent = "by the publisher in the measured part; each is asked to be delivered to every subscriber"
		}
		t.line("%-12s%14s   %s", "sent", perSecond(s.SentPerS), sent)
	}
	if s.AfterEnd > 0 {
		t.line("%-12s%14s   %d replies, counted in the latencies only", "after end", "", s.AfterEnd)
	}
	if s.Unanswered > 0 {
		t.line("%-12s%14s   %d, cut off with their connections", "unanswered", "", s.Unanswered)
	}
}

func (r *Result) latencies(t *table) {
	var list []Distribution
	for _, d := range r.Distributions {
		if d.Count > 0 {
			list = append(list, d)
		}
	}
	if len(list) == 0 {
		return
	}
	t.line("")
	t.line("%-12s%9s %9s %9s %9s %9s %9s %9s %9s %12s", "latency", "min", "p50", "p90", "p99", "p99.9", "p99.99", "max", "mean", "count")
	for _, d := range list {
		t.line("%-12s%9s %9s %9s %9s %9s %9s %9s %9s %12d", d.Name, duration(d.Min), duration(d.P50), duration(d.P90),
			duration(d.P99), duration(d.P999), duration(d.P9999), duration(d.Max), duration(d.Mean), d.Count)
	}
	for _, d := range list {
		t.line("  %-12s%s", d.Name, d.About)
	}
}

// addresses tells what the subscribers at each address got.
func (r *Result) addresses(t *table) {
	if len(r.Addresses) == 0 {
		return
	}
	t.line("")
	t.line("%-24s%12s %12s %14s %9s %9s %9s %8s %8s %8s %8s %8s", "subscribers at", "number", "deliveries", "per second", "p50", "p99", "max",
		"lost", "doubled", "disorder", "wrong", "overdue")
	for _, a := range r.Addresses {
		t.line("%-24s%12d %12d %14s %9s %9s %9s %8d %8d %8d %8d %8d", a.Addr, a.Subscribers, a.Deliveries, perSecond(a.DeliveriesPerS),
			duration(a.P50), duration(a.P99), duration(a.Max), a.Lost, a.Doubled, a.OutOfOrder, a.Wrong, a.Overdue)
	}
}

// addrText returns the server's address, and those of the subscribers.
func (r *Result) addrText() string {
	if r.Parameters.Subscribe == "" {
		return r.Parameters.Addr
	}
	return r.Parameters.Addr + " to " + r.Parameters.Subscribe
}

func (r *Result) cost(t *table) {
	if r.Totals.MeasuredS == 0 {
		return
	}
	t.line("")
	unit := "per message"
	if r.Mode == Fanout {
		unit = "per delivery"
	}
	c := &r.Client
	t.line("%-9s CPU %.2f s user + %.2f s system, %.2f us %s, %.0f %% of the cores its threads can use",
		"client", c.UserS, c.SystemS, c.PerMessageUS, unit, c.SharePct)
	if s := r.Server; s != nil {
		t.line("%-9s CPU %.2f s user + %.2f s system, %.2f us %s, %.0f %% of one core", "server", s.UserS, s.SystemS, s.PerMessageUS, unit, s.SharePct)
		t.line("%-9s RSS %s before, %s at most, %s at the end", "", mebibytes(s.RSSBefore), mebibytes(s.RSSMax), mebibytes(s.RSSEnd))
		if r.Mode == Idle || r.Mode == Ramp {
			t.line("%-9s RSS grew by %.0f B per connection", "", s.RSSPerConn)
		}
	}
}

func (r *Result) errorList(t *table) {
	if len(r.ErrorSamples) == 0 {
		return
	}
	t.line("")
	t.line("first errors")
	for _, e := range r.ErrorSamples[:min(len(r.ErrorSamples), 5)] {
		t.line("  at %8.3f s  conn %-6d %-16s %s", e.At, e.Conn, e.Kind, e.Detail)
	}
	t.line("")
}

func (r *Result) stepList(t *table) {
	t.line("")
	t.line("%-14s %14s %10s %10s %10s %8s  %s", "steps, msg/s", "achieved", "p50", "p99", "max", "client", "")
	for _, s := range r.Steps {
		verdict := "passed"
		if !s.Passed {
			verdict = s.Why
		}
		t.line("%-14.0f %14.0f %10s %10s %10s %6.0f %%  %s", s.RatePerS, s.AchievedPerS, duration(s.P50), duration(s.P99), duration(s.Max), s.ClientSharePct, verdict)
	}
	t.line("highest rate with p99 under %s: %.0f msg/s", duration(r.Parameters.P99LimitUS), r.bestStep())
	t.line("")
}

// duration writes microseconds with three digits and a fitting unit.
func duration(us float64) string {
	switch {
	case us == 0:
		return "0"
	case us < 10:
		return fmt.Sprintf("%.2f us", us)
	case us < 100:
		return fmt.Sprintf("%.1f us", us)
	case us < 1000:
		return fmt.Sprintf("%.0f us", us)
	case us < 10e3:
		return fmt.Sprintf("%.2f ms", us/1e3)
	case us < 100e3:
		return fmt.Sprintf("%.1f ms", us/1e3)
	case us < 1e6:
		return fmt.Sprintf("%.0f ms", us/1e3)
	default:
		return fmt.Sprintf("%.2f s", us/1e6)
	}
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond).String()
}

func perSecond(f float64) string { return fmt.Sprintf("%.0f/s", f) }

func mebibytes(n uint64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
