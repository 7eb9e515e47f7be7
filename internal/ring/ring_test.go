package ring_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/servercore-go/servercore/internal/ring"
)

// A ring has the last values that were pushed, the youngest first, however many there were.
func TestRingKeepsTheLast(t *testing.T) {
	for size := range 5 {
		r := ring.New[int](size)
		for n := range 12 {
			var want []int
			for v := n - 1; v >= max(0, n-size); v-- {
				want = append(want, v)
			}
			if got := r.Last(); !slices.Equal(got, want) {
				t.Errorf("of %d pushed, a ring of %d has %v, want %v", n, size, got, want)
			}
			r.Push(n)
		}
	}
	if r := ring.New[int](-1); len(r.Last()) != 0 {
		t.Error("a ring of -1 has values")
	}
}

// What Last has returned is the caller's, and a full ring allocates nothing.
func TestRingCopies(t *testing.T) {
	r := ring.New[int](3)
	r.Push(1)
	last := r.Last()
	for range 3 {
		r.Push(2)
	}
	if last[0] != 1 {
		t.Errorf("the copy has %v", last)
	}
	if n := testing.AllocsPerRun(100, func() { r.Push(3) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// Several goroutines may push and look at the same time: nothing is there that was not pushed, and in the end all are.
func TestRingOfManyGoroutines(t *testing.T) {
	const each, pushers = 500, 4
	r := ring.New[int](each * pushers)
	var wg sync.WaitGroup
	for g := range pushers {
		wg.Go(func() {
			for i := range each {
				r.Push(g*each + i)
				if i%50 == 0 && len(r.Last()) == 0 {
					t.Error("nothing is there after a push")
				}
			}
		})
	}
	wg.Wait()
	all := r.Last()
	slices.Sort(all)
	for i, v := range all {
		if v != i {
			t.Fatalf("value %d is %d", i, v)
		}
	}
	if len(all) != each*pushers {
		t.Errorf("%d values", len(all))
	}
}
