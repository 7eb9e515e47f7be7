package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/servercore-go/servercore/tools/million/figures"
)

const (
	speak    = 5 * time.Second // between two lines on the console
	mostKept = 240             // samples in the result
	caches   = 24              // of the kernel, in a mark
)

// phase is one phase: what it is asked for, and where it is.
type phase struct {
	config
	result *figures.Result
	began  time.Time
	server *server
	client *client

	opened bool // all are connected, and for idle echoed
	closes bool // the clients close
	most   int  // TCP sockets at a time
	spoke  time.Time
}

// look is the time between two samples: each costs the emulated machine some of its time.
func (c *config) look() time.Duration {
	return 500*time.Millisecond + time.Duration(c.conns)*2*time.Microsecond
}

// want is the number of sessions when all are connected: fanout has a publisher besides.
func (p *phase) want() int {
	if p.phase == figures.Fanout {
		return p.conns + 1
	}
	return p.conns
}

func (p *phase) run(ctx context.Context) (err error) {
	mode := "echo"
	if p.phase == figures.Fanout {
		mode = "broadcast"
	}
	if p.server, err = serve(&p.config, mode); err != nil {
		return errors.Join(err, errors.New(tail(text(serverLog))))
	}
	defer func() {
		err = errors.Join(err, p.server.stop())
		p.result.GC = parseTrace(text(serverLog))
		if err != nil {
			err = errors.Join(err, errors.New(tail(text(serverLog))))
		}
	}()
	p.server.collect(ctx) // its code is in memory then, and does not count as the sessions'
	first, err := p.server.scrape(ctx)
	if err != nil {
		return err
	}
	p.result.Base = p.mark(first)
	if p.client, err = load(&p.config); err != nil {
		return err
	}
	err = p.watch(ctx)
	<-p.client.done
	p.result.Client.Active = p.active
	if e := fill(p.result, p.client.said()); e != nil {
		err = errors.Join(err, e, errors.New(tail(p.client.said())))
	}
	p.judge()
	p.result.Series = thin(p.result.Series, mostKept)
	return err
}

// watch takes samples until all is closed again. At ctx's end it has the client close what it has.
func (p *phase) watch(ctx context.Context) error {
	late := context.AfterFunc(ctx, func() {
		fmt.Println("million: the time is over: closing")
		_ = p.client.cmd.Process.Signal(os.Interrupt)
	})
	defer late()
	deadline, _ := ctx.Deadline()
	all, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline.Add(figures.Closing(p.conns)))
	defer cancel()
	defer func() { _ = p.client.cmd.Process.Kill() }() // if it is still there
	tick := time.NewTicker(p.look())
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-all.Done():
			return errors.New("not all sessions were closed in time, or the server did not tell of it")
		}
		m, err := p.server.scrape(all)
		if isLate(err) { // a machine that is too busy for it may answer the next one
			fmt.Printf("million: %6.1f s  the server does not tell its numbers: %v\n", time.Since(p.began).Seconds(), err)
			continue
		}
		if err != nil {
			return err
		}
		if p.step(all, p.mark(m)) {
			return nil
		}
	}
}

// step notes one look at the machine. It reports whether that was the last.
func (p *phase) step(ctx context.Context, m figures.Mark) (over bool) {
	r := p.result
	r.Series = append(r.Series, m.Sample)
	r.Held = max(r.Held, m.Sessions)
	r.PeakRSS = max(r.PeakRSS, m.Server.RSS)
	r.PeakSocket = max(r.PeakSocket, m.Kernel.SocketMem)
	p.say(&m.Sample)
	if !p.opened && m.Sessions >= p.want() && (p.phase == figures.Fanout || m.MessagesIn >= uint64(p.conns)) {
		p.opened = true
		r.Opened = m
		fmt.Printf("million: all %d sessions are open after %.1f s\n", m.Sessions, m.At-r.Base.At)
		if p.phase == figures.Idle {
			go p.server.collect(ctx) // measured by its line in the log
		}
	}
	// The clients' sockets go before the server knows. Some others come and go: the pages', those that wait to be accepted.
	p.most = max(p.most, m.Kernel.TCP)
	const others = 16
	p.closes = p.closes || (p.opened || p.ended()) && (m.Sessions < r.Held || m.Kernel.TCP < p.most-others)
	switch {
	case !p.closes:
		r.Last = m
	case r.CloseBegan == 0:
		r.CloseBegan = m.At
	}
	if m.Sessions == 0 && p.ended() {
		r.Closed = m
		return true
	}
	return false
}

func (p *phase) ended() bool {
	select {
	case <-p.client.done:
		return true
	default:
		return false
	}
}

// mark looks at everything.
func (p *phase) mark(m metrics) figures.Mark {
	k := figures.Mark{Lag: m.lag,
		Slabs: parseSlabinfo(text("/proc/slabinfo"), caches, uint64(os.Getpagesize()))}
	pid := 0
	if p.client != nil && !p.ended() {
		pid = p.client.cmd.Process.Pid
	}
	k.Sample = figures.Sample{
		At: time.Since(p.began).Seconds(), Sessions: int(m.sum["servercore_sessions"]),
		MessagesIn:  uint64(m.sum["servercore_loop_received_messages_total"]),
		MessagesOut: uint64(m.sum["servercore_loop_sent_messages_total"]),
		Server:      lookAt(p.server.cmd.Process.Pid), Client: lookAt(pid), Kernel: lookAtKernel(),
	}
	return k
}

// say prints where the phase is, once in a while.
func (p *phase) say(s *figures.Sample) {
	if time.Since(p.spoke) < speak {
		return
	}
	p.spoke = time.Now()
	base := &p.result.Base
	fmt.Printf("million: %6.1f s  %8d sessions  %9d messages in %9d out  server %5d MiB %6.1f s  client %5d MiB %6.1f s  kernel %6d MiB  free %6d MiB\n",
		s.At, s.Sessions, s.MessagesIn, s.MessagesOut, s.Server.RSS>>20, s.Server.CPU, s.Client.RSS>>20, s.Client.CPU,
		(s.Kernel.Total()-base.Kernel.Total())>>20, s.Kernel.Available>>20)
}

// judge says whether the phase has shown what it was to show.
func (p *phase) judge() {
	r := p.result
	r.Complete = r.Held >= p.want() && r.Verified >= uint64(p.conns) && r.Client.Errors == 0 && r.Closed.At > 0
}

// tail returns the end of a text, without the lines of the garbage collector.
func tail(s string) string {
	lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(s), "\n"), func(line string) bool { return strings.HasPrefix(line, "gc ") })
	return strings.Join(lines[max(0, len(lines)-12):], "\n")
}

// thin returns at most n of the samples, evenly, the last one included.
func thin(list []figures.Sample, n int) []figures.Sample {
	if len(list) <= n {
		return list
	}
	out := make([]figures.Sample, 0, n)
	for i := 1; i <= n; i++ {
		out = append(out, list[i*len(list)/n-1])
	}
	return out
}
