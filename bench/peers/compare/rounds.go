//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/servercore-go/servercore/bench"
)

// A runner measures. Its other fields are set by main.
type runner struct {
	cfg     config
	dir     string // of the programs
	starter *starter
	log     io.Writer
	pace    pace
}

// A series is all samples of one server in one workload, in the order of the rounds.
type series struct {
	Server  string   `json:"server"`
	Samples []sample `json:"samples"`
}

// An outcome is the result of one workload.
type outcome struct {
	Workload string   `json:"workload"`
	About    string   `json:"about"`
	Unit     string   `json:"unit"`
	Over     protocol `json:"protocol"`
	Args     []string `json:"netbench"`
	Note     string   `json:"note"` // what else a reader must know; "" for nothing
	Series   []series `json:"series"`
	Times    int      `json:"times_duration"`
	Planned  bool     `json:"open_loop"`
	Idle     bool     `json:"idle"`    // what counts is memory
	Failure  string   `json:"failure"` // why it could not be measured; "" if it was
}

// run measures every workload, round by round. When ctx ends, it returns the outcomes so far.
func (r *runner) run(ctx context.Context) (all []outcome, machine bench.Machine) {
	r.pace.plan(r.cfg)
	for _, w := range r.cfg.workloads {
		if ctx.Err() != nil {
			break
		}
		o := outcome{Workload: w.name, About: w.about, Unit: w.unit, Times: max(1, w.times), Planned: w.share > 0,
			Over: w.over, Idle: w.idle()}
		if w.share > 0 {
			rate, note, err := r.shareOfTop(ctx, w)
			if err != nil {
				if ctx.Err() == nil {
					o.Failure = err.Error()
					all = append(all, o)
				}
				r.pace.skip(w, len(r.cfg.on(w))*r.cfg.rounds)
				continue
			}
			w.args = append(append([]string(nil), w.args...), "-rate", fmt.Sprintf("%.0f", rate))
			o.Note = note
		}
		o.Args = w.args
		for _, s := range r.cfg.on(w) {
			o.Series = append(o.Series, series{Server: s.name})
		}
		for round := 1; round <= r.cfg.rounds && ctx.Err() == nil; round++ {
			for i, s := range r.cfg.on(w) {
				began := time.Now()
				got := r.measure(ctx, w, s)
				if ctx.Err() != nil {
					break // it was cut short: no figure at all
				}
				got.Round = round
				o.Series[i].Samples = append(o.Series[i].Samples, got)
				if got.machine.OS != "" {
					machine = got.machine
				}
				r.pace.done(w, time.Since(began))
				fmt.Fprintf(r.log, "%s %s round %d/%d %s: %s\n", r.pace, w, round, r.cfg.rounds, s, w.brief(got))
			}
		}
		all = append(all, o)
	}
	return all, machine
}

// shareOfTop measures plain gnet's two modes in a closed loop and returns the share of w of the better one's rate.
func (r *runner) shareOfTop(ctx context.Context, w workload) (rate float64, note string, err error) {
	var best server
	top := w.closed()
	for _, s := range servers {
		if s.name != gnet && s.name != gnetReuse {
			continue
		}
		began := time.Now()
		got := r.measure(ctx, top, s)
		r.pace.done(top, time.Since(began))
		if got.Failure != "" {
			return 0, "", fmt.Errorf("the top rate of %s could not be measured: %s", s, got.Failure)
		}
		fmt.Fprintf(r.log, "%s %s of %s: %s\n", r.pace, top, s, top.brief(got))
		if got.PerS > rate {
			rate, best = got.PerS, s
		}
	}
	rate = math.Max(1, math.Round(rate*w.share/100)*100)
	return rate, fmt.Sprintf("%s messages/s, %.0f %% of what %s reached in a closed loop before.", thousands(rate), 100*w.share, best), nil
}

// brief returns a sample in half a line, for progress messages.
func (w workload) brief(s sample) string {
	text := ""
	switch {
	case s.Failure != "":
		return "FAILED: " + s.Failure
	case w.idle():
		text = fmt.Sprintf("%s bytes per connection", thousands(s.RSSPerConn))
	default:
		text = fmt.Sprintf("%s us/%s, %s/s, p99.9 %s us", digits(s.CPU), w.unit, thousands(s.PerS), digits(s.P999))
	}
	if len(s.Errors) > 0 {
		text += "; ERRORS: " + strings.Join(s.Errors, ", ")
	}
	return text
}

// A pace counts the measurements that are done, and estimates how long the rest takes.
type pace struct {
	cfg           config
	count, total  int
	guessed, rest time.Duration // of what is done, of what is to come
	spent         time.Duration // on what is done
}

// guess returns the estimated time of one measurement: load, start and connects.
func (p *pace) guess(w workload) time.Duration {
	one := w.duration(p.cfg) + p.cfg.warmup + 300*time.Millisecond
	switch {
	case w.idle():
		return 2*one + time.Second
	case w.name == "fanout-10000":
		return one + 2*time.Second
	}
	return one
}

func (p *pace) plan(cfg config) {
	*p = pace{cfg: cfg}
	for _, w := range cfg.workloads {
		n := cfg.rounds * len(cfg.on(w))
		p.total += n
		p.rest += time.Duration(n) * p.guess(w)
		if w.share > 0 {
			p.total += 2
			p.rest += 2 * p.guess(w.closed())
		}
	}
}

func (p *pace) done(w workload, took time.Duration) {
	p.count++
	p.spent += took
	p.guessed += p.guess(w)
	p.rest -= p.guess(w)
}

// skip removes n measurements of w, which are not made, from the plan.
func (p *pace) skip(w workload, n int) {
	p.count += n
	p.rest -= time.Duration(n) * p.guess(w)
}

func (p *pace) left() time.Duration {
	if p.guessed == 0 {
		return p.rest
	}
	return time.Duration(float64(p.rest) * float64(p.spent) / float64(p.guessed))
}

func (p pace) String() string {
	left := max(0, p.left()).Round(time.Second)
	return fmt.Sprintf("[%*d/%d, %v left]", len(fmt.Sprint(p.total)), p.count, p.total, left)
}
