package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/servercore-go/servercore/cluster"
	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/session"
)

// config is what a node has to know.
type config struct {
	listen string   // for users
	route  string   // for other nodes
	others []string // their routes
	url    string   // of NATS; empty: embedded
}

// serve runs one node until ctx ends. Then it asks its users to connect elsewhere, and gives them three seconds.
func serve(ctx context.Context, c config) error {
	o := cluster.Options{Logger: logger(), URL: c.url}
	if c.url == "" {
		o.Embedded = &cluster.Embedded{Listen: c.route, Routes: c.others}
	}
	node, err := cluster.Open(o)
	if err != nil {
		return err
	}
	defer node.Close()
	e, err := engine.New(engine.Options{Logger: logger(), DrainTimeout: 2 * time.Second})
	if err != nil {
		return err
	}
	lobby := node.Room("lobby")
	listener, err := e.Listen("tcp", c.listen, func() session.Handler { return &user{node: node, lobby: lobby} },
		engine.Framed(frame.Line{Max: 1000}))
	if err != nil {
		return err
	}
	if err := e.Start(); err != nil {
		return err
	}
	fmt.Printf("process %d listens on %v, node %v\n", os.Getpid(), listener.Addr(), node.ID())
	<-ctx.Done()
	draining, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	err = node.Drain(draining, func(h session.Handler) {
		h.(*user).tell("* this node ends; connect to another one")
	})
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	ending, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	return e.Shutdown(ending)
}

// user is one connection.
type user struct {
	session.Session
	node  *cluster.Cluster
	lobby *cluster.Room
	name  string // its loop's own
}

func (u *user) tell(format string, args ...any) { _ = u.Send(fmt.Appendf(nil, format, args...)) }

func (u *user) OnConnected(net.Addr) {
	u.enter("guest" + fmt.Sprint(u.ID()))
	u.tell("* you are %s on node %v; /name NAME, /to NAME TEXT, /who", u.name, u.node.ID())
}

// enter joins the lobby under a name, or takes another one there.
func (u *user) enter(name string) {
	u.name = name
	_ = u.lobby.JoinWith(u, []byte(name))
}

func (u *user) OnDisconnected(net.Addr) {
	if errors.Is(u.Err(), cluster.ErrReplaced) {
		u.say("* %s is on another node now", u.name)
		return
	}
	u.say("* %s has left", u.name)
}

func (u *user) say(format string, args ...any) {
	if err := u.lobby.Broadcast(fmt.Appendf(nil, format, args...), u); err != nil {
		u.tell("* only this node has heard that: %v", err)
	}
}

func (u *user) OnRecv(line []byte) {
	command, rest, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
	switch command {
	case "":
	case "/who":
		u.who()
	case "/name":
		u.rename(strings.TrimSpace(rest))
	case "/to":
		u.whisper(rest)
	default:
		u.say("%s: %s", u.name, line)
	}
}

// wait runs what waits for other nodes on a goroutine of its own, because the loop must not wait, and what follows on the loop.
func (u *user) wait(work func(context.Context) error, then func(error)) {
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		err := work(ctx)
		_ = u.Post(func() { then(err) })
	}()
}

func (u *user) rename(name string) {
	if name == "" || len(name) > 20 {
		u.tell("* a name has 1 to 20 bytes")
		return
	}
	u.wait(func(ctx context.Context) error { return u.node.Claim(ctx, name, u) }, func(err error) {
		if err != nil {
			u.tell("* %v", err)
			return
		}
		if u.name != name {
			u.node.Release(u.name, u)
		}
		u.enter(name)
		u.tell("* you are %s", name)
	})
}

func (u *user) whisper(rest string) {
	name, text, _ := strings.Cut(rest, " ")
	message := fmt.Appendf(nil, "%s, to you: %s", u.name, text)
	u.wait(func(ctx context.Context) error { return u.node.Send(ctx, name, message) }, func(err error) {
		switch {
		case errors.Is(err, cluster.ErrNoHolder):
			u.tell("* nobody has taken the name %s", name)
		case err != nil:
			u.tell("* %v", err)
		}
	})
}

func (u *user) who() {
	members, err := u.lobby.Members(context.Background())
	if err != nil {
		u.tell("* %v", err)
		return
	}
	var lines []string
	for _, m := range members {
		lines = append(lines, fmt.Sprintf("* %s on node %v", m.Value, m.Node))
	}
	slices.Sort(lines)
	for _, line := range lines { // a line is one Send
		u.tell("%s", line)
	}
	u.tell("* %d users on %d nodes", len(members), len(u.node.Nodes()))
}
