package engine

import (
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Metric is a number of Stats as Prometheus names it. It is declared by the tags of its field.
type Metric struct {
	Name   string // servercore_loop_sent_bytes_total: with the unit, and _total for a counter
	Help   string // one sentence or two
	Kind   MetricKind
	Unit   string   // "bytes", "seconds", or "" for what is counted one by one
	Labels []string // names; their values are loops, listeners, callbacks, causes and reasons: all bounded, and fixed by Start
}

// MetricKind is what a number means over time.
type MetricKind uint8

// The kinds.
const (
	KindGauge     MetricKind = iota // goes up and down
	KindCounter                     // grows only
	KindHistogram                   // durations in buckets
)

var kindNames = [...]string{"gauge", "counter", "histogram"}

// String returns "gauge", "counter" or "histogram", as Prometheus has it.
func (k MetricKind) String() string { return kindNames[k] }

// Sample is a metric with a value.
type Sample struct {
	Metric
	LabelValues []string   // one for each of Labels
	Value       float64    // in the unit; 0 for a histogram
	Histogram   *Histogram // nil for a counter or a gauge
}

// Metrics returns every metric, in the order of the fields.
func Metrics() []Metric {
	one := Stats{Loops: make([]LoopStats, 1), Listeners: make([]ListenerStats, 1), Callbacks: make([]CallbackStats, 1)}
	var list []Metric
	for s := range one.Samples() {
		if !slices.ContainsFunc(list, func(m Metric) bool { return m.Name == s.Name }) {
			list = append(list, s.Metric)
		}
	}
	return list
}

// Samples returns each number in s, as Metrics declares it, in the order of the fields. Total, which is a sum of others, is left out. It takes 0.1 to
// 0.2 ms with one loop and one listener, most of it for their refusals and reasons.
func (s Stats) Samples() iter.Seq[Sample] {
	return func(yield func(Sample) bool) { (&sampler{yield: yield}).walk(reflect.ValueOf(&s).Elem()) }
}

// sampler walks through a struct. names and values are the labels of the part that it is in.
type sampler struct {
	yield         func(Sample) bool
	names, values []string
}

// walk yields the fields of a struct, and returns false if that was stopped.
func (w *sampler) walk(v reflect.Value) bool {
	for i := range v.NumField() {
		f, field := v.Type().Field(i), v.Field(i)
		switch name := f.Tag.Get("metric"); {
		case name == "-" || name == "label":
		case name == "" && f.Type.Kind() == reflect.Slice:
			if !w.walkEach(f.Tag.Get("label"), field) {
				return false
			}
		case name == "":
			panic(fmt.Sprintf("engine: field %s of %s is not declared", f.Name, v.Type()))
		case f.Tag.Get("label") != "":
			if !w.walkCauses(f, field) {
				return false
			}
		case !w.emit(f, field):
			return false
		}
	}
	return true
}

// walkEach walks through the elements of a slice. The label of one is its field with the tag "label", or its index.
func (w *sampler) walkEach(label string, v reflect.Value) bool {
	names, values := w.names, w.values
	defer func() { w.names, w.values = names, values }()
	w.names = append(slices.Clip(names), label)
	for i := range v.Len() {
		value := strconv.Itoa(i)
		for j := range v.Index(i).NumField() {
			if v.Index(i).Type().Field(j).Tag.Get("metric") == "label" {
				value = v.Index(i).Field(j).String()
			}
		}
		w.values = append(slices.Clip(values), value)
		if !w.walk(v.Index(i)) {
			return false
		}
	}
	return true
}

// walkCauses yields the fields of a struct that are one metric: the label tells their names.
func (w *sampler) walkCauses(f reflect.StructField, v reflect.Value) bool {
	names, values := w.names, w.values
	defer func() { w.names, w.values = names, values }()
	w.names = append(slices.Clip(names), f.Tag.Get("label"))
	for i := range v.NumField() {
		w.values = append(slices.Clip(values), labelOf(v.Type().Field(i).Name))
		if !w.emit(f, v.Field(i)) {
			return false
		}
	}
	return true
}

// emit yields one number.
func (w *sampler) emit(f reflect.StructField, v reflect.Value) bool {
	m := Metric{Name: f.Tag.Get("metric"), Help: f.Tag.Get("help"), Labels: w.names}
	base, total := strings.CutSuffix(m.Name, "_total")
	if total {
		m.Kind = KindCounter
	}
	for _, unit := range []string{"bytes", "seconds"} {
		if strings.HasSuffix(base, "_"+unit) {
			m.Unit = unit
		}
	}
	s := Sample{Metric: m, LabelValues: w.values}
	switch value := v.Interface().(type) {
	case uint64:
		s.Value = float64(value)
	case int:
		s.Value = float64(value)
	case time.Duration:
		s.Value = value.Seconds()
	case Histogram:
		s.Kind, s.Histogram = KindHistogram, &value
	default:
		panic(fmt.Sprintf("engine: field %s is a %T, which no metric can be", f.Name, value))
	}
	return w.yield(s)
}

// labelOf returns the value of a label for a field's name: peer_closed for PeerClosed.
func labelOf(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
