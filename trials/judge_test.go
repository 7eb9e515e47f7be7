//go:build linux

package trials

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The end of a trial: the oracle judges the eight criteria.

// finish judges the trial. The fault is over, and every client of the trial has closed its connection or is about to.
func (o *oracle) finish() {
	o.t.Helper()
	o.fresh()
	var gone calm
	if o.crowd != nil {
		if o.during.Answers == 0 {
			o.calmSoFar()
		}
		o.judgeCalm(o.during)
		gone = ask[calm](o.crowd, "leave")
	}
	for _, c := range o.clients {
		_ = c.Close()
	}
	o.crowd = nil // nobody is expected to be there any more
	leaks := o.judgeLeaks()
	o.judgeStreams(gone)
	if o.steady > 0 {
		share := float64(o.quiet) / float64(o.steady)
		o.require(share <= 0.05, "O7: %.1f %% of a core in the faulty state, want 5", 100*share)
	}
	o.judgeEnd()
	lines, worst := o.server.noise()
	o.require(worst <= 10, "O8: %d lines logged in one second, want 10; the last is %s", worst, last(o.server))

	figure := fmt.Sprintf("%s; %d log lines", leaks, lines)
	if o.before.Answers > 0 {
		figure = fmt.Sprintf("p99 %v (before %v, a plain server's %v), %s", round(o.during.P99), round(o.before.P99), round(o.during.Reference), figure)
	}
	if o.steady > 0 {
		figure += fmt.Sprintf(", CPU %.1f %%", 100*float64(o.quiet)/float64(o.steady))
	}
	if len(o.failed) > 0 {
		figure = strings.Join(o.failed, "; ")
	}
	o.check("O1-O8", len(o.failed) == 0, "%s", figure)
}

func (o *oracle) require(ok bool, format string, args ...any) {
	if !ok {
		o.failed = append(o.failed, fmt.Sprintf(format, args...))
	}
}

// judgeCalm judges O6. The latency is judged at full scale only, see within.
func (o *oracle) judgeCalm(c calm) {
	bound := max(20*time.Millisecond, 5*o.before.P99)
	bound = max(bound, o.calmBound)
	o.require(len(c.Errors) == 0, "O6: bystanders: %v", c.Errors)
	o.require(c.Answers > 0, "O6: the bystanders had no answer")
	o.require(c.P99 <= bound || !full(), "O6: bystanders' p99 %v, want %v (before the fault %v, a plain server %v)", round(c.P99), round(bound),
		round(o.before.P99), round(c.Reference))
}

// judgeLeaks judges O5.
func (o *oracle) judgeLeaks() string {
	var r report
	var descriptors int
	bound := o.base.heap + o.base.heap/10 + 2<<20
	eventually(5*time.Second, func() bool {
		r = ask[report](o.server, "report gc")
		o.keep(r)
		descriptors = o.server.descriptors()
		return r.Live == 0 && r.Buffers == 0 && distance(descriptors, o.base.descriptors) <= 2 &&
			distance(r.Goroutines, o.base.goroutines) <= 5 && r.Heap <= bound
	})
	o.require(r.Live == 0 && r.Stats.Sessions == 0, "O5: %d sessions live, %d count", r.Live, r.Stats.Sessions)
	o.require(r.Buffers == 0, "O5: %d buffers were not released", r.Buffers)
	o.require(distance(descriptors, o.base.descriptors) <= 2, "O5: %d descriptors, %d before", descriptors, o.base.descriptors)
	o.require(distance(r.Goroutines, o.base.goroutines) <= 5, "O5: %d goroutines, %d before", r.Goroutines, o.base.goroutines)
	o.require(r.Heap <= bound, "O5: heap %s, %s before", size(r.Heap), size(o.base.heap))
	o.require(len(r.Faults) == 0, "O3: %v", r.Faults)
	o.require(r.Connected == r.Ended && r.Connected == int(r.Stats.Accepted+r.Stats.Dialed), "O3: OnConnected %d, OnDisconnected %d, admitted or dialled %d",
		r.Connected, r.Ended, r.Stats.Accepted+r.Stats.Dialed)
	return fmt.Sprintf("fds %+d, goroutines %+d, heap %+.1f MiB", descriptors-o.base.descriptors, r.Goroutines-o.base.goroutines,
		(float64(r.Heap)-float64(o.base.heap))/(1<<20))
}

// judgeStreams judges O4.
func (o *oracle) judgeStreams(gone calm) {
	for _, c := range o.clients {
		o.judgeStream(c, o.lives[c.out.id])
	}
	for id, whole := range gone.Ends {
		l := o.lives[id]
		o.require(whole && gone.Read[id] == l.Sent && l.Whole, "O4: bystander %x: OnSend %d, read %d", id, l.Sent, gone.Read[id])
	}
	if len(o.failed) > 10 {
		o.failed = append(o.failed[:10], "and more")
	}
}

func (o *oracle) judgeStream(c *client, l life) {
	id := c.out.id
	o.require(c.in.wrong == nil, "O4: client: %v", c.in.wrong)
	if l.ID == 0 {
		return // it sent no whole record
	}
	o.require(l.Received <= c.sent && l.Records <= c.out.seq, "O4: connection %x: %d bytes received of %d sent", id, l.Received, c.sent)
	o.require(c.in.bytes <= l.Sent && l.Sent <= l.Accepted, "O4: connection %x: accepted %d, OnSend %d, read %d", id, l.Accepted,
		l.Sent, c.in.bytes)
	if c.orderly {
		o.require(c.in.whole() && c.in.bytes == l.Sent && l.Sent == l.Accepted,
			"O4: connection %x ended in good order: accepted %d, OnSend %d, read %d", id, l.Accepted, l.Sent, c.in.bytes)
	}
}

// judgeEnd judges O1.
func (o *oracle) judgeEnd() {
	select {
	case <-o.server.exited:
		o.require(false, "O1: the process has ended by itself, exit code %d", o.server.code)
	default:
		o.server.signal(syscall.SIGTERM)
		o.keep(heard[report](o.server, "SIGTERM"))
		code := o.server.gone()
		o.require(code == 0, "O1: exit code %d", code)
	}
	if at := disaster.FindString(o.server.said()); at != "" {
		o.require(false, "O1: the process said %q", at)
		o.t.Log(o.server.said())
	}
}

func last(p *process) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.log) == 0 {
		return ""
	}
	return strings.TrimSpace(p.log[len(p.log)-1])
}

func distance(a, b int) int { return max(a-b, b-a) }

func size[T int | uint64 | int64](n T) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

func round(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

// because reports whether a session ended for the given reason.
func because(l life, cause string) bool { return slices.Contains(l.Causes, cause) }
