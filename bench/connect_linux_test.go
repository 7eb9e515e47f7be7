package bench

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// All of 127.0.0.0/8 is this machine on Linux; elsewhere the addresses would have to be configured first.
func TestSources(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]int{}
	addr := peer(t, func(n int, c *net.TCPConn) {
		mu.Lock()
		seen[c.RemoteAddr().(*net.TCPAddr).IP.String()]++
		mu.Unlock()
		plainEcho(n, c)
	})
	p := short(Echo, addr)
	p.Sources, p.Conns = 3, 6
	wantErrors(t, carryOut(t, p), nil)
	mu.Lock()
	defer mu.Unlock()
	for _, ip := range []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"} {
		if seen[ip] != 2 {
			t.Errorf("connections by source address: %v", seen)
			break
		}
	}
}

// listenOnly returns the address of a listener that nobody accepts from, whose queue holds that many connections and
// one more.
func listenOnly(t testing.TB, queue int) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	err = errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, queue))
	name, err2 := unix.Getsockname(fd)
	if err = errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
}

func TestConnectTimeout(t *testing.T) {
	p := short(Idle, listenOnly(t, 0))
	p.Timeout = 300 * time.Millisecond
	r := carryOut(t, p)
	wantErrors(t, r, map[Kind]func(uint64) bool{ConnectTimeout: some})
	if r.Totals.ConnsAtStart+int(r.Errors[ConnectTimeout]) != p.Conns || len(r.Warnings) == 0 {
		t.Errorf("%d connections, errors %v, warnings %q", r.Totals.ConnsAtStart, r.Errors, r.Warnings)
	}
}

func TestOutOfDescriptors(t *testing.T) {
	const conns = 60
	addr := listenOnly(t, 2*conns)
	for range 2 * spareDescriptors {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	// Enough as far as can be told beforehand, but other files are open too.
	low := unix.Rlimit{Cur: conns + spareDescriptors, Max: before.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &before)
	p := short(Idle, addr)
	p.Conns, p.Duration = conns, time.Minute
	r, err := Run(t.Context(), p, Options{})
	if !errors.Is(err, ErrNoDescriptors) || !strings.Contains(err.Error(), "ulimit -n") || r == nil || r.Errors[NoDescriptors] == 0 {
		t.Errorf("error %v", err)
	}
}

func TestNoPortsAdvice(t *testing.T) {
	if k := classify(os.NewSyscallError("connect", unix.EADDRNOTAVAIL)); k != NoPorts {
		t.Errorf("kind %v", k)
	}
	err := portAdvice(2)
	if !errors.Is(err, ErrNoPorts) || !strings.Contains(err.Error(), "-sources 8") || !strings.Contains(err.Error(), "ip_local_port_range") {
		t.Error(err)
	}
}

// A connection that is made after the measured part is not one of it: the server takes none until then.
func TestRampCountsConnectionsInTime(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0))
	f := os.NewFile(uintptr(fd), "listener")
	l, err2 := net.FileListener(f)
	if err = errors.Join(err, err2, f.Close()); err != nil {
		t.Fatal(err)
	}
	p := short(Ramp, l.Addr().String())
	p.Conns, p.ConnectRate, p.Every, p.Duration = 6, 100, time.Minute, 300*time.Millisecond
	var once sync.Once
	r, err := Run(t.Context(), p, Options{Progress: func(p Progress) {
		if p.Phase == "waiting for replies" {
			once.Do(func() { serveEcho(t, l) })
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	s := &r.Totals
	if s.ConnsOpened != 6 || s.ConnsInTime == 0 || s.ConnsInTime > 2 { // the listener's queue holds one or two
		t.Errorf("%d connections, %d of them in time; errors %v", s.ConnsOpened, s.ConnsInTime, r.Errors)
	}
	late := fmt.Sprintf("%d of 6 connections were made only after the measured part", 6-s.ConnsInTime)
	if !strings.Contains(strings.Join(r.Warnings, "\n"), late) || !strings.Contains(tableOf(t, r), fmt.Sprintf("%d made, 6 wanted", s.ConnsInTime)) {
		t.Errorf("%q is missing in %q\n%s", late, r.Warnings, tableOf(t, r))
	}
	opened := 0.0
	for _, point := range r.Series {
		opened += point.Opened * point.Length
	}
	if !near(opened, float64(s.ConnsInTime)) {
		t.Errorf("the series has %v connections, %d were made in time", opened, s.ConnsInTime)
	}
}
