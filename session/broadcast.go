package session

import (
	"sync"

	"github.com/servercore-go/servercore/internal/budget"
	"github.com/servercore-go/servercore/internal/sendqueue"
	"github.com/servercore-go/servercore/pool"
)

// shareFrom is the length, in bytes, from which a message to many waits as a reference in each queue. A shorter one does so only where it is the
// first. Behind others it is copied, and needs no segment, no slice in a write, and no more memory than it has bytes. Measured:
// docs/decisions/0008-rooms.md.
const shareFrom = 512

// Broadcast is a Send of p to each member but those excepted. It returns how many have accepted it. What holds for Send (S1 to S8) holds for
// each of them.
//
// p is copied once, however many members there are, and framed once for the members that have a framer from the same engine.Framed. It is the
// caller's again when Broadcast returns. Every loop that has to send is woken once at most.
//
// Members that are ending do not accept, nor do those whose queues are full (see EndSlow), nor those whose framer refuses p. A framer that
// panics does so in Broadcast, before any member was reached. A nil among the excepted excepts nobody. There should be few of them: each member
// is compared with each.
func (g *Group) Broadcast(p []byte, except ...Handler) (reached int) {
	var some [4]*Session
	excepted := some[:0]
	for _, h := range except {
		if h != nil {
			excepted = append(excepted, h.session())
		}
	}
	b := broadcastPool.Get().(*broadcast)
	defer b.finish()

	g.prepare(b, p) // mu is held during all of the queueing: one order for all members
	defer g.mu.Unlock()
next:
	for _, member := range g.members {
		for _, e := range excepted {
			if member.session == e {
				continue next
			}
		}
		if b.sendTo(g, member.session, len(p)) {
			reached++
		}
	}
	return reached
}

// sendTo queues the payload, of that many bytes, for one member. It returns whether the member has accepted it. The caller holds g.mu.
func (b *broadcast) sendTo(g *Group, s *Session, payload int) (accepted bool) {
	b.clock = s.conn
	f := s.framed()
	form := b.form(f.shared())
	if form == nil || form.wire == nil {
		return false // refused by its framer
	}
	ref := sendqueue.Ref{Buf: form.wire, Charge: form.charge(s.loop.Limits.Budget), MinKept: shareFrom}
	visit, err := s.sendShared(f, ref, payload)
	switch err {
	case ErrSendLimit:
		g.skipped.Add(1)
		if g.EndSlow || s.loop.Limits.EndSlow {
			visit = s.markAborted(ErrSendLimit)
		}
	case ErrSendBudget: // not the member's fault
		g.skipped.Add(1)
	}
	if visit && s.wakeup.request() {
		b.addVisit(s)
	}
	return err == nil
}

// prepare makes the forms that members need, and room for them in the budget of the first member, which is that of all members as a rule. It
// returns with mu held.
func (g *Group) prepare(b *broadcast, p []byte) {
	for made := false; ; {
		g.mu.Lock()
		if f, missing := b.missing(g.forms); missing {
			g.mu.Unlock()
			b.makeForm(f, p) // may run the application's code (I3)
			continue
		}
		if made || len(g.members) == 0 {
			return
		}
		s := g.members[0].session
		limit := s.loop.Limits.Budget
		if limit == nil {
			return
		}
		most := limit.Bound(false) - b.memory()
		if limit.Fits(most) {
			return
		}
		made = true
		g.mu.Unlock()
		limit.MakeRoom(s.conn.Now(), most)
	}
}

// broadcast is a Broadcast under way: the forms in which its payload travels, and the sessions that loops have to visit.
type broadcast struct {
	forms  []form
	visits []loopVisits
	used   int       // of visits; the rest keeps its memory for another Broadcast
	clock  Transport // of a member
}

// form is the payload as sessions with one framing get it.
type form struct {
	framing *Framing         // nil for plain bytes
	wire    *pool.Buffer     // nil if the framer refuses the payload
	charges []*budget.Charge // for it, one for each budget
}

// loopVisits is the sessions that one loop has to visit.
type loopVisits struct {
	loop  *Common
	conns []Transport
}

var broadcastPool = sync.Pool{New: func() any { return new(broadcast) }}

// charge returns the charge for the form in that budget, nil for nil.
func (f *form) charge(b *budget.Budget) *budget.Charge {
	if b == nil {
		return nil
	}
	for _, c := range f.charges {
		if c.Budget() == b {
			return c
		}
	}
	c := b.NewCharge(f.wire)
	f.charges = append(f.charges, c)
	return c
}

// missing returns a framing among those for which there is no form yet.
func (b *broadcast) missing(counts []formCount) (f *Framing, missing bool) {
	for _, c := range counts {
		if b.form(c.framing) == nil {
			return c.framing, true
		}
	}
	return nil, false
}

// makeForm makes the form for a framing, nil for plain bytes.
func (b *broadcast) makeForm(f *Framing, payload []byte) {
	wire := pool.GetSize(len(payload) + f.header())
	if n := len(b.forms); n < cap(b.forms) { // the memory for charges is used again
		b.forms = b.forms[:n+1]
	} else {
		b.forms = append(b.forms, form{})
	}
	made := &b.forms[len(b.forms)-1]
	made.framing, made.wire = f, wire // before the framer is called: if that panics, finish releases it
	if f == nil {
		wire.B = append(wire.B, payload...)
		return
	}
	framed, err := f.framer.Append(wire.B, payload)
	if err != nil {
		made.wire = nil
		wire.Release()
		return
	}
	wire.B = framed
}

// form returns the form for a framing, nil if there is none.
func (b *broadcast) form(f *Framing) *form {
	for i := range b.forms {
		if b.forms[i].framing == f {
			return &b.forms[i]
		}
	}
	return nil
}

// memory returns the memory of all forms, in bytes.
func (b *broadcast) memory() (sum int64) {
	for i := range b.forms {
		if wire := b.forms[i].wire; wire != nil {
			sum += int64(wire.Memory() + budget.BufferOverhead)
		}
	}
	return sum
}

// addVisit notes a session whose wake-up was requested. There are few loops, so they are searched one by one.
func (b *broadcast) addVisit(s *Session) {
	for i := range b.visits[:b.used] {
		if v := &b.visits[i]; v.loop == s.loop.Common {
			v.conns = append(v.conns, s.conn)
			return
		}
	}
	if b.used == len(b.visits) {
		b.visits = append(b.visits, loopVisits{})
	}
	v := &b.visits[b.used]
	b.used++
	v.loop = s.loop.Common
	v.conns = append(v.conns, s.conn)
}

// finish has each loop visit its sessions, enforces budgets, and gives back the memory that the broadcast has used.
//
// The wake-ups were requested one by one, each after its bytes were queued, and are handed over together. Nobody else wakes the loop for
// a session whose wake-up is requested, and the loop releases before it looks (I4). So each session is in one Broadcast or mailbox at most, and each
// loop is woken once at most.
func (b *broadcast) finish() {
	for i := range b.visits[:b.used] {
		v := &b.visits[i]
		v.conns[0].WakeAll(v.conns)
		clear(v.conns)
		v.loop, v.conns = nil, v.conns[:0]
	}
	for i := range b.forms {
		f := &b.forms[i]
		for _, c := range f.charges {
			if limit := c.Budget(); limit.Crowded() {
				limit.MakeRoom(b.clock.Now(), limit.Bound(true))
			}
			c.Release()
		}
		clear(f.charges)
		if f.wire != nil {
			f.wire.Release()
		}
		*f = form{charges: f.charges[:0]}
	}
	b.forms, b.used, b.clock = b.forms[:0], 0, nil
	broadcastPool.Put(b)
}
