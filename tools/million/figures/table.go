package figures

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Compare orders results: idle before fanout, then by number of connections, then by the settings of the server.
func Compare(a, b *Result) int {
	return cmp.Or(-cmp.Compare(a.Phase, b.Phase), cmp.Compare(a.Conns, b.Conns),
		cmp.Compare(a.Machine.GOGC, b.Machine.GOGC), cmp.Compare(a.Machine.MemLimit, b.Machine.MemLimit))
}

// Tables returns the results as tables in Markdown: a column for each. They are in the order of Compare.
func Tables(all []*Result) string {
	var b strings.Builder
	for _, phase := range []string{Idle, Fanout} {
		var list []*Result
		for _, r := range all {
			if r.Phase == phase {
				list = append(list, r)
			}
		}
		if len(list) == 0 {
			continue
		}
		if phase == Idle {
			b.WriteString("### Held, verified, some of them active\n\n")
			write(&b, list, idleRows)
		} else {
			b.WriteString("### One message to all\n\n")
			write(&b, list, fanoutRows)
		}
		b.WriteString(slopes(list))
	}
	if len(all) == 0 {
		return ""
	}
	largest := all[0]
	for _, r := range all {
		if r.Held > largest.Held && r.Phase == largest.Phase {
			largest = r
		}
	}
	b.WriteString(slabTable(largest))
	b.WriteString(settingsTable(largest))
	for _, r := range all { // each may be of another day, and of another revision
		m := &r.Machine
		fmt.Fprintf(&b, "\n%s with %s connections was measured on %s with %s (%s), %d processors, Linux %s, %s, commit %s; %s outside.\n",
			r.Phase, count(r.Conns), r.Started, m.Emulator, m.Accel, m.CPUs, m.Kernel, m.Go, m.Revision, m.Host)
	}
	return b.String()
}

// row is a line of a table: what it is, and its text for a result.
type row struct {
	name string
	text func(*Result) string
}

func write(b *strings.Builder, list []*Result, rows []row) {
	b.WriteString("| |")
	rule := "|---|"
	for _, r := range list {
		title := count(r.Conns)
		if r.Machine.GOGC != "" {
			title += ", GOGC " + r.Machine.GOGC
		}
		if r.Machine.MemLimit != "" {
			title += ", GOMEMLIMIT " + r.Machine.MemLimit
		}
		b.WriteString(" " + title + " |")
		rule += "---:|"
	}
	b.WriteString("\n" + rule + "\n")
	for _, w := range rows {
		b.WriteString("| " + w.name + " |")
		for _, r := range list {
			b.WriteString(" " + w.text(r) + " |")
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
}

var commonRows = []row{
	{"sessions held", func(r *Result) string { return count(r.Held) }},
	{"verified", func(r *Result) string { return count(int(r.Verified)) }},
	{"errors", func(r *Result) string { return count(int(r.Client.Errors)) }},
	{"complete", func(r *Result) string {
		if r.Complete {
			return "yes"
		}
		return "no"
	}},
	{"server: resident memory per session, B", func(r *Result) string {
		return perSession(r, r.Last.Server.RSS, r.Base.Server.RSS)
	}},
	{"kernel: memory per connection, both ends, B", func(r *Result) string {
		return perSession(r, r.Last.Kernel.Total(), r.Base.Kernel.Total())
	}},
	{"client: resident memory per connection, B", func(r *Result) string { return perSession(r, r.Last.Client.RSS, 0) }},
	{"all three, by what is available less, B", func(r *Result) string {
		return perSession(r, r.Base.Kernel.Available, r.Last.Kernel.Available)
	}},
	{"server: largest resident memory, MiB", func(r *Result) string { return count(int(r.PeakRSS >> 20)) }},
	{"sockets: most that waited in them, MiB", func(r *Result) string { return decimal(float64(r.PeakSocket) / (1 << 20)) }},
	{"to connect all, s", func(r *Result) string { return spent(r.Opened.At, r.Base.At) }},
	{"server: CPU for it, µs per session", func(r *Result) string { return cpu(r, r.Opened.Server.CPU-r.Base.Server.CPU, r.Opened.At) }},
	{"client: CPU for it, µs per connection", func(r *Result) string { return cpu(r, r.Opened.Client.CPU, r.Opened.At) }},
	{"loop lag meanwhile, p99 and largest, at most, ms", func(r *Result) string { return lag(r.Opened.Lag.Since(r.Base.Lag)) }},
	{"garbage collections; CPU, s; longest stop, ms", func(r *Result) string {
		return fmt.Sprintf("%d; %s; %s", r.GC.Cycles, decimal(r.GC.CPU), decimal(r.GC.MaxPause*1e3))
	}},
	{"to close all, s", func(r *Result) string { return spent(r.Closed.At, r.Last.At) }},
	{"server: CPU for it, µs per session", func(r *Result) string {
		return cpu(r, r.Closed.Server.CPU-r.Last.Server.CPU, r.Closed.At)
	}},
	{"loop lag meanwhile, p99 and largest, at most, ms", func(r *Result) string { return lag(r.Closed.Lag.Since(r.Last.Lag)) }},
}

// Rows that both phases have stand around those of each: what comes before the close, and the close.
const closeRows = 3

var idleRows = join([]row{
	{"one collection while all are held: wall, CPU, ms", func(r *Result) string {
		return decimal(r.GC.Forced.Wall*1e3) + ", " + decimal(r.GC.Forced.CPU*1e3)
	}},
	{"its stops, ms; what it leaves, MiB", func(r *Result) string {
		return decimal(r.GC.Forced.Pause*1e3) + "; " + decimal(r.GC.Forced.Live)
	}},
	{"active", func(r *Result) string { return count(r.Client.Active) }},
	{"their messages per second, asked for and answered", func(r *Result) string {
		return decimal(r.Client.AskedPerS) + ", " + decimal(r.Client.PerS)
	}},
	{"their replies, p50, p99, largest, ms", times},
	{"loop lag meanwhile, p99 and largest, at most, ms", func(r *Result) string { return lag(r.Last.Lag.Since(r.Opened.Lag)) }},
})

var fanoutRows = join([]row{
	{"broadcasts timed", func(r *Result) string { return count(int(r.Client.Rounds)) }},
	{"to the last subscriber, the longest, s", func(r *Result) string { return decimal(r.Client.Round) }},
	{"to a subscriber, p50, p99, largest, ms", times},
	{"server: CPU for one delivery, µs", func(r *Result) string {
		if n := r.Last.MessagesOut - r.Opened.MessagesOut; r.Opened.At > 0 && n > 0 {
			return decimal((r.Last.Server.CPU - r.Opened.Server.CPU) / float64(n) * 1e6)
		}
		return "-"
	}},
	{"loop lag meanwhile, p99 and largest, at most, ms", func(r *Result) string { return lag(r.Last.Lag.Since(r.Opened.Lag)) }},
})

func join(own []row) []row {
	n := len(commonRows) - closeRows
	return append(append(append([]row(nil), commonRows[:n]...), own...), commonRows[n:]...)
}

func times(r *Result) string {
	return decimal(r.Client.P50/1e3) + ", " + decimal(r.Client.P99/1e3) + ", " + decimal(r.Client.Max/1e3)
}

func lag(l Lag) string {
	if l.Quantile(1) < 0 {
		return "-"
	}
	return decimal(l.Quantile(0.99)*1e3) + ", " + decimal(l.Quantile(1)*1e3)
}

// perSession divides what has grown by the sessions in the last mark.
func perSession(r *Result, now, before uint64) string {
	if r.Last.Sessions == 0 {
		return "-"
	}
	return strconv.Itoa(int(math.Round((float64(now) - float64(before)) / float64(r.Last.Sessions))))
}

// spent is the time up to a moment, which has not come if it is 0.
func spent(to, from float64) string {
	if to == 0 {
		return "-"
	}
	return decimal(to - from)
}

// cpu is CPU time up to a moment, in microseconds per session. The moment has not come if at is 0.
func cpu(r *Result, seconds, at float64) string {
	if at == 0 || r.Held == 0 {
		return "-"
	}
	return decimal(seconds / float64(r.Held) * 1e6)
}

// slopes tells what one more session needs, where there are several numbers of sessions with the same settings.
func slopes(list []*Result) string {
	var x, server, kernel []float64
	for _, r := range list {
		if r.Machine.GOGC != "" || r.Machine.MemLimit != "" || r.Last.Sessions == 0 {
			continue
		}
		x = append(x, float64(r.Last.Sessions))
		server = append(server, float64(r.Last.Server.RSS)-float64(r.Base.Server.RSS))
		kernel = append(kernel, float64(r.Last.Kernel.Total())-float64(r.Base.Kernel.Total()))
	}
	s, ok := Slope(x, server)
	k, ok2 := Slope(x, kernel)
	if !ok || !ok2 {
		return ""
	}
	return fmt.Sprintf("One more session needs %.0f B of the server and %.0f B of the kernel, both ends (least squares over the columns). "+
		"A million: %.2f GiB and %.2f GiB.\n\n", s, k, s*1e6/(1<<30), k*1e6/(1<<30))
}

// Slope is that of the line through the points with the least squares. It needs two different x.
func Slope(x, y []float64) (slope float64, ok bool) {
	var mx, my float64
	for i := range x {
		mx += x[i] / float64(len(x))
		my += y[i] / float64(len(x))
	}
	var xy, xx float64
	for i := range x {
		xy += (x[i] - mx) * (y[i] - my)
		xx += (x[i] - mx) * (x[i] - mx)
	}
	return xy / xx, xx > 0
}

// slabTable tells what of the kernel's memory a connection needs, by cache.
func slabTable(r *Result) string {
	if r.Last.Sessions == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "### The kernel's memory, %s with %s connections\n\n| cache | objects per connection | size, B | bytes per connection |\n|---|---:|---:|---:|\n",
		r.Phase, count(r.Last.Sessions))
	n := float64(r.Last.Sessions)
	for _, s := range r.Last.Slabs {
		before := Slab{}
		for _, old := range r.Base.Slabs {
			if old.Name == s.Name {
				before = old
			}
		}
		if each := (float64(s.Bytes) - float64(before.Bytes)) / n; each >= 8 {
			fmt.Fprintf(&b, "| %s | %.2f | %d | %.0f |\n", s.Name, (float64(s.Objects)-float64(before.Objects))/n, s.Size, each)
		}
	}
	k, base := r.Last.Kernel, r.Base.Kernel
	fmt.Fprintf(&b, "| all caches | | | %s |\n| page tables | | | %s |\n| what waits in sockets | | | %s |\n\n",
		perSession(r, k.Slab, base.Slab), perSession(r, k.PageTables, base.PageTables), perSession(r, k.SocketMem, base.SocketMem))
	return b.String()
}

func settingsTable(r *Result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "### Settings for %s connections\n\n| setting | before, with %.1f GiB | set to | for |\n|---|---|---|---|\n",
		count(r.Conns), float64(r.Machine.Memory)/(1<<30))
	for _, s := range r.Settings {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", s.Name, s.Before, s.Value, s.Why)
	}
	return b.String()
}

// count writes a whole number with commas.
func count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// decimal writes three digits, or all of those before the point.
func decimal(f float64) string {
	switch a := math.Abs(f); {
	case a >= 100:
		return count(int(math.Round(f)))
	case a >= 10:
		return strconv.FormatFloat(f, 'f', 1, 64)
	case a >= 1:
		return strconv.FormatFloat(f, 'f', 2, 64)
	}
	return strconv.FormatFloat(f, 'f', 3, 64)
}
