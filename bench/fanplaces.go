package bench

import (
	"fmt"
	"strings"
	"sync/atomic"
)

// audience counts the subscribers of one target.
type audience struct{ open, joined atomic.Int64 }

// countPlaces counts the open subscribers of this worker, by target.
func (l *fanLoad) countPlaces(w *worker) {
	for i := range w.conns {
		if c := &w.conns[i]; c.state == open && !isPublisher(w, c) {
			l.f.places[c.target].open.Add(1)
		}
	}
}

// missingText returns how many subscribers got nothing, by address, or "" with one address.
func (f *fan) missingText(r *run) string {
	var parts []string
	for i, addr := range r.plan.subscribe() {
		a := &f.places[1+i]
		parts = append(parts, fmt.Sprintf("%d of %d at %s", a.open.Load()-a.joined.Load(), a.open.Load(), addr))
	}
	if parts == nil {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// skippedKept bounds how many lost messages of a subscriber are remembered. One of the others that comes late counts as doubled.
const skippedKept = 1 << 16

// blamePlace counts the errors of a verdict for the address of c. A message that comes after one that was sent later is out of order, and
// was lost until then. One that comes a second time is doubled.
func (w *worker) blamePlace(c *conn, v verdict) {
	if c.target == 0 {
		return
	}
	p := w.rec.place(c.target)
	p.wrong += uint64(v.wrong)
	if v.misfit {
		p.wrong++
	}
	p.lost += uint64(v.lost)
	end := c.v.next
	if v.done && !v.repeated {
		end = v.seq
	}
	for seq := end - uint64(v.lost); seq < end && len(c.skipped) < skippedKept; seq++ {
		if c.skipped == nil {
			c.skipped = make(map[uint64]struct{})
		}
		c.skipped[seq] = struct{}{}
	}
	if !v.repeated {
		return
	}
	if _, late := c.skipped[v.seq]; late {
		delete(c.skipped, v.seq)
		p.disordered++
		return
	}
	p.doubled++
}

// addresses returns what came for the subscribers at each address of Plan.Subscribe.
func (r *run) addresses(t *chunk, seconds float64) []Address {
	list := []Address{}
	for i, addr := range r.plan.subscribe() {
		t.grow(1 + i)
		p := &t.places[1+i]
		a := Address{
			Addr: addr, Subscribers: int(r.fan.places[1+i].open.Load()), Deliveries: p.deliveries,
			Lost: p.lost, Doubled: p.doubled, OutOfOrder: p.disordered, Wrong: p.wrong, Overdue: p.overdue,
		}
		if seconds > 0 {
			a.DeliveriesPerS = float64(p.deliveries) / seconds
		}
		if p.times != nil {
			a.Summary = p.times.summary()
		}
		list = append(list, a)
	}
	return list
}
