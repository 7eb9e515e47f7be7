package engine

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// Every field of Stats is declared, by the conventions of Prometheus: its unit and kind are in its name, and no name is there twice.
func TestEachFieldIsDeclared(t *testing.T) {
	metrics := Metrics()
	seen := make(map[string]bool)
	for _, m := range metrics {
		if seen[m.Name] || !strings.HasPrefix(m.Name, "servercore_") || strings.ToLower(m.Name) != m.Name {
			t.Errorf("name %q", m.Name)
		}
		seen[m.Name] = true
		if len(m.Help) < 10 || !strings.HasSuffix(m.Help, ".") {
			t.Errorf("%s: help %q", m.Name, m.Help)
		}
		base, total := strings.CutSuffix(m.Name, "_total")
		if total != (m.Kind == KindCounter) {
			t.Errorf("%s is a %v", m.Name, m.Kind)
		}
		unit := base[strings.LastIndexByte(base, '_')+1:]
		if m.Unit != "" && m.Unit != unit || m.Unit == "" && (unit == "bytes" || unit == "seconds") {
			t.Errorf("%s has unit %q", m.Name, m.Unit)
		}
		for _, l := range m.Labels {
			if !slices.Contains([]string{"loop", "listener", "callback", "cause", "reason"}, l) {
				t.Errorf("%s has label %s, whose values nobody has bounded", m.Name, l)
			}
		}
	}
	for _, typ := range []reflect.Type{reflect.TypeFor[Stats](), reflect.TypeFor[LoopStats](), reflect.TypeFor[ListenerStats](), reflect.TypeFor[CallbackStats]()} {
		for i := range typ.NumField() {
			f := typ.Field(i)
			name := f.Tag.Get("metric")
			switch {
			case name == "-" || name == "label":
			case f.Type.Kind() == reflect.Slice && f.Tag.Get("label") != "":
			case !seen[name]:
				t.Errorf("%s.%s is no metric", typ.Name(), f.Name)
			case f.Type == reflect.TypeFor[uint64]() && !strings.HasSuffix(name, "_total"):
				t.Errorf("%s.%s is %s: what grows only ends in _total", typ.Name(), f.Name, name)
			case f.Type == reflect.TypeFor[time.Duration]() && !strings.HasSuffix(strings.TrimSuffix(name, "_total"), "_seconds"):
				t.Errorf("%s.%s is %s: a duration is in seconds", typ.Name(), f.Name, name)
			}
		}
	}
}

// Each sample has the value of its field, and the labels of where that is.
func TestSamplesAreTheFields(t *testing.T) {
	s := Stats{
		Sessions: 7,
		Refused:  Refused{PerAddress: 3},
		Loops:    []LoopStats{{BytesIn: 10}, {BytesIn: 20, Stalled: 1500 * time.Millisecond, Ended: Ended{PeerClosed: 4}}},
		Listeners: []ListenerStats{
			{Listener: "tcp://a:1", Accepted: 5, Refused: Refused{ProxyLate: 6}},
			{Listener: "unix:///b", Accepted: 8, Ended: Ended{Other: 9}},
		},
		Callbacks: []CallbackStats{{Callback: "OnRecv", Times: Histogram{Buckets: [26]uint64{3: 2}, Sum: time.Millisecond}}},
		Total:     LoopStats{BytesIn: 30},
	}
	got := make(map[string]Sample)
	for sample := range s.Samples() {
		if len(sample.Labels) != len(sample.LabelValues) {
			t.Errorf("%s: labels %v, values %v", sample.Name, sample.Labels, sample.LabelValues)
		}
		key := sample.Name
		for i := range sample.Labels {
			key += " " + sample.Labels[i] + "=" + sample.LabelValues[i]
		}
		if _, twice := got[key]; twice {
			t.Errorf("%s is there twice", key)
		}
		got[key] = sample
	}
	for key, want := range map[string]float64{
		"servercore_sessions": 7,
		"servercore_refused_connections_total cause=per_address":                                3,
		"servercore_refused_connections_total cause=full":                                       0,
		"servercore_loop_received_bytes_total loop=0":                                           10,
		"servercore_loop_received_bytes_total loop=1":                                           20,
		"servercore_loop_stalled_seconds_total loop=1":                                          1.5,
		"servercore_loop_ended_sessions_total loop=1 reason=peer_closed":                        4,
		"servercore_listener_accepted_sessions_total listener=tcp://a:1":                        5,
		"servercore_listener_refused_connections_total listener=tcp://a:1 cause=proxy_late":     6,
		"servercore_listener_accepted_sessions_total listener=unix:///b":                        8,
		"servercore_listener_ended_sessions_total listener=unix:///b reason=other":              9,
		"servercore_listener_refused_connections_total listener=unix:///b cause=handshake_late": 0,
	} {
		if sample, ok := got[key]; !ok || sample.Value != want || sample.Histogram != nil {
			t.Errorf("%s is %v (%v), want %v", key, sample.Value, ok, want)
		}
	}
	h := got["servercore_callback_seconds callback=OnRecv"]
	if h.Histogram == nil || *h.Histogram != s.Callbacks[0].Times || h.Histogram.Count() != 2 || h.Kind != KindHistogram || h.Unit != "seconds" {
		t.Errorf("the callbacks: %+v", h)
	}
	if got["servercore_loop_lag_seconds loop=0"].Histogram == nil || got["servercore_queue_delay_seconds"].Histogram == nil {
		t.Error("a histogram is missing")
	}
	n := 0
	for range s.Samples() {
		if n++; n == 20 {
			break // in the midst of a struct with labels
		}
	}
	if bounds := HistogramBounds(); len(bounds) != len(Histogram{}.Buckets)-1 || bounds[0] != 1024 || !slices.IsSorted(bounds) {
		t.Errorf("bounds %v", bounds)
	}
}

// Neither Stats nor what else only looks waits for Start, which holds the engine while it looks a name up and binds.
func TestStatsDoNotWaitForStart(t *testing.T) {
	e, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	e.mu.Lock() // as Start does
	defer e.mu.Unlock()
	looked := make(chan State)
	go func() {
		s := e.Stats()
		for range e.Sessions() {
			s.Sessions++
		}
		for range e.SessionStats() {
			s.Sessions++
		}
		for range e.Closed() {
			s.Sessions++
		}
		if _, ok := e.Session(1); ok || s.Sessions != 0 || len(e.Timings()) != 0 {
			t.Error("an engine that is about to start has sessions")
		}
		looked <- e.State()
	}()
	select {
	case state := <-looked:
		if state != StateNew {
			t.Errorf("it is %v", state)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("somebody waits for Start")
	}
}
