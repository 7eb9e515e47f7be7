package pool

import (
	"runtime"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"
)

// getLarge gets n buffers of 64 KiB.
func getLarge(n int) (buffers []*Buffer) {
	for range n {
		buffers = append(buffers, GetSize(Large))
	}
	return buffers
}

func releaseAll(buffers []*Buffer) {
	for _, b := range buffers {
		b.Release()
	}
}

// reset forgets the spikes of other tests.
func reset() {
	peak.Store(live.Load() >> 32)
	trimmed = time.Time{}
}

func wantTrims(t *testing.T, what string, want int64) {
	t.Helper()
	synctest.Wait()
	if n := trims.Load(); n != want {
		t.Errorf("%s: %d trims, want %d", what, n, want)
	}
}

// The pools are trimmed once, trimAfter after half of a spike was released. They are not trimmed for less than a spike, not if the
// load returns, and not more often than every trimPause.
func TestSpikesAreGivenBack(t *testing.T) {
	const buffers = spike / Large
	synctest.Test(t, func(t *testing.T) {
		reset()
		n := trims.Load()
		releaseAll(getLarge(buffers))
		time.Sleep(2 * trimAfter)
		wantTrims(t, "at the size of a spike, not above", n)

		b := getLarge(3 * buffers)
		releaseAll(b[:buffers])
		time.Sleep(2 * trimAfter)
		wantTrims(t, "two thirds are still in use", n)
		releaseAll(b[buffers : 2*buffers])
		time.Sleep(trimAfter - 1)
		wantTrims(t, "just before trimAfter", n)
		time.Sleep(time.Nanosecond)
		wantTrims(t, "a third is still in use", n+1)
		releaseAll(b[2*buffers:])
		time.Sleep(time.Hour)
		wantTrims(t, "the rest is not a spike", n+1)

		releaseAll(getLarge(2 * buffers))
		b = getLarge(2 * buffers)
		time.Sleep(time.Hour)
		wantTrims(t, "the load has returned", n+1)
		releaseAll(b)
		time.Sleep(trimAfter)
		wantTrims(t, "the load has ended", n+2)
		for range 10 {
			releaseAll(getLarge(2 * buffers))
			time.Sleep(trimPause / 10)
		}
		wantTrims(t, "one spike after another", n+3)
		time.Sleep(time.Hour) // no timer is left
	})
}

// A trim returns the memory to the operating system, although nothing else forces a collection.
func TestMemoryComesBack(t *testing.T) {
	reset()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	var before, after runtime.MemStats
	releaseAll(getLarge(3 * spike / Large))
	runtime.ReadMemStats(&before)
	n := trims.Load()
	trimming.Store(true) // as trimAfterSpike does
	trim()
	runtime.ReadMemStats(&after)
	if trims.Load() != n+1 || trimming.Load() {
		t.Errorf("%d trims, want 1; another is scheduled: %t, want false", trims.Load()-n, trimming.Load())
	}
	held := func(m *runtime.MemStats) uint64 { return m.HeapSys - m.HeapReleased }
	if got, want := held(&before)-held(&after), uint64(2*spike); held(&after) > held(&before) || got < want {
		t.Errorf("%d of %d bytes were returned to the system, want at least %d", got, held(&before), want)
	}
}
