// Measure tells what it costs to look at a server: make measure-observe
//
//	scrapes   the server's CPU time per message, echo of 64 B on 1,000 connections, with /metrics read once a second and without, in
//	          alternation
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
	rounds := flag.Int("rounds", 11, "pairs of runs, with scrapes and without")
	duration := flag.Duration("duration", 4*time.Second, "time of a run")
	conns := flag.Int("conns", 1000, "connections of the echo")
	sessions := flag.Int("sessions", 18_000, "idle sessions of the second part; the limit on open files must allow them")
	flag.Parse()
	if err := measure(*rounds, *duration, *conns, *sessions); err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
}

func measure(rounds int, duration time.Duration, conns, sessions int) error {
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
	if err := s.scrapes(rounds, duration, conns); err != nil {
		return err
	}
	return s.list(sessions)
}

// server is a running echoserver.
type server struct {
	dir, addr, url string
	cmd            *exec.Cmd
}

func serve(dir string) (*server, error) {
	s := &server{dir: dir, cmd: exec.Command(filepath.Join(dir, "echoserver"), "-addr", "127.0.0.1:0", "-observe", "127.0.0.1:0")}
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

// scrapes compares runs with scrapes and without, whose order changes from pair to pair.
func (s *server) scrapes(rounds int, duration time.Duration, conns int) error {
	var without, with, ratios []float64
	for round := range rounds {
		var cpu [2]float64
		for i := range 2 {
			scrape := (round+i)%2 == 1
			us, err := s.echo(duration, conns, scrape)
			if err != nil {
				return err
			}
			cpu[(round+i)%2] = us
		}
		without, with, ratios = append(without, cpu[0]), append(with, cpu[1]), append(ratios, cpu[1]/cpu[0])
		fmt.Printf("round %2d: %.3f us per message without scrapes, %.3f us with: %+.2f %%\n", round+1, cpu[0], cpu[1], 100*(cpu[1]/cpu[0]-1))
	}
	slices.Sort(ratios)
	fmt.Printf("median of %d: %.3f us without, %.3f us with; of the pairs %+.2f %% (%+.2f to %+.2f %%)\n", rounds, median(without), median(with),
		100*(median(ratios)-1), 100*(ratios[0]-1), 100*(ratios[len(ratios)-1]-1))
	return nil
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
