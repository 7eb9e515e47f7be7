//go:build linux

package trials

import (
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// N4: neither a member that does not read nor a node that is stopped delays the others, and what they miss is counted.
//
// It notices: a Broadcast that waits for a member, one queue for all nodes, a node that comes back and has counted nothing. A Broadcast that
// waits for a bus is for TestN4SlowBus: the bus is not slow here.
func TestN4Slow(t *testing.T) {
	for _, k := range []kind{routes, outside} {
		t.Run(string(k), func(t *testing.T) {
			f := launch(t, "N4 slow", k, 3)
			c := f.chorus("a", 0, 1, 2)
			c.padding = " " + strings.Repeat("x", 4000)
			span := lasting(10*time.Second, 3*time.Second)
			interval := 5 * time.Millisecond
			if full() {
				interval = 2 * time.Millisecond // 6 MB/s in all
			}
			c.start(interval)
			before := c.delays(span / 2)
			f.sluggard("a", 1)
			member := c.delays(span)
			skipped := ask[int](f.nodes[1].process, "skipped a")
			f.nodes[2].signal(syscall.SIGSTOP)
			stopped := c.delays(span)
			f.nodes[2].signal(syscall.SIGCONT)
			c.stop()
			bound := max(100*time.Millisecond, 5*before.at(0.99))
			if !full() { // others may use the machine
				bound = max(time.Second, 10*before.at(0.99))
			}
			least := int(span/interval) * len(c.ears[:2]) / 2 // half of what there is to hear: none was held up
			f.check("a member that does not read delays nobody", member.at(0.99) <= bound && len(member) >= least, "99 %% of %d within %v, bound %v, before %v",
				len(member), round(member.at(0.99)), round(bound), round(before.at(0.99)))
			f.check("what it misses is counted", skipped > 0, "%d messages", skipped)
			f.check("a node that is stopped delays nobody", stopped.at(0.99) <= bound && len(stopped) >= least, "99 %% of %d within %v, bound %v", len(stopped), round(stopped.at(0.99)), round(bound))
			f.whole()
			c.account("what the node misses is counted", false)
			lost := c.between(0, 1) + c.between(1, 0)
			f.check("the others miss nothing of one another", lost == 0, "%d", lost)
			f.judge()
		})
	}
}

// delays returns how long messages take from the voice of node 0 to the ears of nodes 0 and 1, for a while.
func (c *chorus) delays(span time.Duration) (all spread) {
	for _, ear := range c.ears[:2] {
		l := ear.line()
		l.mu.Lock()
		l.delays, l.keep, l.keepOf = nil, true, c.voices[0].name
		l.mu.Unlock()
	}
	time.Sleep(span) // what is measured is this span
	for _, ear := range c.ears[:2] {
		l := ear.line()
		l.mu.Lock()
		all = append(all, l.delays...)
		l.keep = false
		l.mu.Unlock()
	}
	return all
}

// sluggard is a member that reads nothing.
func (f *fleet) sluggard(room string, node int) {
	f.t.Helper()
	conn, err := net.Dial("tcp", f.nodes[node].client)
	must(f.t, err)
	f.closer.add(conn)
	must(f.t, conn.(*net.TCPConn).SetReadBuffer(4096))
	_, err = fmt.Fprintf(conn, "1 name sluggard\n2 join %s\n", room)
	must(f.t, err)
}
