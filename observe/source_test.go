package observe

import (
	"encoding/json"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/servercore-go/servercore/engine"
)

// queues is a source with a number of its own for each of two queues.
type queues struct{ length [2]float64 }

var queueMetrics = []engine.Metric{
	{Name: "servercore_queue_waiting", Help: "What waits in a queue.", Labels: []string{"queue"}},
	{Name: "servercore_queue_served_total", Help: "What was served.", Kind: engine.KindCounter},
}

func (q *queues) Metrics() []engine.Metric { return queueMetrics }

func (q *queues) Samples() iter.Seq[engine.Sample] {
	return slices.Values([]engine.Sample{
		{Metric: queueMetrics[0], LabelValues: []string{"a"}, Value: q.length[0]},
		{Metric: queueMetrics[0], LabelValues: []string{"b"}, Value: q.length[1]},
		{Metric: queueMetrics[1], Value: 7},
	})
}

// V2: the numbers of a source pass the linter, and are in /metrics, on the page and in what the page knows of them, beside the engine's.
func TestSource(t *testing.T) {
	q := &queues{length: [2]float64{3, 4}}
	problems, err := testutil.CollectAndLint(SourceCollector(q))
	must(t, err)
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	r := start(t, engine.Options{}, Options{Sources: []Source{q}})
	_, body := r.get("/metrics")
	for _, want := range []string{"servercore_queue_waiting{queue=\"a\"} 3\n", "servercore_queue_waiting{queue=\"b\"} 4\n",
		"# TYPE servercore_queue_waiting gauge\n", "# TYPE servercore_queue_served_total counter\nservercore_queue_served_total 7\n", "servercore_sessions 0\n"} {
		if !strings.Contains(body, want) {
			t.Errorf("/metrics has no %q", want)
		}
	}
	var meta struct {
		Metrics []struct{ Name, Kind string }
	}
	_, body = r.get("/meta")
	must(t, json.Unmarshal([]byte(body), &meta))
	if last := meta.Metrics[len(meta.Metrics)-1]; last.Name != "servercore_queue_served_total" || last.Kind != "counter" || meta.Metrics[0].Name != engine.Metrics()[0].Name {
		t.Errorf("/meta ends with %+v", last)
	}
	h := &handler{engine: r.engine, Options: Options{Sources: []Source{q}}}
	numbers := h.takeSnapshot().(snapshot).Numbers
	if got := numbers["servercore_queue_waiting"]; len(got) != 2 || got[1].Value != 4 || got[1].Labels[0] != "b" || len(numbers["servercore_sessions"]) != 1 {
		t.Errorf("the page gets %+v", got)
	}
}

// Two sources of one kind are told apart by labels, as engines are. One whose names are taken is a mistake that is found at once.
func TestSourcesOfOneKind(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	for i, name := range []string{"first", "second"} {
		prometheus.WrapRegistererWith(prometheus.Labels{"of": name}, registry).MustRegister(SourceCollector(&queues{length: [2]float64{float64(i)}}))
	}
	if n, err := testutil.GatherAndCount(registry, "servercore_queue_waiting"); n != 4 || err != nil {
		t.Errorf("%d series, %v", n, err)
	}
	e, err := engine.New(engine.Options{})
	must(t, err)
	defer func() {
		must(t, e.Close())
		if recover() == nil {
			t.Error("two sources with the same names are taken")
		}
	}()
	Handler(e, Options{Sources: []Source{&queues{}, &queues{}}})
}
