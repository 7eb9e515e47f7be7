//go:build linux

package trials

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/session"
)

// dials is the result of Dials: how many made a session, how many failed with EMFILE, and the last other error.
type dials struct {
	Made, Refused int
	Err           string
}

func init() {
	plans["T27"] = func() plan { return plan{command: dial} }
}

// dial makes the server dial its own ADDRESS NUMBER times.
func dial(c *content, argument string) any {
	var address string
	var n int
	var d dials
	if _, err := fmt.Sscan(argument, &address, &n); err != nil {
		return dials{Err: err.Error()}
	}
	for range n {
		switch h, err := c.engine.Dial(context.Background(), "tcp", address, func() session.Handler { return &member{server: c} }); {
		case err == nil:
			d.Made++
			h.(*member).Disconnect()
		case errors.Is(err, unix.EMFILE):
			d.Refused++
		default:
			d.Err = err.Error()
		}
	}
	return d
}

// unsignalled comes before the wrapper of a traced server. Go preempts goroutines by signals and repeats them until each has stopped, but
// every signal stops a traced process, so the goroutine makes no progress. During a garbage collection the trace shows nothing but
// signals for 20 to 250 ms.
var unsignalled = []string{"env", "GODEBUG=asyncpreemptoff=1"}

// injected starts a trial whose server's system calls fail as the fault says, and returns a function that counts those that have failed.
func injected(t *testing.T, name, call, inject string) (*oracle, func() int) {
	t.Helper()
	trace := filepath.Join(t.TempDir(), "trace")
	o := begin(t, name, how{wrapper: append(slices.Clone(unsignalled), tool(t, "T27", "strace"), "-f", "-qq", "--seccomp-bpf", "-o", trace,
		"-e", "trace="+call, "-e", fmt.Sprintf("inject=%s:%s", call, inject))})
	return o, func() int {
		b, err := os.ReadFile(trace)
		must(t, err)
		return strings.Count(string(b), "(INJECTED)")
	}
}

// T27: a write with a temporary error is tried again, and no session notices. Another error ends its session. A connection that cannot be
// added to epoll is closed.
func TestT27SystemCallErrors(t *testing.T) {
	writesFail(t)
	watchesFail(t)
	dialsFail(t)
}

// writesFail is the part of T27 about writes.
func writesFail(t *testing.T) {
	const n, total, gifts, echoes = 20, 2 << 20, 16, 10 * (headerSize + 64)
	for _, fault := range []struct{ call, name string }{{"write", "EINTR"}, {"writev", "EINTR"}, {"writev", "ENOBUFS"}, {"writev", "ECONNRESET"}, {"writev", "EPIPE"}} {
		name := fault.name
		o, count := injected(t, "T27 "+name, fault.call, "error="+name+":when=2+6")
		invisible := name == "ENOBUFS" || name == "EINTR"
		each(n, 4, func(int) {
			c := o.connect()
			for range 10 { // by write, each; what comes then, by writev
				if err := c.echo(64); err != nil {
					t.Error(err)
				}
			}
			for i := range gifts { // small ones: to make them holds the loop
				if err := c.ask(request(verbGive, total/gifts)); err != nil {
					break // its session has ended
				}
				_ = c.take(make([]byte, 64<<10), nil, func() bool { return c.in.bytes >= int64(echoes+(i+1)*total/gifts) })
			}
			_ = c.CloseWrite()
			_ = c.takeAll()
			_ = c.Close()
		})
		_, ok := o.settledAt(0, patience)
		whole, cut, wrong := 0, 0, 0
		for _, c := range o.clients {
			switch l := o.lives[c.out.id]; {
			case c.in.bytes == total+echoes && because(l, "peer closed"):
				whole++
			case !invisible && because(l, "reset"):
				c.orderly = false // the connection is in order, against what the server was told, and ends so
				cut++
			default:
				wrong++
				t.Logf("%d bytes, %v", c.in.bytes, l)
			}
		}
		times := count()
		if invisible {
			o.check(fault.call+": "+name+" is invisible", ok && times > 0 && whole == n, "%d times, %d of %d complete", times, whole, n)
		} else {
			o.check(fault.call+": "+name+" ends that session", ok && times > 0 && wrong == 0 && cut == times, "%d times, %d reset, %d of %d complete",
				times, cut, whole, n)
		}
		o.finish()
	}
}

// watchesFail is the part of T27 about connections that cannot be added to epoll.
func watchesFail(t *testing.T) {
	for _, name := range []string{"ENOSPC", "ENOMEM"} {
		o, count := injected(t, "T27 "+name, "epoll_ctl", "error="+name+":when=80+3") // of each thread; the bystanders are in by then
		const n = 400
		var served, closed, waiting atomic.Int64
		each(n, 4, func(int) {
			c, err := connect(dialer(0), o.at.Records)
			must(t, err)
			o.watch(c)
			seconds(t, patience, c)
			switch err := c.echo(64); {
			case err == nil:
				served.Add(1)
			case isTimeout(err):
				waiting.Add(1)
			default:
				closed.Add(1)
			}
			_ = c.Close()
		})
		r, times := o.report(), count()
		o.check("epoll_ctl: "+name+" closes the connection", times > 0 && int(closed.Load()) == times && int(r.Stats.Refused.Failed) == times &&
			served.Load()+closed.Load() == n, "%d times, %d closed, %d in Stats, %d served, %d left waiting", times, closed.Load(),
			r.Stats.Refused.Failed, served.Load(), waiting.Load())
		o.finish()
	}
}

// dialsFail is the part of T27 about a Dial without a free descriptor.
func dialsFail(t *testing.T) {
	o := begin(t, "T27 EMFILE", how{wrapper: unsignalled})
	trace := filepath.Join(t.TempDir(), "trace")
	tracer := exec.Command(tool(t, "T27", "strace"), "-f", "-qq", "-o", trace, "-e", "trace=fcntl", "-e", "inject=fcntl:error=EMFILE:when=1+2",
		"-p", strconv.Itoa(o.server.pid)) // not from its start, which has fcntls of its own
	var err error
	unhampered(func() { err = tracer.Start() })
	must(t, err)
	t.Cleanup(func() { _ = tracer.Process.Kill() })
	if _, ok := eventually(patience, o.server.traced); !ok {
		t.Fatal("strace has not begun")
	}
	d := ask[dials](o.server, "dial "+o.at.Records+" 100")
	o.settledAt(0, patience)
	must(t, tracer.Process.Signal(os.Interrupt))
	_ = tracer.Wait() // tells of the signal
	b, err := os.ReadFile(trace)
	must(t, err)
	times, r := strings.Count(string(b), "(INJECTED)"), o.report()
	o.check("fcntl: EMFILE fails that Dial", times > 0 && d.Refused == times && d.Made == 100-times && d.Err == "" && int(r.Stats.DialErrors) == times,
		"%d times, %d of 100 Dials failed, %d in Stats, %d sessions %s", times, d.Refused, r.Stats.DialErrors, d.Made, d.Err)
	o.finish()
}

// traced reports whether every thread of the process is being traced.
func (p *process) traced() bool {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.pid))
	must(p.t, err)
	for _, task := range tasks {
		if b, err := os.ReadFile(task); err != nil || strings.Contains(string(b), "TracerPid:\t0\n") {
			return false
		}
	}
	return len(tasks) > 0
}
