package pool

import "testing"

// Memory that was given back is used again, and is empty: in steady state a buffer costs no allocation, and nobody gets another's bytes.
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
			t.Errorf("a buffer of %d bytes costs %v allocations, and %d of 1000 came with bytes, want none", size, n, full)
		}
	}
}
