package observe

import (
	"iter"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/servercore-go/servercore/engine"
)

// Collector returns what registers an engine with Prometheus: one metric for each that engine.Metrics has. Labels are loops, listeners,
// callbacks, causes and reasons, whose number does not grow with the number of clients. Programs with several engines tell them apart by
// prometheus.WrapRegistererWith.
//
// A scrape takes one Engine.Stats: it waits for nobody and disturbs no loop. The collector may be used by several goroutines at once,
// before Start too.
func Collector(e *engine.Engine) prometheus.Collector {
	return newCollector(engine.Metrics(), func() iter.Seq[engine.Sample] { return e.Stats().Samples() })
}

// Source is what has numbers beside those of an engine, declared in the same form: a *cluster.Cluster. Its methods are called by several
// goroutines at once.
type Source interface {
	Metrics() []engine.Metric         // all that Samples may return; they do not change
	Samples() iter.Seq[engine.Sample] // the values, now
}

// SourceCollector returns what registers a source with Prometheus: one metric for each that it declares. A scrape takes one Source.Samples.
func SourceCollector(s Source) prometheus.Collector { return newCollector(s.Metrics(), s.Samples) }

func newCollector(metrics []engine.Metric, samples func() iter.Seq[engine.Sample]) *collector {
	c := &collector{samples: samples, descs: make(map[string]*prometheus.Desc)}
	for _, m := range metrics {
		c.descs[m.Name] = prometheus.NewDesc(m.Name, m.Help, m.Labels, nil)
	}
	for _, b := range engine.HistogramBounds() {
		c.bounds = append(c.bounds, b.Seconds())
	}
	return c
}

type collector struct {
	samples func() iter.Seq[engine.Sample]
	descs   map[string]*prometheus.Desc // by name; not changed after newCollector
	bounds  []float64                   // of histograms, in seconds
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	for s := range c.samples() {
		d := c.descs[s.Name]
		switch s.Kind {
		case engine.KindHistogram:
			count, buckets := c.cumulative(s.Histogram)
			ch <- prometheus.MustNewConstHistogram(d, count, s.Histogram.Sum.Seconds(), buckets, s.LabelValues...)
		case engine.KindCounter:
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, s.Value, s.LabelValues...)
		default:
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, s.Value, s.LabelValues...)
		}
	}
}

// cumulative returns a histogram as Prometheus has it: each bucket with all that is less.
func (c *collector) cumulative(h *engine.Histogram) (count uint64, buckets map[float64]uint64) {
	buckets = make(map[float64]uint64, len(c.bounds))
	for i, b := range c.bounds {
		count += h.Buckets[i]
		buckets[b] = count
	}
	return h.Count(), buckets
}
