package echoserver

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestGCTargetIsAStepOrAShareOfTheHeap(t *testing.T) {
	for _, tt := range []struct {
		live uint64
		want int
	}{{0, gcMost}, {1 << 20, gcMost}, {8 << 20, 100}, {16 << 20, 50}, {64 << 20, gcPercent}, {1 << 40, gcPercent}} {
		if got := gcTarget(tt.live); got != tt.want {
			t.Errorf("a live heap of %d bytes: the target is %d %%, want %d", tt.live, got, tt.want)
		}
	}
}

// The pacer follows the heap: a small heap gets a high target, a large one a low one again.
func TestPacerFollowsTheHeap(t *testing.T) {
	was := debug.SetGCPercent(gcPercent)
	defer debug.SetGCPercent(was)
	p := &heapPacer{target: gcPercent}
	p.live[0].Name = "/gc/heap/live:bytes"
	p.adjust()
	defer p.over.Store(true)
	reaches := func(what string, ok func(target int) bool) {
		t.Helper()
		target := [1]metrics.Sample{{Name: "/gc/gogc:percent"}}
		for deadline := time.Now().Add(20 * time.Second); ; runtime.GC() { // the target is set on a goroutine of the runtime's
			metrics.Read(target[:])
			if n := int(target[0].Value.Uint64()); ok(n) {
				return
			} else if time.Now().After(deadline) {
				t.Fatalf("%s: the target is %d %%", what, n)
			}
		}
	}
	reaches("a small heap", func(n int) bool { return n > gcPercent })
	large := make([]byte, 128<<20)
	reaches("a heap of 128 MiB", func(n int) bool { return n == gcPercent })
	runtime.KeepAlive(large)
	large = nil
	reaches("a small heap again", func(n int) bool { return n > gcPercent })
}
