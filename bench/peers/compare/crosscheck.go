//go:build linux

package main

import (
	"context"
	"fmt"
	"math"
	"net"
	"strconv"
	"strings"
	"time"
)

// agreement is how far netbench's figure may be above or below that of the independent client.
const agreement = 0.15

// A crossCheck compares netbench with cload, a client that shares no code with it, on one server. In each round each client loads the
// server once, each time in a new process.
type crossCheck struct {
	Server   string `json:"server"`
	Conns    int    `json:"conns"`
	Size     int    `json:"size_bytes"`
	Netbench series `json:"netbench"`
	Cload    series `json:"cload"`
}

var crossChecks = []struct{ conns, size int }{{64, 64}, {1000, 64}, {64, 4096}}

func (r *runner) crossCheck(ctx context.Context) (all []crossCheck, last sample) {
	s := servers[1] // plain gnet
	for _, shape := range crossChecks {
		c := crossCheck{Server: s.name, Conns: shape.conns, Size: shape.size,
			Netbench: series{Server: "netbench"}, Cload: series{Server: "cload"}}
		w := workload{unit: "message", args: []string{"echo", "-conns", strconv.Itoa(c.Conns), "-size", strconv.Itoa(c.Size)}}
		for round := 1; round <= r.cfg.rounds; round++ {
			a := r.measure(ctx, w, s)
			b := r.cload(ctx, s, c)
			if ctx.Err() != nil {
				break
			}
			a.Round, b.Round, last = round, round, a
			c.Netbench.Samples = append(c.Netbench.Samples, a)
			c.Cload.Samples = append(c.Cload.Samples, b)
			fmt.Fprintf(r.log, "cross-check %d B x %d, round %d/%d: netbench %s; cload %s\n", c.Size, c.Conns, round, r.cfg.rounds, w.brief(a), w.brief(b))
		}
		if len(c.Cload.Samples) > 0 {
			all = append(all, c)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return all, last
}

// cload measures with the other client, which reports no latency.
func (r *runner) cload(ctx context.Context, s server, c crossCheck) (out sample) {
	p, err := r.launch(ctx, s, topRate)
	if err != nil {
		out.Failure = err.Error()
		return out
	}
	host, port, _ := net.SplitHostPort(p.addr)
	said, err := r.client(ctx, "cload", []string{host, port, strconv.Itoa(p.cmd.Process.Pid), strconv.Itoa(c.Conns), strconv.Itoa(c.Size),
		ms(r.cfg.warmup), ms(r.cfg.duration)}, r.cfg.warmup+r.cfg.duration+patience)
	if gone := p.kill(); gone != nil {
		out.Errors = append(out.Errors, gone.Error())
	}
	var messages, seconds, used float64
	if err == nil {
		_, err = fmt.Sscan(said, &messages, &seconds, &used)
	}
	switch {
	case err != nil:
		out.Failure = fmt.Sprintf("cload: %v: %s", err, said)
	case messages == 0:
		out.Failure = "cload: no message came back in the measured part"
	default:
		out.CPU, out.PerS, out.ServerShare = used*1e6/messages, messages/seconds, 100*used/seconds
	}
	return out
}

func ms(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

func (c *crossCheck) agreesIn(f figure) bool {
	ratio := c.Netbench.ratios(&c.Cload, f)
	return ratio.N > 0 && math.Abs(ratio.Median-1) <= agreement
}

func (c *crossCheck) agrees() bool {
	if !c.agreesIn(cpu) || !c.agreesIn(rate) {
		return false
	}
	for _, s := range append(append([]sample(nil), c.Netbench.Samples...), c.Cload.Samples...) {
		if s.Failure != "" || len(s.Errors) > 0 {
			return false
		}
	}
	return true
}

func (c *crossCheck) write(b *strings.Builder) {
	verdict := func(f figure) string {
		if c.agreesIn(f) {
			return "agree"
		}
		return "DO NOT AGREE"
	}
	fmt.Fprintf(b, "## Cross-check: %d bytes, %d connections, %s\n\nnetbench and cload, a C client that shares nothing with it, within %.0f %%: they %s on CPU per message, %s on the rate.\n\n",
		c.Size, c.Conns, c.Server, 100*agreement, verdict(cpu), verdict(rate))
	rows := [][]string{{"client", "server CPU us/message", "range", "messages/s", "range"}}
	for _, s := range []*series{&c.Netbench, &c.Cload} {
		u, m := s.spread(cpu), s.spread(rate)
		rows = append(rows, []string{s.Server, digits(u.Median), digits(u.Min) + " - " + digits(u.Max),
			thousands(m.Median), thousands(m.Min) + " - " + thousands(m.Max)})
	}
	u, m := c.Netbench.ratios(&c.Cload, cpu), c.Netbench.ratios(&c.Cload, rate)
	rows = append(rows, []string{"ratio by round", ratioText(u.Median), ratioText(u.Min) + " - " + ratioText(u.Max),
		ratioText(m.Median), ratioText(m.Min) + " - " + ratioText(m.Max)})
	table(b, rows)
	for _, line := range (&outcome{Series: []series{c.Netbench, c.Cload}}).troubles() {
		fmt.Fprintf(b, "- ! %s\n", line)
	}
}
