package record

import "sync"

// chunkSize is the size of a chunk in bytes. It has room for seven of the largest blocks.
const chunkSize = 128 << 10

const _ = uint(chunkSize - 7*mostBlock) // does not compile if that is wrong

// chunk is memory for whole blocks.
type chunk struct {
	b      []byte
	serial uint64 // of the writer's chunks; the first is 1
	pinned int    // how many Dumps read it; only in a ring
}

var chunkPool = sync.Pool{New: func() any { return &chunk{b: make([]byte, 0, chunkSize)} }}

// chunks is the memory of a Writer: either a queue, whose chunks are written and given back, or a ring, whose oldest chunk makes room for
// the next. Its methods are for a caller that holds the Writer's mu.
type chunks struct {
	ring    bool
	most    int      // chunks at a time
	held    int      // how many there are: these two, and those that are being written
	full    []*chunk // the oldest first
	current *chunk   // nil for none
	serial  uint64
}

// room returns a chunk with room for size bytes. It is nil if the memory is full.
func (c *chunks) room(size int) *chunk {
	if c.current != nil && cap(c.current.b)-len(c.current.b) >= size {
		return c.current
	}
	if c.held >= c.most && !c.ring {
		return nil
	}
	if c.current != nil {
		c.full = append(c.full, c.current)
		c.current = nil
	}
	if c.held >= c.most {
		c.dropOldest()
	}
	c.held++
	c.serial++
	c.current = chunkPool.Get().(*chunk)
	c.current.serial = c.serial
	return c.current
}

// dropOldest makes room in the ring. A chunk that a Dump reads is left to it.
func (c *chunks) dropOldest() {
	oldest := c.full[0]
	copy(c.full, c.full[1:])
	c.full[len(c.full)-1] = nil
	c.full = c.full[:len(c.full)-1]
	c.held--
	if oldest.pinned == 0 {
		oldest.release()
	}
}

// take takes what waits to be written, to be given back one by one.
func (c *chunks) take(batch []*chunk) []*chunk {
	batch = append(batch, c.full...)
	clear(c.full)
	c.full = c.full[:0]
	if c.current != nil {
		batch = append(batch, c.current)
		c.current = nil
	}
	return batch
}

// pin returns the chunks of the ring, which stay as they are until unpin, and a copy of the one that is being filled.
func (c *chunks) pin() (whole []*chunk, last []byte) {
	whole = append(whole, c.full...)
	for _, k := range whole {
		k.pinned++
	}
	if c.current != nil {
		last = append(last, c.current.b...)
	}
	return whole, last
}

// unpin gives them back.
func (c *chunks) unpin(whole []*chunk) {
	for _, k := range whole {
		k.pinned--
	}
}

// drop gives up everything.
func (c *chunks) drop() {
	for _, k := range c.take(nil) {
		c.held--
		if k.pinned == 0 {
			k.release()
		}
	}
}

// release gives the memory back. Nobody refers to it any more.
func (k *chunk) release() {
	k.b = k.b[:0]
	chunkPool.Put(k)
}

// whole returns how many of the first n bytes are whole blocks.
func (k *chunk) whole(n int) int {
	for at := 0; ; {
		if at+8 > n {
			return at
		}
		next := at + int(le.Uint32(k.b[at+4:]))
		if next > n {
			return at
		}
		at = next
	}
}
