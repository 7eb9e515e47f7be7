package bench

import (
	"context"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/servercore-go/servercore/internal/freeport"
)

func TestMain(m *testing.M) {
	before := descriptors()
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent(), goleak.Cleanup(func(code int) {
		after := descriptors()
		for range 100 { // io.Copy between two connections keeps pipes for splice(2), which the collector closes
			if len(after) <= len(before) {
				break
			}
			runtime.GC()
			time.Sleep(10 * time.Millisecond)
			after = descriptors()
		}
		if code == 0 && len(after) > len(before) {
			for fd, what := range after {
				if before[fd] != what {
					println("left open:", fd, what)
				}
			}
			code = 1
		}
		os.Exit(code)
	}))
}

// descriptors returns the open ones, each with what it is, as far as the system tells. The poller of Go's runtime and freeport
// open some of their own and keep them, so a port is asked for before the first look.
func descriptors() map[string]string {
	_, _ = freeport.Addr("127.0.0.1")
	open := make(map[string]string)
	names, _ := os.ReadDir("/dev/fd")
	for _, n := range names {
		open[n.Name()], _ = os.Readlink("/dev/fd/" + n.Name())
	}
	return open
}

// A peer is a server in the test: serve is called for each connection, n counts them from 0, and the connection is
// closed when it returns.
func peer(t testing.TB, serve func(n int, c *net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	group.Go(func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			group.Go(func() {
				defer c.Close()
				serve(n, c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		group.Wait()
	})
	return l.Addr().String()
}

// echoes sends back what change makes of each message, by its number on the connection, until the client closes.
func echoes(size int, change func(n int, message []byte) []byte) func(int, *net.TCPConn) {
	return func(_ int, c *net.TCPConn) {
		message := make([]byte, size)
		for n := 0; ; n++ {
			if _, err := io.ReadFull(c, message); err != nil {
				return
			}
			reply := change(n, message)
			if reply == nil {
				continue
			}
			if _, err := c.Write(reply); err != nil {
				return
			}
		}
	}
}

func plainEcho(_ int, c *net.TCPConn) { io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c}) }

// broadcast sends what one client sends to every other one.
func broadcast() func(int, *net.TCPConn) {
	var mu sync.Mutex
	members := map[*net.TCPConn]bool{}
	return func(_ int, c *net.TCPConn) {
		mu.Lock()
		members[c] = true
		mu.Unlock()
		b := make([]byte, 64<<10)
		for {
			n, err := c.Read(b)
			mu.Lock()
			if err != nil {
				delete(members, c)
				mu.Unlock()
				return
			}
			for m := range members {
				if m != c {
					m.Write(b[:n])
				}
			}
			mu.Unlock()
		}
	}
}

// short is a plan that takes no longer than it must.
func short(mode Mode, addr string) Plan {
	return Plan{Mode: mode, Addr: addr, Conns: 4, Duration: 150 * time.Millisecond, Warmup: -1, Timeout: 10 * time.Second, Threads: 2}
}

// carryOutUntil runs the plan until the server has seen enough of it, however long that takes on a busy machine.
func carryOutUntil(t testing.TB, p Plan, enough <-chan struct{}) *Result {
	t.Helper()
	p.Duration = 30 * time.Second
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		select {
		case <-enough:
		case <-time.After(p.Duration / 2):
			t.Error("the server has not seen enough within 15 s")
		case <-ctx.Done():
		}
		cancel()
	}()
	r, err := Run(ctx, p, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// carryOut runs the plan within patience. It does not want an error.
func carryOut(t testing.TB, p Plan) *Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := Run(ctx, p, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if r.Interrupted {
		t.Fatal("the run hung")
	}
	return r
}

// wantErrors compares the counts of the kinds given, and wants all others to be 0.
func wantErrors(t testing.TB, r *Result, want map[Kind]func(uint64) bool) {
	t.Helper()
	for _, k := range Kinds() {
		ok := r.Errors[k] == 0
		if f := want[k]; f != nil {
			ok = f(r.Errors[k])
		}
		if !ok {
			t.Errorf("%v: %d; all: %v; samples %+v", k, r.Errors[k], r.Errors, r.ErrorSamples)
		}
	}
}

func exactly(n uint64) func(uint64) bool { return func(got uint64) bool { return got == n } }
func some(got uint64) bool               { return got > 0 }
