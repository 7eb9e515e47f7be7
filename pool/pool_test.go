package pool

import (
	"sync"
	"testing"
)

func mustPanic(t *testing.T, what string, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s did not panic", what)
		}
	}()
	f()
}

func TestGetIsEmptyWithOneReference(t *testing.T) {
	before := Live()
	b := Get()
	if len(b.B) != 0 || cap(b.B) < Small {
		t.Fatalf("len %d cap %d, want 0 and at least %d", len(b.B), cap(b.B), Small)
	}
	if got := Live() - before; got != 1 {
		t.Fatalf("live grew by %d, want 1", got)
	}
	b.Release()
	if got := Live() - before; got != 0 {
		t.Fatalf("live is off by %d after the last Release", got)
	}
}

func TestGetSizeClasses(t *testing.T) {
	for _, tc := range []struct{ want, atLeast, atMost int }{
		{0, Small, Small}, {1, Small, Small}, {Small, Small, Small}, {Small + 1, 2 * Small, 2 * Small},
		{Page/2 + 1, Page, Page}, {Page, Page, Page}, {Page + 1, 2 * Page, 2 * Page}, {20_000, 32 << 10, 32 << 10},
		{Large, Large, Large}, {Large + 1, Large + 1, Large + 1},
	} {
		b := GetSize(tc.want)
		if c := cap(b.B); c < tc.atLeast || c > tc.atMost {
			t.Errorf("GetSize(%d): capacity %d, want %d to %d", tc.want, c, tc.atLeast, tc.atMost)
		}
		b.Release()
	}
}

func TestSecondReleasePanics(t *testing.T) {
	b := Get()
	b.Release()
	mustPanic(t, "second Release", b.Release)
	c := new(Buffer) // a buffer without a reference
	mustPanic(t, "Retain after the last Release", func() { c.Retain() })
}

func TestRetainKeepsTheBytes(t *testing.T) {
	before := Live()
	b := Get()
	b.B = append(b.B, "shared"...)
	const holders = 64
	var wg sync.WaitGroup
	for range holders {
		b.Retain()
		wg.Go(func() {
			if string(b.B) != "shared" {
				t.Errorf("read %q", b.B)
			}
			b.Release()
		})
	}
	b.Release()
	wg.Wait()
	if got := Live() - before; got != 0 {
		t.Fatalf("%d buffers are still live, want 0", got)
	}
}

// bytebufferpool learns sizes and calibrates itself every 42,000 puts. Buffers keep the capacity of their class all the same.
func TestClassesSurviveCalibration(t *testing.T) {
	for i := range 100_000 {
		b := GetSize(Page)
		b.B = append(b.B, byte(i))
		b.Release()
	}
	b := GetSize(Page)
	defer b.Release()
	if cap(b.B) != Page {
		t.Fatalf("capacity %d after calibration, want %d", cap(b.B), Page)
	}
}

func TestGrownBufferReturnsItsClass(t *testing.T) {
	before := Live()
	b := Get()
	b.B = append(b.B, make([]byte, 10*Large)...)
	b.Release()
	if Live() != before {
		t.Fatal("a grown buffer is still live after its last Release")
	}
}

func BenchmarkGetRelease(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		GetSize(Page).Release()
	}
}
