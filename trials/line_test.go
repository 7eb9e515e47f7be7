//go:build linux

package trials

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
)

func init() {
	at := farAddress + ":0"
	plans["T22"] = func() plan { return plan{address: at} }
	plans["T30"] = plans["T22"]
	// On a line this full, TCP may transfer nothing for longer than 10 s, the default time after which a write without progress ends its
	// session.
	plans["T23"] = func() plan {
		return plan{address: at, options: engine.Options{WriteTimeout: time.Minute, UserTimeout: time.Minute}}
	}
}

// T22: a line that loses, delays, duplicates, reorders and damages packets costs time and nothing else.
//
// Fails if a retransmission ends a session: have userTimeout in engine/socket_linux.go set 300 ms.
func TestT22BadLine(t *testing.T) {
	near, far, line := newRelay(t, "T22", weather{loss: .05, double: .01, flip: .005, delay: 20 * time.Millisecond, jitter: 10 * time.Millisecond})
	o := begin(t, "T22", how{from: near, inside: far})
	line.bad.Store(true)
	n, d := scaled(200, 30), lasting(time.Minute, 5*time.Second)
	talk := o.converse(n, 100*time.Millisecond, d+patience)
	talk.stopAfter(d)
	whole, bytes, _ := talk.result(time.Time{})
	r := o.report()
	e := r.Stats.Total.Ended
	o.check("exact bytes, 0 disconnects", whole == n && e.PeerReset+e.WriteStall+e.Idle == 0 && line.lost.Load() > 0 && line.bent.Load() > 0 && line.late.Load() > 0,
		"%d of %d sessions whole, %s answered; of %d packets %d lost, %d damaged, %d late", whole, n, size(bytes), line.passed.Load()+line.lost.Load(),
		line.lost.Load(), line.bent.Load(), line.late.Load())
	line.bad.Store(false)
	o.finish()
}

// T23: on a line of 1 Mbit/s (10 Mbit/s below full scale), each session that fills it has its share, and sessions on other lines are not
// affected.
//
// The slow line belongs to a router, not to the server's own device: in a queue of its own machine, TCP limits each connection to a few
// packets, and a connection that once has more keeps them. The congestion control is reno, which every Linux has. It becomes fair within
// some hundred round trips; bbr, the default of some systems, was not fair after 15 s. Below full scale there is less time, and round
// trips are shorter.
//
// Fails if the loop waits for a full connection: have Write in internal/reactor/conn.go wait 20 ms where it would block.
func TestT23NarrowLine(t *testing.T) {
	tool(t, "T23", "tc")
	near, router, far := routed(t, "T23")
	line, d := "rate 1mbit burst 32kbit latency 400ms", lasting(2*time.Minute, 0)
	if !full() {
		line, d = "rate 10mbit burst 128kbit latency 40ms", max(d, 15*time.Second)
	}
	router.run(t, "tc qdisc add dev tonear root tbf "+line)
	far.set(t, "tcp_congestion_control", "reno")
	o := begin(t, "T23", how{from: near, inside: far})
	n := scaled(10, 5)
	bulk := make([]*client, n)
	var reading sync.WaitGroup
	for i := range bulk {
		bulk[i] = o.connect()
		must(t, bulk[i].ask(request(verbGive, 1<<30)))
		reading.Go(func() {
			if err := bulk[i].takeAll(); !errors.Is(err, net.ErrClosed) {
				t.Logf("bulk flow %d of %d ends with %v", i, n, err)
			}
		})
	}
	pings := o.converse(n, time.Second, d+time.Minute)
	pings.stopAfter(d)
	for _, c := range bulk {
		c.reset()
	}
	reading.Wait()
	var sum int64
	least := int64(1 << 62)
	for _, c := range bulk {
		sum += c.in.bytes
		least = min(least, c.in.bytes)
	}
	whole, _, _ := pings.result(time.Time{})
	share := float64(least) / float64(max(sum, 1))
	fair := 1 / float64(n)
	o.check("each bulk flow >= half of its share (5 % for 10)", share >= fair/2 && whole == n, "the least of %d %.1f %% of %s in %v, %d of %d that ping whole",
		n, 100*share, size(sum), d, whole, n)
	o.finish()
}

// T30: a flood of SYNs from addresses that do not exist disturbs no established session, and new connections are served after it.
//
// Fails if established sessions wait for new connections: have acceptOne in engine/accept.go sleep for 50 ms.
func TestT30SYNFlood(t *testing.T) {
	hping := tool(t, "T30", "hping3")
	near, far := pair(t, "T30")
	far.run(t, "ip route add default via "+nearAddress) // the answers go there and are dropped
	o := begin(t, "T30", how{from: near, inside: far})
	_, port := split(t, o.at.Records)
	d := lasting(30*time.Second, 3*time.Second)
	talk := o.converse(20, 50*time.Millisecond, d+time.Minute) // established sessions on the flooded line
	flood := exec.Command("timeout", "-s", "INT", fmt.Sprint(d.Seconds()), hping, "--flood", "-q", "-S", "-p", port, "--rand-source", farAddress)
	flood.Stdout, flood.Stderr = io.Discard, io.Discard
	var err error
	near.do(func() { err = flood.Start() })
	must(t, err)
	var served, tried atomic.Int64
	for end := time.Now().Add(d); time.Now().Before(end); { // new connections during the flood: a figure, not a criterion
		tried.Add(1)
		dial := dialer(0)
		dial.Timeout = time.Second
		if c, err := o.dial(dial); err == nil {
			o.watch(c)
			seconds(t, time.Second, c)
			if c.echo(64) == nil {
				served.Add(1)
			}
			_ = c.Close()
		}
	}
	_ = flood.Wait()
	o.calmSoFar()
	var took time.Duration
	took, ok := eventually(3*time.Second, func() bool {
		dial := dialer(0)
		dial.Timeout = time.Second
		c, err := o.dial(dial)
		if err != nil {
			return false
		}
		o.watch(c)
		defer c.Close()
		seconds(t, time.Second, c)
		return c.echo(64) == nil
	})
	talk.stopAfter(0)
	whole, bytes, _ := talk.result(time.Time{})
	o.check("established sessions go on", whole == 20, "%d of 20 on the flooded line whole, %s answered", whole, size(bytes))
	o.check("new connections served <= 3 s after", ok, "after %v; during %v of flood %d of %d, received %s", round(took), d, served.Load(), tried.Load(),
		far.received(t))
	o.finish()
}

// received returns how many packets the link has received.
func (n *namespace) received(t *testing.T) string {
	t.Helper()
	var out []byte
	n.do(func() { out, _ = exec.Command("cat", "/proc/net/dev").Output() })
	return packets(string(out), "far")
}
