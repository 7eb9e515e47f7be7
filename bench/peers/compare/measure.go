//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/servercore-go/servercore/bench"
)

// A sample is the result of one measurement. Its JSON keys have units, as in bench.Result.
type sample struct {
	Round       int      `json:"round"`
	CPU         float64  `json:"server_cpu_us_per_unit"` // per message, delivery or connection
	ServerShare float64  `json:"server_cpu_share_pct"`
	PerS        float64  `json:"units_per_s"`
	P50         float64  `json:"latency_p50_us"`
	P99         float64  `json:"latency_p99_us"`
	P999        float64  `json:"latency_p999_us"`
	RSSPerConn  float64  `json:"rss_bytes_per_conn"` // idle only
	ClientShare float64  `json:"client_cpu_share_pct"`
	Errors      []string `json:"errors"`  // by kind, with their number
	Failure     string   `json:"failure"` // why there are no figures; "" if there are

	machine bench.Machine
}

// measure starts the server, loads it and kills it. It always returns a sample, which has the error if there was one.
func (r *runner) measure(ctx context.Context, w workload, s server) sample {
	switch {
	case w.deflate:
		return r.measureDeflate(ctx, w, s)
	case w.idle():
		return r.measureIdle(ctx, w, s)
	}
	result, out := r.load(ctx, w, s)
	if result == nil {
		return out
	}
	t, d := &result.Totals, result.Main()
	out.PerS, out.P50, out.P99, out.P999 = t.MessagesPerS, d.P50, d.P99, d.P999
	if w.args[0] == "churn" {
		out.PerS = t.CyclesPerS
	}
	if t.Messages == 0 {
		out.Failure = "no message came back in the measured part"
	}
	return out
}

// measureIdle measures the memory of a server with two numbers of connections, each in a new process.
func (r *runner) measureIdle(ctx context.Context, w workload, s server) sample {
	var rss [2]float64
	var out sample
	for i, conns := range []int{w.few, w.many} {
		at := w
		at.args = append(slices.Clone(w.args), "-conns", strconv.Itoa(conns))
		result, o := r.load(ctx, at, s)
		o.Errors = append(out.Errors, o.Errors...)
		out = o
		if result == nil {
			return out
		}
		rss[i] = float64(result.Server.RSSEnd)
	}
	out.RSSPerConn = (rss[1] - rss[0]) / float64(w.many-w.few)
	return out
}

// load returns a nil result if there are no figures. The sample then says why.
func (r *runner) load(ctx context.Context, w workload, s server) (*bench.Result, sample) {
	var out sample
	fail := func(err error) (*bench.Result, sample) {
		out.Failure = err.Error()
		return nil, out
	}
	p, err := r.launch(ctx, s, w)
	if err != nil {
		return fail(err)
	}
	stop := r.startBeside(ctx, w, p)
	result, err := r.netbench(ctx, w, p)
	if early := stop(); early != nil {
		out.Errors = append(out.Errors, early.Error())
	}
	if gone := p.kill(); gone != nil {
		out.Errors = append(out.Errors, gone.Error())
	}
	if err != nil {
		return fail(err)
	}
	for _, kind := range bench.Kinds() {
		if n := result.Errors[kind]; n > 0 {
			out.Errors = append(out.Errors, fmt.Sprintf("%d %v", n, kind))
		}
	}
	if result.Server == nil {
		return fail(errors.New("the server's processor time could not be read: it is no longer there"))
	}
	out.CPU, out.ServerShare, out.ClientShare = result.Server.PerMessageUS, result.Server.SharePct, result.Client.SharePct
	out.machine = result.Machine
	return result, out
}

// netbench loads p and returns the result. A result may have errors, which the caller must check.
func (r *runner) netbench(ctx context.Context, w workload, p *running) (*bench.Result, error) {
	file := filepath.Join(r.dir, "result.json")
	os.Remove(file)
	args := slices.Concat(w.args, p.speaks, []string{"-addr", p.addr, "-pid", strconv.Itoa(p.cmd.Process.Pid), "-json", file, "-quiet",
		"-duration", w.duration(r.cfg).String(), "-warmup", r.cfg.warmup.String()})
	if n := len(r.cfg.clientCPU); n > 0 {
		args = append(args, "-threads", strconv.Itoa(n))
	}
	text, err := r.client(ctx, "netbench", args, w.duration(r.cfg)+r.cfg.warmup+patience)
	if exit, ok := err.(*exec.ExitError); ok && exit.ExitCode() == 3 {
		err = nil // it ran and counted errors
	}
	if err != nil {
		return nil, fmt.Errorf("netbench: %w: %s", err, text)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return bench.ReadResult(f)
}

// startBeside starts the second client of a workload that has one. stop ends it, and returns an error if it had ended before.
func (r *runner) startBeside(ctx context.Context, w workload, p *running) (stop func() error) {
	if w.beside == nil {
		return func() error { return nil }
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	long := w.duration(r.cfg) + r.cfg.warmup + 2*patience
	go func() {
		args := slices.Concat(w.beside, []string{"-addr", p.addr, "-quiet", "-warmup", "0s", "-duration", long.String()})
		said, err := r.client(ctx, "netbench", args, long+patience)
		ended <- fmt.Errorf("the client beside ended too early: %v: %s", err, said)
	}()
	return func() error {
		select {
		case err := <-ended:
			cancel()
			return err
		default:
		}
		cancel()
		<-ended
		return nil
	}
}

// patience is how long a client may take besides its load: 10,000 connects on a slow machine, and its own timeouts,
// which are 20 s at most.
const patience = time.Minute

// client runs a program on the client's processors, for at most limit, and returns what it wrote.
func (r *runner) client(ctx context.Context, program string, args []string, limit time.Duration) (string, error) {
	timed, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(timed, filepath.Join(r.dir, program), args...)
	said := newTranscript()
	cmd.Stdout, cmd.Stderr = said, said
	if err := r.starter.start(cmd, r.cfg.clientCPU); err != nil {
		return "", err
	}
	err := cmd.Wait()
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case timed.Err() != nil:
		err = fmt.Errorf("not finished after %v", limit)
	}
	return said.tail(), err
}
