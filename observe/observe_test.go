package observe

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

// echo is a session that sends back what comes, but for "hold": it is then held until the test lets it go.
type echo struct {
	session.Session
	hold chan struct{}
}

func (e *echo) OnRecv(data []byte) {
	if e.hold != nil && string(data) == "hold" {
		<-e.hold
	}
	_ = e.Send(data)
}

// rig is an engine with a listener, and its handler on an address of its own.
type rig struct {
	t        *testing.T
	engine   *engine.Engine
	listener *engine.Listener
	addr     string
	web      *httptest.Server
	hold     chan struct{}
}

func start(t *testing.T, eo engine.Options, o Options) *rig {
	t.Helper()
	if eo.Logger == nil {
		eo.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Logger == nil {
		o.Logger = eo.Logger
	}
	e, err := engine.New(eo)
	must(t, err)
	r := &rig{t: t, engine: e, hold: make(chan struct{})}
	l, err := e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return &echo{hold: r.hold} })
	must(t, err)
	must(t, e.Start())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := e.Shutdown(ctx); err != nil && !errors.Is(err, engine.ErrClosed) { // which a test may have done already
			t.Errorf("Shutdown: %v", err)
		}
	})
	r.listener, r.addr = l, l.Addr().String()
	r.serve(o)
	return r
}

// serve serves the pages.
func (r *rig) serve(o Options) {
	r.web = httptest.NewServer(Handler(r.engine, o))
	r.t.Cleanup(r.web.Close)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// dial connects a client, and exchanges a message.
func (r *rig) dial(text string) net.Conn {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	must(r.t, err)
	r.t.Cleanup(func() { _ = c.Close() })
	must(r.t, c.SetDeadline(time.Now().Add(30*time.Second)))
	_, err = io.WriteString(c, text)
	must(r.t, err)
	_, err = io.ReadFull(c, make([]byte, len(text)))
	must(r.t, err)
	return c
}

func (r *rig) get(path string) (code int, body string) {
	r.t.Helper()
	resp, err := http.Get(r.web.URL + path)
	must(r.t, err)
	return read(r.t, resp)
}

func read(t *testing.T, resp *http.Response) (int, string) {
	t.Helper()
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(body)
}

// eventually waits for what another goroutine will have done.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// V2: what is registered passes the linter of Prometheus' own client, and every number of Stats is there.
func TestCollector(t *testing.T) {
	r := start(t, engine.Options{Loops: 2, SendBudget: 1 << 20}, Options{})
	r.dial("hello")
	problems, err := testutil.CollectAndLint(Collector(r.engine))
	must(t, err)
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(Collector(r.engine))
	families, err := registry.Gather()
	must(t, err)
	names := make(map[string]bool)
	for _, f := range families {
		names[f.GetName()] = true
		if f.GetHelp() == "" {
			t.Errorf("%s has no help", f.GetName())
		}
	}
	for _, m := range engine.Metrics() {
		if !names[m.Name] {
			t.Errorf("%s is declared and was not gathered", m.Name)
		}
	}
	if n := testutil.CollectAndCount(Collector(r.engine), "servercore_loop_sessions"); n != 2 {
		t.Errorf("servercore_loop_sessions: %d series, want one for each of 2 loops", n)
	}
}

// The collector serves an engine that has not started: what has no loops yet is left out.
func TestCollectorBeforeStart(t *testing.T) {
	e, err := engine.New(engine.Options{Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	defer func() { must(t, e.Close()) }()
	if n := testutil.CollectAndCount(Collector(e), "servercore_sessions"); n != 1 {
		t.Errorf("servercore_sessions: %d series, want 1", n)
	}
}

// A histogram's buckets grow, and the last has all.
func TestHistogram(t *testing.T) {
	r := start(t, engine.Options{Loops: 1}, Options{})
	for range 40 {
		r.dial("hello")
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(Collector(r.engine))
	families, err := registry.Gather()
	must(t, err)
	seen := false
	for _, f := range families {
		for _, m := range f.GetMetric() {
			h := m.GetHistogram()
			if h == nil {
				continue
			}
			var before uint64
			for _, b := range h.GetBucket() {
				if b.GetCumulativeCount() < before {
					t.Errorf("%s: a bucket has %d, the one before %d", f.GetName(), b.GetCumulativeCount(), before)
				}
				before = b.GetCumulativeCount()
			}
			if before > h.GetSampleCount() {
				t.Errorf("%s: the buckets have %d, all are %d", f.GetName(), before, h.GetSampleCount())
			}
			seen = seen || f.GetName() == "servercore_callback_seconds" && h.GetSampleCount() > 0
		}
	}
	if !seen {
		t.Error("no callback was timed, of 40 connections")
	}
}

func TestMetricsPage(t *testing.T) {
	r := start(t, engine.Options{}, Options{})
	r.dial("hello")
	code, body := r.get("/metrics")
	for _, want := range []string{"servercore_accepted_sessions_total 1\n", "go_goroutines", "process_open_fds", "# HELP servercore_sessions ", "# TYPE servercore_loop_lag_seconds histogram\n"} {
		if !strings.Contains(body, want) {
			t.Errorf("status %d, and %q is not there", code, want)
		}
	}
	// The engine's numbers are there alone too.
	if code, alone := r.get("/metrics/engine"); code != http.StatusOK || !strings.Contains(alone, "servercore_accepted_sessions_total 1\n") ||
		strings.Contains(alone, "process_") || strings.Contains(alone, "\ngo_") {
		t.Errorf("/metrics/engine: %d\n%.1000s", code, alone)
	}
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	must(t, err)
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "servercore_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

func (r *rig) sessions(query string) (out struct {
	Open, Matched int
	Sessions      []sessionJSON
}) {
	r.t.Helper()
	code, body := r.get("/sessions" + query)
	if code != http.StatusOK {
		r.t.Fatalf("/sessions%s: %d %s", query, code, body)
	}
	must(r.t, json.Unmarshal([]byte(body), &out))
	return out
}

func TestSessions(t *testing.T) {
	r := start(t, engine.Options{}, Options{})
	for i := range 20 {
		r.dial(strings.Repeat("x", i+1))
	}
	all := r.sessions("")
	if all.Open != 20 || all.Matched != 20 || len(all.Sessions) != 20 || !slices.IsSortedFunc(all.Sessions, func(a, b sessionJSON) int { return int(a.ID) - int(b.ID) }) {
		t.Errorf("%d open, %d matched, %d listed, want 20 by their numbers", all.Open, all.Matched, len(all.Sessions))
	}
	if s := all.Sessions[0]; s.Handler != "*observe.echo" || s.Remote == "" || s.Listener != "tcp://"+r.addr || time.Since(s.Opened) > time.Minute {
		t.Errorf("the first session is %+v", s)
	}
	most := r.sessions("?sort=bytes_in&limit=3&offset=1")
	var sizes []uint64
	for _, s := range most.Sessions {
		sizes = append(sizes, s.BytesIn)
	}
	if !slices.Equal(sizes, []uint64{19, 18, 17}) {
		t.Errorf("received most, but for the first: %v, want 19, 18, 17", sizes)
	}
	if n := r.sessions("?remote=127.0.0.0/8").Matched; n != 20 {
		t.Errorf("remote=127.0.0.0/8: %d, want 20", n)
	}
	if n := r.sessions("?remote=10.0.0.1").Matched; n != 0 {
		t.Errorf("remote=10.0.0.1: %d, want 0", n)
	}
	if n := r.sessions("?listener=tcp://elsewhere").Matched; n != 0 {
		t.Errorf("another listener: %d, want 0", n)
	}
}

// A question that was misspelt is told so.
func TestBadQueries(t *testing.T) {
	r := start(t, engine.Options{}, Options{})
	for query, want := range map[string]string{
		"/sessions?sort=size":                "want one of active, bytes_in",
		"/sessions?order=up":                 "want asc or desc",
		"/sessions?limit=-1":                 "want a number from 0",
		"/sessions?limit=60000&offset=60000": "65536 at most",
		"/sessions?slow=perhaps":             "want 1 or 0",
		"/sessions?remote=10.0.0.0/99":       "want an address, or a range",
		"/sessions?remot=10.0.0.0":           `"remot" is not known here`,
		"/closed?limit=many":                 "want a number",
		"/closed?reason=idle":                `"reason" is not known here: want cause, limit`,
	} {
		if code, body := r.get(query); code != http.StatusBadRequest || !strings.Contains(body, want) {
			t.Errorf("%s: %d %q, want 400 and %q", query, code, body, want)
		}
	}
}

func TestClosed(t *testing.T) {
	r := start(t, engine.Options{}, Options{})
	_ = r.dial("one").Close()
	eventually(t, "the first session has ended", func() bool { return strings.Contains(second(r.get("/closed")), "peer_closed") })
	two := r.dial("two")
	must(t, two.(*net.TCPConn).SetLinger(0))
	_ = two.Close()
	var out struct{ Closed []closedJSON }
	eventually(t, "the second session has ended", func() bool {
		out.Closed = nil
		must(t, json.Unmarshal([]byte(second(r.get("/closed"))), &out))
		return len(out.Closed) == 2
	})
	last := out.Closed[0]
	if last.Cause != "peer_reset" || last.BytesIn != 3 || last.BytesOut != 3 || last.Reason == "" || last.Duration < 0 {
		t.Errorf("the last that ended is %+v", last)
	}
	out.Closed = nil
	must(t, json.Unmarshal([]byte(second(r.get("/closed?cause=peer_closed"))), &out))
	if len(out.Closed) != 1 {
		t.Errorf("closed by the peer: %d, want 1", len(out.Closed))
	}
}

func second(_ int, body string) string { return body }

func TestHealth(t *testing.T) {
	r := start(t, engine.Options{Loops: 1, StallWarning: 50 * time.Millisecond}, Options{UnhealthyAfter: 200 * time.Millisecond})
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, body := r.get(path); code != http.StatusOK {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	c := r.dial("hello")
	_, err := io.WriteString(c, "hold")
	must(t, err)
	eventually(t, "/healthz says that the loop is held", func() bool {
		code, body := r.get("/healthz")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "loop 0 has not responded")
	})
	close(r.hold)
	eventually(t, "/healthz is well again", func() bool { code, _ := r.get("/healthz"); return code == http.StatusOK })

	if n := r.engine.Stats().Listeners[0].Listening; n != 1 {
		t.Errorf("Listening is %d for a listener that listens", n)
	}
	must(t, r.listener.Close())
	if code, body := r.get("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "all listeners are closed") {
		t.Errorf("/readyz without a listener: %d %s", code, body)
	}
	if code, body := r.get("/healthz"); code != http.StatusOK {
		t.Errorf("/healthz without a listener: %d %s", code, body)
	}

	drained := make(chan error, 1)
	go func() { drained <- r.engine.Shutdown(context.Background()) }()
	eventually(t, "/readyz says that the engine drains", func() bool {
		code, body := r.get("/readyz")
		return code == http.StatusServiceUnavailable && (strings.Contains(body, "draining") || strings.Contains(body, "ended"))
	})
	must(t, <-drained)
	if code, body := r.get("/healthz"); code != http.StatusServiceUnavailable {
		t.Errorf("/healthz after the end: %d %s", code, body)
	}
}

// Each watcher gets a snapshot at once, and then one in each interval; nothing runs when they have gone.
func TestEvents(t *testing.T) {
	h := &handler{Options: Options{Interval: 100 * time.Millisecond}}
	r := start(t, engine.Options{}, Options{Interval: 100 * time.Millisecond})
	h.engine = r.engine
	h.stream.take, h.stream.every = h.takeSnapshot, h.Interval
	web := httptest.NewServer(http.HandlerFunc(h.stream.serve))
	defer web.Close()
	r.dial("hello")
	var watchers []*http.Response
	for range 3 {
		resp, err := http.Get(web.URL)
		must(t, err)
		watchers = append(watchers, resp)
		lines := bufio.NewReader(resp.Body)
		for range 3 {
			line, err := lines.ReadString('\n')
			must(t, err)
			data, ok := strings.CutPrefix(line, "data: ")
			if !ok {
				t.Fatalf("an event is %q", line)
			}
			var l snapshot
			must(t, json.Unmarshal([]byte(data), &l))
			if l.State != "running" || l.Numbers["servercore_sessions"][0].Value != 1 {
				t.Errorf("the snapshot says %s, %v sessions; want running, 1", l.State, l.Numbers["servercore_sessions"])
			}
			_, err = lines.ReadString('\n')
			must(t, err)
		}
	}
	for _, w := range watchers {
		_ = w.Body.Close()
	}
	eventually(t, "no snapshot is taken any more", func() bool {
		h.stream.mu.Lock()
		defer h.stream.mu.Unlock()
		return !h.stream.running && len(h.stream.watchers) == 0
	})
}

// A watcher that does not read misses snapshots and holds nobody up.
func TestSlowWatcher(t *testing.T) {
	s := stream{take: func() any { return 1 }, every: time.Hour}
	slow, _ := s.join()
	for range 5 {
		s.tell()
	}
	if n := len(slow); n != 1 {
		t.Errorf("%d snapshots wait for a watcher, want 1", n)
	}
	s.leave(slow)
	if s.tell() {
		t.Error("it goes on without a watcher")
	}
}

func TestPage(t *testing.T) {
	r := start(t, engine.Options{}, Options{})
	for path, kind := range map[string]string{"/": "text/html", "/page.js": "text/javascript", "/meta": "application/json"} {
		resp, err := http.Get(r.web.URL + path)
		must(t, err)
		if code, body := read(t, resp); code != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), kind) || body == "" {
			t.Errorf("%s: %d, %s, %d bytes", path, code, resp.Header.Get("Content-Type"), len(body))
		}
	}
	if code, _ := r.get("/nothing"); code != http.StatusNotFound {
		t.Errorf("/nothing: %d, want 404", code)
	}
}

func (r *rig) post(path string, header http.Header) (int, string) {
	r.t.Helper()
	req, err := http.NewRequest(http.MethodPost, r.web.URL+path, nil)
	must(r.t, err)
	for k, v := range header {
		req.Header[k] = v
	}
	if host := header.Get("Host"); host != "" {
		req.Host = host
	}
	resp, err := http.DefaultClient.Do(req)
	must(r.t, err)
	return read(r.t, resp)
}

func TestAdmin(t *testing.T) {
	var level slog.LevelVar
	var log strings.Builder
	r := start(t, engine.Options{}, Options{Admin: true, Level: &level, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	c := r.dial("hello")
	id := r.sessions("").Sessions[0].ID
	if code, body := r.post(fmt.Sprintf("/admin/disconnect?id=%d", id), nil); code != http.StatusOK {
		t.Fatalf("disconnect: %d %s", code, body)
	}
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the client reads %v, want EOF", err)
	}
	eventually(t, "the end is among the closed", func() bool { return strings.Contains(second(r.get("/closed?cause=disconnected")), "by an operator") })
	if !strings.Contains(log.String(), "action=disconnect") {
		t.Errorf("the log has %q", log.String())
	}
	if code, _ := r.post("/admin/disconnect?id=999999", nil); code != http.StatusNotFound {
		t.Errorf("a session that is not there: %d, want 404", code)
	}
	if code, _ := r.post("/admin/disconnect?id=x", nil); code != http.StatusBadRequest {
		t.Errorf("no number: %d, want 400", code)
	}
	if code, _ := r.get("/admin/disconnect?id=1"); code != http.StatusMethodNotAllowed {
		t.Errorf("by GET: %d, want 405", code)
	}
	if code, body := r.post("/admin/level?level=debug", nil); code != http.StatusOK || level.Level() != slog.LevelDebug {
		t.Errorf("level: %d %s, and it is %v", code, body, level.Level())
	}
	if code, _ := r.post("/admin/level?level=loud", nil); code != http.StatusBadRequest {
		t.Errorf("a level that there is not: %d, want 400", code)
	}
	if code, _ := r.get("/debug/pprof/goroutine?debug=1"); code != http.StatusOK {
		t.Errorf("profile: %d", code)
	}
	if code, _ := r.post(fmt.Sprintf("/admin/disconnect?abort=1&id=%d", r.aborted()), nil); code != http.StatusOK {
		t.Errorf("abort: %d", code)
	}
}

// aborted returns the number of a session that the test may reset.
func (r *rig) aborted() uint64 {
	r.dial("hello")
	return r.sessions("?sort=opened").Sessions[0].ID
}

// Who may not act: another machine's browser by way of somebody's on this one, and who comes through a proxy.
func TestAdminRefuses(t *testing.T) {
	r := start(t, engine.Options{}, Options{Admin: true})
	for name, header := range map[string]http.Header{
		"a page of another site": {"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"cross-site"}},
		"a name for 127.0.0.1":   {"Host": {"evil.example"}},
		"a proxy's client":       {"X-Forwarded-For": {"203.0.113.7"}},
	} {
		if code, body := r.post("/admin/disconnect?id=1", header); code != http.StatusForbidden {
			t.Errorf("%s: %d %s, want 403", name, code, body)
		}
	}
	if code, _ := r.post("/admin/disconnect?id=1", nil); code != http.StatusNotFound {
		t.Errorf("from this machine: %d, want 404, for there is no session 1 yet", code)
	}

	off := start(t, engine.Options{}, Options{})
	for _, path := range []string{"/admin/disconnect?id=1", "/debug/pprof/", "/admin/level"} {
		if code, _ := off.get(path); code != http.StatusNotFound {
			t.Errorf("without Admin, %s: %d, want 404", path, code)
		}
	}
}

// A request that came to an address that others reach is refused without a token.
func TestAdminElsewhere(t *testing.T) {
	r := start(t, engine.Options{}, Options{})
	h := Handler(r.engine, Options{Admin: true})
	for _, c := range []struct {
		local  net.Addr
		remote string
		want   int
	}{
		{&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9100}, "127.0.0.1:50000", http.StatusOK},
		{&net.TCPAddr{IP: net.IPv6loopback, Port: 9100}, "[::1]:50000", http.StatusOK},
		{&net.UnixAddr{Name: "/run/observe.sock", Net: "unix"}, "@", http.StatusOK},
		{&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 9100}, "192.0.2.9:50000", http.StatusForbidden},
		{&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 9100}, "192.0.2.1:50000", http.StatusForbidden},
		{&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9100}, "192.0.2.9:50000", http.StatusForbidden},
	} {
		req := httptest.NewRequest(http.MethodGet, "http://localhost:9100/admin/", nil)
		req.RemoteAddr = c.remote
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req.WithContext(context.WithValue(req.Context(), http.LocalAddrContextKey, c.local)))
		if w.Code != c.want {
			t.Errorf("from %s to %s: %d, want %d", c.remote, c.local, w.Code, c.want)
		}
	}
}

func TestAdminToken(t *testing.T) {
	r := start(t, engine.Options{}, Options{Admin: true, Token: "secret"})
	for token, want := range map[string]int{"": 401, "Bearer wrong": 401, "secret": 401, "Bearer secret": 404} {
		if code, _ := r.post("/admin/disconnect?id=1", http.Header{"Authorization": {token}}); code != want {
			t.Errorf("Authorization %q: %d, want %d", token, code, want)
		}
	}
}

// A reason may be the application's, and its Error may panic.
func TestReasonThatPanics(t *testing.T) {
	if text := textOf(panics{}); !strings.Contains(text, "observe.panics") {
		t.Errorf("the text is %q", text)
	}
	if text := textOf(fmt.Errorf("%s", strings.Repeat("x", 10_000))); len(text) > maxReason+3 {
		t.Errorf("the text has %d bytes", len(text))
	}
}

type panics struct{}

func (panics) Error() string { panic("no text") }

// best has what sorting would have.
func TestBest(t *testing.T) {
	for size := range 12 {
		b := best[int]{less: func(a, b int) bool { return a > b }, size: size}
		var all []int
		for i := range 100 {
			v := i * 37 % 101
			all = append(all, v)
			b.add(v)
		}
		slices.SortFunc(all, func(a, b int) int { return b - a })
		if got := b.sorted(); !slices.Equal(got, all[:size]) {
			t.Errorf("the best %d: %v, want %v", size, got, all[:size])
		}
	}
}
