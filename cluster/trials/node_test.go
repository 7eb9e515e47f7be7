//go:build linux

package trials

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/servercore-go/servercore/cluster"
	"github.com/servercore-go/servercore/cluster/internal/wall"
	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/session"
)

// settings are what a node process is told.
type settings struct {
	Listen string        // for clients
	URL    string        // of NATS
	Route  string        // Embedded.Listen
	Others []string      // Embedded.Routes
	Secret string        // of the embedded nodes
	Files  string        // the path of certificate and key, without .crt and .key; ca.crt is beside them
	Clock  time.Duration // how wrong the clock is
	Grace  time.Duration // for a drain
}

// started is the first line that a node prints.
type started struct {
	ID      cluster.NodeID
	Problem string // why Open failed
	Refused bool   // whether that matches ErrRefused
	Options bool   // whether that matches ErrOptions
}

// node is the application that runs in a node process.
type node struct {
	*cluster.Cluster
	engine *engine.Engine

	mu      sync.Mutex
	granted map[string]*user // keys of live sessions
}

// options returns the cluster's options.
func (s settings) options() (o cluster.Options, err error) {
	o.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	if o.URL = s.URL; s.URL != "" || s.Route == "" {
		return o, nil
	}
	o.Embedded = &cluster.Embedded{Listen: s.Route, Routes: s.Others, Secret: s.Secret}
	if s.Files == "" {
		return o, nil
	}
	cert, err := tls.LoadX509KeyPair(s.Files+".crt", s.Files+".key")
	if err != nil {
		return o, err
	}
	ca, err := os.ReadFile(s.Files + ".ca")
	if err != nil {
		return o, err
	}
	o.Embedded.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	o.Embedded.TLS.RootCAs.AppendCertsFromPEM(ca)
	return o, nil
}

func say(v any) {
	line, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	_, _ = os.Stdout.Write(append(line, '\n'))
}

// nodeMain is a node process. It ends in good order on SIGTERM, and at once when its stdin does.
func nodeMain(text string) int {
	var s settings
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		panic(err)
	}
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	wall.Shift(s.Clock)
	o, err := s.options()
	if err != nil {
		panic(err)
	}
	c, err := cluster.Open(o)
	if err != nil {
		say(started{Problem: err.Error(), Refused: errors.Is(err, cluster.ErrRefused), Options: errors.Is(err, cluster.ErrOptions)})
		return 0
	}
	n := &node{Cluster: c, granted: make(map[string]*user)}
	if n.engine, err = engine.New(engine.Options{Logger: o.Logger, LingerTimeout: time.Second}); err == nil {
		_, err = n.engine.Listen("tcp", s.Listen, func() session.Handler { return &user{node: n} }, engine.Framed(frame.Line{}))
	}
	if err == nil {
		err = n.engine.Start()
	}
	if err != nil {
		panic(err)
	}
	say(started{ID: c.ID()})
	ended := make(chan struct{})
	go n.obey(ended)
	select {
	case <-ended:
		return 1
	case <-terminated:
	}
	if err := n.end(s.Grace); err != nil {
		fmt.Fprintln(os.Stderr, "the end:", err)
		return 2
	}
	return 0
}

// end moves the sessions, and ends the engine and the cluster.
func (n *node) end(grace time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	drained := n.Drain(ctx, func(h session.Handler) { h.(*user).reply("move") })
	ending, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	return errors.Join(drained, n.engine.Shutdown(ending), n.Close())
}

// state is what a node says of itself.
type state struct {
	cluster.Stats
	Available bool
	Sessions  int
}

// obey answers the commands of the test, a line each.
func (n *node) obey(ended chan<- struct{}) {
	defer close(ended)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		switch f[0] {
		case "state":
			say(state{n.Stats(), n.Available(), n.engine.Stats().Sessions})
		case "nodes":
			say(n.Nodes())
		case "holders": // of keys PREFIX0 to PREFIXn-1
			holders := make([]cluster.NodeID, number(f[2]))
			for i := range holders {
				holders[i] = n.Holder(fmt.Sprint(f[1], i))
			}
			say(holders)
		case "granted": // how many of them sessions here hold
			count := 0
			n.mu.Lock()
			for i := range number(f[2]) {
				if u := n.granted[fmt.Sprint(f[1], i)]; u != nil && u.Err() == nil {
					count++
				}
			}
			n.mu.Unlock()
			say(count)
		case "lengths": // of rooms PREFIX0 to PREFIXn-1; -1 if it is not known
			lengths := make([]int, number(f[2]))
			for i := range lengths {
				k, err := n.Room(fmt.Sprint(f[1], i)).Len(context.Background())
				if err != nil {
					k = -1
				}
				lengths[i] = k
			}
			say(lengths)
		case "skipped":
			say(n.Room(f[1]).Local().Skipped())
		default:
			panic("unknown command: " + lines.Text())
		}
	}
}

func number(s string) (n int) {
	if _, err := fmt.Sscan(s, &n); err != nil {
		panic(err)
	}
	return n
}

// user is a session of a node process. Its commands are lines: an identity for the answer, a verb, and arguments.
type user struct {
	session.Session
	node  *node
	name  string
	tells chan func() // Sends, one at a time
}

func (u *user) reply(format string, args ...any) { _ = u.Send(fmt.Appendf(nil, format, args...)) }

func (u *user) OnConnected(net.Addr) { u.tells = make(chan func(), 4096) }

func (u *user) OnDisconnected(net.Addr) {
	close(u.tells)
	u.node.mu.Lock()
	defer u.node.mu.Unlock()
	for key, holder := range u.node.granted {
		if holder == u {
			delete(u.node.granted, key)
		}
	}
}

// outcome is an error as clients read it: ok, unavailable, replaced, noholder, maybe, or the error's text.
func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case strings.Contains(err.Error(), "may have been delivered"):
		return "maybe"
	case errors.Is(err, cluster.ErrUnavailable):
		return "unavailable"
	case errors.Is(err, cluster.ErrReplaced):
		return "replaced"
	case errors.Is(err, cluster.ErrNoHolder):
		return "noholder"
	case errors.Is(err, cluster.ErrDraining):
		return "draining"
	}
	return err.Error()
}

func (u *user) OnRecv(line []byte) {
	f := strings.SplitN(string(line), " ", 4)
	id, verb, arg := f[0], f[1], f[2]
	switch verb {
	case "name":
		u.name = arg
		go func() {
			for f := range u.tells {
				f()
			}
		}()
		u.reply("= %s ok", id)
	case "join":
		u.reply("= %s %s", id, outcome(u.node.Room(arg).JoinWith(u, []byte(u.name))))
	case "leave":
		u.node.Room(arg).Leave(u)
		u.reply("= %s ok", id)
	case "say": // a room, and a number with padding behind it
		if err := u.node.Room(arg).Broadcast([]byte("m " + arg + " " + u.name + " " + f[3])); err != nil {
			u.reply("! %s %s", arg, outcome(err))
		}
	case "claim":
		go u.claim(id, arg)
	case "tell": // a key, and a number
		text := []byte("t " + u.name + " " + f[3])
		u.tells <- func() {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			u.reply("= %s %s", id, outcome(u.node.Send(ctx, arg, text)))
		}
	default:
		panic("unknown verb: " + verb)
	}
}

// claim answers when the outcome is known, with how long that took in microseconds.
func (u *user) claim(id, key string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	began := time.Now()
	err := u.node.Claim(ctx, key, u)
	if err == nil {
		u.node.mu.Lock()
		u.node.granted[key] = u
		u.node.mu.Unlock()
	}
	u.reply("= %s %s %d", id, outcome(err), time.Since(began).Microseconds())
}
