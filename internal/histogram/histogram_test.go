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

// The coarse buckets hold every duration once, in the bucket whose bounds are around it, and their sum is the sum of the durations.
func TestHistogramCoarse(t *testing.T) {
	var d []time.Duration
	for i := range histogram.Octaves {
		bound := histogram.OctaveBound(i)
		if i > 0 && bound != 2*histogram.OctaveBound(i-1) {
			t.Errorf("bound %d is %v after %v", i, bound, histogram.OctaveBound(i-1))
		}
		d = append(d, bound-1, bound, bound+bound/2)
	}
	d = append(d, 0, 1, time.Hour)
	for _, d := range d {
		var h histogram.Histogram
		h.Record(d)
		var to [histogram.Octaves + 1]uint64
		sum := h.Coarse(&to)
		want := 0
		for want < histogram.Octaves && d >= histogram.OctaveBound(want) {
			want++
		}
		for i, n := range to {
			if (n == 1) != (i == want) || n > 1 {
				t.Errorf("%v: bucket %d has %d, want it in %d", d, i, n, want)
			}
		}
		if sum != d {
			t.Errorf("the sum of %v is %v", d, sum)
		}
	}
	var h, other histogram.Histogram
	h.Record(3 * time.Millisecond)
	h.Record(-time.Second) // counts as 0
	other.Record(5 * time.Millisecond)
	h.AddTo(&other)
	to := [histogram.Octaves + 1]uint64{0: 10}
	if sum := other.Coarse(&to); sum != 8*time.Millisecond || to[0] != 11 {
		t.Errorf("sum %v, %d in the first bucket, want 8ms and 11", sum, to[0])
	}
}
