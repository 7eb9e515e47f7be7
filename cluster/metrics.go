package cluster

import (
	"fmt"
	"iter"
	"reflect"
	"strings"

	"github.com/servercore-go/servercore/engine"
)

// Metrics returns what Samples has, as Prometheus names it. Each is declared by the tags of its field of Stats, as with engine.Stats.
func (c *Cluster) Metrics() []engine.Metric {
	var list []engine.Metric
	for s := range (Stats{}).Samples() {
		list = append(list, s.Metric)
	}
	return list
}

// Samples returns each number of Stats, for [observe.SourceCollector] and the Sources of observe.Options. It takes what Stats takes.
//
// [observe.SourceCollector]: https://pkg.go.dev/github.com/servercore-go/servercore/observe#SourceCollector
func (c *Cluster) Samples() iter.Seq[engine.Sample] { return c.Stats().Samples() }

// Samples returns each number in s, in the order of the fields.
func (s Stats) Samples() iter.Seq[engine.Sample] {
	return func(yield func(engine.Sample) bool) {
		v := reflect.ValueOf(s)
		for i := range v.NumField() {
			if !yield(sampleOf(v.Type().Field(i), v.Field(i).Interface())) {
				return
			}
		}
	}
}

// sampleOf returns a number as its tags declare it. The name tells the kind: _total is a counter.
func sampleOf(f reflect.StructField, value any) engine.Sample {
	s := engine.Sample{Metric: engine.Metric{Name: f.Tag.Get("metric"), Help: f.Tag.Get("help")}}
	if strings.HasSuffix(s.Name, "_total") {
		s.Kind = engine.KindCounter
	}
	switch value := value.(type) {
	case uint64:
		s.Value = float64(value)
	case int:
		s.Value = float64(value)
	case bool:
		if value {
			s.Value = 1
		}
	default:
		panic(fmt.Sprintf("cluster: field %s is a %T, which no metric can be", f.Name, value))
	}
	return s
}
