//go:build linux

package trials

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
)

var slowReply = make([]byte, 384<<10) // of T17: more than the soft limit, at once

const slowRate = 50 // connections a second

func init() {
	plans["T17"] = func() plan {
		return plan{
			options: engine.Options{SoftLimit: 256 << 10, SoftLimitFor: lasting(5*time.Second, 2*time.Second),
				WriteTimeout: -1, SendBuffer: 64 << 10},
			raw: func(m *member, data []byte) bool {
				if !strings.HasPrefix(string(data), "GET ") {
					return false
				}
				_ = m.Send([]byte("HTTP/1.1 200 OK\r\nContent-Length: " + strconv.Itoa(len(slowReply)) + "\r\n\r\n"))
				_ = m.Send(slowReply)
				return true
			},
		}
	}
	plans["T31"] = func() plan {
		return plan{options: engine.Options{SendBudget: 64 << 20, SendBuffer: 16 << 10, WriteTimeout: -1}}
	}
	plans["T32"] = func() plan { return plan{options: engine.Options{WriteTimeout: -1, UserTimeout: -1}} } // longer than that nobody reads
}

// T17: the session of a peer that reads a few bytes per second of a large reply ends. There is no minimum rate: it ends because too much
// is queued for too long (Options.SoftLimit). WriteTimeout, which ends a session without any progress, is off here.
//
// Fails without the soft limit: leave SoftLimit out of the plan, or have it never expire in session/deadline.go.
func TestT17SlowRead(t *testing.T) {
	slow := tool(t, "T17", "slowhttptest")
	o := begin(t, "T17", how{})
	n := scaled(1000, 100)
	rule := plans["T17"]().options.SoftLimitFor
	kernel := tcpMemory(t)
	o.forgetPeak()
	out := filepath.Join(t.TempDir(), "slow")
	attack := exec.Command(slow, "-X", "-c", strconv.Itoa(n), "-r", strconv.Itoa(slowRate), "-w", "1", "-y", "512", "-n", "1", "-z", "5", "-p", "3",
		"-l", strconv.Itoa(int((rule+time.Duration(n)*time.Second/slowRate).Seconds())+3), "-u", "http://"+o.at.Records+"/")
	text, err := os.Create(out)
	must(t, err)
	defer text.Close()
	attack.Stdout, attack.Stderr = text, text
	must(t, attack.Start())
	t.Cleanup(func() { _ = attack.Process.Kill() })
	eventually(rule+time.Duration(n)*time.Second/slowRate+3*time.Second, func() bool {
		return o.report().Stats.Total.Ended.SendLimit >= uint64(n)
	})
	r := o.report()
	rss := o.server.memory("VmHWM") - o.base.resident
	_ = attack.Wait()
	var longest time.Duration
	for _, l := range o.silent {
		if because(l, "send limit") {
			longest = max(longest, time.Duration(l.Ended-l.Connected))
		}
	}
	ended := int(r.Stats.Total.Ended.SendLimit)
	o.check("ended by SoftLimit", ended >= n && longest <= rule+2*time.Second, "%d of %d ended, the longest lived %v, the rule is %v; slowhttptest: %s",
		ended, n, longest.Round(time.Millisecond), rule, finding(out))
	bound := n * (1<<20 + 8<<10) // SendLimit is 1 MiB
	o.check("RSS <= sessions * (SendLimit + 8 KiB)", rss <= bound, "%s more than before, want %s", size(rss), size(bound))
	took, ok := eventually(5*time.Second, func() bool { return tcpMemory(t) <= kernel+2<<20 })
	o.check("kernel memory of TCP back <= 5 s", ok, "%s more after %v", size(tcpMemory(t)-kernel), round(took))
	o.finish()
}

var colour = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// finding returns what slowhttptest last printed about the connections.
func finding(path string) string {
	text, _ := os.ReadFile(path)
	all := string(text)
	at := strings.LastIndex(all, "pending:")
	if at < 0 {
		return "nothing"
	}
	all = colour.ReplaceAllString(all[at:], "")
	all, _, _ = strings.Cut(all, "service")
	return strings.Join(strings.Fields(all), " ")
}

// T31: with too little memory for the queues of slow readers, the engine ends the sessions with the longest queues and goes on.
//
// Fails without the budget: leave SendBudget out of the plan, and the kernel ends the process.
func TestT31MemoryPressure(t *testing.T) {
	group := fmt.Sprintf("/sys/fs/cgroup/memory/trials-%d", os.Getpid())
	if err := os.Mkdir(group, 0o755); err != nil {
		skip(t, "T31", "no memory group of cgroup v1: "+err.Error())
	}
	afterwards(t, "for i in 1 2 3 4 5 6 7 8 9 10; do rmdir "+group+" && exit 0; sleep .5; done; exit 1")
	must(t, os.WriteFile(group+"/memory.limit_in_bytes", []byte("256M"), 0))
	o := begin(t, "T31", how{wrapper: []string{"sh", "-c", "echo $$ > " + group + `/cgroup.procs && GOMEMLIMIT=200MiB exec "$0" "$@"`}})
	o.calmBound = 200 * time.Millisecond
	n := scaled(5000, 500)
	clients := make([]*client, n)
	began := time.Now()
	each(n, 50, func(i int) {
		time.Sleep(time.Until(began.Add(time.Duration(i) * 10 * time.Millisecond))) // it is memory that is tried, not the processor
		c := o.connectSmall(4 << 10)
		clients[i] = c
		_ = c.ask(request(verbGive, 64<<20))
	})
	var reading sync.WaitGroup
	d := lasting(30*time.Second, 4*time.Second)
	end := time.Now().Add(d)
	for _, c := range clients {
		reading.Go(func() {
			_ = c.SetDeadline(end)
			_ = c.take(make([]byte, 1<<10), nil, func() bool { // 1 KiB a second
				time.Sleep(time.Second)
				return time.Now().After(end)
			})
		})
	}
	reading.Wait()
	r := o.report()
	o.calmSoFar()
	kills := figure(t, group+"/memory.oom_control", "oom_kill")
	most, err := os.ReadFile(group + "/memory.max_usage_in_bytes")
	must(t, err)
	highest, _ := strconv.Atoi(strings.TrimSpace(string(most)))
	o.check("oom_kill 0", kills == 0, "%d; the most in the group %s of 256 MiB, RSS at most %s", kills, size(highest), size(o.server.memory("VmHWM")))
	e := r.Stats.Total.Ended
	o.check("shedding visible", e.SendBudget > 0, "%d of %d slow readers ended by SendBudget, %s queued", e.SendBudget, n, size(r.Stats.Queued))
	for _, c := range clients {
		c.reset()
	}
	o.finish()
}

// figure returns a number by its name from a file of lines "name number".
func figure(t *testing.T, path, name string) int {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == name {
			n, err := strconv.Atoi(f[1])
			must(t, err)
			return n
		}
	}
	t.Fatalf("no %s in %s", name, path)
	return 0
}

// readWhole makes each client read its reply of 1 MiB, and returns how many got all of it and then a FIN.
func readWhole(clients []*client) (whole int) {
	var mu sync.Mutex
	each(len(clients), len(clients), func(i int) {
		c := clients[i]
		err := c.take(make([]byte, 64<<10), nil, func() bool { return c.in.bytes >= 1<<20 })
		if err == nil {
			_ = c.CloseWrite()
			err = c.takeAll()
		}
		if err == nil && c.in.bytes == 1<<20 {
			mu.Lock()
			defer mu.Unlock()
			whole++
		}
	})
	return whole
}

// T32: when the kernel has no memory for TCP, connections slow down, and they recover when it has memory again.
//
// Fails if a write that the kernel refused is not tried again when it has room: leave "OnWritable(c)" out of look in
// internal/reactor/read.go.
func TestT32KernelTCPMemory(t *testing.T) {
	o := begin(t, "T32", how{})
	n := scaled(500, 200)
	clients := make([]*client, n)
	come := func(i int) {
		c := o.connect()
		clients[i] = c
		_ = c.ask(request(verbGive, 1<<20)) // not read before the memory is back
	}
	early := n * 4 / 5
	each(early, 20, come)
	eventually(patience, func() bool { // that server and kernel hold what they can of it
		served := 0
		for _, l := range o.report().Lives {
			if l.Accepted > 0 {
				served++
			}
		}
		return served == early+bystanders
	})
	ask[calm](o.crowd, "look") // what they have seen of the arrivals is not of the fault
	held := tcpMemory(t)
	restore := setting(t, "T32", "net/ipv4/tcp_mem", "2000 3000 4000")
	d := lasting(30*time.Second, 3*time.Second)
	end := time.Now().Add(d)
	for i := early; i < n; i++ {
		come(i)
		time.Sleep(min(20*time.Millisecond, d/time.Duration(5*(n-early))))
	}
	time.Sleep(d / 5) // requests that the kernel had no memory for come again
	o.idle(max(d/10, time.Second))
	talk := o.converse(20, 50*time.Millisecond, 2*time.Minute)
	time.Sleep(time.Until(end))
	during := tcpMemory(t)
	o.calmSoFar()
	o.calmBound = 2 * o.during.Reference // what the kernel drops it drops for everybody
	restore()
	before := time.Now()
	whole := readWhole(clients)
	took := time.Since(before)
	talk.stopAfter(0)
	talking, bytes, slowest := talk.result(before)
	r := o.report()
	// A client that has read nothing meanwhile waits for the kernel's next probe of its window. Each probe has doubled the time to the next
	// (the persist timer, rto:208 backoff:7 in ss -to).
	o.check("alive, who talks goes on <= 5 s after, every byte arrives", whole == n && talking == 20 && slowest <= 5*time.Second,
		"TCP held %s, then %s of %s; %d of %d replies whole %v after, %d of 20 in conversation whole (%s), the last resumed after %v; %d resets, %d writes would block",
		size(held), size(during), size(4000*os.Getpagesize()), whole, n, round(took), talking, size(bytes), round(slowest), r.Stats.Total.Ended.PeerReset,
		r.Stats.Total.WouldBlock)
	o.finish()
}
