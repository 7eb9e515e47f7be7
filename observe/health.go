package observe

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/servercore-go/servercore/engine"
)

// serveHealth answers whether the process should go on: 503 when the engine has ended, or when a loop has not responded for UnhealthyAfter,
// because a callback holds it. An engine that drains, or has not started, is healthy.
func (h *handler) serveHealth(w http.ResponseWriter, _ *http.Request) {
	if h.engine.State() == engine.StateEnded {
		answer(w, http.StatusServiceUnavailable, "the engine has ended")
		return
	}
	for i, l := range h.engine.Stats().Loops {
		if h.UnhealthyAfter > 0 && l.Unresponsive >= h.UnhealthyAfter {
			answer(w, http.StatusServiceUnavailable, fmt.Sprintf("loop %d has not responded for %.1f s", i, l.Unresponsive.Seconds()))
			return
		}
	}
	answer(w, http.StatusOK, "ok")
}

// serveReady answers whether new connections should be sent here: 503 when the engine does not run, or has listeners and all of them are closed,
// because the application drains what is connected before it calls Shutdown.
func (h *handler) serveReady(w http.ResponseWriter, _ *http.Request) {
	if s := h.engine.State(); s != engine.StateRunning {
		answer(w, http.StatusServiceUnavailable, "the engine is "+s.String())
		return
	}
	listeners := h.engine.Stats().Listeners
	open := func(l engine.ListenerStats) bool { return l.Listening == 1 }
	if len(listeners) > 0 && !slices.ContainsFunc(listeners, open) {
		answer(w, http.StatusServiceUnavailable, "all listeners are closed")
		return
	}
	answer(w, http.StatusOK, "ok")
}

// answer writes a line of text.
func answer(w http.ResponseWriter, code int, line string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = fmt.Fprintln(w, line)
}
