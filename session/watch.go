package session

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// Callback is a kind of content's code, as logs and statistics name it.
type Callback uint8

// The callbacks.
const (
	CallConnected Callback = iota
	CallRecv
	CallSend
	CallDisconnected
	CallPost
	CallTimer
	CallHalfClose
	CallWritable
	CallSplit
	CallFactory // by the engine
	CallAdmit   // by the engine
	Callbacks   // how many there are
)

var callbackNames = [Callbacks]string{
	"OnConnected", "OnRecv", "OnSend", "OnDisconnected", "Post", "AfterFunc", "OnHalfClose", "OnWritable", "Framer.Split", "Factory",
	"Admit",
}

func (c Callback) String() string { return callbackNames[c] }

// watch shows other goroutines what content runs on the one whose scratch memory it is in. That costs each callback two
// atomic stores, three if it is another session's than the last; the clock is read by whoever watches.
type watch struct {
	off   bool   // nobody watches
	calls uint64 // callbacks so far
	kinds [Callbacks]uint32
	last  *Session // what whose has

	mark  atomic.Uint64 // calls, and below them in 8 bits the callback plus one, 0 if none runs
	whose atomic.Pointer[Session]
}

// timedEvery is how many callbacks of a kind are timed: one in so many. Reading the clock twice costs as much as a short callback.
const timedEvery = 16

// Watched says whether callbacks are to be shown and timed; at first they are. Only the goroutine that drives sessions
// calls it, between callbacks.
func (w *watch) Watched(on bool) { w.off = !on }

// Enter shows that a callback of s begins, nil if it has no session yet, and returns whether it is to be timed. Only the
// goroutine that drives sessions calls it, and Leave.
func (w *watch) Enter(c Callback, s *Session) (timed bool) {
	if w.off {
		return false
	}
	if w.last != s {
		w.last = s
		w.whose.Store(s)
	}
	w.calls++
	w.mark.Store(w.calls<<8 | uint64(c+1))
	w.kinds[c]++
	return w.kinds[c]%timedEvery == 1
}

// Leave shows that it is over.
func (w *watch) Leave() {
	if !w.off {
		w.mark.Store(w.calls << 8)
	}
}

// Running is a callback that somebody has seen running.
type Running struct {
	Call     uint64 // its number among those of this goroutine, 0 if none runs
	Callback Callback
}

// Running returns what runs now. Any goroutine.
func (w *watch) Running() Running {
	mark := w.mark.Load()
	if mark&0xff == 0 {
		return Running{}
	}
	return Running{mark >> 8, Callback(mark&0xff - 1)}
}

// Whose returns the session whose callback r is, nil if that is over, or has no session. Any goroutine.
func (w *watch) Whose(r Running) *Session {
	s := w.whose.Load()
	if w.Running() != r { // another callback may have begun in between
		return nil
	}
	return s
}

// Histogram counts durations, in buckets that are a quarter of their value wide: two bits after the leading one, as
// HdrHistogram has it. It takes 1,048 bytes. Any goroutine.
type Histogram struct {
	buckets [shortest + 4*octaves + 1]atomic.Uint64
	longest atomic.Int64
}

const (
	shortest  = 1  // bucket 0: less than 256 ns
	leastBits = 8  // 2^8 ns
	octaves   = 32 // up to 2^40 ns, 18 minutes; the last bucket is for all that is longer
)

func bucketOf(d time.Duration) int {
	n := uint64(max(d, 0))
	if n < 1<<leastBits {
		return 0
	}
	log := bits.Len64(n) - 1
	return min(shortest+4*(log-leastBits)+int(n>>(log-2)&3), shortest+4*octaves)
}

// bound is the least duration that is above the bucket, as far as there is one.
func bound(bucket int) time.Duration {
	switch {
	case bucket < shortest:
		return 1 << leastBits
	case bucket == shortest+4*octaves:
		return math.MaxInt64
	}
	octave, quarter := (bucket-shortest)/4, (bucket-shortest)%4
	return time.Duration(5+quarter) << (octave + leastBits - 2)
}

// Record counts a duration.
func (h *Histogram) Record(d time.Duration) {
	h.buckets[bucketOf(d)].Add(1)
	for {
		longest := h.longest.Load()
		if int64(d) <= longest || h.longest.CompareAndSwap(longest, int64(d)) {
			return
		}
	}
}

// AddTo adds what h has counted to sum, which nobody else uses meanwhile.
func (h *Histogram) AddTo(sum *Histogram) {
	for i := range h.buckets {
		sum.buckets[i].Add(h.buckets[i].Load())
	}
	sum.longest.Store(max(sum.longest.Load(), h.longest.Load()))
}

// Count returns how many durations were recorded.
func (h *Histogram) Count() (n uint64) {
	for i := range h.buckets {
		n += h.buckets[i].Load()
	}
	return n
}

// Quantile returns a duration that a part q of those recorded, 0 to 1, is not above: at most a quarter too long between 256 ns
// and 18 minutes, and beyond these 256 ns or the longest, or the longest if that is less. 0 if there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.Count()))
	for i := range h.buckets {
		n := h.buckets[i].Load()
		if n > 0 && rank < n {
			return min(bound(i), h.Longest())
		}
		rank -= min(rank, n)
	}
	return h.Longest()
}

// Longest returns the longest duration, exactly.
func (h *Histogram) Longest() time.Duration { return time.Duration(h.longest.Load()) }
