package session

import (
	"iter"
	"sync"
	"sync/atomic"
)

// A Group is a room: sessions that are sent the same things. The zero value is an empty group, ready for use; do not copy it after that.
// Sessions of any loop, listener and engine may be in one group, and one session in any number of groups. A group needs no end: one that nothing
// refers to any more, its members included, is garbage.
//
//	var lobby session.Group
//
//	func (p *player) OnConnected(net.Addr) { lobby.Join(p) }
//	func (p *player) OnRecv(data []byte)   { lobby.Broadcast(data, p) } // to everybody else
//
// All methods may be called from any goroutine and inside callbacks. None waits for a peer or for a callback, but they wait for one another: a
// Broadcast to 100,000 members takes some ten milliseconds.
//
// A method that takes a handler takes a [*Session] as well, such as the functions of [Events] get. Both mean the session.
//
// # Membership
//
// A session can join from its OnConnected on. It leaves all its groups by itself when its connection is closed. That is before its
// OnDisconnected, which can tell the others. Until then a session that is ending is a member, and is reached as long as Send accepts.
//
// # Order
//
// All members get the Broadcasts of a group in the same order, whichever goroutine makes them, on whatever loops the members live. A session
// that joins during a Broadcast gets it whole or not at all. What one goroutine sends, by Broadcast to any groups and by Send, arrives at each
// session in the order in which it was sent.
//
// # Cost
//
// A membership takes 40 bytes and the spare room of two slices, a group 96, and a session that has ever joined one 208. Joining and
// leaving take constant time. For a session that is in many groups, they take time that grows with the smaller of two numbers: those groups, and
// the members of this one.
type Group struct {
	// EndSlow ends a member whose queue is full, by a reset and with [ErrSendLimit] as the reason. Otherwise such a member misses that
	// Broadcast and stays, unless Options.SlowPeer ends it all the same. Set it before the group is used.
	EndSlow bool

	skipped atomic.Uint64
	mu      sync.Mutex // guards the group below; a session's mu may be taken under it, never the other way round (I9)
	members []member
	forms   []formCount // the forms that a payload needs on its way to them
}

// formCount is how many members share a framing, nil for plain bytes.
type formCount struct {
	framing *Framing
	members int
}

// member is a session as its group sees it.
type member struct {
	session    *Session
	membership *membership
}

// membership is the pair of a group and a session, in the lists of both or of neither (I9).
type membership struct {
	group        *Group
	groupIndex   int32 // in group.members, under group.mu
	sessionIndex int32 // in the session's memberships, under its mu
}

// Join makes h a member. It does nothing if h is a member, before h has a connection, and after its end. It panics if h is nil.
func (g *Group) Join(h Handler) {
	if h == nil {
		panic("session: Join of a nil handler")
	}
	s := h.session()
	g.mu.Lock()
	defer g.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.wakeup.isBound() || s.isClosed() || g.find(s) != nil {
		return
	}
	r := s.ensureRare()
	m := &membership{g, int32(len(g.members)), int32(len(r.memberships))}
	g.members = append(g.members, member{s, m})
	g.countForm(s.framed().shared(), 1)
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
	g.members[m.groupIndex], last.membership.groupIndex = last, m.groupIndex
	g.members = removeLast(g.members)

	g.countForm(s.framed().shared(), -1)

	r := s.rare.Load()
	moved := r.memberships[len(r.memberships)-1]
	r.memberships[m.sessionIndex], moved.sessionIndex = moved, m.sessionIndex
	r.memberships = removeLast(r.memberships)
}

// countForm adds n members with that framing. The caller holds mu.
func (g *Group) countForm(f *Framing, n int) {
	for i := range g.forms {
		c := &g.forms[i]
		if c.framing != f {
			continue
		}
		if c.members += n; c.members == 0 {
			*c = g.forms[len(g.forms)-1]
			g.forms = removeLast(g.forms)
		}
		return
	}
	g.forms = append(g.forms, formCount{f, n})
}

// find returns the membership of s, nil if there is none. The caller holds both locks. It searches the shorter list, and the session's
// from its end, where leaveGroups begins.
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

// removeLast removes the last element, and gives memory back when three quarters of it are spare.
func removeLast[T any](list []T) []T {
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

// Skipped returns how many messages members have missed because their queues were full: for each member, the number of Broadcasts. With EndSlow,
// each such message has ended a member.
func (g *Group) Skipped() uint64 { return g.skipped.Load() }

// All returns the members as they are when an iteration begins, in no order: their handlers, as the factory has made them. The body of the loop
// may do anything with them and with the group. It may meet sessions that have left or ended meanwhile.
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
