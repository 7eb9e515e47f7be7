package cluster

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/servercore-go/servercore/session"
)

// Zero options: everything works on one node, and nothing listens.
func TestAlone(t *testing.T) {
	n := open(t, Options{})
	if a := n.RouteAddr(); a != nil {
		t.Errorf("it listens on %v", a)
	}
	if a := n.server.Addr(); a != nil {
		t.Errorf("it listens on %v", a)
	}
	u, v := n.connect(), n.connect()
	room := n.Room("lobby")
	room.Join(u)
	room.Join(v)
	room.Join(v)
	must(t, room.Broadcast([]byte("hello\n"), v))
	must(t, n.Claim(ctx(t), "alice", u))
	must(t, n.Claim(ctx(t), "alice", u)) // it has it
	must(t, n.Send(ctx(t), "alice", []byte("to you\n")))
	want(t, "Send to nobody", n.Send(ctx(t), "bob", nil), ErrNoHolder)
	if got := u.line(t) + u.line(t); got != "helloto you" {
		t.Errorf("%q", got)
	}
	if count, err := room.Len(ctx(t)); count != 2 || err != nil {
		t.Errorf("Len is %d, %v", count, err)
	}
	must(t, n.Claim(ctx(t), "alice", v))
	await(t, u.ended, "the first holder has ended")
	want(t, "the first holder", u.Err(), ErrReplaced)
	must(t, n.Send(ctx(t), "alice", []byte("to her\n")))
	if rest := v.end(t); rest != "to her\n" {
		t.Errorf("%q", rest)
	}
	want(t, "Send to one that has ended", n.Send(ctx(t), "alice", nil), ErrNoHolder)
	if count, err := room.Len(ctx(t)); count != 0 || err != nil {
		t.Errorf("Len is %d, %v", count, err)
	}
}

// N1: a Broadcast reaches each member on all nodes once, in order of its sender, and comes to each other node once, whatever the members.
func TestN1OnceAndInOrder(t *testing.T) {
	nodes := three(t)
	const members, messages = 4, 300
	var users [3][]*user
	for i, n := range nodes {
		for range members {
			u := n.connect()
			n.Room("r").Join(u)
			users[i] = append(users[i], u)
		}
	}
	for _, n := range nodes {
		eventually(t, "all members are known", func() bool { k, err := n.Room("r").Len(ctx(t)); return err == nil && k == 3*members })
	}
	before := [3]uint64{}
	for i, n := range nodes {
		before[i] = n.Stats().Received
	}
	var sending sync.WaitGroup
	for i, n := range nodes {
		sending.Go(func() {
			for k := range messages {
				if err := n.Room("r").Broadcast(fmt.Appendf(nil, "%d %d\n", i, k)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var reading sync.WaitGroup
	for _, u := range append(append(users[0], users[1]...), users[2]...) {
		reading.Go(func() {
			next := [3]int{}
			for range 3 * messages {
				var from, k int
				s, err := u.lines.ReadString('\n')
				if _, scan := fmt.Sscanf(s, "%d %d\n", &from, &k); err != nil || scan != nil || k != next[from] {
					t.Errorf("%q, %v, want number %v", s, err, next)
					return
				}
				next[from]++
			}
		})
	}
	sending.Wait()
	reading.Wait()
	for i, n := range nodes {
		if s := n.Stats(); s.Received-before[i] != 2*messages || s.Missed+s.Repeated+s.Dropped+s.Overflowed != 0 {
			t.Errorf("node %d: %d messages came for %d: %+v", i, s.Received-before[i], 2*messages, s)
		}
	}
	for _, u := range append(append(users[0], users[1]...), users[2]...) {
		if rest := u.end(t); rest != "" {
			t.Errorf("it got %q besides", rest)
		}
	}
	for _, n := range nodes {
		eventually(t, "all have left by themselves", func() bool { k, err := n.Room("r").Len(ctx(t)); return err == nil && k == 0 })
	}
}

// A node is subscribed to a room while it has members there, and not longer.
func TestSubscribedWhileThereAreMembers(t *testing.T) {
	s := natsServer(t, server.Options{})
	a, b := open(t, Options{URL: s.ClientURL()}), open(t, Options{URL: s.ClientURL()})
	know(t, a, b)
	base := s.NumSubscriptions()
	u, v := a.connect(), a.connect()
	room := a.Room("r")
	for _, h := range []session.Handler{u, v} {
		room.Join(h)
	}
	eventually(t, "one subscription for two members", func() bool { return s.NumSubscriptions() == base+1 })
	other := b.Room("r") // held: another Room would number its messages anew
	must(t, other.Broadcast([]byte("first\n")))
	if got := u.line(t); got != "first" {
		t.Errorf("%q", got)
	}
	room.Leave(u)
	room.Leave(u)
	v.end(t)
	eventually(t, "none", func() bool { return s.NumSubscriptions() == base })
	if err := other.Broadcast([]byte("nobody is there\n")); err != nil {
		t.Error(err)
	}
	eventually(t, "it was sent", func() bool { return b.Stats().Published == 2 })
	must(t, b.bus.Flush())
	room.Join(u)
	eventually(t, "u is known", func() bool { k, _ := other.Len(ctx(t)); return k == 1 })
	must(t, other.Broadcast([]byte("again\n")))
	if got := u.line(t); got != "again" {
		t.Errorf("%q", got)
	}
	if s := a.Stats(); s.Missed != 0 {
		t.Errorf("%d missed; it was not there", s.Missed)
	}
}

// What was had is dropped, and what is missing is counted.
func TestRepeatsAndGaps(t *testing.T) {
	n := open(t, Options{})
	u := n.connect()
	r := n.Room("r")
	r.Join(u)
	eventually(t, "it is subscribed", func() bool { _, ok := n.subscribed.Load(r.subject); return ok })
	for _, at := range []position{{1, 5}, {1, 5}, {1, 4}, {1, 6}, {1, 9}, {2, 1}, {1, 10}, {2, 2}} {
		r.receive(&nats.Msg{Data: append(appendHeader(nil, 7, at), fmt.Sprintf("%d/%d\n", at.epoch, at.number)...)})
	}
	for _, bad := range [][]byte{nil, {1}, {2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1}, append(make([]byte, 9), 0xff)} {
		r.receive(&nats.Msg{Data: bad})
	}
	if got, want := u.end(t), "1/5\n1/6\n1/9\n2/1\n2/2\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if s := n.Stats(); s.Repeated != 3 || s.Missed != 2 || s.Malformed != 4 {
		t.Errorf("%+v", s)
	}
}

// A message of the former subscription can come after a room was subscribed to again. What was said while nobody was there is not missed;
// what is lacking in one subscription is.
func TestSubscribedAgain(t *testing.T) {
	n := open(t, Options{})
	u := n.connect()
	r := n.Room("r")
	r.Join(u)
	eventually(t, "it is subscribed", func() bool { _, ok := n.subscribed.Load(r.subject); return ok })
	former, later := new(nats.Subscription), new(nats.Subscription)
	for _, m := range []struct {
		by     *nats.Subscription
		number uint64
	}{{former, 1}, {former, 3}, {later, 3}, {later, 7}, {later, 7}, {later, 9}} {
		r.receive(&nats.Msg{Sub: m.by, Data: append(appendHeader(nil, 7, position{1, m.number}), '\n')})
	}
	if s := n.Stats(); s.Missed != 2 || s.Repeated != 2 || s.Received != 4 {
		t.Errorf("%+v, want 2 missed, 2 repeated, 4 received", s)
	}
}

// Any name is a room's. Different names are different rooms, and the same name is the same room.
func TestRoomNames(t *testing.T) {
	n := open(t, Options{})
	seen := make(map[string]string)
	for _, name := range []string{"", "a", "a.b", "*", ">", "ä ö", strings.Repeat("x", 47), strings.Repeat("x", 48), strings.Repeat("x", 5000), "\x00"} {
		r := n.Room(name)
		if r != n.Room(name) || r.Name() != name {
			t.Errorf("%.10q: another room", name)
		}
		if other, twice := seen[r.subject]; twice || len(r.subject) > 100 || strings.ContainsAny(r.subject, "*> \x00") || strings.Contains(r.subject, "..") {
			t.Errorf("%.10q has subject %q, as %.10q", name, r.subject, other)
		}
		seen[r.subject] = name
	}
}

// A name may be longer than a message of the bus, and the bus may take little in one: all nodes know who is in the rooms all the same.
func TestLongNamesAndSmallMessages(t *testing.T) {
	s := natsServer(t, server.Options{MaxPayload: minPayload})
	a, b := open(t, Options{URL: s.ClientURL()}), open(t, Options{URL: s.ClientURL()})
	know(t, a, b)
	u, v := a.connect(), b.connect()
	long := strings.Repeat("x", 2<<20)
	value := make([]byte, MaxValue)
	for i := range 300 { // far more than one message
		must(t, a.Room(fmt.Sprint(i, long[:longName-4])).JoinWith(u, value))
	}
	a.Room("left" + long).Join(u)
	a.Room("left" + long).Leave(u)
	must(t, a.Room(long).JoinWith(u, value))
	b.Room(long).Join(v)
	b.Room(long + "x").Join(v) // another one
	must(t, a.Claim(ctx(t), strings.Repeat("k", MaxKey), u))
	eventually(t, "all are known", func() bool { return b.Stats().KnownMembers == 303 && a.Stats().KnownMembers == 303 })
	if n, err := b.Room(long).Len(ctx(t)); n != 2 || err != nil {
		t.Errorf("the room has %d members, %v", n, err)
	}
	must(t, b.Room(long).Broadcast([]byte("heard\n"), v))
	if got := u.line(t); got != "heard" {
		t.Errorf("%.20q", got)
	}
	if n := a.Stats().Unsent + b.Stats().Unsent; n != 0 {
		t.Errorf("%d messages were not sent", n)
	}
	seen := make(map[string]string)
	for _, name := range []string{long, long + "x", long[:longName], long[:longName+1], identity(long), identity(identity(long))} {
		if other, twice := seen[identity(name)]; twice || len(identity(name)) > longName+32 {
			t.Errorf("%d bytes are as %d: %d", len(name), len(other), len(identity(name)))
		}
		seen[identity(name)] = name
	}
}

// What cannot be sent says so.
func TestTooLarge(t *testing.T) {
	nodes := three(t)
	u := nodes[0].connect()
	room := nodes[0].Room("r")
	want(t, "JoinWith", room.JoinWith(u, make([]byte, MaxValue+1)), ErrTooLarge)
	want(t, "Broadcast", room.Broadcast(make([]byte, 2<<20)), ErrTooLarge)
	want(t, "Claim", nodes[0].Claim(ctx(t), strings.Repeat("k", MaxKey+1), u), ErrTooLarge)
	must(t, nodes[0].Claim(ctx(t), "k", u))
	eventually(t, "the claim is known", func() bool { return nodes[1].Holder("k") == nodes[0].ID() })
	want(t, "Send", nodes[1].Send(ctx(t), "k", make([]byte, 2<<20)), ErrTooLarge)
	u.end(t)
	want(t, "JoinWith after the end", room.JoinWith(u, nil), session.ErrClosed)
	want(t, "Claim after the end", nodes[0].Claim(ctx(t), "k", u), session.ErrClosed)
}
