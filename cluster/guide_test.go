package cluster_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/servercore-go/servercore/cluster"
	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/session"
)

// The code of docs/guide/cluster.md, which a test of docs/guide compares with this file.

// alone is one node: its NATS server is in the process, and no port is open.
func alone() (*cluster.Cluster, error) { return cluster.Open(cluster.Options{}) }

// embedded is a node whose NATS server connects to those of other nodes.
func embedded(listen string, routes []string, secret string, certificates *tls.Config) (*cluster.Cluster, error) {
	return cluster.Open(cluster.Options{
		Embedded: &cluster.Embedded{Listen: listen, Routes: routes, Secret: secret, TLS: certificates},
	})
}

// external is a node that uses NATS servers that you run.
func external(urls, credentials string) (*cluster.Cluster, error) {
	return cluster.Open(cluster.Options{URL: urls, Credentials: credentials})
}

type player struct {
	session.Session
	node *cluster.Cluster
}

func (p *player) OnConnected(net.Addr) { p.node.Room("lobby").Join(p) }

func (p *player) OnRecv(line []byte) {
	if name, ok := bytes.CutPrefix(line, []byte("I am ")); ok {
		p.login(string(name))
	} else if err := p.node.Room("lobby").Broadcast(line, p); err != nil {
		p.Send([]byte("only this node has heard that")) // cluster.ErrUnavailable: the others cannot be reached
	}
}

// login waits for the other nodes, so the listener has engine.Offload.
func (p *player) login(name string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := p.node.Claim(ctx, name, p); err != nil {
		p.DisconnectWith(err)
		return
	}
	p.Send([]byte("welcome, " + name)) // on all nodes, this session is the one with that name
}

// listen serves players on a node.
func listen(e *engine.Engine, node *cluster.Cluster, address string) (*engine.Listener, error) {
	return e.Listen("tcp", address, func() session.Handler { return &player{node: node} },
		engine.Framed(frame.Line{}), engine.Offload(64))
}

// tell sends a line to a player, on whatever node.
func tell(ctx context.Context, node *cluster.Cluster, name, line string) string {
	switch err := node.Send(ctx, name, []byte(line)); {
	case err == nil:
		return "accepted by the session"
	case errors.Is(err, cluster.ErrNoHolder):
		return "nobody of that name is connected"
	default:
		return "not known: the node may have died meanwhile"
	}
}

// stop is what a node does on SIGTERM. Clients that are told to connect elsewhere have patience to do so.
func stop(node *cluster.Cluster, e *engine.Engine, l *engine.Listener, patience time.Duration) error {
	l.Close() // a balancer leads new connections to other nodes
	draining, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := node.Drain(draining, func(h session.Handler) { h.(*player).Send([]byte("connect elsewhere")) })
	if err != nil {
		slog.Warn("Some clients did not move.", "err", err)
	}
	late, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	return errors.Join(e.Shutdown(late), node.Close())
}

// lost is how many messages to rooms have not reached members of this node, or have not left it.
func lost(node *cluster.Cluster) uint64 {
	s := node.Stats()
	return s.Missed + s.Dropped + s.Overflowed + s.Unsent
}

// guideClient is a player of a test.
type guideClient struct {
	net.Conn
	*testing.T
	lines *bufio.Reader
}

func (c *guideClient) want(line string) {
	c.Helper()
	if got, err := c.lines.ReadString('\n'); err != nil || got != line+"\n" {
		c.Fatalf("got %q, %v; want %q", got, err, line)
	}
}

// guideNode is a node with an engine.
type guideNode struct {
	node     *cluster.Cluster
	engine   *engine.Engine
	listener *engine.Listener
}

func startGuideNode(t *testing.T, node *cluster.Cluster, err error) guideNode {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = node.Close() })
	e, err := engine.New(engine.Options{Loops: 1, LingerTimeout: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	l, err := listen(e, node, "127.0.0.1:0")
	if err == nil {
		err = e.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close(); <-e.Done() })
	return guideNode{node, e, l}
}

func (n guideNode) dial(t *testing.T, name string) *guideClient {
	t.Helper()
	conn, err := net.Dial("tcp", n.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	c := &guideClient{conn, t, bufio.NewReader(conn)}
	fmt.Fprintf(c, "I am %s\n", name)
	c.want("welcome, " + name)
	return c
}

// Each of the three ways to open a node serves the guide's players.
func TestGuide(t *testing.T) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	defer s.WaitForShutdown()
	defer s.Shutdown()
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("NATS is not ready")
	}
	for name, open := range map[string]func() (a, b guideNode){
		"alone": func() (a, b guideNode) {
			node, err := alone()
			a = startGuideNode(t, node, err)
			return a, a
		},
		"embedded": func() (a, b guideNode) {
			node, err := embedded("127.0.0.1:0", nil, "secret", nil)
			a = startGuideNode(t, node, err)
			node, err = embedded("", []string{node.RouteAddr().String()}, "secret", nil)
			return a, startGuideNode(t, node, err)
		},
		"external": func() (a, b guideNode) {
			node, err := external(s.ClientURL(), "")
			a = startGuideNode(t, node, err)
			node, err = external(s.ClientURL(), "")
			return a, startGuideNode(t, node, err)
		},
	} {
		a, b := open()
		playGuide(t, name, a, b)
	}
}

// playGuide has two players talk, and ends the node of the first.
func playGuide(t *testing.T, name string, a, b guideNode) {
	t.Helper()
	ann, bob := a.dial(t, "ann"), b.dial(t, "bob")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for { // until each node knows of both
		k, err := a.node.Room("lobby").Len(ctx)
		l, err2 := b.node.Room("lobby").Len(ctx)
		if err != nil || err2 != nil {
			t.Fatal(name, err, err2)
		}
		if k == 2 && l == 2 && a.node.Holder("bob") != 0 && b.node.Holder("ann") != 0 {
			break
		}
		<-time.After(time.Millisecond)
	}
	if got := tell(ctx, a.node, "bob", "psst"); got != "accepted by the session" {
		t.Error(name, got)
	}
	bob.want("psst")
	if got := tell(ctx, b.node, "nobody", "psst"); got != "nobody of that name is connected" {
		t.Error(name, got)
	}
	fmt.Fprintln(bob, "hello")
	ann.want("hello")
	if n := lost(a.node) + lost(b.node); n != 0 {
		t.Errorf("%s: %d messages are lost", name, n)
	}
	ended := make(chan error, 1)
	go func() { ended <- stop(a.node, a.engine, a.listener, 20*time.Second) }()
	ann.want("connect elsewhere")
	if a.node == b.node {
		ann.Close()
		bob.Close()
	} else {
		again := b.dial(t, "ann") // ends the session on the first node
		if _, err := io.Copy(io.Discard, ann.lines); err != nil {
			t.Error(name, err)
		}
		again.Close()
	}
	if err := <-ended; err != nil {
		t.Error(name, err)
	}
}
