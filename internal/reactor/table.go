package reactor

import (
	"iter"
	"math/bits"
	"sync"
	"sync/atomic"
)

// Table has connections by descriptor. The loops of an owner share one, because the numbers of descriptors are the process's: a table for each
// loop would take a place for each connection of the others. The zero value is empty and ready for use.
//
// A loop looks up what it has put in only, so no two loops read or write the same place at the same time.
type Table[C any] struct {
	blocks atomic.Pointer[[]*block[C]] // grows; never changed otherwise
	mu     sync.Mutex                  // of who makes it grow
}

// block has the places of as many descriptors: 4 KiB, so that a table is never copied as a whole.
type block[C any] [blockSize]atomic.Pointer[Conn[C]]

const blockSize = 512

// place returns the place of a descriptor, for which there is one.
func (t *Table[C]) place(fd int) *atomic.Pointer[Conn[C]] {
	return &(*t.blocks.Load())[uint(fd)/blockSize][uint(fd)%blockSize]
}

// grow makes sure that there is a place for a descriptor. Any goroutine.
func (t *Table[C]) grow(fd int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var blocks []*block[C]
	if old := t.blocks.Load(); old != nil {
		blocks = *old
	}
	if fd/blockSize < len(blocks) && blocks[fd/blockSize] != nil {
		return
	}
	grown := make([]*block[C], max(len(blocks), fd/blockSize+1))
	copy(grown, blocks)
	grown[fd/blockSize] = new(block[C])
	t.blocks.Store(&grown)
}

// places are those of a Table that one loop has filled.
type places[C any] struct {
	table *Table[C]
	own   []uint64 // a bit for each descriptor, set if the place is this loop's
}

// has reports whether the place of a descriptor is this loop's.
func (p *places[C]) has(fd int) bool {
	word := uint(fd) / 64
	return word < uint(len(p.own)) && p.own[word]&(1<<(uint(fd)%64)) != 0
}

// get returns the connection that this loop has put in the place of a descriptor, nil if there is none.
func (p *places[C]) get(fd int) *Conn[C] {
	if !p.has(fd) {
		return nil
	}
	return p.table.place(fd).Load()
}

// put puts c in the place of its descriptor.
func (p *places[C]) put(c *Conn[C]) {
	fd := int(c.fd)
	p.table.grow(fd)
	for fd/64 >= len(p.own) {
		p.own = append(p.own, 0)
	}
	p.own[fd/64] |= 1 << (fd % 64)
	p.table.place(fd).Store(c)
}

// remove takes c out of its place, if it is there.
func (p *places[C]) remove(c *Conn[C]) {
	if fd := int(c.fd); p.get(fd) == c {
		p.table.place(fd).Store(nil)
		p.own[fd/64] &^= 1 << (fd % 64)
	}
}

// all returns the connections of this loop. They may be removed meanwhile.
func (p *places[C]) all() iter.Seq[*Conn[C]] {
	return func(yield func(*Conn[C]) bool) {
		for i := range p.own {
			for word := p.own[i]; word != 0; word &= word - 1 {
				if c := p.get(i*64 + bits.TrailingZeros64(word)); c != nil && !yield(c) {
					return
				}
			}
		}
	}
}
