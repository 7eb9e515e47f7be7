package histogram_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/servercore-go/servercore/internal/histogram"
)

// Quantiles are at most a quarter too long, and never too short.
func TestHistogramQuantiles(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var h, sum histogram.Histogram
	var all []time.Duration
	for range 10_000 {
		d := time.Duration(256 * math.Pow(2, 31*random.Float64())) // each length of the scale is as likely
		all = append(all, d)
		h.Record(d)
	}
	slices.Sort(all)
	h.AddTo(&sum)
	h.AddTo(&sum)
	if n := sum.Count(); n != 2*uint64(len(all)) {
		t.Errorf("%d counted", n)
	}
	for _, q := range []float64{0, 0.01, 0.5, 0.9, 0.99, 0.999, 1} {
		exact := all[min(int(q*float64(len(all))), len(all)-1)]
		for _, h := range []*histogram.Histogram{&h, &sum} {
			if got := h.Quantile(q); got < exact || got > exact+exact/4 {
				t.Errorf("quantile %v: %v, exactly %v", q, got, exact)
			}
		}
	}
	if h.Longest() != all[len(all)-1] || sum.Longest() != h.Longest() {
		t.Errorf("longest %v and %v, want %v", h.Longest(), sum.Longest(), all[len(all)-1])
	}
}

// What is outside of the scale is counted at its ends.
func TestHistogramEnds(t *testing.T) {
	var h histogram.Histogram
	if h.Count() != 0 || h.Quantile(0.5) != 0 || h.Longest() != 0 {
		t.Errorf("an empty one has %d, %v, %v", h.Count(), h.Quantile(0.5), h.Longest())
	}
	for range 3 {
		h.Record(-1)
	}
	h.Record(1)
	if got := h.Quantile(0.5); got != 1 {
		t.Errorf("median %v, want the longest", got)
	}
	for range 5 {
		h.Record(math.MaxInt64)
	}
	if got := h.Quantile(0.5); got != math.MaxInt64 {
		t.Errorf("median %v, want the longest", got)
	}
	if n := unsafe.Sizeof(h); n != 1056 {
		t.Errorf("it takes %d bytes, the comment says 1,056", n)
	}
}
