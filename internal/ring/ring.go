// Package ring keeps the last of what it was given.
package ring

import "sync"

// Ring keeps the last values that were pushed, up to a number. Its memory grows with what it holds. All methods may be called from any goroutine.
type Ring[T any] struct {
	mu   sync.Mutex
	size int
	list []T
	next int // the oldest, once the ring is full
}

// New returns an empty ring of that size. One of 0 or less keeps nothing.
func New[T any](size int) *Ring[T] { return &Ring[T]{size: max(size, 0)} }

// Push adds a value. A full ring forgets its oldest one. It allocates nothing once the ring is full.
func (r *Ring[T]) Push(v T) {
	if r.size == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.list) < r.size {
		r.list = append(r.list, v)
		return
	}
	r.list[r.next] = v
	r.next = (r.next + 1) % r.size
}

// Last returns a copy of the values, the youngest first.
func (r *Ring[T]) Last() []T {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.list)
	last := make([]T, n)
	for i := range last {
		last[i] = r.list[(r.next+n-1-i)%n]
	}
	return last
}
