package main

import (
	"io"
	"net"
	"testing"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

// OpenTelemetry has the engine's counters as sums, its gauges, and its histograms with their buckets.
func TestMetricsReachOpenTelemetry(t *testing.T) {
	e, err := engine.New(engine.Options{Loops: 1})
	must(t, err)
	l, err := e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return new(echo) })
	must(t, err)
	must(t, e.Start())
	defer e.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	must(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "hello")
	must(t, err)
	_, err = io.ReadFull(c, make([]byte, 5))
	must(t, err)

	reader := metric.NewManualReader(metric.WithProducer(producer(e)))
	defer metric.NewMeterProvider(metric.WithReader(reader)).Shutdown(t.Context())
	var all metricdata.ResourceMetrics
	must(t, reader.Collect(t.Context(), &all))
	found := make(map[string]metricdata.Aggregation)
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			found[m.Name] = m.Data
		}
	}
	if sum, ok := found["servercore_accepted_sessions_total"].(metricdata.Sum[float64]); !ok || !sum.IsMonotonic || sum.DataPoints[0].Value != 1 {
		t.Errorf("accepted sessions: %+v", found["servercore_accepted_sessions_total"])
	}
	if gauge, ok := found["servercore_sessions"].(metricdata.Gauge[float64]); !ok || gauge.DataPoints[0].Value != 1 {
		t.Errorf("open sessions: %+v", found["servercore_sessions"])
	}
	lag, ok := found["servercore_loop_lag_seconds"].(metricdata.Histogram[float64])
	if !ok || len(lag.DataPoints) != 1 || len(lag.DataPoints[0].Bounds) != len(engine.HistogramBounds()) {
		t.Errorf("lag of the loops: %+v", found["servercore_loop_lag_seconds"])
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
