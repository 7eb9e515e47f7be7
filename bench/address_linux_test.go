package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/internal/freeport"
)

// listenBoth returns listeners on one port of both loopback addresses.
func listenBoth(t testing.TB) (v4, v6 net.Listener, port int) {
	t.Helper()
	for range 20 {
		addr, err := freeport.Addr("127.0.0.1") // tests close one of the two, and nobody must be given that port then
		if err != nil {
			t.Fatal(err)
		}
		v4, err := net.Listen("tcp4", addr)
		if err != nil {
			continue
		}
		port := v4.Addr().(*net.TCPAddr).Port
		if v6, err := net.Listen("tcp6", fmt.Sprintf("[::1]:%d", port)); err == nil {
			t.Cleanup(func() { v4.Close(); v6.Close() })
			return v4, v6, port
		}
		v4.Close()
	}
	t.Fatal("no port is free on both addresses: is there an IPv6 loopback?")
	return nil, nil, 0
}

// serveEcho is an echo on l; it counts connections.
func serveEcho(t testing.TB, l net.Listener) *atomic.Int64 {
	var n atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n.Add(1)
			go func() { defer c.Close(); plainEcho(0, c.(*net.TCPConn)) }()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return &n
}

// A host with several addresses is tried at each, and all connections go to the first that works.
func TestEveryAddressIsTried(t *testing.T) {
	for _, host := range []string{"localhost", "LocalHost.", ""} {
		for _, on := range []string{"127.0.0.1", "::1", "both"} {
			for _, mode := range []Mode{Echo, Churn, Ramp, Idle} {
				v4, v6, port := listenBoth(t)
				if on == "::1" {
					v4.Close()
				}
				if on == "127.0.0.1" {
					v6.Close()
				}
				n4, n6 := serveEcho(t, v4), serveEcho(t, v6)
				p := short(mode, net.JoinHostPort(host, fmt.Sprint(port)))
				p.Conns, p.Linger0, p.ConnectRate, p.Every, p.Active = 10, true, 1000, 5*time.Millisecond, 2
				r := carryOut(t, p)
				wantErrors(t, r, nil)
				opened := int64(r.Totals.ConnsOpened)
				for late := time.Now().Add(10 * time.Second); n4.Load()+n6.Load() < opened && time.Now().Before(late); { // the server may lag behind
					time.Sleep(time.Millisecond)
				}
				if want6 := on == "::1"; opened == 0 || r.Totals.Messages+r.Totals.AfterEnd == 0 || want6 && (n4.Load() != 0 || n6.Load() != opened) ||
					!want6 && (n6.Load() != 0 || n4.Load() != opened) {
					t.Errorf("%q, server on %s, %s: %d connections opened, %d seen by 127.0.0.1, %d by ::1", host, on, mode, opened, n4.Load(), n6.Load())
				}
			}
		}
	}
}

// An address that does not answer costs a part of the timeout, not the run.
func TestAddressThatDoesNotAnswer(t *testing.T) {
	silent := listenOnly(t, 0)
	_, port, _ := net.SplitHostPort(silent)
	full := make([]net.Conn, 0, 4) // fill the queue: from then on SYNs are not answered
	for range cap(full) {
		if c, err := net.DialTimeout("tcp", silent, 200*time.Millisecond); err == nil {
			full = append(full, c)
		}
	}
	defer func() {
		for _, c := range full {
			c.Close()
		}
	}()
	l, err := net.Listen("tcp6", "[::1]:"+port)
	if err != nil {
		t.Fatal(err)
	}
	n := serveEcho(t, l)
	p := short(Echo, "localhost:"+port)
	p.Timeout = 6 * time.Second
	begun := time.Now()
	r := carryOut(t, p)
	wantErrors(t, r, nil)
	if took := time.Since(begun); took >= 2*p.Timeout { // half of it goes to the address that does not answer
		t.Errorf("the run took %v", took)
	}
	if r.Totals.Messages == 0 || n.Load() != int64(p.Conns) {
		t.Errorf("%+v, %d connections", r.Totals, n.Load())
	}
}

// Nobody listens: the error names every address.
func TestErrorNamesEveryAddress(t *testing.T) {
	for _, mode := range []Mode{Echo, Rate, Churn, Ramp, Idle, Fanout, Search} {
		v4, v6, port := listenBoth(t)
		v4.Close()
		v6.Close()
		p := short(mode, fmt.Sprintf("localhost:%d", port))
		p.ConnectRate = 1000
		r, err := Run(t.Context(), p, Options{})
		if !errors.Is(err, ErrNoConnection) || r == nil {
			t.Fatalf("%s: %v", mode, err)
		}
		for _, want := range []string{fmt.Sprintf("127.0.0.1:%d: connect: connection refused", port), fmt.Sprintf("[::1]:%d: connect: ", port)} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q is missing in %v", mode, want, err)
			}
		}
		wantErrors(t, r, map[Kind]func(uint64) bool{Refused: some}) // one for both addresses
		if holds := mode == Echo || mode == Rate || mode == Idle || mode == Search; holds && r.Errors[Refused] != uint64(p.Conns) {
			t.Errorf("%s: %d refused, want %d", mode, r.Errors[Refused], p.Conns)
		}
	}
}

func TestUnknownHost(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if r, err := Run(ctx, short(Echo, "no-such-host.invalid:80"), Options{}); err == nil || r != nil || !strings.Contains(err.Error(), "no-such-host.invalid:80") {
		t.Errorf("%v", err)
	}
}

// A socket that is bound to the port it connects to reaches itself.
func TestToItself(t *testing.T) {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		var own unix.Sockaddr = &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
		if family == unix.AF_INET6 {
			own = &unix.SockaddrInet6{Addr: [16]byte(net.IPv6loopback)}
		}
		if err := unix.Bind(fd, own); err != nil {
			t.Fatal(err)
		}
		if own, err = unix.Getsockname(fd); err != nil {
			t.Fatal(err)
		}
		if toItself(fd) {
			t.Error("it is not connected yet")
		}
		if err := unix.Connect(fd, own); err != nil {
			t.Fatal(err)
		}
		if !toItself(fd) {
			t.Error("not noticed")
		}
		resetOnClose(fd)
	}
	c, err := net.Dial("tcp", peer(t, plainEcho))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		if toItself(int(fd)) {
			t.Error("a connection to a server is taken for one to itself")
		}
	})
}

// Without a server a connection that reaches itself is refused, in each mode and at each try, and its port is free at once.
func TestReachesItself(t *testing.T) {
	for _, mode := range []Mode{Echo, Rate, Churn, Idle, Ramp, Fanout} {
		p := short(mode, unused(t))
		p.Conns, p.Threads, p.Active, p.ConnectRate = 1, 1, 1, 100
		r, err := newRun(t.Context(), p.WithDefaults())
		if err != nil {
			t.Fatal(err)
		}
		to := r.targets[0].list[0].addr.(*unix.SockaddrInet4)
		r.targets[0].sources = []unix.Sockaddr{&unix.SockaddrInet4{Addr: to.Addr, Port: to.Port}} // what the system may choose by itself
		result, err := r.carryOut(t.Context(), Options{})
		if mode == Fanout { // the other connection finds the port taken
			if err == nil || result == nil || result.Errors[Refused] == 0 {
				t.Errorf("%s: %v, %+v", mode, err, result)
			}
		} else {
			if !errors.Is(err, ErrNoConnection) || !strings.Contains(err.Error(), "reached itself") {
				t.Fatalf("%s: %v", mode, err)
			}
			wantErrors(t, result, map[Kind]func(uint64) bool{Refused: some})
		}
		if mode == Churn && result.Errors[Refused] < 2 {
			t.Errorf("churn: %d refused: it tries again", result.Errors[Refused])
		}
		if s := &result.Totals; s.ConnsOpened != 0 || s.Messages != 0 || s.Cycles != 0 || s.Sent != 0 || s.ConnsAtStart != 0 {
			t.Errorf("%s: %+v", mode, *s)
		}
		l, err := net.Listen("tcp", p.Addr)
		if err != nil {
			t.Errorf("%s: the port is not free: %v", mode, err)
			continue
		}
		l.Close()
	}
}

// Threads come from what the process may use, which a CPU quota and an affinity limit.
func TestThreadsFollowTheQuota(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	for procs, want := range map[int]int{1: 1, 2: 1, 3: 1, 6: 3, 64: 32} {
		runtime.GOMAXPROCS(procs)
		if got := (Plan{Mode: Echo}).WithDefaults().Threads; got != want {
			t.Errorf("GOMAXPROCS %d: %d threads, want %d", procs, got, want)
		}
		if m := thisMachine(time.Now()); m.MaxProcs != procs || m.Cores != runtime.NumCPU() {
			t.Errorf("GOMAXPROCS %d: %+v", procs, m)
		}
	}
	m := Machine{Cores: 64, MaxProcs: 2}
	if got := m.coresText(); got != "64 cores (2 for the client)" {
		t.Error(got)
	}
	if m.MaxProcs = 64; m.coresText() != "64 cores" {
		t.Error(m.coresText())
	}
}
