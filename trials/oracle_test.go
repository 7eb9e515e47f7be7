//go:build linux

package trials

import (
	"fmt"
	"net"
	"os"
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

// how says how a trial's processes are started.
type how struct {
	wrapper []string   // before the server
	alone   bool       // without bystanders: the trial ends the server, or has nobody come in before the fault
	inside  *namespace // where the server and the bystanders are
	from    *namespace // where the clients are
}

// begin starts a trial: the server, a first client, the bystanders, and the measurement of their latency without a fault.
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

// check judges one criterion of the trial.
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

// skip skips a trial that this machine cannot run.
func skip(t *testing.T, name, why string) {
	t.Helper()
	note(line{name, "", why, notRun})
	t.Skip(why)
}

// connect makes a connection whose record the oracle compares with the server's at the end.
func (o *oracle) connect() *client { return o.connectSmall(0) }

// connectSmall is connect with a small receive buffer (SO_RCVBUF, in bytes), for a client that does not read.
func (o *oracle) connectSmall(receive int) *client {
	o.t.Helper()
	c, err := o.dial(dialer(receive))
	if err != nil {
		o.t.Fatal(err)
	}
	o.watch(c)
	return c
}

// dial connects from the namespace of the clients.
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

// report asks the server for a report, and keeps the records of sessions that have ended.
func (o *oracle) report() report {
	o.t.Helper()
	r := ask[report](o.server, "report")
	o.keep(r)
	return r
}

// forgetPeak resets the server's peak memory (VmHWM) after a garbage collection, and returns the new value.
func (o *oracle) forgetPeak() int {
	o.t.Helper()
	o.keep(ask[report](o.server, "report gc"))
	must(o.t, os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", o.server.pid), []byte("5"), 0))
	return o.server.memory("VmRSS")
}

// grownTo returns by how many bytes memory has peaked above base since forgetPeak, and whether that is allowed. With the race detector it
// always is.
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

// ended waits until a report has the end of a client's session.
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

// settled waits until n sessions are open besides the bystanders, and returns the last report.
func (o *oracle) settledAt(n int, within time.Duration) (report, bool) {
	o.t.Helper()
	if o.crowd != nil {
		n += bystanders
	}
	ok := o.liveAt(n, within)
	return o.report(), ok
}

// liveAt waits until n sessions are open, the bystanders included. Unlike a report, it costs the server no memory.
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

// fresh judges O2: a new connection is served within a second, at the latest two seconds after the fault.
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

// idle measures O7: the CPU time for d in the faulty state, while the bystanders are silent.
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

// stopped stops the server (SIGSTOP) while f runs. The bystanders are silent meanwhile and judged from the time at which it continues.
func (o *oracle) stopped(f func()) {
	o.t.Helper()
	ask[calm](o.crowd, "pause")
	time.Sleep(2 * bystanderEvery)
	o.server.signal(syscall.SIGSTOP)
	f()
	o.server.signal(syscall.SIGCONT)
	ask[calm](o.crowd, "resume")
}

// calmSoFar adds what the bystanders have measured so far, before they are stopped.
func (o *oracle) calmSoFar() {
	o.t.Helper()
	eventually(patience, func() bool { // they may just have been told to go on, and the machine is busy
		o.during = ask[calm](o.crowd, "look")
		return o.during.Answers > 0 || len(o.during.Errors) > 0
	})
}
