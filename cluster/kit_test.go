package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/goleak"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

// No test may leave a goroutine or a pooled buffer behind.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if n := pool.Live(); n != 0 {
			fmt.Fprintf(os.Stderr, "%d pooled buffers were not released\n", n)
			code = 1
		}
		os.Exit(code)
	}))
}

// patience bounds every wait: only a hang meets it.
const patience = 30 * time.Second

// failAfter is short, so that tests are; long enough for a busy machine.
const failAfter = 1500 * time.Millisecond

var quiet = slog.New(slog.DiscardHandler)

// node is a cluster node with an engine whose sessions do nothing by themselves.
type node struct {
	*Cluster
	t       testing.TB
	address string
	users   chan *user
}

// user is a session, and its client.
type user struct {
	session.Session
	users chan *user
	ended chan struct{}
	conn  net.Conn
	lines *bufio.Reader
}

func (u *user) OnConnected(net.Addr)    { u.users <- u }
func (u *user) OnDisconnected(net.Addr) { close(u.ended) }

// open starts a node. It ends with the test.
func open(t testing.TB, o Options) *node {
	t.Helper()
	if o.FailAfter == 0 {
		o.FailAfter = failAfter
	}
	if o.SendTimeout == 0 {
		o.SendTimeout = patience
	}
	if o.Logger == nil {
		o.Logger = quiet
	}
	c, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{Cluster: c, t: t, users: make(chan *user)}
	e, err := engine.New(engine.Options{Loops: 1, Logger: quiet, LingerTimeout: 20 * time.Millisecond})
	must(t, err)
	l, err := e.Listen("tcp", "127.0.0.1:0", func() session.Handler {
		return &user{users: n.users, ended: make(chan struct{})}
	})
	must(t, err)
	must(t, e.Start())
	n.address = l.Addr().String()
	t.Cleanup(func() {
		_ = e.Close()
		<-e.Done()
		if err := c.Close(); err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
	return n
}

// three starts three embedded nodes that know one another.
func three(t testing.TB) [3]*node {
	t.Helper()
	a := open(t, Options{Embedded: &Embedded{Listen: "127.0.0.1:0"}})
	nodes := [3]*node{a}
	for i := 1; i < 3; i++ {
		nodes[i] = open(t, Options{Embedded: &Embedded{Routes: []string{a.RouteAddr().String()}}})
	}
	know(t, nodes[:]...)
	return nodes
}

// know waits until each node knows all.
func know(t testing.TB, nodes ...*node) {
	t.Helper()
	for _, n := range nodes {
		eventually(t, "all nodes are known", func() bool { return len(n.Nodes()) == len(nodes) })
	}
}

// connect returns a new session of the node.
func (n *node) connect() *user {
	n.t.Helper()
	conn, err := net.Dial("tcp", n.address)
	must(n.t, err)
	n.t.Cleanup(func() { conn.Close() })
	u := await(n.t, n.users, "the session is connected")
	u.conn, u.lines = conn, bufio.NewReader(conn)
	must(n.t, conn.SetReadDeadline(time.Now().Add(2*patience)))
	return u
}

// line is the next one that the client reads.
func (u *user) line(t testing.TB) string {
	t.Helper()
	s, err := u.lines.ReadString('\n')
	if err != nil {
		t.Fatalf("%q, %v", s, err)
	}
	return s[:len(s)-1]
}

// end disconnects the session, and returns all lines that its client has got and not read.
func (u *user) end(t testing.TB) string {
	t.Helper()
	u.Disconnect()
	rest, err := io.ReadAll(u.lines)
	if err != nil {
		t.Error(err)
	}
	u.conn.Close()
	await(t, u.ended, "the session has ended")
	return string(rest)
}

// crash ends a node as kill -9 does: it says nothing.
func (n *node) crash() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.up.Store(false)
	n.bus.Close()
	close(n.done)
	n.running.Wait()
	n.in.clear()
	n.out.close()
	n.out.clear()
	n.release()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("%s: %v, want %v", what, err, target)
	}
}

func await[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("not within %v: %s", patience, what)
		panic("unreachable")
	}
}

// eventually waits for something that announces itself on no channel.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// ctx is a context that ends with the test's patience.
func ctx(t testing.TB) context.Context {
	c, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return c
}

// nats starts a NATS server as one outside of the process would be.
func natsServer(t testing.TB, o server.Options) *server.Server {
	t.Helper()
	o.Host, o.NoSigs, o.NoLog, o.NoSystemAccount = "127.0.0.1", true, true, true
	if o.Port == 0 {
		o.Port = server.RANDOM_PORT
	}
	s, err := server.NewServer(&o)
	must(t, err)
	s.Start()
	if !s.ReadyForConnections(patience) {
		t.Fatal("the server is not ready")
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

// proxy is a network that can be cut.
type proxy struct {
	listener net.Listener
	running  sync.WaitGroup

	mu        sync.Mutex
	to        string
	open      bool
	stalled   chan struct{} // what comes waits until it is closed, if it is not nil
	perSecond int           // bytes that pass each way, 0 for any number
	conns     map[net.Conn]struct{}
}

func newProxy(t testing.TB, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{listener: l, to: to, open: true, conns: make(map[net.Conn]struct{})}
	p.running.Go(p.accept)
	t.Cleanup(func() { l.Close(); p.cut(); p.running.Wait() })
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		a, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		to := p.to
		p.mu.Unlock()
		b, err := net.Dial("tcp", to)
		if err != nil {
			a.Close()
			continue
		}
		p.mu.Lock()
		if !p.open {
			a.Close()
			b.Close()
		}
		p.conns[a], p.conns[b] = struct{}{}, struct{}{}
		p.mu.Unlock()
		for _, pair := range [][2]net.Conn{{a, b}, {b, a}} {
			p.running.Go(func() {
				_, _ = io.Copy(pair[0], gate{pair[1], p})
				pair[0].Close()
				pair[1].Close()
				p.mu.Lock()
				defer p.mu.Unlock()
				delete(p.conns, pair[0])
			})
		}
	}
}

// cut ends all connections and lets no new one through.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = false
	if p.stalled != nil {
		close(p.stalled)
		p.stalled = nil
	}
	for c := range p.conns {
		c.Close()
	}
}

func (p *proxy) heal(to string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open, p.to = true, to
}

// gate is a connection whose bytes can be held up.
type gate struct {
	net.Conn
	p *proxy
}

func (g gate) Read(b []byte) (int, error) {
	g.p.mu.Lock()
	perSecond := g.p.perSecond
	g.p.mu.Unlock()
	if perSecond > 0 {
		b = b[:min(len(b), perSecond/100)]
	}
	n, err := g.Conn.Read(b)
	if perSecond > 0 {
		time.Sleep(time.Duration(n) * time.Second / time.Duration(perSecond))
	}
	g.p.mu.Lock()
	stalled := g.p.stalled
	g.p.mu.Unlock()
	if stalled != nil {
		<-stalled
	}
	return n, err
}
