// Measure tells what it costs to look at a server: make measure-observe
//
//	echo      the server's CPU time per message, echo of 64 B on 1,000 connections: while nobody looks, the same once more (what differs
//	          between these two is the noise), with /metrics read once a second, and while everything is recorded to -dir, a tmpfs. Each round
//	          has all four, in an order that changes
//	sessions  how long /sessions?sort=pending takes with 18,000 sessions, and how late the loops are meanwhile
//
// It starts cmd/echoserver and loads it with cmd/netbench, from the root of the repository. The machine should be quiet.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	rounds := flag.Int("rounds", 11, "rounds of four runs")
	duration := flag.Duration("duration", 4*time.Second, "time of a run")
	conns := flag.Int("conns", 1000, "connections of the echo")
	sessions := flag.Int("sessions", 18_000, "idle sessions of the second part; the limit on open files must allow them")
	tmpfs := flag.String("dir", "/dev/shm", "where the recordings go, one at a time; each is removed")
	flag.Parse()
	if err := measure(*rounds, *duration, *conns, *sessions, *tmpfs); err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
}

func measure(rounds int, duration time.Duration, conns, sessions int, tmpfs string) error {
	dir, err := os.MkdirTemp("", "measure")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", dir+"/", "./cmd/echoserver", "./cmd/netbench")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	s, err := serve(dir)
	if err != nil {
		return err
	}
	defer s.stop()
	if err := s.compare(rounds, duration, conns, tmpfs); err != nil {
		return err
	}
	return s.list(sessions)
}

// server is a running echoserver.
type server struct {
	dir, addr, url string
	cmd            *exec.Cmd
}

func serve(dir string, args ...string) (*server, error) {
	args = append([]string{"-addr", "127.0.0.1:0", "-observe", "127.0.0.1:0"}, args...)
	s := &server{dir: dir, cmd: exec.Command(filepath.Join(dir, "echoserver"), args...)}
	s.cmd.Stderr = os.Stderr
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(stdout)
	for s.url == "" && lines.Scan() {
		if a, ok := strings.CutPrefix(lines.Text(), "listening on "); ok {
			s.addr = a
		}
		if a, ok := strings.CutPrefix(lines.Text(), "observe on "); ok {
			s.url = a
		}
	}
	if s.url == "" {
		s.stop()
		return nil, errors.New("the server did not say where its pages are")
	}
	return s, nil
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	_ = s.cmd.Wait()
}

// get reads a page to its end.
func (s *server) get(path string) (string, error) {
	resp, err := http.Get(s.url + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, resp.Status, body)
	}
	return string(body), err
}

// echo runs netbench and returns the server's CPU time per message, in microseconds. With scrape, /metrics is read once a second.
func (s *server) echo(duration time.Duration, conns int, scrape bool) (float64, error) {
	quit, done := make(chan struct{}), make(chan error, 1)
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				done <- nil
				return
			case <-tick.C:
			}
			if !scrape {
				continue
			}
			if _, err := s.get("metrics"); err != nil {
				done <- err
				return
			}
		}
	}()
	bench := exec.Command(filepath.Join(s.dir, "netbench"), "echo", "-addr", s.addr, "-conns", strconv.Itoa(conns), "-duration", duration.String(),
		"-pid", strconv.Itoa(s.cmd.Process.Pid), "-json", "-", "-quiet")
	bench.Stderr = os.Stderr
	out, err := bench.Output()
	close(quit)
	if err := errors.Join(err, <-done); err != nil {
		return 0, err
	}
	var result struct {
		Server struct {
			CPU float64 `json:"cpu_us_per_message"`
		}
	}
	err = json.Unmarshal(out, &result)
	if err == nil && result.Server.CPU == 0 {
		err = errors.New("netbench tells no CPU time of the server")
	}
	return result.Server.CPU, err
}

// legs are the runs of a round. The first is what the others are compared with.
var legs = []string{"nobody looks", "nobody looks, again", "scraped each second", "recorded"}

// compare makes the rounds.
func (s *server) compare(rounds int, duration time.Duration, conns int, tmpfs string) error {
	all := make([][]float64, len(legs))
	for round := range rounds {
		us := make([]float64, len(legs))
		for i := range legs {
			leg := (round + i) % len(legs)
			if round/len(legs)%2 == 1 {
				leg = len(legs) - 1 - leg
			}
			var err error
			if legs[leg] == "recorded" {
				us[leg], err = s.recorded(duration, conns, tmpfs)
			} else {
				us[leg], err = s.echo(duration, conns, legs[leg] == "scraped each second")
			}
			if err != nil {
				return fmt.Errorf("%s: %w", legs[leg], err)
			}
		}
		fmt.Printf("round %2d:", round+1)
		for leg, v := range us {
			all[leg] = append(all[leg], v)
			fmt.Printf("  %.3f", v)
		}
		fmt.Println(" us per message")
	}
	fmt.Printf("%-20s  %8s  %18s  %s\n", "", "median", "least to most", "of the first in its round: median (least to most)")
	for leg, v := range all {
		ratios := make([]float64, rounds)
		for i := range v {
			ratios[i] = 100 * (v[i]/all[0][i] - 1)
		}
		fmt.Printf("%-20s  %5.3f us  %5.3f to %5.3f us  %+.2f %% (%+.2f to %+.2f %%)\n", legs[leg], median(v), slices.Min(v), slices.Max(v),
			median(ratios), slices.Min(ratios), slices.Max(ratios))
	}
	return nil
}

// recorded is echo of a server of its own, which records to a file that is removed then.
func (s *server) recorded(duration time.Duration, conns int, tmpfs string) (us float64, err error) {
	f, err := os.CreateTemp(tmpfs, "measure-*.pcapng")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	_ = f.Close()
	r, err := serve(s.dir, "-record", f.Name())
	if err != nil {
		return 0, err
	}
	us, err = r.echo(duration, conns, false)
	r.stop()
	if err != nil {
		return 0, err
	}
	info, err := os.Stat(f.Name())
	if err == nil && info.Size() < 1<<20 {
		err = fmt.Errorf("the recording has %d bytes: nothing was recorded", info.Size())
	}
	return us, err
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[len(v)/2] + v[(len(v)-1)/2]) / 2
}

// list reads /sessions?sort=pending of many sessions for some seconds, and compares the lag of the loops with that of as long a time
// without.
func (s *server) list(sessions int) error {
	bench := exec.Command(filepath.Join(s.dir, "netbench"), "idle", "-addr", s.addr, "-conns", strconv.Itoa(sessions), "-active", "100", "-rate", "2000", "-duration", "5m", "-quiet")
	bench.Stderr = os.Stderr
	if err := bench.Start(); err != nil {
		return err
	}
	defer func() {
		_ = bench.Process.Signal(os.Interrupt)
		_ = bench.Wait()
	}()
	for late := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		body, err := s.get("sessions?limit=0")
		if err != nil {
			return err
		}
		var got struct{ Open int }
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			return err
		}
		if got.Open == sessions {
			break
		}
		if time.Now().After(late) {
			return fmt.Errorf("%d sessions are open after a minute, not %d", got.Open, sessions)
		}
	}
	const span = 6 * time.Second
	for _, path := range []string{"", "sessions?sort=pending&limit=20", fmt.Sprintf("sessions?sort=pending&limit=%d", sessions)} {
		if err := s.repeat(path, span); err != nil {
			return err
		}
	}
	return nil
}

// repeat reads a page again and again for so long, or nothing if path is "".
func (s *server) repeat(path string, span time.Duration) error {
	before, err := s.lags()
	if err != nil {
		return err
	}
	var times []time.Duration
	if path == "" {
		time.Sleep(span)
	}
	for end := time.Now().Add(span); path != "" && time.Now().Before(end); {
		began := time.Now()
		if _, err := s.get(path); err != nil {
			return err
		}
		times = append(times, time.Since(began))
	}
	after, err := s.lags()
	if err != nil {
		return err
	}
	slices.Sort(times)
	what := "nothing is read"
	if len(times) > 0 {
		what = fmt.Sprintf("/%s: median %v, slowest %v, of %d one after the other", path, times[len(times)/2].Round(time.Microsecond*100),
			times[len(times)-1].Round(time.Microsecond*100), len(times))
	}
	fmt.Printf("%s; lag of the loops: p50 < %v, p99 < %v, all < %v\n", what, late(before, after, 0.5), late(before, after, 0.99), late(before, after, 1))
	return nil
}

// lags returns the cumulative buckets of the loops' lag, by bound in seconds, all loops together.
func (s *server) lags() (map[float64]float64, error) {
	body, err := s.get("metrics")
	if err != nil {
		return nil, err
	}
	buckets := make(map[float64]float64)
	for line := range strings.Lines(body) {
		rest, ok := strings.CutPrefix(line, "servercore_loop_lag_seconds_bucket{")
		if !ok {
			continue
		}
		_, rest, _ = strings.Cut(rest, `le="`)
		bound, rest, _ := strings.Cut(rest, `"} `)
		le, err := strconv.ParseFloat(bound, 64) // +Inf too
		count, err2 := strconv.ParseFloat(strings.TrimSpace(rest), 64)
		if err := errors.Join(err, err2); err != nil {
			return nil, err
		}
		buckets[le] += count
	}
	return buckets, nil
}

// late returns the bound of the bucket with quantile q of what was counted between two looks.
func late(before, after map[float64]float64, q float64) time.Duration {
	bounds := make([]float64, 0, len(after))
	for b := range after {
		bounds = append(bounds, b)
	}
	slices.Sort(bounds)
	all := after[math.Inf(1)] - before[math.Inf(1)]
	for _, b := range bounds {
		if after[b]-before[b] >= q*all {
			return time.Duration(b * float64(time.Second)).Round(time.Microsecond)
		}
	}
	return 0
}
