//go:build prometheus

// A Prometheus scrapes an engine under load: .ci/prometheus. It needs Debian's package prometheus, so it stands behind a tag.

package observe

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// prom is a Prometheus with a configuration of its own.
type prom struct {
	*rig
	url string
}

var listening = regexp.MustCompile(`msg="?Listening on"? .*address="?(127\.0\.0\.1:\d+)`)

// startPrometheus starts one that scrapes a target five times a second and evaluates the alert rules as often.
func startPrometheus(c *crowd) *prom {
	c.t.Helper()
	rules, err := filepath.Abs("grafana/alerts.yml")
	must(c.t, err)
	dir := c.t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	target := strings.TrimPrefix(c.web.URL, "http://")
	must(c.t, os.WriteFile(config, []byte("global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}\n"+
		"rule_files: ['"+rules+"']\n"+
		"scrape_configs: [{job_name: echo, static_configs: [{targets: ['"+target+"']}]}]\n"), 0o600))
	cmd := exec.Command("prometheus", "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0", "--log.level=info")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stderr, err := cmd.StderrPipe()
	must(c.t, err)
	must(c.t, cmd.Start())
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
	c.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-drained
		_ = cmd.Wait()
	})
	a, ok := <-address
	if !ok {
		c.t.Fatalf("prometheus ended at once:\n%s", &said)
	}
	p := &prom{c.rig, "http://" + a}
	eventually(c.t, "prometheus is ready", func() bool {
		resp, err := http.Get(p.url + "/-/ready")
		must(c.t, err)
		code, _ := read(c.t, resp)
		return code == http.StatusOK
	})
	return p
}

// ask asks the API and decodes the data of its answer.
func (p *prom) ask(path string, data any) {
	p.t.Helper()
	resp, err := http.Get(p.url + path)
	must(p.t, err)
	code, body := read(p.t, resp)
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	must(p.t, json.Unmarshal([]byte(body), &answer))
	if code != http.StatusOK || answer.Status != "success" {
		p.t.Fatalf("%s: %d %s", path, code, answer.Error)
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
			names = append(names, a.Labels["alertname"]+" "+a.Labels["loop"])
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

// What Prometheus scrapes is what the engine counts, each panel of the dashboard has something to show, and the alert for a loop that
// stalls fires and clears.
func TestPrometheus(t *testing.T) {
	c := gather(t)
	promtool(t, c)
	p := startPrometheus(c)
	positive := func(v float64) bool { return v > 0 }
	p.wants("servercore_sessions", func(v float64) bool { return v == crowdSize+roomSize })
	p.wants("sum(servercore_listener_sessions)", func(v float64) bool { return v == crowdSize+roomSize })
	p.wants("count(servercore_loop_lag_seconds_count)", func(v float64) bool { return v == 2 })
	p.wants("sum(rate(servercore_loop_received_messages_total[2s]))", positive)
	p.wants("sum(rate(servercore_loop_sent_bytes_total[2s]))", positive)
	p.wants(`histogram_quantile(0.99, sum by (le) (rate(servercore_callback_seconds_bucket{callback="OnRecv"}[2s])))`, positive)
	for range maxSessions - crowdSize - roomSize + 3 {
		c.join(c.echoes)
	}
	p.wants(`servercore_refused_connections_total{cause="full"}`, func(v float64) bool { return v == 3 })
	dashboard(t, p)

	const alarm = "ServercoreLoopStalled "
	fires := func() bool {
		names := strings.Join(p.alerts(), ", ")
		return strings.Contains(names, alarm+"0") || strings.Contains(names, alarm+"1")
	}
	if fires() {
		t.Error("the alert fires before a loop stalls")
	}
	c.stall()
	eventually(t, "the alert fires", fires)
	p.wants("count(servercore_loop_unresponsive_seconds > 1)", func(v float64) bool { return v == 1 })
	close(c.hold)
	eventually(t, "the alert clears", func() bool { return !fires() })
	p.wants("sum(servercore_loop_stalls_total)", positive)
}

// promtool checks /metrics: names, units, help.
func promtool(t *testing.T, c *crowd) {
	t.Helper()
	_, body := c.get("/metrics")
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = strings.NewReader(body)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// dashboard asks what each panel of the dashboard asks.
func dashboard(t *testing.T, p *prom) {
	t.Helper()
	text, err := os.ReadFile("grafana/dashboard.json")
	must(t, err)
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	must(t, json.Unmarshal(text, &board))
	asked := 0
	fill := strings.NewReplacer("$job", ".*", "$instance", ".*", "$__rate_interval", "10s")
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			asked++
			eventually(t, panel.Title+": "+target.Expr, func() bool { return len(p.query(fill.Replace(target.Expr))) > 0 })
		}
	}
	if asked < 20 {
		t.Errorf("the dashboard has %d expressions, want more", asked)
	}
}
