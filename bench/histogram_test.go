package bench

import (
	"bytes"
	"math"
	"strings"
	"testing"
)

func near(got, want float64) bool { return math.Abs(got-want) <= want*0.001+0.001 }

func TestHistogram(t *testing.T) {
	// Two workers, one fast and one slow: the average of their medians would be 50 ms, that of all values is not.
	fast, slow := newHistogram(), newHistogram()
	for range 900 {
		fast.record(1e6)
	}
	for range 100 {
		slow.record(100e6)
	}
	fast.merge(slow)
	s := fast.summary()
	if s.Count != 1000 || !near(s.Min, 1000) || !near(s.P50, 1000) || !near(s.P90, 1000) || !near(s.P99, 100e3) ||
		!near(s.Max, 100e3) || !near(s.Mean, 10900) {
		t.Errorf("%+v", s)
	}
	curve := fast.curve()
	if last := curve[len(curve)-1]; last.Percentile != 100 || last.Count != 1000 || !near(last.Latency, 100e3) {
		t.Errorf("curve ends with %+v", last)
	}
	for i, p := range curve[1:] {
		if p.Percentile < curve[i].Percentile || p.Latency < curve[i].Latency {
			t.Errorf("curve turns back: %+v after %+v", p, curve[i])
		}
	}
	var text bytes.Buffer
	if err := fast.writeHGRM(&text); err != nil || !strings.Contains(text.String(), "Total count    =         1000]") {
		t.Errorf("error %v:\n%s", err, &text)
	}
}

func TestHistogramLimits(t *testing.T) {
	h := newHistogram()
	if s := h.summary(); s != (Summary{}) {
		t.Errorf("empty: %+v", s)
	}
	h.record(-5)
	h.record(math.MaxInt64)
	if h.count() != 2 || !near(h.max(), us(highest)) {
		t.Errorf("%d values, max %v us", h.count(), h.max())
	}
}

func TestRecordingAllocatesNothing(t *testing.T) {
	r := newRecorder(make(chan *chunk, 1), 1)
	r.time(replyTime, 1)
	if n := testing.AllocsPerRun(1000, func() { r.time(replyTime, 12345) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
