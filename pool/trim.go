package pool

import (
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// Returning memory after a spike of load. The pools keep released memory until two garbage collections have passed, and
// an idle server collects only every two minutes. So after a spike both collections are forced, and the memory goes back
// to the operating system at once. A spike is over when at most half of the memory handed out at the peak is still in
// use, trimAfter after it fell to that. docs/decisions/0016-memory-after-a-spike.md has the cost.
const (
	// spike is the peak, in bytes, up to which nothing is trimmed.
	spike = 64 << 20
	// trimAfter is the time between the end of the load and the trim.
	trimAfter = 5 * time.Second
	// trimPause is the shortest time between two trims.
	trimPause = 30 * time.Second
)

var (
	peak     atomic.Int64 // most units handed out at once since the last trim
	trimming atomic.Bool  // a trim is scheduled or running
	trimmed  time.Time    // when the last trim ended; owned by the goroutine that set trimming
	trims    atomic.Int64 // trims so far, for tests
)

// recordPeak raises peak to units, the units handed out now.
func recordPeak(units int64) {
	for {
		most := peak.Load()
		if units <= most || peak.CompareAndSwap(most, units) {
			return
		}
	}
}

// trimAfterSpike schedules a trim if a spike has fallen to half of its peak. units is what is handed out now.
func trimAfterSpike(units int64) {
	if most := peak.Load(); most > spike/unit && units <= most/2 && !trimming.Load() && trimming.CompareAndSwap(false, true) {
		time.AfterFunc(max(trimAfter, trimPause-time.Since(trimmed)), trim)
	}
}

// trim empties the pools, unless the load has returned. It runs on the timer's goroutine.
func trim() {
	if now := live.Load() >> 32; now <= peak.Load()/2 {
		peak.Store(now)
		runtime.GC()
		debug.FreeOSMemory() // runs the second collection
		trimmed = time.Now()
		trims.Add(1)
	}
	trimming.Store(false)
	trimAfterSpike(live.Load() >> 32) // another spike may have ended while this trim ran
}
