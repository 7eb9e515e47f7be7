//go:build prometheus

// A Prometheus scrapes the program, which netbench loads: .ci/prometheus. It needs Debian's package prometheus, so it stands behind a tag.

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/internal/echoserver"
)

// load is how many connections netbench has, maxSessions how many the program takes, and comers how many come and go beside netbench's: some of
// them are refused.
const load, maxSessions, comers = 16, 20, 6

func init() { testPages = stallable }

// stallable are the program's pages and two more, which only this test has: nothing that the program offers holds a loop. /test/hold has the
// loop of a session run a function that does not return before /test/release.
func stallable(e *engine.Engine, o echoserver.PagesOptions) http.Handler {
	mux, release := http.NewServeMux(), make(chan struct{})
	mux.Handle("/", pages(e, o))
	mux.HandleFunc("POST /test/hold", func(w http.ResponseWriter, _ *http.Request) {
		for s := range e.SessionStats() {
			if h, ok := s.Handler.(interface{ Post(f func()) error }); ok && h.Post(func() { <-release }) == nil {
				return
			}
		}
		w.WriteHeader(http.StatusConflict)
	})
	mux.HandleFunc("POST /test/release", func(http.ResponseWriter, *http.Request) { close(release) })
	return mux
}

// What Prometheus scrapes is what the program counts, each panel of the dashboard has something to show, and the alert for a loop that
// stalls fires and clears.
func TestPrometheus(t *testing.T) {
	s := startServer(t)
	promtool(t, s.get(t, "metrics"))
	stop := s.netbench(t)
	s.comeAndGo(t)
	p := startPrometheus(t, s.host)
	positive := func(v float64) bool { return v > 0 }
	p.wants("up", func(v float64) bool { return v == 1 })
	p.wants("servercore_sessions_max", func(v float64) bool { return v == maxSessions })
	p.wants("min_over_time(servercore_sessions[2s])", func(v float64) bool { return v >= load && v <= maxSessions })
	p.wants("count(servercore_loop_lag_seconds_count)", func(v float64) bool { return v == 2 })
	p.wants("sum(rate(servercore_loop_received_messages_total[2s]))", func(v float64) bool { return v > 100 })
	p.wants("sum(rate(servercore_loop_sent_bytes_total[2s]))", func(v float64) bool { return v > 6400 })
	p.wants(`histogram_quantile(0.99, sum by (le) (rate(servercore_callback_seconds_bucket{callback="OnRecv"}[2s])))`, positive)
	p.wants(`rate(servercore_refused_connections_total{cause="full"}[2s])`, positive)
	dashboard(t, p)
	promtool(t, s.get(t, "metrics"))

	fires := func() bool { return strings.Contains(strings.Join(p.alerts(), ", "), "ServercoreLoopStalled") }
	if fires() {
		t.Error("the alert fires before a loop stalls")
	}
	s.post(t, "test/hold")
	eventually(t, "the alert fires", fires)
	p.wants("count(servercore_loop_unresponsive_seconds > 1)", func(v float64) bool { return v == 1 })
	s.post(t, "test/release")
	eventually(t, "the alert clears", func() bool { return !fires() })
	p.wants("sum(servercore_loop_stalls_total)", positive)
	stop() // no byte was wrong, and none missing
}

// echoServer is the program as a process.
type echoServer struct {
	addr string // of clients
	host string // of the pages
}

func startServer(t *testing.T) *echoServer {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self, "-addr", "127.0.0.1:0", "-loops", "2", "-max-sessions", strconv.Itoa(maxSessions), "-observe", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), asServer+"=1")
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		must(t, cmd.Process.Signal(syscall.SIGTERM))
		must(t, cmd.Wait())
	})
	s := new(echoServer)
	for lines := bufio.NewScanner(stdout); s.host == "" && lines.Scan(); {
		if a, ok := strings.CutPrefix(lines.Text(), "listening on "); ok {
			s.addr = a
		} else if a, ok := strings.CutPrefix(lines.Text(), "observe on http://"); ok {
			s.host = strings.TrimSuffix(a, "/")
		}
	}
	if s.host == "" {
		t.Fatal("the program does not say where its pages are")
	}
	return s
}

// get returns a page.
func (s *echoServer) get(t *testing.T, path string) string {
	t.Helper()
	resp, err := http.Get("http://" + s.host + "/" + path)
	must(t, err)
	return body(t, resp)
}

func (s *echoServer) post(t *testing.T, path string) {
	t.Helper()
	resp, err := http.Post("http://"+s.host+"/"+path, "", nil)
	must(t, err)
	body(t, resp)
}

// body returns what was answered, with the status 200.
func body(t *testing.T, resp *http.Response) string {
	t.Helper()
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s: %s", resp.Request.URL, resp.Status, b)
	}
	return string(b)
}

// netbench loads the program until stop, which fails if netbench has met an error.
func (s *echoServer) netbench(t *testing.T) (stop func()) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "netbench")
	build := exec.Command("go", "build", "-o", path, "./cmd/netbench")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// A reply that waits for the loop that stalls is not late.
	cmd := exec.Command(path, "rate", "-addr", s.addr, "-rate", "2000", "-conns", strconv.Itoa(load), "-duration", "10m", "-timeout", "1m", "-quiet")
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	must(t, cmd.Start())
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("netbench: %v\n%s", err, &said)
		}
	})
	t.Cleanup(stop)
	return stop
}

// comeAndGo has clients come, some of which find the program full, and go, until the end of the test.
func (s *echoServer) comeAndGo(t *testing.T) {
	quit := make(chan struct{})
	var done sync.WaitGroup
	t.Cleanup(func() { close(quit); done.Wait() })
	done.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		var here []net.Conn
		for {
			if len(here) < comers {
				if c, err := net.Dial("tcp", s.addr); err == nil {
					here = append(here, c)
				}
				continue
			}
			for _, c := range here {
				_ = c.Close()
			}
			here = here[:0]
			select {
			case <-quit:
				return
			case <-tick.C:
			}
		}
	})
}

// promtool checks a page of metrics: names, units, help.
func promtool(t *testing.T, metrics string) {
	t.Helper()
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = strings.NewReader(metrics)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// dashboard asks what each panel of the dashboard asks, and what its variables do.
func dashboard(t *testing.T, p *prom) {
	t.Helper()
	text, err := os.ReadFile("../../observe/grafana/dashboard.json")
	must(t, err)
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
		Templating struct{ List []struct{ Definition string } }
	}
	must(t, json.Unmarshal(text, &board))
	asked := 0
	fill := strings.NewReplacer("$job", "echo", "$instance", ".*", "$__rate_interval", "10s")
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			asked++
			eventually(t, panel.Title+": "+target.Expr, func() bool {
				for _, v := range p.query(fill.Replace(target.Expr)) {
					if !math.IsNaN(v) {
						return true
					}
				}
				return false
			})
		}
	}
	variables := 0
	for _, v := range board.Templating.List {
		if m := labelValues.FindStringSubmatch(fill.Replace(v.Definition)); m != nil {
			variables++
			var values []string
			p.ask("/api/v1/label/"+m[2]+"/values?match[]="+url.QueryEscape(m[1]), &values)
			if len(values) != 1 {
				t.Errorf("the variable %s has the values %q, want one", v.Definition, values)
			}
		}
	}
	if asked < 20 || variables != 2 {
		t.Errorf("the dashboard has %d expressions and %d variables, want more", asked, variables)
	}
}

var labelValues = regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)

// prom is a Prometheus with a configuration of its own.
type prom struct {
	t   *testing.T
	url string
}

var listening = regexp.MustCompile(`msg="?Listening on"? .*address="?(127\.0\.0\.1:\d+)`)

// startPrometheus starts one that scrapes a target five times a second and evaluates the alert rules as often.
func startPrometheus(t *testing.T, target string) *prom {
	t.Helper()
	rules, err := filepath.Abs("../../observe/grafana/alerts.yml")
	must(t, err)
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	must(t, os.WriteFile(config, []byte("global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}\n"+
		"rule_files: ['"+rules+"']\n"+
		"scrape_configs: [{job_name: echo, static_configs: [{targets: ['"+target+"']}]}]\n"), 0o600))
	cmd := exec.Command("prometheus", "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0", "--log.level=info")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stderr, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	address, drained := make(chan string, 1), make(chan struct{})
	var said strings.Builder
	go func() {
		defer close(drained)
		defer close(address)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			said.WriteString(lines.Text() + "\n")
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				address <- m[1]
				break
			}
		}
		_, _ = io.Copy(io.Discard, stderr)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-drained
		_ = cmd.Wait()
	})
	a, ok := <-address
	if !ok {
		t.Fatalf("prometheus ended at once:\n%s", &said)
	}
	p := &prom{t, "http://" + a}
	eventually(t, "prometheus is ready", func() bool {
		resp, err := http.Get(p.url + "/-/ready")
		must(t, err)
		defer func() { _ = resp.Body.Close() }()
		return resp.StatusCode == http.StatusOK
	})
	return p
}

// ask asks the API and decodes the data of its answer.
func (p *prom) ask(path string, data any) {
	p.t.Helper()
	resp, err := http.Get(p.url + path)
	must(p.t, err)
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	must(p.t, json.Unmarshal([]byte(body(p.t, resp)), &answer))
	if answer.Status != "success" {
		p.t.Fatalf("%s: %s", path, answer.Error)
	}
}

// query returns the values of an expression as it is now.
func (p *prom) query(expr string) (values []float64) {
	p.t.Helper()
	var data struct {
		Result []struct {
			Value [2]any
		}
	}
	p.ask("/api/v1/query?query="+url.QueryEscape(expr), &data)
	for _, r := range data.Result {
		v, err := strconv.ParseFloat(r.Value[1].(string), 64)
		must(p.t, err)
		values = append(values, v)
	}
	return values
}

// alerts returns the names of the alerts that fire, with their loop.
func (p *prom) alerts() (names []string) {
	p.t.Helper()
	var data struct {
		Alerts []struct {
			State  string
			Labels map[string]string
		}
	}
	p.ask("/api/v1/alerts", &data)
	for _, a := range data.Alerts {
		if a.State == "firing" {
			names = append(names, fmt.Sprintf("%s %s", a.Labels["alertname"], a.Labels["loop"]))
		}
	}
	return names
}

// wants waits until an expression has one value, for which it holds.
func (p *prom) wants(expr string, holds func(v float64) bool) {
	p.t.Helper()
	var last []float64
	defer func() {
		if p.t.Failed() {
			p.t.Logf("%s is %v", expr, last)
		}
	}()
	eventually(p.t, expr, func() bool {
		last = p.query(expr)
		return len(last) == 1 && holds(last[0])
	})
}

// eventually waits for what another process will have done.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
