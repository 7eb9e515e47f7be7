// Command cluster is a chat on three nodes, which are three processes of this machine:
//
//	go run ./examples/cluster
//	nc 127.0.0.1 7001      in one terminal
//	nc 127.0.0.1 7002      in another one: both are in the same room
//
// Lines go to all in the lobby, on all nodes. /name NAME takes a name, of which there is one in the whole cluster: a second user of it ends
// the first. /to NAME TEXT is for one user, wherever. /who tells who is there and on which node. Kill a node (its process id is printed)
// and watch.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
)

const host = "127.0.0.1"

func main() {
	node := flag.Int("node", 0, "run only the node of that number, from 1; 0: all, as processes")
	nodes := flag.Int("nodes", 3, "how many nodes there are")
	port := flag.Int("port", 7001, "port of the first node's users; the others follow")
	routes := flag.Int("routes", 6001, "port of the first node's routes; the others follow")
	url := flag.String("nats", "", "URL of a NATS server to use instead of embedded ones")
	flag.Parse()
	if *node == 0 && (*nodes < 1 || *nodes > 9) {
		fmt.Fprintln(os.Stderr, "cluster: -nodes is from 1 to 9")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *node > 0 {
		c := config{listen: address(*port + *node - 1), route: address(*routes + *node - 1), url: *url}
		for i := range *nodes {
			if i != *node-1 {
				c.others = append(c.others, address(*routes+i))
			}
		}
		err = serve(ctx, c)
	} else {
		err = spawn(ctx, *nodes, *port)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

// spawn runs each node as a process, and passes on what they print.
func spawn(ctx context.Context, nodes, port int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	var mu sync.Mutex
	for i := range nodes {
		args := append(os.Args[1:], "-node", fmt.Sprint(i+1))
		c := exec.CommandContext(ctx, self, args...)
		c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
		out := &prefixed{mu: &mu, to: os.Stdout, prefix: fmt.Sprintf("node %d  ", i+1)}
		c.Stdout, c.Stderr = out, out
		if err := c.Start(); err != nil {
			return err
		}
		running.Go(func() {
			err := c.Wait()
			if err == nil {
				err = errors.New("it has ended")
			}
			fmt.Fprintf(out, "process %d: %v\n", c.Process.Pid, err)
		})
	}
	fmt.Printf("%d nodes. Connect with: nc %s %d, or any port up to %d. End with Ctrl-C.\n", nodes, host, port, port+nodes-1)
	running.Wait()
	return nil
}

// prefixed writes whole lines, each with a prefix.
type prefixed struct {
	mu     *sync.Mutex // shared by all
	to     io.Writer
	prefix string
	rest   []byte
}

func (p *prefixed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rest = append(p.rest, b...)
	for {
		line, rest, ok := strings.Cut(string(p.rest), "\n")
		if !ok {
			return len(b), nil
		}
		fmt.Fprintf(p.to, "%s%s\n", p.prefix, line)
		p.rest = []byte(rest)
	}
}

func address(port int) string { return net.JoinHostPort(host, fmt.Sprint(port)) }

func logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}
