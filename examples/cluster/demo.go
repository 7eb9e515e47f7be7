package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/servercore-go/servercore/internal/freeport"
)

// demo runs each node as a process, one after the other, with a balancer in front, and passes on what they print. It ends with ctx, or when
// no node is left.
func demo(ctx context.Context, c config, out io.Writer) error {
	nodes, err := plan(c)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	lines, err := startBalancer(ctx, c.addr, nodes, func(n config) string { return n.addr })
	if err != nil {
		return err
	}
	web, err := startBalancer(ctx, c.web, nodes, func(n config) string { return n.web })
	if err != nil {
		return err
	}
	out = &wholeLines{to: out}
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	var started []string
	for _, n := range nodes {
		p, isReady, err := start(ctx, n, out)
		if err != nil {
			return err
		}
		ended := make(chan struct{})
		running.Go(func() {
			defer close(ended)
			_ = p.Wait()
			fmt.Fprintf(out, "node %s, process %d, has ended: %v\n", n.node, p.Process.Pid, p.ProcessState)
		})
		select {
		case <-isReady:
		case <-ended:
			return fmt.Errorf("node %s has not started", n.node)
		}
		started = append(started, fmt.Sprintf("  node %s: open http://%s, or nc %s; process %d\n", n.node, n.web, spaced(n.addr), p.Process.Pid))
	}
	fmt.Fprintf(out, "\n%d nodes, each a process. A balancer leads to one after the other:\n  open http://%s, or nc %s\nor choose:\n%s"+
		"kill -9 a process: its users come back on the others. kill: it asks them to first. Ctrl-C ends all.\n\n",
		len(nodes), web, spaced(lines), strings.Join(started, ""))
	running.Wait()
	return nil
}

// plan gives each node its ports: those after the balancer's for users, and any for other nodes. Port 0 is any. A node has the routes of
// those that are started before it.
func plan(c config) ([]config, error) {
	var before []string
	nodes := make([]config, c.nodes)
	for i := range nodes {
		n := &nodes[i]
		*n = config{node: strconv.Itoa(i + 1), drain: c.drain, nats: c.nats}
		for _, a := range []struct {
			to   *string
			base string
		}{{&n.addr, c.addr}, {&n.web, c.web}, {&n.listen, "127.0.0.1:0"}} {
			var err error
			if *a.to, err = after(a.base, i+1); err != nil {
				return nil, err
			}
		}
		if c.nats != "" {
			n.listen = ""
			continue
		}
		n.routes = strings.Join(before, ",")
		before = append(before, n.listen)
	}
	return nodes, nil
}

// after returns the address whose port is n further, or one that is free if the port is 0.
func after(address string, n int) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	base, err := strconv.Atoi(port)
	if err != nil {
		return "", err
	}
	if base > 0 {
		return net.JoinHostPort(host, strconv.Itoa(base+n)), nil
	}
	return freeport.Addr(host)
}

// start runs this program as one node. isReady is closed when it accepts users.
func start(ctx context.Context, n config, out io.Writer) (p *exec.Cmd, isReady <-chan struct{}, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	p = exec.CommandContext(ctx, self, "-node", n.node, "-addr", n.addr, "-web", n.web, "-drain", n.drain.String(), "-nats", n.nats,
		"-cluster-listen", n.listen, "-cluster-routes", n.routes)
	p.Cancel = func() error { return p.Process.Signal(syscall.SIGTERM) }
	w := &watched{out: out, ready: make(chan struct{})}
	p.Stdout, p.Stderr = w, w
	return p, w.ready, p.Start()
}

// watched is the output of a node, which is passed on.
type watched struct {
	out   io.Writer
	ready chan struct{}
	seen  bool
}

func (w *watched) Write(b []byte) (int, error) {
	n, err := w.out.Write(b)
	if !w.seen && bytes.Contains(b, []byte(ready)) {
		w.seen = true
		close(w.ready)
	}
	return n, err
}

// spaced returns an address as nc wants it.
func spaced(address string) string {
	host, port, _ := net.SplitHostPort(address)
	return host + " " + port
}

// wholeLines is a writer for several processes. Each of them writes whole lines.
type wholeLines struct {
	mu sync.Mutex
	to io.Writer
}

func (w *wholeLines) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(b)
}
