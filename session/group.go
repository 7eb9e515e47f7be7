package session

import (
	"iter"
	"sync"
	"sync/atomic"

	"github.com/servercore-go/servercore/pool"
)

// A Group is a room: sessions that are told the same things. The zero value is an empty group, ready for use; it must not
// be copied after that. Sessions of any loop, listener and engine may be in one group, and one session in any number
// of groups. A group needs no end: one that nobody refers to any more, its members included, is garbage.
//
//	var lobby session.Group
//
//	func (p *player) OnConnected(net.Addr) { lobby.Join(p) }
//	func (p *player) OnRecv(data []byte)   { lobby.Broadcast(data, p) } // to everybody else
//
// All methods may be called from any goroutine and inside callbacks. None waits for a peer or for a callback, but they wait
// for one another: a Broadcast to 100,000 members takes some ten milliseconds.
//
// A method that takes a handler takes a [*Session] as well, such as the functions of [Events] get. Both mean the session.
//
// # Membership
//
// A session can join from its OnConnected on. It leaves all its groups by itself when it ends: when its connection is closed,
// before its OnDisconnected, which can tell the others. Until then one that is ending is a member, and is reached as long as
// Send accepts.
//
// # Order
//
// All members get the Broadcasts of a group in the same order, whoever makes them, on whatever loops they live; who joins
// while one is being made gets it whole or not at all. What one goroutine sends, by Broadcast to any groups and by Send,
// arrives at each session in the order in which it was sent.
//
// # Cost
//
// A membership takes 40 bytes and the spare room of two slices, a group 96, and a session that has ever joined one 192.
// Joining and leaving take constant time, or, for a session that is in many groups, time that grows with the smaller of
// two numbers: those groups, and the members of this one.
type Group struct {
	// EndSlow ends a member whose queue is full, by a reset and with [ErrSendLimit] as the reason. Otherwise such a member
	// misses that Broadcast and stays, unless Options.SlowPeer has it ended all the same. To be set before the group is
	// used.
	EndSlow bool

	skipped atomic.Uint64
	mu      sync.Mutex // guards the group below; a session's mu may be taken under it, never the other way round (I9)
	members []seat
	wires   []wireCount // the forms that a payload needs on its way to them
}

// wireCount is how many members share a framing, nil for plain bytes.
type wireCount struct {
	framing *Framing
	members int
}

// seat is a member as its group sees it.
type seat struct {
	session    *Session
	membership *membership
}

// membership is the pair of a group and a session, in the lists of both or of neither (I9).
type membership struct {
	group *Group
	index int32 // in group.members, under group.mu
	place int32 // in the session's memberships, under its mu
}

// Join makes h a member. It does nothing if h is one, before the connection of h is there, and after its end. h must not
// be nil.
func (g *Group) Join(h Handler) {
	if h == nil {
		panic("session: Join of a nil handler")
	}
	s := h.session()
	g.mu.Lock()
	defer g.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.bound.Load() || s.phaseClosed() || g.find(s) != nil {
		return
	}
	r := s.rarely()
	m := &membership{g, int32(len(g.members)), int32(len(r.memberships))}
	g.members = append(g.members, seat{s, m})
	g.count(s.framing().shared(), 1)
	r.memberships = append(r.memberships, m) // I9
}

// Leave ends the membership of h, if there is one. What was broadcast before still reaches it, nothing after.
func (g *Group) Leave(h Handler) {
	if h == nil {
		return
	}
	s := h.session()
	g.mu.Lock()
	defer g.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	m := g.find(s)
	if m == nil {
		return
	}
	last := g.members[len(g.members)-1]
	g.members[m.index], last.membership.index = last, m.index
	g.members = pop(g.members)

	g.count(s.framing().shared(), -1)

	r := s.rare.Load()
	moved := r.memberships[len(r.memberships)-1]
	r.memberships[m.place], moved.place = moved, m.place
	r.memberships = pop(r.memberships)
}

// count adds n members with that framing. The caller holds mu.
func (g *Group) count(f *Framing, n int) {
	for i := range g.wires {
		w := &g.wires[i]
		if w.framing != f {
			continue
		}
		if w.members += n; w.members == 0 {
			*w = g.wires[len(g.wires)-1]
			g.wires = pop(g.wires)
		}
		return
	}
	g.wires = append(g.wires, wireCount{f, n})
}

// find returns the membership of s, nil if there is none. The caller holds both locks. It looks through the shorter list,
// and from the end of the session's, where leaveGroups begins.
func (g *Group) find(s *Session) *membership {
	r := s.rare.Load()
	if r == nil {
		return nil
	}
	if len(r.memberships) > len(g.members) {
		for _, member := range g.members {
			if member.session == s {
				return member.membership
			}
		}
		return nil
	}
	for i := len(r.memberships) - 1; i >= 0; i-- {
		if m := r.memberships[i]; m.group == g {
			return m
		}
	}
	return nil
}

// pop removes the last element, and gives memory back when three quarters of it are spare.
func pop[T any](list []T) []T {
	n := len(list) - 1
	clear(list[n:])
	switch {
	case n == 0:
		return nil
	case cap(list) > 16 && n <= cap(list)/4:
		return append(make([]T, 0, cap(list)/2), list[:n]...)
	}
	return list[:n]
}

// leaveGroups ends all memberships of a session that is closed, so that no new ones begin.
func (s *Session) leaveGroups() {
	r := s.rare.Load()
	if r == nil {
		return
	}
	for {
		s.mu.Lock()
		n := len(r.memberships)
		if n == 0 {
			s.mu.Unlock()
			return
		}
		g := r.memberships[n-1].group
		s.mu.Unlock() // the group's comes first (I9)
		g.Leave(s)
	}
}

// Len returns the number of members.
func (g *Group) Len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.members)
}

// Skipped returns how many messages members have missed because their queues were full: the number of Broadcasts, for
// each of them. With EndSlow, each such message has ended a member.
func (g *Group) Skipped() uint64 { return g.skipped.Load() }

// All returns the members as they are when an iteration begins, in no order: their handlers, as the factory has made
// them. The loop's body may do whatever it likes with them and the group; it may meet sessions that have left or ended
// meanwhile.
func (g *Group) All() iter.Seq[Handler] {
	return func(yield func(Handler) bool) {
		g.mu.Lock()
		members := make([]*Session, len(g.members))
		for i, member := range g.members {
			members[i] = member.session
		}
		g.mu.Unlock()
		for _, s := range members {
			if !yield(s.handler) {
				return
			}
		}
	}
}

// Broadcast is a Send of p to each member but those excepted, and returns how many have accepted it: S1 to S8 hold for
// each of them. Members that are ending do not accept, nor do those whose queues are full (see EndSlow), nor those whose
// framer refuses p. p is copied once, however many members there are, framed once where they have a framer from the same
// engine.Framed, and is the caller's again when Broadcast returns.
//
// Every loop that has to send is told once, by one wake-up at most. A framer that panics does so in Broadcast, before anybody
// was reached. A nil among the excepted means nobody; there should be
// few of them, as each member is compared with each.
func (g *Group) Broadcast(p []byte, except ...Handler) (reached int) {
	var some [4]*Session
	excepted := some[:0]
	for _, h := range except {
		if h != nil {
			excepted = append(excepted, h.session())
		}
	}
	r := rounds.Get().(*round)
	defer r.end()

	g.prepare(r, p) // mu is held over all of the queueing: one order for all members
next:
	for _, member := range g.members {
		s := member.session
		for _, e := range excepted {
			if s == e {
				continue next
			}
		}
		r.clock = s.conn
		f := s.framing()
		form := r.form(f.shared())
		if form == nil || form.wire == nil {
			continue // refused by its framer
		}
		visit, err := s.share(f, given{form.wire, form.charge(s.loop.Limits.Budget), false, shareFrom}, len(p))
		switch err {
		case nil:
			reached++
		case ErrSendLimit:
			g.skipped.Add(1)
			if g.EndSlow || s.loop.Limits.EndSlow {
				visit = s.condemn(ErrSendLimit)
			}
		case ErrSendBudget: // not the member's fault
			g.skipped.Add(1)
		}
		if visit && s.claim() {
			r.add(s)
		}
	}
	g.mu.Unlock()
	return reached
}

// prepare makes the forms that members need, and room for them in the budget of the first member, which is that of all members as
// a rule. It returns with mu held.
func (g *Group) prepare(r *round, p []byte) {
	for made := false; ; {
		g.mu.Lock()
		if f, missing := r.missing(g.wires); missing {
			g.mu.Unlock()
			r.frame(f, p) // may be content's code (I3)
			continue
		}
		if made || len(g.members) == 0 {
			return
		}
		s := g.members[0].session
		b, needs := s.loop.Limits.Budget, r.needs()
		if b == nil || b.held.Load() <= b.hard-needs {
			return
		}
		made = true
		g.mu.Unlock()
		b.reap(s.conn.Now(), b.hard-needs)
	}
}

// round is a Broadcast under way: the forms in which its payload travels, and who has to be visited.
type round struct {
	forms []form
	stops []stop
	used  int       // of stops; the rest keeps its memory for another round
	clock Transport // of a member
}

// form is the payload as sessions with one framing get it.
type form struct {
	framing *Framing
	wire    *pool.Buffer // nil if the framer refuses the payload
	charges []*shared    // for it, one for each budget
}

// charge returns the charge for the form in that budget, nil for nil.
func (f *form) charge(b *Budget) *shared {
	if b == nil {
		return nil
	}
	for _, h := range f.charges {
		if h.budget == b {
			return h
		}
	}
	h := b.share(f.wire)
	f.charges = append(f.charges, h)
	return h
}

// stop is the sessions of one loop.
type stop struct {
	loop  *Loop
	conns []Transport
}

var rounds = sync.Pool{New: func() any { return new(round) }}

// missing returns a framing among those for which there is no form yet.
func (r *round) missing(wires []wireCount) (f *Framing, missing bool) {
next:
	for _, w := range wires {
		for i := range r.forms {
			if r.forms[i].framing == w.framing {
				continue next
			}
		}
		return w.framing, true
	}
	return nil, false
}

// frame makes the form for a framing, nil for plain bytes.
func (r *round) frame(f *Framing, payload []byte) {
	wire := pool.GetSize(len(payload) + f.header())
	if n := len(r.forms); n < cap(r.forms) { // the memory for charges is used again
		r.forms = r.forms[:n+1]
	} else {
		r.forms = append(r.forms, form{})
	}
	made := &r.forms[len(r.forms)-1]
	made.framing, made.wire = f, wire // before the framer is called: if that panics, end releases it
	if f == nil {
		wire.B = append(wire.B, payload...)
		return
	}
	b, err := f.framer.Append(wire.B, payload)
	if err != nil {
		made.wire = nil
		wire.Release()
		return
	}
	wire.B = b
}

// form returns the form for a framing, nil if there is none.
func (r *round) form(f *Framing) *form {
	for i := range r.forms {
		if r.forms[i].framing == f {
			return &r.forms[i]
		}
	}
	return nil
}

// needs returns the memory of all forms.
func (r *round) needs() (sum int64) {
	for i := range r.forms {
		if wire := r.forms[i].wire; wire != nil {
			sum += int64(wire.Memory() + bufferMemory)
		}
	}
	return sum
}

// add takes a session that was claimed. There are few loops, so they are looked through.
func (r *round) add(s *Session) {
	for i := range r.stops[:r.used] {
		if stop := &r.stops[i]; stop.loop == s.loop {
			stop.conns = append(stop.conns, s.conn)
			return
		}
	}
	if r.used == len(r.stops) {
		r.stops = append(r.stops, stop{})
	}
	stop := &r.stops[r.used]
	r.used++
	stop.loop = s.loop
	stop.conns = append(stop.conns, s.conn)
}

// end has each loop visit its sessions, enforces budgets, and gives back what the round was lent.
//
// The sessions were claimed one by one, each after its bytes were queued, and are handed over together: nobody else asks
// for a claimed session, and the loop clears the claim before it looks (I4). So each is in one round or mailbox at most,
// and each loop is woken at most once.
func (r *round) end() {
	for i := range r.stops[:r.used] {
		stop := &r.stops[i]
		stop.conns[0].WakeAll(stop.conns)
		clear(stop.conns)
		stop.loop, stop.conns = nil, stop.conns[:0]
	}
	for i := range r.forms {
		f := &r.forms[i]
		for _, h := range f.charges {
			if b := h.budget; b.held.Load() > b.slow {
				b.reap(r.clock.Now(), b.slow)
			}
			h.release()
		}
		clear(f.charges)
		if f.wire != nil {
			f.wire.Release()
		}
		*f = form{charges: f.charges[:0]}
	}
	r.forms, r.used, r.clock = r.forms[:0], 0, nil
	rounds.Put(r)
}
