package pool

import "testing"

// Released memory is used again, and its next owner gets it empty: in steady state a buffer costs no allocation.
func TestMemoryIsUsedAgain(t *testing.T) {
	for _, size := range []int{Small, Page, Large} {
		full := 0
		n := testing.AllocsPerRun(1000, func() {
			b := GetSize(size)
			if len(b.B) > 0 {
				full++
			}
			b.B = append(b.B, 1, 2, 3)
			b.Release()
		})
		if n >= 1 || full > 0 {
			t.Errorf("a buffer of %d bytes costs %v allocations, want 0; %d of 1000 were not empty, want 0", size, n, full)
		}
	}
}
