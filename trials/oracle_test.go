//go:build linux

package trials

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// oracle is one trial: its server process, its bystanders, its clients, and the eight criteria.
type oracle struct {
	t      *testing.T
	name   string
	server *process
	at     hello
	crowd  *process // nil if the trial has none
	from   *namespace

	base struct {
		descriptors, goroutines, resident int
		heap                              uint64
	}
	calmBound time.Duration // O6's bound, where a trial has another
	before    calm          // the bystanders without a fault
	during    calm          // and with it
	quiet     time.Duration // O7: processor time
	steady    time.Duration // within that time, 0 if the trial has no steady state
	waited    int           // fresh connections that were not answered in time, at the first try

	mu      sync.Mutex
	clients []*client
	lives   map[uint64]life
	silent  []life // of sessions that sent no record

	failed []string
}

// how a trial's processes are started.
type how struct {
	wrapper []string   // before the server
	alone   bool       // without bystanders: the trial ends the server, or has nobody come in before the fault
	inside  *namespace // where the server and the bystanders are
	from    *namespace // where the clients are
}

// begin starts a trial: the server, a first visitor, the bystanders, and their latency without a fault.
func begin(t *testing.T, name string, h how) *oracle {
	t.Helper()
	o := &oracle{t: t, name: name, lives: map[uint64]life{}, from: h.from}
	o.server = startIn(h.inside, t, "server "+name, h.wrapper...)
	o.at = heard[hello](o.server, "start")
	o.server.pid = o.at.PID
	o.fresh()
	o.settled()
	r := ask[report](o.server, "report gc")
	o.base.descriptors, o.base.goroutines, o.base.heap = o.server.descriptors(), r.Goroutines, r.Heap
	o.base.resident = o.server.memory("VmRSS")
	if h.alone {
		return o
	}
	o.crowd = startIn(h.inside, t, "bystanders")
	if joined := ask[calm](o.crowd, "join "+o.at.Records+" "+heard[string](startIn(h.inside, t, "reference"), "reference")); len(joined.Errors) > 0 {
		t.Fatalf("bystanders: %v", joined.Errors)
	}
	time.Sleep(400 * time.Millisecond) // of traffic, to compare with
	o.before = ask[calm](o.crowd, "look")
	return o
}

// check is one criterion of the trial.
func (o *oracle) check(criterion string, ok bool, format string, args ...any) {
	o.t.Helper()
	figure := fmt.Sprintf(format, args...)
	l := line{o.name, criterion, figure, pass}
	if !ok {
		l.verdict = fail
		o.t.Errorf("%s: %s: %s", o.name, criterion, figure)
	}
	o.t.Logf("%-7s %s: %s", l.verdict, criterion, figure)
	note(l)
}

// skip is for a trial that this machine cannot run.
func skip(t *testing.T, name, why string) {
	t.Helper()
	note(line{name, "", why, notRun})
	t.Skip(why)
}

// connect is a connection whose record the oracle compares with the server's at the end.
func (o *oracle) connect() *client { return o.connectSmall(0) }

// connectSmall has SO_RCVBUF set, to hold little that its owner does not read.
func (o *oracle) connectSmall(receive int) *client {
	o.t.Helper()
	c, err := o.dial(dialer(receive))
	if err != nil {
		o.t.Fatal(err)
	}
	o.watch(c)
	return c
}

// dial connects from where the clients are.
func (o *oracle) dial(d net.Dialer) (c *client, err error) {
	o.from.do(func() { c, err = connect(d, o.at.Records) })
	return c, err
}

func (o *oracle) watch(c *client) {
	_ = c.SetDeadline(time.Now().Add(patience + 2*time.Minute))
	o.t.Cleanup(func() { _ = c.Close() })
	o.mu.Lock()
	defer o.mu.Unlock()
	o.clients = append(o.clients, c)
}

// report asks the server, and keeps what it tells of sessions that have ended.
func (o *oracle) report() report {
	o.t.Helper()
	r := ask[report](o.server, "report")
	o.keep(r)
	return r
}

// forgetPeak has VmHWM begin anew, and returns what it begins with. Garbage of the past is collected first.
func (o *oracle) forgetPeak() int {
	o.t.Helper()
	o.keep(ask[report](o.server, "report gc"))
	must(o.t, os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", o.server.pid), []byte("5"), 0))
	return o.server.memory("VmRSS")
}

// grownTo returns by how much memory has peaked above base since forgetPeak, and whether that is allowed. The race detector's
// own memory is not the engine's.
func (o *oracle) grownTo(base, allowed int) (grown int, ok bool) {
	o.t.Helper()
	grown = o.server.memory("VmHWM") - base
	return grown, grown <= allowed || racing()
}

func (o *oracle) keep(r report) {
	for _, l := range r.Lives {
		switch {
		case l.Ended == 0:
		case l.ID == 0:
			o.silent = append(o.silent, l)
		default:
			if _, twice := o.lives[l.ID]; twice {
				o.failed = append(o.failed, fmt.Sprintf("O3: connection %x ended twice", l.ID))
			}
			o.lives[l.ID] = l
		}
	}
}

// ended waits until the server has told of the end of a client's session.
func (o *oracle) ended(c *client, within time.Duration) life {
	o.t.Helper()
	var l life
	seen := -1
	if _, ok := eventually(within, func() bool {
		if n := ask[int](o.server, "live"); n != seen { // unlike a report, it costs the server no memory
			seen = n
			o.report()
			l = o.lives[c.out.id]
		}
		return l.Ended != 0
	}); !ok {
		o.t.Fatalf("%s: the session of connection %x has not ended after %v", o.name, c.out.id, within)
	}
	return l
}

// settled waits until only n sessions live besides the bystanders, and returns the last report.
func (o *oracle) settledAt(n int, within time.Duration) (report, bool) {
	o.t.Helper()
	if o.crowd != nil {
		n += bystanders
	}
	ok := o.liveAt(n, within)
	return o.report(), ok
}

// liveAt waits until n sessions live, the bystanders included. Unlike a report, it costs the server no memory.
func (o *oracle) liveAt(n int, within time.Duration) bool {
	o.t.Helper()
	_, ok := eventually(within, func() bool { return ask[int](o.server, "live") == n })
	return ok
}

func (o *oracle) settled() report {
	o.t.Helper()
	r, ok := o.settledAt(0, patience)
	if !ok {
		o.t.Fatalf("%s: %d sessions live that should have ended", o.name, r.Live)
	}
	return r
}

// fresh is O2: somebody new is served within a second, at the latest two seconds after the fault.
func (o *oracle) fresh() {
	o.t.Helper()
	var took time.Duration
	var err error
	_, ok := eventually(within(2*time.Second), func() bool {
		began := time.Now()
		var c *client
		d := dialer(0)
		d.Timeout = within(time.Second)
		if c, err = o.dial(d); err != nil {
			return false
		}
		defer c.Close()
		_ = c.SetDeadline(began.Add(within(time.Second)))
		err = c.echo(64)
		took = time.Since(began)
		if isTimeout(err) {
			o.waited++
		}
		return err == nil
	})
	if !ok {
		o.failed = append(o.failed, fmt.Sprintf("O2: a fresh connection: %v after %v", err, took))
	}
}

// idle is O7, measured for d in the faulty state while the bystanders are silent.
func (o *oracle) idle(d time.Duration) {
	o.t.Helper()
	if o.crowd != nil {
		ask[calm](o.crowd, "pause")
		defer ask[calm](o.crowd, "resume")
		time.Sleep(2 * bystanderEvery)
	}
	began, before := time.Now(), o.server.processor()
	time.Sleep(d)
	o.steady = time.Since(began)
	o.quiet = o.server.processor() - before
}

// stopped has the server stand still while f runs. The bystanders are silent meanwhile, and judged from when it goes on.
func (o *oracle) stopped(f func()) {
	o.t.Helper()
	ask[calm](o.crowd, "pause")
	time.Sleep(2 * bystanderEvery)
	o.server.signal(syscall.SIGSTOP)
	f()
	o.server.signal(syscall.SIGCONT)
	ask[calm](o.crowd, "resume")
}

// calmSoFar takes what the bystanders have seen into account before they are stopped.
func (o *oracle) calmSoFar() {
	o.t.Helper()
	eventually(patience, func() bool { // they may just have been told to go on, and the machine is busy
		o.during = ask[calm](o.crowd, "look")
		return o.during.Answers > 0 || len(o.during.Errors) > 0
	})
}

// finish judges. The fault is over, and every client of the trial has left or is about to.
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

// judgeCalm is O6. The latency is judged at full scale only, see within.
func (o *oracle) judgeCalm(c calm) {
	bound := max(20*time.Millisecond, 5*o.before.P99)
	bound = max(bound, o.calmBound)
	o.require(len(c.Errors) == 0, "O6: bystanders: %v", c.Errors)
	o.require(c.Answers > 0, "O6: the bystanders had no answer")
	o.require(c.P99 <= bound || !full(), "O6: bystanders' p99 %v, want %v (before the fault %v, a plain server %v)", round(c.P99), round(bound),
		round(o.before.P99), round(c.Reference))
}

// judgeLeaks is O5.
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

// judgeStreams is O4.
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

// judgeEnd is O1.
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

// because reports whether a session ended for a reason.
func because(l life, cause string) bool { return slices.Contains(l.Causes, cause) }
