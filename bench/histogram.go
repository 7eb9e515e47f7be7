package bench

import (
	"io"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A histogram holds times in nanoseconds with three significant digits, up to highest; longer times are recorded as highest. Its size is
// about 250 KiB, however many values it holds. Only one goroutine may use it at a time.
type histogram struct{ h *hdrhistogram.Histogram }

const highest = int64(3600e9) // an hour, longer than any timeout

func newHistogram() *histogram {
	return &histogram{hdrhistogram.New(1, highest, 3)}
}

// record adds one time. A negative one, which only a clock could cause, counts as zero.
func (h *histogram) record(ns int64) {
	if err := h.h.RecordValue(min(max(ns, 0), highest)); err != nil {
		panic("bench: " + err.Error()) // impossible: the value is in range
	}
}

// recordTimes adds the same time n times.
func (h *histogram) recordTimes(ns int64, n uint64) {
	if err := h.h.RecordValues(min(max(ns, 0), highest), int64(n)); err != nil {
		panic("bench: " + err.Error()) // impossible: the value is in range
	}
}

// merge adds the values of other. Figures of several workers or intervals are combined only in this way: percentiles are never averaged.
func (h *histogram) merge(other *histogram) {
	if dropped := h.h.Merge(other.h); dropped != 0 {
		panic("bench: histograms of different shape")
	}
}

func (h *histogram) reset()        { h.h.Reset() }
func (h *histogram) count() uint64 { return uint64(h.h.TotalCount()) }

// us returns a time in microseconds.
func us(ns int64) float64 { return float64(ns) / 1e3 }

func (h *histogram) quantile(percent float64) float64 { return us(h.h.ValueAtQuantile(percent)) }
func (h *histogram) max() float64                     { return us(h.h.Max()) }

// summary fills a Distribution's figures.
func (h *histogram) summary() Summary {
	if h.count() == 0 {
		return Summary{}
	}
	return Summary{
		Count: h.count(),
		Min:   us(h.h.Min()), P50: h.quantile(50), P90: h.quantile(90), P99: h.quantile(99),
		P999: h.quantile(99.9), P9999: h.quantile(99.99), Max: h.max(), Mean: h.h.Mean() / 1e3,
	}
}

// curve returns the percentile curve, denser towards 100 %: five points for each halving of the distance, as the
// text format of HdrHistogram has them.
func (h *histogram) curve() []CurvePoint {
	brackets := h.h.CumulativeDistributionWithTicks(5)
	points := make([]CurvePoint, 0, len(brackets))
	for _, b := range brackets {
		points = append(points, CurvePoint{Percentile: b.Quantile, Latency: us(b.ValueAt), Count: uint64(b.Count)})
	}
	return points
}

// writeHGRM writes the text format of HdrHistogram, in microseconds, which its plotters read.
func (h *histogram) writeHGRM(w io.Writer) error {
	_, err := h.h.PercentilesPrint(w, 5, 1000)
	return err
}
