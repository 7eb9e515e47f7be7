//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// measureDeflate measures a workload with permessage-deflate, by the program deflate, which reports no latency. Where memory is what counts, it
// measures with two numbers of connections, each in a new process.
func (r *runner) measureDeflate(ctx context.Context, w workload, s server) (out sample) {
	if !w.idle() {
		out, _ = r.deflate(ctx, w, s, w.args[1:])
		return out
	}
	var rss [2]float64
	for i, conns := range []int{w.few, w.many} {
		if out, rss[i] = r.deflate(ctx, w, s, append(slices.Clone(w.args[1:]), "-conns", strconv.Itoa(conns))); out.Failure != "" {
			return out
		}
	}
	out.RSSPerConn = (rss[1] - rss[0]) / float64(w.many-w.few)
	return out
}

// deflate starts the server, loads it and kills it. rss is its resident memory at the end.
func (r *runner) deflate(ctx context.Context, w workload, s server, flags []string) (out sample, rss float64) {
	p, err := r.launch(ctx, s, w)
	if err != nil {
		out.Failure = err.Error()
		return out, 0
	}
	args := slices.Concat(flags, []string{"-addr", p.addr, "-ws", path, "-pid", strconv.Itoa(p.cmd.Process.Pid),
		"-warmup", r.cfg.warmup.String(), "-duration", w.duration(r.cfg).String(), w.args[0]})
	said, err := r.client(ctx, "deflate", args, r.cfg.warmup+w.duration(r.cfg)+patience)
	if gone := p.kill(); gone != nil {
		out.Errors = append(out.Errors, gone.Error())
	}
	var units, seconds, used float64
	if err == nil {
		_, err = fmt.Sscan(said, &units, &seconds, &used, &rss)
	}
	if err == nil && units == 0 && !w.idle() {
		err = errors.New("no message came back in the measured part")
	}
	switch {
	case err != nil:
		out.Failure = fmt.Sprintf("deflate: %v: %s", err, said)
	case !w.idle():
		out.CPU, out.PerS, out.ServerShare = used*1e6/units, units/seconds, 100*used/seconds
	}
	return out, rss
}
