//go:build linux

package trials

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
)

const floodRoom = 500

// floodUser is the user ID of T28's server. T28 counts the epoll watches of this user, who has no other process.
const floodUser = 60028

func init() {
	plans["T29"] = func() plan { return plan{options: engine.Options{MaxSessions: floodRoom}} }
	plans["T28"] = func() plan { return plan{uid: floodUser} }
}

// T29: connections that are opened and closed at once, and port scans, cost no more descriptors than MaxSessions allows.
func TestT29ConnectionFlood(t *testing.T) {
	o := begin(t, "T29", how{})
	d, workers := lasting(30*time.Second, time.Second), scaled(256, 16)
	peak := 0
	for _, end := range []string{"RST", "FIN"} {
		before := ask[engine.Stats](o.server, "stats") // not a report: one of so many sessions would hold the server for 100 ms
		var times int64
		done := make(chan struct{})
		go func() { defer close(done); times = openAndClose(o.at.Records, workers, end, d) }()
		for over := false; !over; {
			select {
			case <-done:
				over = true
			case <-time.After(10 * time.Millisecond):
				peak = max(peak, o.server.descriptors()-o.base.descriptors)
			}
		}
		ok := o.liveAt(bystanders, patience)
		after := ask[engine.Stats](o.server, "stats")
		o.check("all sessions have ended, "+end, ok, "%d connections, %d accepted, %d refused, %.0f a second", times, after.Accepted-before.Accepted,
			after.Refused.Sum()-before.Refused.Sum(), float64(after.Accepted-before.Accepted+after.Refused.Sum()-before.Refused.Sum())/d.Seconds())
	}
	o.calmSoFar()
	bound := floodRoom + runtime.NumCPU() + 64
	o.check("peak fds <= cap + loops + 64", peak <= bound, "%d, allowed are %d", peak, bound)
	if nmap, err := exec.LookPath("nmap"); err != nil {
		note(line{"T29", "nmap -sT, -sS, -sV", "nmap is not installed", notRun})
	} else {
		_, port := split(t, o.at.Records)
		for _, scan := range []string{"-sT", "-sS", "-sV"} {
			if scan == "-sV" && !full() {
				note(line{"T29", "nmap " + scan, "takes half a minute, only at full scale", notRun})
				continue
			}
			out, err := exec.Command(nmap, "-Pn", "-n", "--host-timeout", "2m", scan, "-p", port, "127.0.0.1").CombinedOutput()
			open := strings.Contains(string(out), port+"/tcp open")
			ok := o.liveAt(bystanders, patience)
			o.check("nmap "+scan, ok && err == nil && open, "open %v, %v", open, err)
		}
	}
	o.finish()
	o.compareAccepting(d/6, 5, workers)
}

// T28: a connection that the engine cannot add to epoll is closed, and the handler never learns of it.
func TestT28WatchLimit(t *testing.T) {
	const setting, limit, n = "/proc/sys/fs/epoll/max_user_watches", 200, 500
	if !full() {
		skip(t, "T28", "only at full scale, it is a limit of the whole machine")
	}
	before, err := os.ReadFile(setting)
	must(t, err)
	o := begin(t, "T28", how{})
	// The limit is per user. When it is set, the clients' own sockets are in epoll already, and the server's are not yet.
	o.stopped(func() {
		for range n {
			o.connect()
		}
		t.Cleanup(func() { must(t, os.WriteFile(setting, before, 0)) })
		must(t, os.WriteFile(setting, []byte(strconv.Itoa(limit)), 0))
	})
	var served, closed, waiting atomic.Int64
	each(n, 20, func(i int) {
		c := o.clients[i]
		seconds(t, patience, c)
		switch err := c.echo(64); {
		case err == nil:
			served.Add(1)
		case isTimeout(err):
			waiting.Add(1)
		default:
			closed.Add(1)
		}
	})
	r := o.report()
	o.check("refused ones closed, no OnConnected for them", served.Load() > 0 && served.Load() < limit && served.Load()+closed.Load() == n &&
		r.Live == int(served.Load())+bystanders && r.Stats.Refused.Failed == uint64(closed.Load()),
		"%d served, %d closed, %d left waiting; %d live, %d in Stats", served.Load(), closed.Load(), waiting.Load(), r.Live-bystanders, r.Stats.Refused.Failed)
	o.idle(time.Second)
	for _, c := range o.clients {
		_ = c.Close()
	}
	must(t, os.WriteFile(setting, before, 0))
	o.settledAt(0, patience)
	o.finish()
}
