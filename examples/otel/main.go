// Otel is an echo server whose numbers OpenTelemetry exports, by its Prometheus bridge: go run ./examples/otel
//
// The exporter writes JSON to standard output every ten seconds. Put otlpmetricgrpc or otlpmetrichttp in its place to push to a collector.
package main

import (
	"context"
	"errors"
	"log"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	bridge "go.opentelemetry.io/contrib/bridges/prometheus"
	"go.opentelemetry.io/otel/exporters/stdout/stdoutmetric"
	"go.opentelemetry.io/otel/sdk/metric"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/observe"
	"github.com/servercore-go/servercore/session"
)

type echo struct{ session.Session }

func (s *echo) OnRecv(data []byte) { _ = s.Send(data) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, "127.0.0.1:7777"); err != nil {
		log.Fatal(err)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, addr string) error {
	e, err := engine.New(engine.Options{})
	if err != nil {
		return err
	}
	if _, err := e.Listen("tcp", addr, func() session.Handler { return new(echo) }); err != nil {
		return err
	}
	exporter, err := stdoutmetric.New()
	if err != nil {
		return err
	}
	provider := metric.NewMeterProvider(metric.WithReader(
		metric.NewPeriodicReader(exporter, metric.WithInterval(10*time.Second), metric.WithProducer(producer(e)))))
	err = e.Run(ctx)
	last, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return errors.Join(err, provider.Shutdown(last)) // exports once more
}

// producer makes OpenTelemetry's metrics of an engine's.
func producer(e *engine.Engine) metric.Producer {
	registry := prometheus.NewRegistry()
	registry.MustRegister(observe.Collector(e))
	return bridge.NewMetricProducer(bridge.WithGatherer(registry))
}
