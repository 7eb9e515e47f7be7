package observe

import (
	_ "embed"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/servercore-go/servercore/engine"
)

// Options configure Handler. With the zero value the pages can only be read.
type Options struct {
	// Admin adds profiles and actions. Without Token they are for clients on the same machine, which have connected to a loopback address or a
	// unix socket; others get 403.
	Admin bool

	// Token, if it is set, is what clients of Admin must send, on the same machine too: Authorization: Bearer TOKEN. Others get 401.
	Token string

	// Level is the level of the application's log, for /admin/level. Without it there is no such page.
	Level *slog.LevelVar

	// Logger gets a line for each action, with the client's address. Default: slog.Default.
	Logger *slog.Logger

	// Sources have numbers of other parts of the program, such as a *cluster.Cluster. They are in /metrics and on the page with those of the
	// engine. Two of one kind would have the same names: register them by hand, with labels.
	Sources []Source

	// Interval is the time between two snapshots for the page, however many clients have it open. Default: 1 s; at least 100 ms.
	Interval time.Duration

	// UnhealthyAfter is how long a loop may not respond until /healthz answers 503. Default: 30 s. Off if negative.
	UnhealthyAfter time.Duration
}

// handler serves one engine.
type handler struct {
	Options
	engine *engine.Engine
	stream stream
}

//go:embed page.html
var page []byte

//go:embed page.js
var script []byte

// Handler returns what serves the pages of the package's comment. Serve it on an address of its own, which the clients of the engine do not
// reach: it shows their addresses. Below another path it wants http.StripPrefix, and a slash at the end of the path. It
// panics if two Sources, or a Source and the engine, declare the same name.
func Handler(e *engine.Engine, o Options) http.Handler {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Interval == 0 {
		o.Interval = time.Second
	}
	o.Interval = max(o.Interval, 100*time.Millisecond)
	if o.UnhealthyAfter == 0 {
		o.UnhealthyAfter = 30 * time.Second
	}
	h := &handler{Options: o, engine: e}
	h.stream.take, h.stream.every = h.takeSnapshot, o.Interval

	own, all := prometheus.NewRegistry(), prometheus.NewRegistry()
	own.MustRegister(Collector(e))
	all.MustRegister(Collector(e), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, s := range o.Sources {
		all.MustRegister(SourceCollector(s))
	}
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", asset("text/html; charset=utf-8", page))
	mux.Handle("GET /page.js", asset("text/javascript; charset=utf-8", script))
	mux.HandleFunc("GET /events", h.stream.serve)
	mux.HandleFunc("GET /meta", h.serveMeta)
	mux.Handle("GET /metrics", promhttp.HandlerFor(all, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	mux.Handle("GET /metrics/engine", promhttp.HandlerFor(own, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	mux.HandleFunc("GET /sessions", h.serveSessions)
	mux.HandleFunc("GET /closed", h.serveClosed)
	mux.HandleFunc("GET /healthz", h.serveHealth)
	mux.HandleFunc("GET /readyz", h.serveReady)
	h.handleAdmin(mux)
	return mux
}

// asset serves a file of the page. The page loads and sends nothing elsewhere.
func asset(kind string, body []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Content-Security-Policy",
			"default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-cache")
		_, _ = w.Write(body)
	})
}
