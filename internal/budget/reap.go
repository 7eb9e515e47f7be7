package budget

import "time"

const (
	// StuckAfter is how long a peer may take next to nothing before its member is stuck.
	StuckAfter = 250 * time.Millisecond
	// StuckProgress is how many bytes the peer has to take in that time.
	StuckProgress = 64 << 10

	// passPause is how long after a pass that has not found enough the next one may be.
	passPause = StuckAfter / 4
)

// candidate is a stuck member as a pass has found it.
type candidate struct {
	member Member
	own    int64 // bytes of its own
	shared int64 // of buffers that stand in other queues too
	weight int64 // what its end gives back: its own bytes, and its part of the shared ones
}

// MakeRoom ends stuck members, those first whose end gives back the most, until the sum is 3/4 of the limit, or most bytes if that is
// less. It returns whether the sum is within most. now is the time on the members' clock.
//
// A pass takes time that grows with the number of members whose kernels are full. So a pass that has found too little is not followed by
// another at once. The caller holds no lock of a member.
func (b *Budget) MakeRoom(now time.Duration, most int64) bool {
	if most < 0 {
		return false
	}
	b.reaping.Lock()
	defer b.reaping.Unlock()
	if b.Fits(most) {
		return true
	}
	if now < b.next {
		return false
	}
	goal := min(most, b.limit-b.limit/4)
	b.findStuck()
	for i := len(b.found)/2 - 1; i >= 0; i-- {
		b.siftDown(i)
	}
	for n := len(b.found); n > 0 && !b.Fits(goal); n = len(b.found) {
		c := b.found[0]
		b.found[0], b.found[n-1] = b.found[n-1], candidate{}
		b.found = b.found[:n-1]
		b.siftDown(0)
		c.member.Shed(c.own + c.shared)
	}
	clear(b.found)
	b.found = b.found[:0]
	if !b.Fits(goal) {
		b.next = now + passPause
	}
	return b.Fits(most)
}

// findStuck fills found with the members that are stuck.
func (b *Budget) findStuck() {
	b.mu.Lock()
	b.pass = append(b.pass, b.blocked...)
	b.mu.Unlock()
	sum := int64(0)
	for _, e := range b.pass {
		if !e.account.Stuck() {
			continue
		}
		c := candidate{member: e.member, own: e.account.own.Load(), shared: e.account.shared.Load()}
		sum += c.shared
		b.found = append(b.found, c)
	}
	clear(b.pass)
	b.pass = b.pass[:0]
	// A buffer that ten members hold is given back when the tenth has ended. How many hold each is not known; how many hold one on average
	// is.
	part := 1.0
	if shared := b.shared.Load(); sum > shared {
		part = float64(shared) / float64(sum)
	}
	for i := range b.found {
		c := &b.found[i]
		c.weight = c.own + int64(part*float64(c.shared))
	}
}

// siftDown restores the heap, the heaviest first, below i.
func (b *Budget) siftDown(i int) {
	h := b.found
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && h[child+1].weight > h[child].weight {
			child++
		}
		if h[i].weight >= h[child].weight {
			return
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}
