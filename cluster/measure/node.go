package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"runtime/pprof"
	"sync"
	"syscall"
	"time"

	"github.com/servercore-go/servercore/cluster"
	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/session"
)

// order is what a node is told to do, as a line of JSON.
type order struct {
	Do   string // sample, claim, lookup, send, profile, stop-profile
	N    int
	At   int    // a time
	File string // of a profile
}

// answer is what it says then.
type answer struct {
	CPU     time.Duration // of the process, since its start
	Sent    uint64        // bytes to members
	Writes  uint64        // in which they left
	Heap    uint64        // live bytes, after a collection; with N > 0
	RSS     uint64
	Cluster cluster.Stats

	Took      time.Duration
	P50, P99  time.Duration
	Failed    int
	FirstFail string
	Error     string
}

// member is a session of a node. It is in the room, and says there what it receives.
type member struct {
	session.Session
	node *server
}

func (m *member) OnConnected(net.Addr) {
	m.node.room.Join(m)
	m.node.mu.Lock()
	m.node.members = append(m.node.members, m)
	m.node.mu.Unlock()
}

func (m *member) OnRecv(data []byte) { _ = m.node.room.Broadcast(data, m) }

// server is a node: one process.
type server struct {
	cluster *cluster.Cluster
	engine  *engine.Engine
	room    *cluster.Room
	size    int

	mu      sync.Mutex
	members []*member // all that have come
}

// serve runs a node until its standard input ends. It says its addresses on standard output, and answers there what it is told to do.
func serve(routes string, p plan) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	o := cluster.Options{Logger: log, URL: p.url}
	if p.url == "" && routes != "" {
		o.Embedded = &cluster.Embedded{Listen: "127.0.0.1:0"}
		if routes != "-" {
			o.Embedded.Routes = []string{routes}
		}
	}
	c, err := cluster.Open(o)
	if err != nil {
		return err
	}
	defer c.Close()
	e, err := engine.New(engine.Options{Loops: p.loops, Logger: log})
	if err != nil {
		return err
	}
	n := &server{cluster: c, engine: e, room: c.Room("measured"), size: p.size}
	l, err := e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return &member{node: n} }, engine.Framed(frame.Fixed{Size: p.size}))
	if err != nil {
		return err
	}
	if err := e.Start(); err != nil {
		return err
	}
	defer e.Close()
	route := ""
	if a := c.RouteAddr(); a != nil {
		route = a.String()
	}
	fmt.Println(l.Addr().String(), route)
	in, out := json.NewDecoder(bufio.NewReader(os.Stdin)), json.NewEncoder(os.Stdout)
	for {
		var o order
		if err := in.Decode(&o); err != nil {
			return nil // the end
		}
		if err := out.Encode(n.do(o)); err != nil {
			return err
		}
	}
}

// do carries out an order.
func (n *server) do(o order) answer {
	a := answer{}
	var err error
	switch o.Do {
	case "sample":
		if o.N > 0 {
			a.Heap = heap()
		}
	case "claim":
		n.timed(&a, o.N, o.At, func(i int) error { return n.cluster.Claim(context.Background(), key(i), n.members[i%len(n.members)]) })
	case "lookup":
		n.timed(&a, o.N, o.At, func(i int) error {
			if n.cluster.Holder(key(i)) == 0 {
				return cluster.ErrNoHolder
			}
			return nil
		})
	case "send":
		p := make([]byte, n.size)
		n.timed(&a, o.N, o.At, func(i int) error { return n.cluster.Send(context.Background(), key(i), p) })
	case "profile":
		var f *os.File
		if f, err = os.Create(o.File); err == nil {
			err = pprof.StartCPUProfile(f)
		}
	case "stop-profile":
		pprof.StopCPUProfile()
	default:
		err = fmt.Errorf("unknown order %q", o.Do)
	}
	if err != nil {
		a.Error = err.Error()
	}
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	a.CPU = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	total := n.engine.Stats().Total
	a.Sent, a.Writes = total.BytesOut, total.Writes
	a.RSS = residentBytes()
	a.Cluster = n.cluster.Stats()
	return a
}

func key(i int) string { return fmt.Sprintf("player-%06d", i) }

// timed does something for each key from 0 to count, some at a time, and tells how long all has taken, and one.
func (n *server) timed(a *answer, count, at int, do func(i int) error) {
	times := make([]time.Duration, count)
	var mu sync.Mutex
	var working sync.WaitGroup
	next := 0
	began := time.Now()
	for range at {
		working.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= count {
					return
				}
				start := time.Now()
				err := do(i)
				times[i] = time.Since(start)
				if err != nil {
					mu.Lock()
					if a.Failed++; a.Failed == 1 {
						a.FirstFail = err.Error()
					}
					mu.Unlock()
				}
			}
		})
	}
	working.Wait()
	a.Took = time.Since(began)
	a.P50, a.P99 = quantile(times, 0.5), quantile(times, 0.99)
}

// heap returns the live memory.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// residentBytes is what the system says that the process occupies, 0 if it does not say.
func residentBytes() uint64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, resident uint64
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		return 0
	}
	return resident * uint64(os.Getpagesize())
}
