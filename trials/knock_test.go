//go:build linux

package trials

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

// openAndClose makes workers open and close connections for d, and returns how many they opened. end is "FIN" or "RST"; a connection that
// ends with a reset leaves no socket in TIME_WAIT.
func openAndClose(address string, workers int, end string, d time.Duration) (times int64) {
	var done atomic.Int64
	var crew sync.WaitGroup
	until := time.Now().Add(d)
	for range workers {
		crew.Go(func() {
			for time.Now().Before(until) {
				c, err := net.Dial("tcp", address)
				if err != nil {
					continue
				}
				if end == "RST" {
					_ = c.(*net.TCPConn).SetLinger(0)
				}
				_ = c.Close()
				done.Add(1)
			}
		})
	}
	crew.Wait()
	return done.Load()
}

type plain struct{ session.Session }

func (*plain) OnConnected(net.Addr) {}
func (s *plain) OnRecv(data []byte) { _ = s.Send(data) }

// plainMain is the main function of a process with an echo engine, without the records and statistics of the trials, for comparisons.
func plainMain() int {
	e, err := engine.New(engine.Options{Logger: slog.New(slog.DiscardHandler)})
	if err == nil {
		var l *engine.Listener
		if l, err = e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return &plain{} }); err == nil {
			if err = e.Start(); err == nil {
				answer(l.Addr().String())
				_, _ = io.Copy(io.Discard, os.Stdin)
				return 0
			}
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// compareAccepting measures connections per second for the engine and for plain gnet (of bench/peers) in alternating turns.
func (o *oracle) compareAccepting(d time.Duration, rounds, workers int) {
	o.t.Helper()
	const criterion = "accepts/s >= 0.8 of plain gnet"
	if !full() {
		note(line{o.name, criterion, "only at full scale, it builds gnet's server of bench/peers", notRun})
		return
	}
	type server struct {
		*process
		address    string
		rate, cost []float64 // of each turn: connections per second, and the server's CPU time per connection in µs
	}
	ours := server{process: start(o.t, "plain")}
	ours.address = heard[string](ours.process, "start")
	theirs := server{process: &process{t: o.t}}
	theirs.pid, theirs.address = startGnet(o.t)
	for range rounds {
		for _, end := range []string{"RST", "FIN"} {
			for _, s := range []*server{&ours, &theirs} {
				used, began := s.processor(), time.Now()
				n := float64(openAndClose(s.address, workers, end, d))
				s.rate = append(s.rate, n/time.Since(began).Seconds())
				s.cost = append(s.cost, float64((s.processor()-used).Microseconds())/n)
			}
		}
	}
	median := func(v []float64) float64 {
		slices.Sort(v)
		return v[len(v)/2]
	}
	rate, reference := median(ours.rate), median(theirs.rate)
	o.check(criterion, rate >= 0.8*reference, "%.0f to %.0f, that is %.2f; processor time for each %.1f us to %.1f", rate, reference, rate/reference,
		median(ours.cost), median(theirs.cost))
}

// startGnet builds and starts gnet's server. The server ends with the trial.
func startGnet(t *testing.T) (pid int, address string) {
	path := filepath.Join(t.TempDir(), "gnet")
	build := exec.Command("go", "build", "-o", path, "./gnet")
	build.Dir = filepath.Join("..", "bench", "peers")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	cmd := exec.Command(path)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	unhampered(func() { err = cmd.Start() })
	must(t, err)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	said := bufio.NewReader(stdout)
	for { // gnet logs there too
		line, err := said.ReadString('\n')
		if address, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on "); ok {
			go func() { _, _ = io.Copy(io.Discard, said) }()
			return cmd.Process.Pid, address
		}
		must(t, err)
	}
}
