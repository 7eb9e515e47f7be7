package pool

import (
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// A pool keeps what it is given back, and Go gives memory back to the system only some time after a garbage collection has found
// it unused: two collections empty the pools, and a server that is quiet has one in two minutes. So after a spike, when at most half
// of the memory that was lent at the peak is still lent, and that for trimAfter, the two collections are forced, and the memory is
// returned to the system at once. docs/decisions/0016-memory-after-a-spike.md has what it costs.
const (
	// spike is the memory, in bytes, below which nothing is done.
	spike = 64 << 20
	// trimAfter is how long after the load has gone.
	trimAfter = 5 * time.Second
	// trimPause is the shortest time between two of these.
	trimPause = 30 * time.Second
)

var (
	peak     atomic.Int64 // the most units lent at once since the last time the pools were emptied
	trimming atomic.Bool  // a timer runs, or what it calls
	trimmed  time.Time    // when the pools were last emptied; belongs to the holder of trimming
	trims    atomic.Int64 // how often they were, for tests
)

// rose notes that so many units are lent.
func rose(units int64) {
	for {
		most := peak.Load()
		if units <= most || peak.CompareAndSwap(most, units) {
			return
		}
	}
}

// fell starts the timer when the load has gone.
func fell(units int64) {
	if most := peak.Load(); most > spike/unit && units <= most/2 && !trimming.Load() && trimming.CompareAndSwap(false, true) {
		time.AfterFunc(max(trimAfter, trimPause-time.Since(trimmed)), trim)
	}
}

// trim empties the pools, unless the load is back. It runs on a goroutine of its own, which ends with it.
func trim() {
	if now := lent.Load() >> 32; now <= peak.Load()/2 {
		peak.Store(now)
		runtime.GC()
		debug.FreeOSMemory() // with a collection of its own, the second
		trimmed = time.Now()
		trims.Add(1)
	}
	trimming.Store(false)
	fell(lent.Load() >> 32) // of what has happened meanwhile
}
