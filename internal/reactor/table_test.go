package reactor

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// Loops that share a table find what they have put in and nothing of each other's, also when the number of a descriptor passes from one to the
// other, and each walks its own.
func TestTableIsSharedByLoops(t *testing.T) {
	var table Table[int]
	loops := [3]places[int]{{table: &table}, {table: &table}, {table: &table}}
	owner := map[int]int{} // by descriptor
	conns := map[int]*Conn[int]{}
	r := rand.New(rand.NewPCG(4, 4))
	for range 20_000 {
		fd, loop := r.IntN(3000), r.IntN(3)
		if c := conns[fd]; c == nil {
			c = &Conn[int]{fd: int32(fd)}
			loops[loop].put(c)
			owner[fd], conns[fd] = loop, c
		} else {
			loops[(owner[fd]+1)%3].remove(c) // not this one's
			if loops[owner[fd]].get(fd) != c {
				t.Fatalf("descriptor %d is lost", fd)
			}
			loops[owner[fd]].remove(c)
			delete(conns, fd)
		}
		fd = r.IntN(4000)
		for i := range loops {
			want := conns[fd]
			if owner[fd] != i {
				want = nil
			}
			if got := loops[i].get(fd); got != want {
				t.Fatalf("loop %d has %v for descriptor %d, want %v", i, got, fd, want)
			}
		}
	}
	n := 0
	for i := range loops {
		for c := range loops[i].all() {
			if fd := int(c.fd); conns[fd] != c || owner[fd] != i {
				t.Errorf("loop %d walks descriptor %d", i, fd)
			}
			n++
		}
	}
	if n != len(conns) {
		t.Errorf("%d connections in the walks, want %d", n, len(conns))
	}
	if blocks := *table.blocks.Load(); len(blocks) != 3000/blockSize+1 || slices.Contains(blocks, nil) {
		t.Errorf("%d blocks for 3,000 descriptors of which each was used", len(blocks))
	}
}

// A table has no places for numbers between those that are used, and grows under several loops at once.
func TestTableGrows(t *testing.T) {
	var table Table[int]
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			p := places[int]{table: &table}
			for n := range 1000 {
				c := &Conn[int]{fd: int32(n*64 + i)}
				if p.put(c); p.get(int(c.fd)) != c {
					t.Errorf("descriptor %d is lost", c.fd)
				}
			}
			for n := range 1000 {
				if fd := n*64 + i; p.get(fd) == nil || p.get(fd).fd != int32(fd) {
					t.Errorf("descriptor %d is lost", fd)
				}
			}
		})
	}
	all.Wait()
	lone := places[int]{table: new(Table[int])}
	lone.put(&Conn[int]{fd: 1_000_000})
	used := 0
	for _, b := range *lone.table.blocks.Load() {
		if b != nil {
			used++
		}
	}
	if used != 1 {
		t.Errorf("%d blocks for one descriptor", used)
	}
}
