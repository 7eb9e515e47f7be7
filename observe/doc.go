// Package observe shows what an engine does: to Prometheus, to people with a browser, and to scripts.
//
//	e, err := engine.New(engine.Options{})
//	...
//	prometheus.MustRegister(observe.Collector(e))              // in a program that has a registry already
//	go http.ListenAndServe("127.0.0.1:9100", observe.Handler(e, observe.Options{}))
//
// Nothing is counted here. The engine counts all the time, and declares each number where it is counted (engine.Stats): Collector, the page
// and /metrics are made from these declarations. Nothing of this package stops or wakes an event loop, and as long as nobody asks, nothing
// of it runs.
//
// # Pages
//
//	/            a live page: loops, refusals, ends, traffic, the sessions with most bytes queued, the last that ended
//	/events      what the page draws, once in each Options.Interval, as server-sent events (JSON)
//	/meta        what the numbers of /events mean (JSON)
//	/metrics     Prometheus' text format: the engine, the Go runtime, the process
//	/metrics/engine
//	             the engine alone. Before Linux 6.2, /metrics lists all open files to count them (process_open_fds): with a million sessions
//	             that takes seconds, and about 1 KB of the kernel's memory for each
//	/sessions    open sessions as JSON; ?sort=pending&order=desc&limit=100&offset=0, and filters: listener=..., remote=10.0.0.0/8,
//	             min_pending=1, slow=1, paused=1, ending=1
//	/closed      sessions that have ended, the last one first; ?cause=idle&limit=100
//	/healthz     200 as long as the engine lives and its loops respond
//	/readyz      200 while it accepts connections; 503 before Start, from the beginning of Shutdown on, and when it has listeners and all are
//	             closed
//
// With Options.Admin also
//
//	/debug/pprof/              profiles of the process
//	POST /admin/disconnect     ?id=17: Session.Disconnect; &abort=1: Session.Abort
//	GET, POST /admin/level     Options.Level; ?level=debug
//
// # Parts
//
// collector.go: Collector, Source. handler.go: Handler, Options. stream.go: /events. snapshot.go: what it sends. sessions.go, query.go: /sessions
// and /closed. health.go: /healthz, /readyz. admin.go: what Admin adds, and who may
// use it. page.html, page.js: the page. grafana: a dashboard and alert rules. measure: what looking costs.
package observe
