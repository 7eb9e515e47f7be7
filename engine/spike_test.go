//go:build spike && linux

package engine_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

// What a spike of load leaves: go test -tags spike -run TestSpike -v -timeout 10m ./engine ; docs/decisions/0016-memory-after-a-spike.md
// has what it says. SPIKE_CONNS is the number of clients (18,000), SPIKE_FOR how long to look afterwards (2 minutes).

// resident returns the resident memory of this process, in MiB.
func resident(t *testing.T) int {
	text, err := os.ReadFile("/proc/self/statm")
	kit.Must(t, err)
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	kit.Must(t, err)
	return pages * os.Getpagesize() >> 20
}

// The clients have a process of their own, for the sake of its descriptors: they connect, read nothing, and go when it is told to.
func TestSpikeClients(t *testing.T) {
	address, n := os.Getenv("SPIKE_ADDRESS"), 0
	if address == "" {
		return
	}
	_, _ = fmt.Sscan(os.Getenv("SPIKE_CONNS"), &n)
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10) })
	}}
	var conns []net.Conn
	for range n {
		c, err := d.Dial("tcp", address)
		kit.Must(t, err)
		conns = append(conns, c)
	}
	fmt.Println("connected")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	for _, c := range conns {
		_ = c.Close()
	}
}

func TestSpike(t *testing.T) {
	n, long := 18_000, 2*time.Minute
	if v := os.Getenv("SPIKE_CONNS"); v != "" {
		_, err := fmt.Sscan(v, &n)
		kit.Must(t, err)
	}
	if v := os.Getenv("SPIKE_FOR"); v != "" {
		d, err := time.ParseDuration(v)
		kit.Must(t, err)
		long = d
	}
	e, err := engine.New(engine.Options{SendBuffer: 4 << 10, WriteTimeout: -1, UserTimeout: -1, Logger: kit.Quiet})
	kit.Must(t, err)
	l, err := e.Listen("tcp", "127.0.0.1:0", session.Events{OnConnected: func(s *session.Session, _ net.Addr) {
		_ = s.Send(make([]byte, 96<<10))
	}}.Factory())
	kit.Must(t, err)
	kit.Must(t, e.Start())
	defer e.Close()
	before := resident(t)
	child := exec.Command(os.Args[0], "-test.run=TestSpikeClients")
	child.Env = append(os.Environ(), "SPIKE_ADDRESS="+l.Addr().String(), "SPIKE_CONNS="+strconv.Itoa(n))
	in, err := child.StdinPipe()
	kit.Must(t, err)
	out, err := child.StdoutPipe()
	kit.Must(t, err)
	child.Stderr = os.Stderr
	kit.Must(t, child.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "connected") {
		t.Fatalf("the clients: %q, %v", line, err)
	}
	for e.Stats().Sessions < n {
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(time.Second)
	queued := 0
	for h := range e.Sessions() {
		queued += h.(interface{ Pending() int }).Pending()
	}
	t.Logf("before %d MiB, at the peak %d MiB: %d sessions, %d KiB queued for each, %d buffers", before, resident(t), e.Stats().Sessions,
		queued/n>>10, pool.Live())
	_ = in.Close()
	_ = child.Wait()
	for e.Stats().Sessions > 0 {
		time.Sleep(10 * time.Millisecond)
	}
	gone := time.Now()
	for at := time.Duration(0); at <= long; at += 10 * time.Second {
		time.Sleep(time.Until(gone.Add(at)))
		t.Logf("%3.0f s after: %d MiB", at.Seconds(), resident(t))
	}
}
