package echoserver

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

// The garbage collector's target, in per cent of the live heap, unless GOGC is set.
const (
	// gcPercent is the target of a large heap. Nearly all of the heap is long-lived sessions, and serving them allocates nothing. Go's
	// default of 100 would reserve twice the memory for no gain.
	gcPercent = 15

	// With TLS, gcStep is how many bytes are allocated between two collections at least: a handshake allocates some 40 KiB, and the small
	// heap of a server with few sessions would be collected every dozen handshakes. Measured: docs/decisions/0020-tls.md.
	gcStep = 8 << 20

	// gcMost is the target of a small heap. The collector's own least heap is 4 MiB times the target, which is gcStep.
	gcMost = 100 * gcStep / (4 << 20)
)

// heapIsLimited is set by LimitHeap, before Main.
var heapIsLimited bool

// LimitHeap sets the garbage collector's target, unless GOGC is set. A process that is the server and nothing else calls it before Main.
func LimitHeap() {
	if os.Getenv("GOGC") == "" {
		heapIsLimited = true
		debug.SetGCPercent(gcPercent)
	}
}

// gcTarget returns the target for a live heap of that many bytes, so that gcStep or gcPercent of it are allocated between two collections,
// whichever is more.
func gcTarget(live uint64) int {
	return max(gcPercent, int(min(100*gcStep/max(live, 1), gcMost)))
}

// A heapPacer sets the target anew after each collection. It belongs to the goroutine that runs cleanups.
type heapPacer struct {
	live   [1]metrics.Sample
	target int
	over   atomic.Bool // for tests: the pacer ends with the next collection
}

// paceHeap keeps collections gcStep apart for the rest of the process, if LimitHeap has limited the heap. It takes no goroutine.
func paceHeap() {
	if !heapIsLimited {
		return
	}
	p := &heapPacer{target: gcPercent}
	p.live[0].Name = "/gc/heap/live:bytes"
	p.adjust()
}

// adjust sets the target for the heap as the last collection has left it, and comes again after the next one. A change of less than an eighth
// is not worth stopping the world.
func (p *heapPacer) adjust() {
	if p.over.Load() {
		return
	}
	metrics.Read(p.live[:])
	if t := gcTarget(p.live[0].Value.Uint64()); t > p.target+p.target/8 || t < p.target-p.target/8 {
		p.target = t
		debug.SetGCPercent(t)
	}
	runtime.AddCleanup(new(*heapPacer), (*heapPacer).adjust, p) // what has no reference goes with the next collection
}
