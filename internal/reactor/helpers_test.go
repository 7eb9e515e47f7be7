package reactor

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// side is what the tests keep with a connection: what happens to it, in fields that replace the handler's methods.
type side struct {
	traffic  func(c *Conn[*side], data []byte)
	closed   func(c *Conn[*side], err error)
	failed   func(c *Conn[*side], err error)
	writable func(c *Conn[*side])
	wake     func(c *Conn[*side])
	resume   func(c *Conn[*side])
	deadline func(c *Conn[*side], now time.Duration)
	opened   func(c *Conn[*side])
	ready    func(c *Conn[*side])

	over     bool          // Close was called
	released chan struct{} // closed by OnRelease
}

func newSide() *side { return &side{released: make(chan struct{})} }

// owner is a loop and its handler: it echoes, unless a connection's side says otherwise, and runs functions on the loop.
type owner struct {
	*Loop[*side]
	t      testing.TB
	ending atomic.Bool
	boots  atomic.Int32
	cause  error // OnShutdown was told; the loop's

	mu   sync.Mutex
	jobs []func()
}

// newOwner returns a loop that does not run. What is left of it ends with the test.
func newOwner(t testing.TB) *owner {
	t.Helper()
	o := &owner{t: t}
	l, err := New(Config[*side]{Handler: o, Clock: NewClock(), Scratch: "loop"})
	if err != nil {
		t.Fatal(err)
	}
	o.Loop = l
	return o
}

// run starts the loop, to be ended with the test.
func (o *owner) run() *owner {
	go o.Run()
	o.t.Cleanup(o.end)
	return o
}

func (o *owner) end() {
	if !o.ending.Swap(true) {
		o.Halt()
		o.Close()
	}
}

// running returns a loop that runs.
func running(t testing.TB) *owner { return newOwner(t).run() }

// do has f run in a turn. Any goroutine.
func (o *owner) do(f func()) {
	o.mu.Lock()
	o.jobs = append(o.jobs, f)
	o.mu.Unlock()
	o.Wake()
}

// ask runs f on the loop and returns what it returns.
func ask[T any](o *owner, f func() T) T {
	o.t.Helper()
	answer := make(chan T, 1)
	o.do(func() { answer <- f() })
	return receive(o.t, answer)
}

func (o *owner) next() func() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.jobs) == 0 {
		return nil
	}
	f := o.jobs[0]
	o.jobs = o.jobs[1:]
	return f
}

func (o *owner) OnTurn(until time.Duration) bool {
	for o.Now() < until {
		f := o.next()
		if f == nil {
			return false
		}
		f()
	}
	return true
}

func (o *owner) OnBoot() { o.boots.Add(1) }

func (o *owner) OnShutdown(err error) {
	o.cause = err
	o.ending.Store(true)
	for _, c := range o.Conns() {
		c.Again()
	}
}

func (o *owner) OnOpen(c *Conn[*side]) {
	if f := c.Context.opened; f != nil {
		f(c)
	}
}

func (o *owner) OnTraffic(c *Conn[*side], data []byte) {
	if f := c.Context.traffic; f != nil {
		f(c, data)
		return
	}
	if n, err := c.Write([][]byte{data}); n != len(data) || err != nil {
		o.t.Errorf("the echo of %d bytes: %d, %v", len(data), n, err)
	}
}

func (o *owner) OnClose(c *Conn[*side], err error) {
	if f := c.Context.closed; f != nil {
		f(c, err)
		return
	}
	finish(c, false)
}

func (o *owner) OnError(c *Conn[*side], err error) {
	if f := c.Context.failed; f != nil {
		f(c, err)
		return
	}
	finish(c, true)
}

// finish closes and releases a connection, once.
func finish(c *Conn[*side], reset bool) {
	if !c.Context.over {
		c.Context.over = true
		c.Close(reset)
		c.Release()
	}
}

func (o *owner) OnWritable(c *Conn[*side]) {
	if f := c.Context.writable; f != nil {
		f(c)
	}
}

func (o *owner) OnWake(c *Conn[*side]) {
	if f := c.Context.wake; f != nil {
		f(c)
	}
}

func (o *owner) OnResume(c *Conn[*side]) {
	if o.ending.Load() {
		finish(c, true)
	} else if f := c.Context.resume; f != nil {
		f(c)
	}
}

func (o *owner) OnDeadline(c *Conn[*side], now time.Duration) {
	if f := c.Context.deadline; f != nil {
		f(c, now)
	}
}

func (o *owner) OnReady(c *Conn[*side]) {
	if f := c.Context.ready; f != nil {
		f(c)
	}
}

func (o *owner) OnRelease(c *Conn[*side]) { close(c.Context.released) }

var _ Handler[*side] = (*owner)(nil)

// tcp returns the two ends of a TCP connection, the second as a descriptor that nobody watches.
func tcp(t testing.TB) (client net.Conn, fd int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return dialTo(t, l)
}

// unixPair is tcp for a unix socket.
func unixPair(t testing.TB) (client net.Conn, fd int) {
	t.Helper()
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return dialTo(t, l)
}

func dialTo(t testing.TB, l net.Listener) (client net.Conn, fd int) {
	t.Helper()
	client, err := net.Dial(l.Addr().Network(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	_ = client.SetDeadline(time.Now().Add(20 * time.Second))
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if fd, err = Duplicate(server.(syscall.Conn)); err != nil {
		t.Fatal(err)
	}
	return client, fd
}

// open registers and opens a connection on the loop. prepare may be nil.
func (o *owner) open(fd int, s *side, prepare func(c *Conn[*side])) *Conn[*side] {
	o.t.Helper()
	return ask(o, func() *Conn[*side] {
		c := o.NewConn(fd)
		c.Context = s
		if err := o.Register(c); err != nil {
			o.t.Error(err)
		}
		if prepare != nil {
			prepare(c)
		}
		o.Open(c, nil)
		return c
	})
}

// served returns a client of the loop and the connection that serves it.
func (o *owner) served(s *side) (net.Conn, *Conn[*side]) {
	o.t.Helper()
	client, fd := tcp(o.t)
	return client, o.open(fd, s, nil)
}

// exchange sends n messages of one byte, each after the answer to the last.
func exchange(t testing.TB, c net.Conn, n int) {
	t.Helper()
	var b [1]byte
	for i := range n {
		write(t, c, string(byte(i+'a')))
		if _, err := io.ReadFull(c, b[:]); err != nil || b[0] != byte(i+'a') {
			t.Fatalf("message %d: %q, %v", i, b, err)
		}
	}
}

func write(t testing.TB, c net.Conn, data string) {
	t.Helper()
	if _, err := c.Write([]byte(data)); err != nil {
		t.Fatal(err)
	}
}

// ended waits for the end of a connection as its client sees it.
func ended(t testing.TB, c net.Conn) error {
	t.Helper()
	_, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("the connection does not end")
	}
	return err
}

func receive[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(10 * time.Second):
		t.Fatal("nothing within 10 s")
		panic("unreachable")
	}
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not within 10 s: ", what)
		}
	}
}

// closedFd reports whether a descriptor is none.
func closedFd(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == unix.EBADF
}
