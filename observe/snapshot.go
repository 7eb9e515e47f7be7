package observe

import (
	"iter"
	"net/http"
	"time"

	"github.com/servercore-go/servercore/engine"
)

// snapshot is what the page gets once in each interval. It has every number of engine.Stats and of Options.Sources, so that one that is added
// there is on the page.
type snapshot struct {
	At      time.Time            `json:"at"`
	State   string               `json:"state"`
	Numbers map[string][]reading `json:"numbers"` // by name
	Fattest []sessionJSON        `json:"fattest"` // with most bytes queued
	Slowest []sessionJSON        `json:"slowest"` // whose peers do not take what they are offered, the longest inactive first
	Closed  []closedJSON         `json:"closed"`  // the last one first
}

// reading is one number with its labels: a value, or the buckets of a histogram and the sum in seconds.
type reading struct {
	Labels  []string `json:"l,omitempty"`
	Value   float64  `json:"v"`
	Buckets []uint64 `json:"b,omitempty"`
}

// shown is how many sessions a table of the page has.
const shown = 10

// takeSnapshot reads the engine. With many sessions most of its time goes into the walk over all of them: see Engine.SessionStats.
func (h *handler) takeSnapshot() any {
	l := snapshot{At: time.Now().UTC(), State: h.engine.State().String(), Numbers: make(map[string][]reading)}
	l.read(h.engine.Stats().Samples())
	for _, s := range h.Sources {
		l.read(s.Samples())
	}
	fattest := best[engine.SessionStats]{less: sortedBy("pending", true), size: shown}
	slowest := best[engine.SessionStats]{less: sortedBy("active", false), size: shown}
	for s := range h.engine.SessionStats() {
		if s.Pending > 0 {
			fattest.add(s)
		}
		if s.Slow {
			slowest.add(s)
		}
	}
	l.Fattest, l.Slowest = sessionsOf(fattest.sorted()), sessionsOf(slowest.sorted())
	l.Closed = []closedJSON{}
	for c := range h.engine.Closed() {
		if len(l.Closed) == shown {
			break
		}
		l.Closed = append(l.Closed, closedOf(c))
	}
	return l
}

// read adds numbers.
func (l *snapshot) read(samples iter.Seq[engine.Sample]) {
	for s := range samples {
		n := reading{Labels: s.LabelValues, Value: s.Value}
		if s.Histogram != nil {
			n.Value, n.Buckets = s.Histogram.Sum.Seconds(), s.Histogram.Buckets[:]
		}
		l.Numbers[s.Name] = append(l.Numbers[s.Name], n)
	}
}

func sessionsOf(some []engine.SessionStats) []sessionJSON {
	list := make([]sessionJSON, 0, len(some))
	for _, s := range some {
		list = append(list, sessionOf(s))
	}
	return list
}

// serveMeta serves what does not change: what the numbers mean, and the bounds of the histograms' buckets, in seconds.
func (h *handler) serveMeta(w http.ResponseWriter, _ *http.Request) {
	type metric struct {
		Name   string   `json:"name"`
		Help   string   `json:"help"`
		Kind   string   `json:"kind"`
		Unit   string   `json:"unit,omitempty"`
		Labels []string `json:"labels,omitempty"`
	}
	meta := struct {
		Interval float64   `json:"interval_seconds"`
		Bounds   []float64 `json:"bounds_seconds"`
		Admin    bool      `json:"admin"`
		Token    bool      `json:"token"`
		Metrics  []metric  `json:"metrics"`
	}{Interval: h.Interval.Seconds(), Admin: h.Admin, Token: h.Token != ""}
	for _, b := range engine.HistogramBounds() {
		meta.Bounds = append(meta.Bounds, b.Seconds())
	}
	metrics := engine.Metrics()
	for _, s := range h.Sources {
		metrics = append(metrics, s.Metrics()...)
	}
	for _, m := range metrics {
		meta.Metrics = append(meta.Metrics, metric{m.Name, m.Help, m.Kind.String(), m.Unit, m.Labels})
	}
	writeJSON(w, meta)
}
