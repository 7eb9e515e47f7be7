package pool

import (
	"runtime"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"
)

// lend hands out n buffers of 64 KiB.
func lend(n int) (buffers []*Buffer) {
	for range n {
		buffers = append(buffers, GetSize(Large))
	}
	return buffers
}

func giveBack(buffers []*Buffer) {
	for _, b := range buffers {
		b.Release()
	}
}

// reset forgets what other tests have lent.
func reset() {
	peak.Store(lent.Load() >> 32)
	trimmed = time.Time{}
}

func wantTrims(t *testing.T, what string, want int64) {
	t.Helper()
	synctest.Wait()
	if n := trims.Load(); n != want {
		t.Errorf("%s: the pools were emptied %d times, want %d", what, n, want)
	}
}

// When half of a spike has gone, and for trimAfter, the pools are emptied, once; not for less than a spike, not when the load is
// back, and not more often than every trimPause.
func TestSpikesAreGivenBack(t *testing.T) {
	const buffers = spike / Large
	synctest.Test(t, func(t *testing.T) {
		reset()
		n := trims.Load()
		giveBack(lend(buffers))
		time.Sleep(2 * trimAfter)
		wantTrims(t, "no more than is kept", n)

		b := lend(3 * buffers)
		giveBack(b[:buffers])
		time.Sleep(2 * trimAfter)
		wantTrims(t, "two thirds are still lent", n)
		giveBack(b[buffers : 2*buffers])
		time.Sleep(trimAfter - 1)
		wantTrims(t, "too early", n)
		time.Sleep(time.Nanosecond)
		wantTrims(t, "a third is still lent", n+1)
		giveBack(b[2*buffers:])
		time.Sleep(time.Hour)
		wantTrims(t, "the rest is no spike", n+1)

		giveBack(lend(2 * buffers))
		b = lend(2 * buffers)
		time.Sleep(time.Hour)
		wantTrims(t, "the load is back", n+1)
		giveBack(b)
		time.Sleep(trimAfter)
		wantTrims(t, "it has gone", n+2)
		for range 10 {
			giveBack(lend(2 * buffers))
			time.Sleep(trimPause / 10)
		}
		wantTrims(t, "one spike after another", n+3)
		time.Sleep(time.Hour) // no timer is left
	})
}

// The memory is the system's again: the heap that it knows of is small, though nothing else has asked for a collection.
func TestMemoryComesBack(t *testing.T) {
	reset()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	var before, after runtime.MemStats
	giveBack(lend(3 * spike / Large))
	runtime.ReadMemStats(&before)
	n := trims.Load()
	trimming.Store(true) // in place of the timer's
	trim()
	runtime.ReadMemStats(&after)
	if trims.Load() != n+1 || trimming.Load() {
		t.Errorf("emptied %d times, a timer is left: %t", trims.Load()-n, trimming.Load())
	}
	held := func(m *runtime.MemStats) uint64 { return m.HeapSys - m.HeapReleased }
	if got, want := held(&before)-held(&after), uint64(2*spike); held(&after) > held(&before) || got < want {
		t.Errorf("%d of %d bytes came back, want at least %d", got, held(&before), want)
	}
}
