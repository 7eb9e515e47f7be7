//go:build linux

package trials

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/engine"
)

func init() {
	plans["T24"] = func() plan { return plan{options: engine.Options{MaxSessions: -1}} }
	plans["T33"] = func() plan { return plan{options: engine.Options{MaxSessions: bystanders + scaled(1000, 100)}} }
}

// T24: without free descriptors the engine goes on, keeps its sessions, and refuses new connections at once.
//
// Fails if new connections are left waiting: have outOfDescriptors in engine/admission.go return false.
func TestT24DescriptorsExhausted(t *testing.T) {
	o := begin(t, "T24", how{})
	limit := uint64(o.server.descriptors() + 200)
	must(t, unix.Prlimit(o.server.pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: limit}, nil))
	var served, shed, waiting atomic.Int64
	clients := make([]*client, 1000)
	each(len(clients), 50, func(i int) {
		c, err := connect(dialer(0), o.at.Records)
		if err != nil { // shed before connect had returned
			shed.Add(1)
			return
		}
		o.watch(c)
		clients[i] = c
		seconds(t, time.Second, c)
		switch err := c.echo(64); {
		case err == nil:
			served.Add(1)
			return
		case isTimeout(err):
			waiting.Add(1)
		default:
			shed.Add(1)
		}
		clients[i] = nil
		_ = c.Close()
	})
	o.idle(lasting(10*time.Second, time.Second))
	lost := 0
	for _, c := range clients {
		if c == nil {
			continue
		}
		if seconds(t, patience, c); c.echo(64) != nil {
			lost++
		}
	}
	r := o.report()
	o.check("sessions kept", served.Load() >= 190 && lost == 0, "%d served of 1000, %d lost", served.Load(), lost)
	o.check("excess refused <= 1 s each", waiting.Load() == 0 && shed.Load() == int64(r.Stats.Refused.Descriptors),
		"%d refused, %d in Stats, %d left waiting", shed.Load(), r.Stats.Refused.Descriptors, waiting.Load())
	for _, c := range clients {
		if c != nil {
			_ = c.Close()
		}
	}
	o.finish()
}

// T25: the engine goes on after any error of accept. A system call that fails here takes no connection, so no connection is lost. None is
// shed either, because there are enough descriptors: each is accepted at the next try. ECONNABORTED is not counted, because it means that
// the client has closed.
//
// Fails if an error of accept ends the listener: have acceptWaiting in engine/accept.go return 0 for every error. Fails too if a connection
// that arrives just after the listener's goroutine has found none is left waiting: have await in engine/listener.go not look for itself.
func TestT25AcceptErrors(t *testing.T) {
	strace := tool(t, "T25", "strace")
	whens := []string{"1", "1..3", "1+2"}
	for i, name := range []string{"EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "EPERM", "EPROTO", "ENETDOWN", "ECONNABORTED", "EINVAL"} {
		for j, when := range whens {
			if !full() && j != (i+1)%len(whens) {
				continue
			}
			inject := fmt.Sprintf("inject=accept4:error=%s:when=%s", name, when)
			o := begin(t, "T25 "+name, how{wrapper: append(slices.Clone(unsignalled), strace, "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=accept4",
				"-e", inject)})
			const n = 30
			var lost, waiting atomic.Int64
			each(n, 10, func(int) {
				c := o.connect()
				seconds(t, 2*time.Second, c)
				if err := c.echo(64); isTimeout(err) {
					waiting.Add(1)
				} else if err != nil {
					lost.Add(1)
				}
				_ = c.Close()
			})
			r := o.report()
			left := waiting.Load() + int64(o.waited)
			shed := r.Stats.Refused.Descriptors
			counted := (r.Stats.AcceptErrors > 0) == (name != "ECONNABORTED")
			o.check("alive, none lost, errors counted", counted && left == 0 && lost.Load() == 0 && shed == 0,
				"when %s: %d errors, %d of %d connections lost, %d of them shed, %d left waiting", when, r.Stats.AcceptErrors, lost.Load(), n, shed, left)
			o.finish()
		}
	}
}

// tool returns the path of a program, or skips the trial.
func tool(t *testing.T, trial, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		packages := map[string]string{"ss": "iproute2", "ip": "iproute2", "tc": "iproute2"}
		if packages[name] == "" {
			packages[name] = name
		}
		skip(t, trial, name+" is not installed (package "+packages[name]+")")
	}
	return path
}

func isTimeout(err error) bool {
	return err != nil && strings.Contains(err.Error(), "i/o timeout")
}
