// Package pool lends byte buffers that several holders can share.
//
// A new [Buffer] has one reference. A holder of a reference may read B. Retain adds a reference for another holder,
// and Release drops one. The last Release returns the memory to the pool. A holder must not touch the memory after it
// has released its reference.
//
// Ownership:
//
//	call                    owner of the reference afterwards
//	Get, GetSize            the caller
//	b.Retain()              the caller owns one more
//	b.Release()             none: the caller must not use b any more
//	session.SendBuffer(b)   the session, also when it returns an error
//
// The memory comes from github.com/valyala/bytebufferpool, with one private pool per size class. No other user of that
// library in the process shares these pools. After a spike of load the pools are emptied and their memory is returned
// to the operating system; see trim.go.
package pool

import (
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/valyala/bytebufferpool"
)

// Sizes of pooled buffers, in bytes. Small holds one short message. Page is the step in which a send queue grows, so a
// slow peer wastes at most one page. Large is the most that a loop reads at once. The powers of two between them are
// size classes too: a buffer of 512 B or more takes at most twice what was asked for. Larger buffers are not pooled
// but left to the garbage collector, so that a burst of huge messages pins no memory.
const (
	Small    = 512
	Page     = 4 << 10
	Large    = 64 << 10
	unpooled = -1 // class of a buffer larger than Large
)

var (
	sizes   = [...]int{Small, 1 << 10, 2 << 10, Page, 8 << 10, 16 << 10, 32 << 10, Large}
	classes [len(sizes)]bytebufferpool.Pool
	headers = sync.Pool{New: func() any { return new(Buffer) }} // Buffer structs without memory
	live    atomic.Int64                                        // lower 32 bits: buffers handed out; upper 32 bits: their memory in units
)

// unit is the unit, in bytes, in which live counts memory.
const unit = Small

// A Buffer is a byte slice with a reference count. Fill B (append to it, or reslice it up to its capacity)
// while you are its only holder; treat it as read-only once it is shared or handed to a session.
type Buffer struct {
	B []byte

	mem   *bytebufferpool.ByteBuffer // the pooled memory that B was cut from; nil if unpooled
	refs  atomic.Int32
	class int8  // index into classes, or unpooled
	units int64 // memory when it was handed out, in units
}

// Get returns an empty buffer with one reference. Its capacity is at least 512 bytes, and append may grow it like any
// slice. Get is safe from any goroutine.
func Get() *Buffer { return GetSize(Small) }

// GetSize returns an empty buffer with one reference and a capacity of at least n bytes. It is safe from any goroutine.
func GetSize(n int) *Buffer {
	b := headers.Get().(*Buffer)
	b.class = classOf(n)
	if b.class == unpooled {
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
	recordPeak(live.Add(b.units<<32+1) >> 32)
	return b
}

func classOf(n int) int8 {
	for i, size := range sizes {
		if n <= size {
			return int8(i)
		}
	}
	return unpooled
}

// Retain adds a reference and returns b. The caller must hold a reference. Retain panics if the last reference has been
// released. It is safe from any goroutine.
func (b *Buffer) Retain() *Buffer {
	if n := b.refs.Add(1); n <= 1 {
		panic("pool: Retain of a released buffer (references: " + strconv.Itoa(int(n-1)) + ")")
	}
	return b
}

// Memory returns how many bytes of memory b holds: its pooled memory, and the array of B if append has moved B to a new one.
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

// Shared reports whether b has more than one reference. Only a holder can rely on the answer: if it is false, no other
// reference exists until this holder calls Retain.
func (b *Buffer) Shared() bool { return b.refs.Load() > 1 }

// Release drops one reference. The last Release returns the memory to the pool. One Release too many panics, unless the
// buffer has been handed out again in the meantime: then it drops the reference of the new owner. Release is safe from
// any goroutine.
func (b *Buffer) Release() {
	switch n := b.refs.Add(-1); {
	case n > 0:
		return
	case n < 0:
		panic("pool: Release of a released buffer")
	}
	if b.mem != nil {
		// bytebufferpool learns sizes from the length at Put: give it the full capacity, whatever part was used.
		// If append has moved B to a larger array, the pooled memory still goes back and the array is dropped.
		b.mem.B = b.mem.B[:cap(b.mem.B)]
		classes[b.class].Put(b.mem)
	}
	trimAfterSpike(live.Add(-b.units<<32-1) >> 32)
	b.B, b.mem = nil, nil
	headers.Put(b)
}

// Live returns how many buffers of the whole process have been handed out and still have a reference. It is 0 when no
// session is open and the application holds no buffer. A test that ends with another number has found a leak. Live is
// safe from any goroutine.
func Live() int64 { return int64(int32(live.Load())) }
