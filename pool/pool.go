// Package pool lends byte buffers that several holders can share.
//
// A [Buffer] is born with one reference. Whoever holds a reference may read B; Retain adds a reference for
// another holder, Release gives one up, and the last Release returns the memory to the pool. The memory must not
// be touched after one's own reference is gone.
//
// Ownership in one table:
//
//	call                    who owns the reference afterwards
//	Get, GetSize            the caller
//	b.Retain()              the caller owns one more
//	b.Release()             nobody: b is forgotten
//	session.SendBuffer(b)   the session, also when it returns an error
//
// The memory behind the buffers comes from github.com/valyala/bytebufferpool, one private pool per size class,
// so that no other user of that library in the process can reach it. What a spike of load leaves in these pools is given
// back to the system when the load has gone, see trim.go.
package pool

import (
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/valyala/bytebufferpool"
)

// Sizes, in bytes, of buffers that are kept for reuse. 512 B holds a small message that waits alone, 4 KiB
// is one page and the granularity in which a backlog grows (a slow peer wastes at most one page at its tail),
// 64 KiB is the most a loop reads at once. Between them is each power of two, so that a buffer from 512 B on takes no
// more than twice what was asked for. Anything larger is left to the garbage collector: one burst of huge messages must
// not pin memory.
const (
	Small  = 512
	Page   = 4 << 10
	Large  = 64 << 10
	unkept = -1
)

var (
	sizes   = [...]int{Small, 1 << 10, 2 << 10, Page, 8 << 10, 16 << 10, 32 << 10, Large}
	classes [len(sizes)]bytebufferpool.Pool
	shells  = sync.Pool{New: func() any { return new(Buffer) }}
	lent    atomic.Int64 // the buffers handed out in its lower 32 bits, their memory in units above
)

// unit is the memory, in bytes, that lent counts by.
const unit = Small

// A Buffer is a byte slice with a reference count. Fill B (append to it, or reslice it up to its capacity)
// while you are its only holder; treat it as read-only once it is shared or handed to a session.
type Buffer struct {
	B []byte

	mem   *bytebufferpool.ByteBuffer // what B was cut from, nil when it was not pooled
	refs  atomic.Int32
	class int8
	units int64 // of its memory when it was handed out
}

// Get returns an empty buffer with one reference. Its capacity is at least 512 bytes; append grows it as it
// grows any slice. Safe from any goroutine.
func Get() *Buffer { return GetSize(Small) }

// GetSize returns an empty buffer with one reference and room for n bytes without growing. Safe from any
// goroutine.
func GetSize(n int) *Buffer {
	b := shells.Get().(*Buffer)
	b.class = classOf(n)
	if b.class == unkept {
		b.B = make([]byte, 0, n)
		b.units = (int64(n) + unit - 1) / unit
	} else {
		b.mem = classes[b.class].Get()
		if cap(b.mem.B) < sizes[b.class] {
			b.mem.B = make([]byte, 0, sizes[b.class])
		}
		b.B = b.mem.B[:0]
		b.units = int64(sizes[b.class] / unit)
	}
	b.refs.Store(1)
	rose(lent.Add(b.units<<32+1) >> 32)
	return b
}

func classOf(n int) int8 {
	for i, size := range sizes {
		if n <= size {
			return int8(i)
		}
	}
	return unkept
}

// Retain adds a reference and returns b. The caller must hold one already; Retain panics on a buffer that was
// released for good.
func (b *Buffer) Retain() *Buffer {
	if n := b.refs.Add(1); n <= 1 {
		panic("pool: Retain of a released buffer (references: " + strconv.Itoa(int(n-1)) + ")")
	}
	return b
}

// Memory returns the bytes of memory that b holds: what it was made with, and what B has grown to if append has moved it.
func (b *Buffer) Memory() int {
	if b.mem == nil {
		return cap(b.B)
	}
	n := cap(b.mem.B)
	if c := cap(b.B); c > 0 && &b.B[:c][c-1] != &b.mem.B[:n][n-1] {
		n += c
	}
	return n
}

// Shared reports whether b has more references than one. The answer is of use to a holder only: if it is false, nobody else can
// have one until that holder calls Retain.
func (b *Buffer) Shared() bool { return b.refs.Load() > 1 }

// Release gives up one reference. The last one returns the memory to the pool; a Release beyond it panics, for the next
// owner's bytes are at stake. It is not noticed when the buffer has been lent again in the meantime: it then takes that
// owner's reference.
func (b *Buffer) Release() {
	switch n := b.refs.Add(-1); {
	case n > 0:
		return
	case n < 0:
		panic("pool: Release of a released buffer")
	}
	if b.mem != nil {
		// The pool learns sizes from the length at Put, so the full capacity is shown, whatever part was used.
		// The memory of the class goes back even if append moved B to a larger array.
		b.mem.B = b.mem.B[:cap(b.mem.B)]
		classes[b.class].Put(b.mem)
	}
	fell(lent.Add(-b.units<<32-1) >> 32)
	b.B, b.mem = nil, nil
	shells.Put(b)
}

// Live returns the number of buffers handed out and not yet released for good, process-wide. It is 0 when no
// session is open and no content holds a buffer; a test that ends with another number has found a leak.
func Live() int64 { return int64(int32(lent.Load())) }
