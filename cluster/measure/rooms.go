package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// kind is a number of nodes and of members of each, and Broadcasts per second.
type kind struct {
	nodes, each int
	rate        float64
}

func (k kind) String() string { return fmt.Sprintf("%d x %d at %.4g/s", k.nodes, k.each, k.rate) }

// figures are those of one node in one run.
type figures struct {
	cpu       float64 // microseconds of CPU time per delivery
	writes    float64 // per delivery: below 1 where messages to a member left together
	perSecond float64 // deliveries
	idle      float64 // milliseconds of CPU time per second while nothing is sent
	work      float64 // as cpu, without what the node takes while idle
	p50, p99  float64 // microseconds from the planned send to a member
	bus       float64 // messages of the room that it has got from the bus, by Broadcasts
}

// measureRooms compares one node with all members, one node with a third, one with all that delivers no more in a second than one with a third
// (the runtime of a process takes its part of a second whether it delivers much or little in it), and three nodes with a third each.
func measureRooms(p plan) error {
	third := p.members / 3
	kinds := []kind{{1, third * 3, p.rate}, {1, third, p.rate}, {1, third * 3, p.rate / 3}, {3, third, p.rate}}
	fmt.Printf("Broadcast of %d B, %v a second for %v, to all but the publisher, who is on the first node; %s arrivals, %d event loop(s) per node\n\n",
		p.size, p.rate, p.duration, p.arrival, p.loops)
	fmt.Printf("%-6s %-20s %-5s %16s %16s %16s %12s %9s %9s %13s\n", "round", "nodes", "node", "us CPU/delivery", "writes/delivery", "without idle", "idle ms/s", "p50 us", "p99 us", "bus messages")
	all := make(map[kind][][]figures)
	for round := range p.rounds {
		for i := range kinds {
			k := kinds[(i+round)%len(kinds)]
			run, err := measureRoom(p, k, round)
			if err != nil {
				return fmt.Errorf("%v members: %w", k, err)
			}
			all[k] = append(all[k], run)
			for j, f := range run {
				fmt.Printf("%-6d %-20v %-5d %16.3f %16.2f %16.3f %12.2f %9.0f %9.0f %13.3f\n", round+1, k, j+1, f.cpu, f.writes, f.work, f.idle, f.p50, f.p99, f.bus)
			}
		}
	}
	report(p, kinds, all)
	return nil
}

// report prints medians and their ratios.
func report(p plan, kinds []kind, all map[kind][][]figures) {
	mid := func(k kind, node int, of func(figures) float64) float64 {
		var values []float64
		for _, run := range all[k] {
			values = append(values, of(run[node]))
		}
		return median(values)
	}
	cpu := func(f figures) float64 { return f.cpu }
	work := func(f figures) float64 { return f.work }
	ones := kinds[:3]
	fmt.Printf("\nmedians of %d rounds\n", p.rounds)
	for _, k := range kinds {
		for node := range k.nodes {
			what := "the only node"
			if k.nodes > 1 {
				what = "receives from the bus"
				if node == 0 {
					what = "the publisher's node"
				}
			}
			c, w := mid(k, node, cpu), mid(k, node, work)
			fmt.Printf("%v, node %d, %s: %.3f us CPU per delivery, %.0f deliveries per CPU second", k, node+1, what, c, 1e6/c)
			for _, one := range ones {
				fmt.Printf(", %.2f of %v", c/mid(one, 0, cpu), one)
			}
			fmt.Printf("\n          without what it takes while idle: %.3f us", w)
			for _, one := range ones {
				fmt.Printf(", %.2f of %v", w/mid(one, 0, work), one)
			}
			fmt.Println()
			fmt.Printf("          %.2f writes per delivery, p50 %.0f us, p99 %.0f us, %.3f bus messages per Broadcast\n",
				mid(k, node, func(f figures) float64 { return f.writes }), mid(k, node, func(f figures) float64 { return f.p50 }),
				mid(k, node, func(f figures) float64 { return f.p99 }), mid(k, node, func(f figures) float64 { return f.bus }))
		}
	}
	var p50, p99 []float64
	for _, run := range all[kinds[3]] {
		for _, f := range run[1:] {
			p50, p99 = append(p50, f.p50-run[0].p50), append(p99, f.p99-run[0].p99)
		}
	}
	fmt.Printf("added latency: a receiving node less the publisher's, median of the runs: p50 %+.0f us, p99 %+.0f us\n\n", median(p50), median(p99))
}

// measureRoom is one run.
func measureRoom(p plan, k kind, round int) ([]figures, error) {
	all, err := open(p, k.nodes)
	if err != nil {
		return nil, err
	}
	defer all.stop()
	var subscribe []string
	for _, n := range all {
		subscribe = append(subscribe, n.addr)
	}
	// The load lasts longer than what is measured: it goes on while the nodes are asked.
	bencher := exec.Command(p.netbench, "fanout", "-addr", all[0].addr, "-subscribe", strings.Join(subscribe, ","), "-conns", strconv.Itoa(k.nodes*k.each),
		"-size", strconv.Itoa(p.size), "-rate", fmt.Sprint(k.rate), "-arrival", p.arrival, "-warmup", "1s", "-duration", (p.duration + 2*time.Second).String(), "-timeout", "20s", "-json", "-", "-quiet")
	var out bytes.Buffer
	bencher.Stdout, bencher.Stderr = &out, os.Stderr
	if err := bencher.Start(); err != nil {
		return nil, err
	}
	run, err := all.watch(p, k, round)
	if err != nil {
		_ = bencher.Process.Kill()
		_ = bencher.Wait()
		return nil, err
	}
	var result struct { // of what bench/schema.json describes
		Failure   string
		Samples   []any `json:"error_samples"`
		Addresses []struct {
			P50 float64 `json:"latency_p50_us"`
			P99 float64 `json:"latency_p99_us"`
		}
	}
	if err := bencher.Wait(); err != nil {
		_ = json.Unmarshal(out.Bytes(), &result)
		return nil, fmt.Errorf("%w: %s %v", err, result.Failure, result.Samples)
	}
	if err := json.Unmarshal(out.Bytes(), &result); err != nil {
		return nil, err
	}
	if len(result.Addresses) != len(run) {
		return nil, fmt.Errorf("netbench tells of %d addresses, not %d", len(result.Addresses), len(run))
	}
	for i, a := range result.Addresses {
		run[i].p50, run[i].p99 = a.P50, a.P99
	}
	return run, all.rest(p, k, run)
}

// rest takes the CPU time of nodes whose members are connected and get nothing.
func (all nodes) rest(p plan, k kind, run []figures) error {
	for _, n := range all {
		for range k.each {
			c, err := net.Dial("tcp", n.addr)
			if err != nil {
				return err
			}
			defer c.Close()
		}
	}
	before, err := all.sample(order{Do: "sample"})
	if err != nil {
		return err
	}
	const span = 3 * time.Second
	time.Sleep(span)
	after, err := all.sample(order{Do: "sample"})
	if err != nil {
		return err
	}
	for i := range run {
		spent := float64((after[i].CPU - before[i].CPU).Nanoseconds()) / span.Seconds() // each second
		run[i].idle = spent / 1e6
		run[i].work = run[i].cpu - spent/1e3/run[i].perSecond
	}
	return nil
}

// watch takes the CPU time of the nodes while the load runs.
func (all nodes) watch(p plan, k kind, round int) ([]figures, error) {
	begun := uint64(max(10, k.rate) * float64(k.each*p.size)) // a second of load: all members have been introduced
	if err := all.until("the load has begun", func(a answer) bool { return a.Sent >= begun }); err != nil {
		return nil, err
	}
	if p.profile != "" {
		for i, n := range all {
			if _, err := n.ask(order{Do: "profile", File: fmt.Sprintf("%s-%dx%d-node%d-round%d.pprof", p.profile, k.nodes, k.each, i+1, round+1)}); err != nil {
				return nil, err
			}
		}
	}
	before, err := all.sample(order{Do: "sample"})
	if err != nil {
		return nil, err
	}
	began := time.Now()
	time.Sleep(p.duration)
	length := time.Since(began)
	after, err := all.sample(order{Do: "sample"})
	if err != nil {
		return nil, err
	}
	if p.profile != "" {
		if _, err := all.sample(order{Do: "stop-profile"}); err != nil {
			return nil, err
		}
	}
	run := make([]figures, len(all))
	broadcasts := float64(after[0].Cluster.Published - before[0].Cluster.Published)
	for i := range all {
		a, b := after[i], before[i]
		deliveries := float64(a.Sent-b.Sent) / float64(p.size)
		if deliveries == 0 {
			return nil, fmt.Errorf("node %d has delivered nothing", i+1)
		}
		run[i].perSecond = deliveries / length.Seconds()
		run[i].writes = float64(a.Writes-b.Writes) / deliveries
		run[i].cpu = float64((a.CPU - b.CPU).Nanoseconds()) / 1e3 / deliveries
		if s := a.Cluster; s.Dropped+s.Missed+s.Overflowed+s.Unsent+s.Repeated > 0 {
			return nil, fmt.Errorf("node %d: %+v", i+1, s)
		}
		if broadcasts > 0 {
			run[i].bus = float64(a.Cluster.Received-b.Cluster.Received) / broadcasts
		}
	}
	return run, nil
}
