package sendqueue

import (
	"fmt"
	"testing"

	"github.com/servercore-go/servercore/internal/budget"
	"github.com/servercore-go/servercore/pool"
)

// S5: shared buffers stand among copied bytes, and each cuts a segment short. The memory is bounded all the same.
func TestMixedQueueMemoryIsBounded(t *testing.T) {
	const limit = 1 << 20
	for _, with := range []int{1, 511, 512, 600, 3000, 70_000} {
		for _, size := range []int{1, 20, 512, 513, 2000, 5000, 9000, 40_000} {
			for _, often := range []int{1, 7} {
				t.Run(fmt.Sprintf("a shared one of %d, then %d times %d", with, often, size), func(t *testing.T) {
					var q Queue
					shared, p := pool.GetSize(with), make([]byte, size)
					shared.B = shared.B[:with]
					for room := limit; room >= with+often*size; room = limit - q.size {
						q.Add(Ref{Buf: shared, MinKept: 512}, room, limit)
						for range often {
							q.Push(p, limit-q.size)
						}
					}
					if q.Held() > Ceiling(limit) { // as the loop does when the kernel is full
						q.Compact()
					}
					held, segments := 0, 0
					for s := q.head(); s != nil; s = s.next { // as if each shared one were this queue's alone
						segments++
						held += s.buf.Memory() + budget.BufferOverhead + segmentMemory
					}
					if held != q.Held() {
						t.Errorf("%d bytes are held, %d are counted", held, q.Held())
					}
					if most := limit + limit/4 + 4*pool.Page; held > most || segments > q.size/256+2 {
						t.Errorf("%d bytes wait in %d of memory and %d segments, want at most %d", q.size, held, segments, most)
					}
					q.Drop()
					shared.Release()
				})
			}
		}
	}
	if n := pool.Live(); n != 0 {
		t.Errorf("%d buffers", n)
	}
}
