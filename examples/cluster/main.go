// Command cluster is the chat of examples/chat on several nodes. One command starts three of them, as processes, with a balancer in front:
//
//	go run ./examples/cluster
//
// Then open http://127.0.0.1:8080 in two tabs, or type nc 127.0.0.1 7777 in two terminals. All are in the same rooms, through different
// nodes. Kill a node, whose process id is printed, and watch: its users come back on another one. Besides the chat's commands there is /to
// NAME TEXT, a line for one user, on whatever node; and a name has one user in the whole cluster: who takes it ends the session that has it.
//
// With -node it is one node, as deploy/ runs it in containers. Nodes find each other by -cluster-listen and -cluster-routes, or all use
// the NATS servers of -nats:
//
//	go run ./examples/cluster -node a -cluster-listen 127.0.0.1:6001 -cluster-routes 127.0.0.1:6002
//	go run ./examples/cluster -node b -cluster-listen 127.0.0.1:6002 -cluster-routes 127.0.0.1:6001 -addr :7779 -web :8082
//
// What the history promises: a node keeps the last 50 lines that were said in a room while somebody on this node was in it; in the lobby,
// since the node has started. Who enters gets those in the order in which this node has heard them, each once, and nothing is between them
// and what comes next. Two nodes may have them in another order, and what the bus has lost is in no history of that node.
//
//	main.go    flags
//	node.go    one node, from start to drain
//	rooms.go   the chat's rooms and names, by package cluster
//	demo.go    three nodes as processes
//	balance.go a TCP balancer, in place of yours
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// config is what the flags say.
type config struct {
	node      string
	nodes     int
	addr, web string
	observe   string
	drain     time.Duration

	listen, routes, secret string // of embedded NATS servers
	cert, key, ca          string
	nats                   string
}

// parse reads flags, and from variables those that are not given: CHAT_CLUSTER_SECRET for -cluster-secret.
func parse(args []string, getenv func(string) string, out io.Writer) (config, error) {
	var c config
	f := flag.NewFlagSet("cluster", flag.ContinueOnError)
	f.SetOutput(out)
	f.StringVar(&c.node, "node", "", "`name` of this node, of letters, digits, - and _; empty: several nodes as processes, with a balancer")
	f.IntVar(&c.nodes, "nodes", 3, "how many nodes there are without -node, from 1 to 9")
	f.StringVar(&c.addr, "addr", "127.0.0.1:7777", "`address` to listen on for lines of text; without -node the nodes have the ports after it")
	f.StringVar(&c.web, "web", "127.0.0.1:8080", "`address` to listen on for browsers; without -node the nodes have the ports after it")
	f.StringVar(&c.observe, "observe", "", "`address` for /readyz, /healthz, /metrics and the live page; empty for none")
	f.DurationVar(&c.drain, "drain", 3*time.Second, "how long a node that ends waits for its users to connect elsewhere")
	f.StringVar(&c.listen, "cluster-listen", "", "`address` to listen on for other nodes; others than loopback need a secret and certificates")
	f.StringVar(&c.routes, "cluster-routes", "", "`addresses` of other nodes, separated by commas; one that is up is enough")
	f.StringVar(&c.secret, "cluster-secret", "", "`text` that nodes prove to each other; better given as CHAT_CLUSTER_SECRET")
	f.StringVar(&c.cert, "cluster-cert", "", "`file` of this node's certificate, for the connections between nodes")
	f.StringVar(&c.key, "cluster-key", "", "`file` of its key")
	f.StringVar(&c.ca, "cluster-ca", "", "`file` of the certificates that sign those of nodes")
	f.StringVar(&c.nats, "nats", "", "`URL`s of NATS servers to use instead of embedded ones, separated by commas")
	usage := f.Usage
	f.Usage = func() {
		usage()
		fmt.Fprintln(out, "A flag that is not given is taken from a variable: -cluster-secret from CHAT_CLUSTER_SECRET.")
	}
	if err := f.Parse(args); err != nil {
		return c, err
	}
	given := make(map[string]bool)
	f.Visit(func(one *flag.Flag) { given[one.Name] = true })
	var wrong error
	f.VisitAll(func(one *flag.Flag) {
		name := "CHAT_" + strings.ToUpper(strings.ReplaceAll(one.Name, "-", "_"))
		if value := getenv(name); value != "" && !given[one.Name] {
			if err := f.Set(one.Name, value); err != nil {
				wrong = fmt.Errorf("%s: %w", name, err)
			}
		}
	})
	switch {
	case wrong != nil:
		return c, wrong
	case f.NArg() > 0:
		return c, fmt.Errorf("%q is no flag", f.Arg(0))
	case c.node == "" && (c.nodes < 1 || c.nodes > 9):
		return c, errors.New("-nodes is from 1 to 9")
	case c.nats != "" && c.listen+c.routes+c.secret+c.cert+c.key+c.ca != "":
		return c, errors.New("-nats and -cluster-... exclude each other")
	case (c.cert == "") != (c.key == "") || (c.cert == "") != (c.ca == ""):
		return c, errors.New("-cluster-cert, -cluster-key and -cluster-ca belong together")
	}
	return c, nil
}

func main() {
	c, err := parse(os.Args[1:], os.Getenv, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if c.node != "" {
		err = serve(ctx, c)
	} else {
		err = demo(ctx, c, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}
