// Measure tells what a cluster costs: make measure-cluster
//
//	rooms   Broadcast to 3,000 members: CPU time per delivery on one node, and on three nodes with 1,000 each; messages on the bus; latency
//	        at each node. What a node takes with the members connected and nothing to do is told too, and its CPU time per delivery without
//	        that: heartbeats, NATS and timers cost the same whatever is delivered
//	claims  100,000 keys on three nodes: claims per second, look-up, Send from another node, memory per key
//
// Nodes are processes of this machine, and so is cmd/netbench, which sends, receives and verifies every byte. CPU time is that of the
// node's process, from getrusage: the same as /proc has, in microseconds. The NATS server is a part of it, unless -nats has a server
// outside. The machine should be quiet. -profile writes a CPU profile of each node.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// plan is what the flags say.
type plan struct {
	members, size, loops int
	rate                 float64
	duration             time.Duration
	rounds               int
	keys, sends          int
	url, profile, only   string
	arrival              string

	netbench string // the program
}

func main() {
	var p plan
	node := flag.Bool("node", false, "be a node; for this program itself")
	routes := flag.String("routes", "", "with -node: route of another node; - stands for none yet; empty: the node is alone")
	flag.IntVar(&p.members, "members", 3000, "members of the room, on one node and on three together")
	flag.IntVar(&p.size, "size", 64, "bytes of a message, 16 or more")
	flag.Float64Var(&p.rate, "rate", 40, "Broadcasts per second")
	flag.StringVar(&p.arrival, "arrival", "uniform", "uniform: all gaps between Broadcasts are equal; poisson: they come as from many clients, now and then while the last is under way")
	flag.DurationVar(&p.duration, "duration", 10*time.Second, "time that is measured of each run")
	flag.IntVar(&p.rounds, "rounds", 5, "runs of each kind, in alternation")
	flag.IntVar(&p.loops, "loops", 1, "event loops of a node")
	flag.IntVar(&p.keys, "keys", 100_000, "keys that are claimed")
	flag.IntVar(&p.sends, "sends", 20_000, "Sends, one at a time and then 64 at a time")
	flag.StringVar(&p.url, "nats", "", "URL of a NATS server outside; empty: embedded servers")
	flag.StringVar(&p.profile, "profile", "", "write CPU profiles of the nodes to files whose names begin like this")
	flag.StringVar(&p.only, "only", "", "rooms or claims; empty: both")
	flag.Parse()
	var err error
	switch {
	case *node:
		err = serve(*routes, p)
	case p.arrival != "uniform" && p.arrival != "poisson", p.only != "" && p.only != "rooms" && p.only != "claims", p.members < 3, p.rounds < 1, p.size < 16, p.duration < time.Second:
		err = errors.New("-arrival is uniform or poisson, -only is rooms or claims, -members 3 or more, -rounds 1 or more, -size 16 or more, -duration 1s or more")
	default:
		err = measure(p)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
}

func measure(p plan) error {
	dir, err := os.MkdirTemp("", "measure")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p.netbench = filepath.Join(dir, "netbench")
	build := exec.Command("go", "build", "-o", p.netbench, "github.com/servercore-go/servercore/cmd/netbench")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if p.only != "claims" {
		if err := measureRooms(p); err != nil {
			return err
		}
	}
	if p.only != "rooms" {
		return measureClaims(p)
	}
	return nil
}
