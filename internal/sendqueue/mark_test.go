package sendqueue

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/servercore-go/servercore/pool"
)

// A mark leaves with the last byte in front of it, wherever that byte is: in scratch memory, in segments, or copied from one to the other.
func TestMarkLeavesWithTheByteBeforeIt(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	m := MakeScratch()
	for round := range 2000 {
		var q Queue
		if r.IntN(2) == 0 {
			q.UseScratch(&m, nil)
		}
		push := func() {
			if r.IntN(3) > 0 {
				q.Push(make([]byte, r.IntN(9000)), 1<<20)
				return
			}
			b := pool.GetSize(700)
			b.B = append(b.B, make([]byte, 1+r.IntN(600))...)
			q.Add(Ref{Buf: b}, 1<<20, 1<<20)
			b.Release()
		}
		for range r.IntN(4) {
			push()
		}
		q.Mark(uint32(round))
		at, marked := q.Size(), q.Size() > 0
		if q.Marked() != marked {
			t.Fatalf("round %d: %d bytes, marked %t", round, at, q.Marked())
		}
		for q.Size() > 0 {
			switch r.IntN(5) {
			case 0:
				q.Reclaim()
			case 1:
				if q.lent() == nil {
					q.Compact()
				}
			case 2:
				if q.Size() < 60_000 {
					push()
				}
			}
			n := min(1+r.IntN(12_000), q.Size())
			mark, passed := q.Consume(n)
			if at -= n; passed != (marked && at <= 0) || passed && mark != uint32(round) {
				t.Fatalf("round %d: %d bytes before the mark, passed %t, mark %d", round, at, passed, mark)
			}
			if passed {
				marked = false
			}
			if q.Marked() != marked {
				t.Fatalf("round %d: %d bytes before the mark, marked %t", round, at, q.Marked())
			}
		}
		q.Reclaim()
		if q != (Queue{}) || m.chain != (chain{}) {
			t.Fatalf("round %d: what is empty holds memory", round)
		}
	}
	if n := pool.Live(); n != 0 {
		t.Errorf("%d buffers are left", n)
	}
}

// What is dropped takes its mark along.
func TestMarkIsDropped(t *testing.T) {
	var q Queue
	m := MakeScratch()
	for _, lent := range []bool{false, true} {
		if lent {
			q.UseScratch(&m, nil)
		}
		q.Push(bytes.Repeat([]byte("x"), 100), 1000)
		q.Mark(1)
		if n := q.Drop(); n != 100 || q.Marked() || q != (Queue{}) || m.chain != (chain{}) {
			t.Errorf("lent %t: %d bytes dropped, marked %t", lent, n, q.Marked())
		}
	}
}
