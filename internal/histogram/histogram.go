// Package histogram counts durations in buckets of a fixed relative width.
package histogram

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// Histogram counts durations. Each bucket is a quarter of an octave wide: the two bits after the leading one choose it, as in
// HdrHistogram. The zero value is empty and ready for use. It takes 1,056 bytes. All methods may be called from any goroutine.
type Histogram struct {
	buckets [1 + 4*octaves + 1]atomic.Uint64
	longest atomic.Int64
	sum     atomic.Int64
}

const (
	leastBits = 8  // bucket 0 is for less than 2^8 ns
	octaves   = 32 // up to 2^40 ns, 18 minutes
	overflow  = 1 + 4*octaves
)

// bucketOf returns the index of the bucket that counts d.
func bucketOf(d time.Duration) int {
	n := uint64(max(d, 0))
	if n < 1<<leastBits {
		return 0
	}
	log := bits.Len64(n) - 1
	return min(1+4*(log-leastBits)+int(n>>(log-2)&3), overflow)
}

// upperBound returns the least duration above the bucket.
func upperBound(bucket int) time.Duration {
	switch bucket {
	case 0:
		return 1 << leastBits
	case overflow:
		return math.MaxInt64
	}
	octave, quarter := (bucket-1)/4, (bucket-1)%4
	return time.Duration(5+quarter) << (octave + leastBits - 2)
}

// Record counts one duration. A negative one counts as 0.
func (h *Histogram) Record(d time.Duration) {
	h.buckets[bucketOf(d)].Add(1)
	h.sum.Add(int64(max(d, 0)))
	for {
		longest := h.longest.Load()
		if int64(d) <= longest || h.longest.CompareAndSwap(longest, int64(d)) {
			return
		}
	}
}

// AddTo adds the counts of h to sum. No other goroutine may use sum meanwhile.
func (h *Histogram) AddTo(sum *Histogram) {
	for i := range h.buckets {
		sum.buckets[i].Add(h.buckets[i].Load())
	}
	sum.sum.Add(h.sum.Load())
	sum.longest.Store(max(sum.longest.Load(), h.longest.Load()))
}

// Octaves are the bounds of Coarse: powers of two, from 1 µs to 17 s.
const (
	firstOctave = 10 // 2^10 ns
	lastOctave  = 34 // 2^34 ns
	Octaves     = lastOctave - firstOctave + 1
)

// OctaveBound returns the upper bound of bucket i of Coarse, itself not in the bucket. The last bucket, Octaves, has none.
func OctaveBound(i int) time.Duration { return 1 << (firstOctave + i) }

// Coarse adds the counts to those of coarser buckets: bucket i is for what is less than OctaveBound(i) and not in a bucket before it. It returns
// the sum of all durations. What is recorded meanwhile may be in one of the two results only.
func (h *Histogram) Coarse(to *[Octaves + 1]uint64) (sum time.Duration) {
	for i := range h.buckets {
		octave := 0
		if i > 0 {
			octave = (i-1)/4 + leastBits - firstOctave + 1
		}
		to[min(max(octave, 0), Octaves)] += h.buckets[i].Load()
	}
	return time.Duration(h.sum.Load())
}

// Count returns how many durations were recorded.
func (h *Histogram) Count() (n uint64) {
	for i := range h.buckets {
		n += h.buckets[i].Load()
	}
	return n
}

// Quantile returns a duration that the part q of those recorded does not exceed, with q from 0 to 1. The result is never too
// short. It is too long by a quarter at most between 256 ns and 18 minutes. Below that range it is at most 256 ns, above it the longest
// duration. It never exceeds Longest. It is 0 if nothing was recorded.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.Count()))
	for i := range h.buckets {
		n := h.buckets[i].Load()
		if n > 0 && rank < n {
			return min(upperBound(i), h.Longest())
		}
		rank -= min(rank, n)
	}
	return h.Longest()
}

// Longest returns the longest duration recorded. It is exact.
func (h *Histogram) Longest() time.Duration { return time.Duration(h.longest.Load()) }
