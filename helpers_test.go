package servercore_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

// patience bounds every wait. It is long enough for a busy machine under the race detector: only a hang meets it.
const patience = 5 * time.Second

// onLoops runs f with one loop and with several, with callbacks on the loops and on as many workers, and checks that
// nothing is left over.
func onLoops(t *testing.T, f func(t *testing.T, loops int)) {
	noLeaks(t)
	for _, loops := range []int{1, 4} {
		for _, mode := range modes {
			t.Run(fmt.Sprintf("loops=%d%s", loops, mode), func(t *testing.T) {
				t.Parallel()
				f(t, loops)
			})
		}
	}
}

// onNetworks is onLoops, over TCP and over unix sockets.
func onNetworks(t *testing.T, f func(t *testing.T, network string, loops int)) {
	noLeaks(t)
	for _, network := range []string{"tcp", "unix"} {
		for _, loops := range []int{1, 4} {
			for _, mode := range modes {
				t.Run(fmt.Sprintf("%s,loops=%d%s", network, loops, mode), func(t *testing.T) {
					t.Parallel()
					f(t, network, loops)
				})
			}
		}
	}
}

// offloaded ends the names of tests whose servers run callbacks on workers, as many as they have loops.
const offloaded = ",offloaded"

var modes = []string{"", offloaded}

// inMode adds what the test's mode asks for.
func inMode(t testing.TB, o engine.Options, opts []engine.Option) []engine.Option {
	if strings.HasSuffix(t.Name(), offloaded) {
		opts = append(opts, engine.Offload(max(o.Loops, 1)))
	}
	return opts
}

// noLeaks checks, after the test and all its subtests, that every buffer, goroutine and descriptor is back.
func noLeaks(t *testing.T) {
	t.Helper()
	before := openDescriptors(t)
	t.Cleanup(func() {
		if t.Failed() {
			return // what a failed test leaves behind says nothing
		}
		if n := pool.Live(); n != 0 {
			t.Errorf("%d buffers were not released", n)
		}
		goleak.VerifyNone(t)
		eventually(t, "the descriptors are back", func() bool { return openDescriptors(t) <= before })
	})
}

func openDescriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
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

// await receives from a channel, or fails.
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

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t testing.TB, what string, err error, targets ...error) {
	t.Helper()
	for _, target := range targets {
		if !errors.Is(err, target) {
			t.Errorf("%s: %v, want it to match %q", what, err, target)
		}
	}
}

// quiet is for engines whose log is not what the test is about.
var quiet = slog.New(slog.DiscardHandler)

// hooks are what a test has the sessions of a server do; each may be nil.
type hooks struct {
	connected    func(*peer)
	recv         func(*peer, []byte)
	sent         func(*peer, int)
	disconnected func(*peer)
}

// echo answers what it receives.
func echo(p *peer, data []byte) {
	if err := p.Send(data); err != nil {
		p.server.t.Errorf("echo of %d bytes: %v", len(data), err)
	}
}

// server is an engine with one listener, or none (dialler), all of whose sessions are watched over for what the contract promises of
// any session.
type server struct {
	*engine.Engine
	t        testing.TB
	listener *engine.Listener
	hooks    hooks
	framed   bool       // more leaves than OnSend tells of
	arrivals chan *peer // in the order of their OnConnected, as far as somebody looks

	mu    sync.Mutex
	peers []*peer
}

// serve starts a server, on a free port of the loopback or a path of its own, and has it closed and checked at
// the end of the test.
func serve(t testing.TB, network string, o engine.Options, h hooks, opts ...engine.Option) *server {
	t.Helper()
	s := prepare(t, network, freeAddress(t, network), o, h, opts...)
	must(t, s.Start())
	return s
}

// prepare is serve without the start.
func prepare(t testing.TB, network, address string, o engine.Options, h hooks, opts ...engine.Option) *server {
	t.Helper()
	s := watched(t, o, h)
	s.framed = len(opts) > 0
	l, err := s.Listen(network, address, s.newPeer, inMode(t, o, opts)...)
	must(t, err)
	s.listener = l
	return s
}

// dialler starts a server without a listener, for sessions that it dials itself.
func dialler(t testing.TB, o engine.Options, h hooks) *server {
	t.Helper()
	s := watched(t, o, h)
	must(t, s.Start())
	return s
}

func watched(t testing.TB, o engine.Options, h hooks) *server {
	t.Helper()
	if o.Logger == nil {
		o.Logger = quiet
	}
	e, err := engine.New(o)
	must(t, err)
	s := &server{Engine: e, t: t, hooks: h, arrivals: make(chan *peer, 1024)}
	t.Cleanup(s.end)
	return s
}

func freeAddress(t testing.TB, network string) string {
	t.Helper()
	if network != "unix" {
		return "127.0.0.1:0"
	}
	dir, err := os.MkdirTemp("", "sc") // a short one: paths of sockets are
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

func (s *server) newPeer() session.Handler {
	return &peer{server: s, ended: make(chan struct{})}
}

// end closes the server and checks what must be true of every engine that has ended.
func (s *server) end() {
	_ = s.Close()
	await(s.t, s.Done(), "the engine ends")
	s.mu.Lock()
	defer s.mu.Unlock()
	var sent int64
	for _, p := range s.peers {
		sent += p.sent.Load()
		if p.stage.Load() != gone {
			s.t.Errorf("session %d: no OnDisconnected", p.ID())
		}
		if p.Err() == nil || p.Pending() != 0 {
			s.t.Errorf("session %d has ended: Err %v, Pending %d", p.ID(), p.Err(), p.Pending())
		}
	}
	st := s.Stats()
	if int(st.Accepted+st.Dialed) != len(s.peers) || st.Sessions != 0 || st.Total.Sessions != 0 {
		s.t.Errorf("stats count %d accepted, %d dialled, %d and %d open, want %d in all, 0 and 0", st.Accepted, st.Dialed,
			st.Sessions, st.Total.Sessions, len(s.peers))
	}
	if out := int64(st.Total.BytesOut); out != sent && !(s.framed && out > sent) {
		s.t.Errorf("stats count %d bytes out, OnSend %d", st.Total.BytesOut, sent)
	}
	e := st.Total.Ended
	ends := e.PeerClosed + e.PeerReset + e.Disconnected + e.Aborted + e.SendLimit + e.SendBudget + e.RecvRate + e.Idle + e.WriteStall +
		e.DrainTimeout + e.Panic + e.Shutdown + e.Other
	if ends != st.Accepted+st.Dialed {
		s.t.Errorf("stats count %d ends of %d sessions: %+v", ends, st.Accepted+st.Dialed, e)
	}
}

// dial connects to the server, without waiting for the session.
func (s *server) dial() net.Conn {
	s.t.Helper()
	return s.dialWith(net.Dialer{})
}

// dialSmall is dial with so little room to receive that the server soon finds the connection full.
func (s *server) dialSmall() net.Conn {
	s.t.Helper()
	return s.dialWith(net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<10) }); e != nil {
			return e
		}
		return err
	}})
}

func (s *server) dialWith(d net.Dialer) net.Conn {
	s.t.Helper()
	d.Timeout = patience
	a := s.listener.Addr()
	c, err := d.Dial(a.Network(), a.String())
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return resetConn{} // by a session that was ended in OnConnected
	}
	must(s.t, err)
	s.t.Cleanup(func() { _ = c.Close() })
	must(s.t, c.SetDeadline(time.Now().Add(3*patience)))
	return c
}

// resetConn stands for a connection that was reset before dial had returned.
type resetConn struct{ net.Conn }

func (resetConn) Read([]byte) (int, error)  { return 0, syscall.ECONNRESET }
func (resetConn) Write([]byte) (int, error) { return 0, syscall.ECONNRESET }
func (resetConn) Close() error              { return nil }

// connect is dial, and waits for the session.
func (s *server) connect() (net.Conn, *peer) {
	s.t.Helper()
	return s.session(s.dial())
}

func (s *server) session(c net.Conn) (net.Conn, *peer) {
	s.t.Helper()
	return c, await(s.t, s.arrivals, "OnConnected")
}

// peer is a session of a server. It reports callbacks that overlap, come out of order, or twice.
type peer struct {
	session.Session
	server    *server
	ended     chan struct{} // closed by OnDisconnected
	got, sent atomic.Int64  // bytes of OnRecv and of OnSend
	inside    atomic.Bool
	stage     atomic.Int32
}

const (
	fresh int32 = iota
	open
	gone
)

// enter begins a callback and returns what ends it.
func (p *peer) enter(callback string, from, to int32) (leave func()) {
	if p.inside.Swap(true) {
		p.server.t.Errorf("session %d: %s while another callback runs", p.ID(), callback)
	}
	if !p.stage.CompareAndSwap(from, to) {
		p.server.t.Errorf("session %d: %s at stage %d, want %d", p.ID(), callback, p.stage.Load(), from)
	}
	return func() { p.inside.Store(false) }
}

func (p *peer) OnConnected(remote net.Addr) {
	defer p.enter("OnConnected", fresh, open)()
	if remote != p.RemoteAddr() {
		p.server.t.Errorf("OnConnected got %v, RemoteAddr is %v", remote, p.RemoteAddr())
	}
	p.server.mu.Lock()
	p.server.peers = append(p.server.peers, p)
	p.server.mu.Unlock()
	select {
	case p.server.arrivals <- p:
	default:
	}
	if f := p.server.hooks.connected; f != nil {
		f(p)
	}
}

func (p *peer) OnRecv(data []byte) {
	defer p.enter("OnRecv", open, open)()
	p.got.Add(int64(len(data)))
	if f := p.server.hooks.recv; f != nil {
		f(p, data)
	}
}

func (p *peer) OnSend(n int) {
	defer p.enter("OnSend", open, open)()
	if p.sent.Add(int64(n)); n <= 0 {
		p.server.t.Errorf("OnSend(%d)", n)
	}
	if f := p.server.hooks.sent; f != nil {
		f(p, n)
	}
}

func (p *peer) OnDisconnected(remote net.Addr) {
	defer close(p.ended)
	defer p.enter("OnDisconnected", open, gone)()
	if remote != p.RemoteAddr() {
		p.server.t.Errorf("OnDisconnected got %v, RemoteAddr is %v", remote, p.RemoteAddr())
	}
	if err := p.Send([]byte("late")); !errors.Is(err, session.ErrClosed) {
		p.server.t.Errorf("Send in OnDisconnected: %v", err)
	}
	if f := p.server.hooks.disconnected; f != nil {
		f(p)
	}
}

// run has f run on the session's loop and waits for it.
func (p *peer) run(t testing.TB, f func()) {
	t.Helper()
	done := make(chan struct{})
	must(t, p.Post(func() {
		defer close(done)
		defer p.enter("Post", open, open)()
		f()
	}))
	await(t, done, "a posted function runs")
}

// hold keeps the session's loop busy until release is called.
func (p *peer) hold(t testing.TB) (release func()) {
	t.Helper()
	entered, gate := make(chan struct{}), make(chan struct{})
	must(t, p.Post(func() {
		close(entered)
		<-gate
	}))
	release = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(release)
	await(t, entered, "the loop is held")
	return release
}

// reset closes a TCP connection the rude way.
func reset(t testing.TB, c net.Conn) {
	t.Helper()
	must(t, c.(*net.TCPConn).SetLinger(0))
	must(t, c.Close())
}

func closeWrite(t testing.TB, c net.Conn) {
	t.Helper()
	must(t, c.(interface{ CloseWrite() error }).CloseWrite())
}

func write(t testing.TB, c net.Conn, data []byte) {
	t.Helper()
	_, err := c.Write(data)
	must(t, err)
}

// expect reads exactly the bytes of want.
func expect(t testing.TB, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v, want %q", got[:n], err, want)
	}
}

// exchange sends a message to an echo server and reads it back.
func exchange(t testing.TB, c net.Conn, message string) {
	t.Helper()
	write(t, c, []byte(message))
	expect(t, c, message)
}

// readAll reads to the end of a connection and compares with what was to come.
func readAll(c net.Conn, want []byte) error {
	buf := make([]byte, 64<<10)
	for off := 0; ; {
		n, err := c.Read(buf)
		if n > len(want)-off || !bytes.Equal(buf[:n], want[off:off+n]) {
			return fmt.Errorf("foreign bytes between %d and %d of %d", off, off+n, len(want))
		}
		switch off += n; {
		case err == io.EOF && off == len(want):
			return nil
		case err != nil:
			return fmt.Errorf("%w after %d of %d bytes", err, off, len(want))
		}
	}
}

// stream is some MiB in which no two places look alike.
var stream = sync.OnceValue(func() []byte {
	b := make([]byte, 32<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
})
