package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/servercore-go/servercore/internal/steady"
	"github.com/servercore-go/servercore/session"
)

// N3: a claim ends the session that has held the key, on another node too, before it returns. Send finds the holder from every node.
func TestClaimReplacesElsewhere(t *testing.T) {
	nodes := three(t)
	users := [3]*user{nodes[0].connect(), nodes[1].connect(), nodes[2].connect()}
	for i, n := range nodes {
		must(t, n.Claim(ctx(t), "alice", users[i]))
		for j := range i {
			if users[j].Err() == nil {
				t.Errorf("Claim %d has returned, and session %d lives", i, j)
			}
		}
		for from, other := range nodes {
			must(t, other.Send(ctx(t), "alice", fmt.Appendf(nil, "from %d\n", from)))
		}
	}
	for i, u := range users {
		if i < 2 {
			await(t, u.ended, "it has ended")
			want(t, "the reason", u.Err(), ErrReplaced)
		}
		if got := u.end(t); got != "from 0\nfrom 1\nfrom 2\n" {
			t.Errorf("session %d got %q", i, got)
		}
	}
	for _, n := range nodes {
		eventually(t, "the key is free", func() bool { return n.Holder("alice") == 0 })
		want(t, "Send", n.Send(ctx(t), "alice", nil), ErrNoHolder)
	}
}

// N3: whatever the nodes claim at once, one session is left, and its Claim is the one that has returned nil.
func TestClaimsAtOnce(t *testing.T) {
	nodes := three(t)
	for round := range 20 {
		key := fmt.Sprint("key", round)
		var users []*user
		var won atomic.Int32
		var claiming sync.WaitGroup
		for i := range 6 {
			n := nodes[i%3]
			u := n.connect()
			users = append(users, u)
			claiming.Go(func() {
				err := n.Claim(ctx(t), key, u)
				if err == nil {
					won.Add(1)
				} else if !errors.Is(err, ErrReplaced) && !errors.Is(err, session.ErrClosed) {
					t.Error(err)
				}
			})
		}
		claiming.Wait()
		alive := 0
		for _, u := range users {
			if u.Err() == nil {
				alive++
			}
		}
		if alive != 1 || won.Load() < 1 {
			t.Fatalf("round %d: %d sessions are left, %d claims were granted", round, alive, won.Load())
		}
	}
}

// Release, and a claim that is given up, leave the key free and the session alone.
func TestClaimTakenBack(t *testing.T) {
	t.Parallel() // it mostly waits
	nodes := three(t)
	u := nodes[0].connect()
	must(t, nodes[0].Claim(ctx(t), "k", u))
	nodes[0].Release("k", u)
	nodes[0].Release("k", u)
	eventually(t, "the key is free", func() bool { return nodes[1].Holder("k") == 0 })
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	want(t, "Claim", nodes[0].Claim(canceled, "k", u), context.Canceled)
	nodes[2].crash() // it acknowledges nothing, and is not known to be down
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	want(t, "Claim", nodes[0].Claim(short, "k", u), context.DeadlineExceeded)
	if u.Err() != nil || nodes[0].Holder("k") != 0 {
		t.Errorf("Err %v, holder %v", u.Err(), nodes[0].Holder("k"))
	}
	must(t, nodes[0].Claim(ctx(t), "k", u)) // once it is known
}

// N3: a node that dies frees its claims, and is gone from rooms, soon after FailAfter. One that is closed does at once.
func TestNodeDies(t *testing.T) {
	t.Parallel() // it mostly waits
	steady.Run(t, func(t testing.TB) {
		nodes := three(t)
		for i, n := range nodes[1:] {
			u := n.connect()
			must(t, n.Claim(ctx(t), fmt.Sprint("key", i), u))
			must(t, n.Room("r").JoinWith(u, []byte("value")))
		}
		a := nodes[0]
		eventually(t, "both are there", func() bool { m, _ := a.Room("r").Members(ctx(t)); return len(m) == 2 })
		if err := a.Send(ctx(t), "key0", []byte("x\n")); err != nil {
			t.Error(err)
		}
		must(t, nodes[1].Close())
		eventually(t, "the node that was closed is gone", func() bool { m, _ := a.Room("r").Members(ctx(t)); return len(m) == 1 })
		want(t, "Send", a.Send(ctx(t), "key0", nil), ErrNoHolder)
		died := time.Now()
		nodes[2].crash()
		err := a.Send(ctx(t), "key1", nil)
		if !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrNoHolder) {
			t.Errorf("Send to the dead: %v", err)
		}
		u := a.connect()
		eventually(t, "the dead node is known to be down", func() bool { return len(a.Nodes()) == 1 })
		must(t, a.Claim(ctx(t), "key1", u))
		if took := time.Since(died); took > 3*failAfter {
			t.Errorf("its key is free after %v", took)
		}
		m, err := a.Room("r").Members(ctx(t))
		if len(m) != 0 || err != nil {
			t.Errorf("ghosts: %v, %v", m, err)
		}
	})
}

// A node that is closed says so: nobody has to wait until it is taken for down.
func TestCloseIsTold(t *testing.T) {
	s := natsServer(t, server.Options{})
	const long = 20 * time.Second
	a, b := open(t, Options{URL: s.ClientURL(), FailAfter: long}), open(t, Options{URL: s.ClientURL(), FailAfter: long})
	know(t, a, b)
	began := time.Now()
	must(t, b.Close())
	eventually(t, "it is gone", func() bool { return len(a.Nodes()) == 1 })
	if took := time.Since(began); took > long/2 {
		t.Errorf("it was there for another %v", took)
	}
}

// N2, with NATS outside: without the bus what is local goes on and the rest fails at once; when it is back, all is right again.
func TestN2BusGone(t *testing.T) {
	t.Parallel() // it mostly waits
	s := natsServer(t, server.Options{})
	p := newProxy(t, s.Addr().String())
	a, b := open(t, Options{URL: "nats://" + p.address()}), open(t, Options{URL: s.ClientURL()})
	know(t, a, b)
	u, v, w := a.connect(), a.connect(), b.connect()
	for n, h := range map[*user]*node{u: a, v: a, w: b} {
		h.Room("r").Join(n)
	}
	must(t, a.Claim(ctx(t), "u", u))
	must(t, b.Claim(ctx(t), "w", w))
	eventually(t, "all is known", func() bool { k, _ := a.Room("r").Len(ctx(t)); return k == 3 && a.Holder("w") == b.ID() })
	p.cut()
	eventually(t, "the bus is gone", func() bool { return !a.Available() })
	want(t, "Broadcast", a.Room("r").Broadcast([]byte("local\n")), ErrUnavailable)
	if u.line(t) != "local" || v.line(t) != "local" {
		t.Error("members here did not get it")
	}
	must(t, a.Send(ctx(t), "u", []byte("here\n")))
	want(t, "Send", a.Send(ctx(t), "w", nil), ErrUnavailable)
	want(t, "Send to nobody that is known", a.Send(ctx(t), "x", nil), ErrUnavailable)
	want(t, "Claim", a.Claim(ctx(t), "new", v), ErrUnavailable)
	_, err := a.Room("r").Len(ctx(t))
	want(t, "Len", err, ErrUnavailable)
	_, err = a.Room("r").Members(ctx(t))
	want(t, "Members", err, ErrUnavailable)
	x := a.connect()
	a.Room("r").Join(x) // the others learn of it when the bus is back
	v.end(t)
	eventually(t, "b takes a for down", func() bool { return len(b.Nodes()) == 1 })
	healed := time.Now()
	p.heal(p.to)
	eventually(t, "rooms are right", func() bool {
		k, err := a.Room("r").Len(ctx(t))
		l, _ := b.Room("r").Len(ctx(t))
		return err == nil && k == 3 && l == 3 && b.Holder("u") == a.ID() && a.Holder("w") == b.ID()
	})
	must(t, b.Room("r").Broadcast([]byte("all\n")))
	for _, want := range []string{"here", "all", "you"} {
		if want == "you" {
			must(t, b.Send(ctx(t), "u", []byte("you\n")))
		}
		if got := u.line(t); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if x.line(t) != "all" || w.line(t) != "all" {
		t.Error("members did not get it")
	}
	if took := time.Since(healed); took > 5*time.Second {
		t.Errorf("right again after %v", took)
	}
}

// splitBus is two NATS servers whose connection can be cut. What they tell each other about themselves leads through the proxy, or nowhere.
func splitBus(t *testing.T) (left, right *server.Server, between *proxy) {
	between = newProxy(t, "")
	cluster := server.ClusterOpts{Name: "x", Host: "127.0.0.1", Port: server.RANDOM_PORT, Advertise: between.address()}
	left = natsServer(t, server.Options{Cluster: cluster})
	between.heal(left.ClusterAddr().String())
	cluster.Advertise = "127.0.0.1:1"
	right = natsServer(t, server.Options{Cluster: cluster, Routes: []*url.URL{{Scheme: "nats-route", Host: between.address()}}})
	eventually(t, "the servers are connected", func() bool { return right.NumRoutes() > 0 && left.NumRoutes() > 0 })
	return left, right, between
}

// N3: both sides of a split may have a holder. Within 5 s after it has healed one is left, the later, and everybody names it.
func TestN3SplitAndHeal(t *testing.T) {
	t.Parallel() // it mostly waits
	left, right, between := splitBus(t)
	a, b, c := open(t, Options{URL: left.ClientURL()}), open(t, Options{URL: left.ClientURL()}), open(t, Options{URL: right.ClientURL()})
	know(t, a, b, c)
	first := a.connect()
	must(t, a.Claim(ctx(t), "k", first))
	between.cut()
	eventually(t, "c is alone", func() bool { return len(c.Nodes()) == 1 && len(a.Nodes()) == 2 })
	onLeft, onRight := b.connect(), c.connect()
	must(t, b.Claim(ctx(t), "k", onLeft))
	await(t, first.ended, "the first holder has ended")
	must(t, c.Claim(ctx(t), "k", onRight))
	if onLeft.Err() != nil || onRight.Err() != nil {
		t.Fatalf("%v, %v", onLeft.Err(), onRight.Err())
	}
	healed := time.Now()
	between.heal(between.to)
	await(t, onLeft.ended, "the earlier one has ended")
	want(t, "the reason", onLeft.Err(), ErrReplaced)
	for _, n := range []*node{a, b, c} {
		eventually(t, "everybody names the later one", func() bool { return n.Holder("k") == c.ID() })
		must(t, n.Send(ctx(t), "k", []byte("you\n")))
	}
	if took := time.Since(healed); took > 5*time.Second {
		t.Errorf("right again after %v", took)
	}
	if got := onRight.end(t); got != "you\nyou\nyou\n" {
		t.Errorf("%q", got)
	}
}

// A Send that comes while the claim is not granted waits for that.
func TestSendWaitsForTheClaim(t *testing.T) {
	t.Parallel() // it mostly waits
	nodes := three(t)
	nodes[2].crash() // so that a claim takes as long as that is not known
	u := nodes[0].connect()
	claimed := make(chan error, 1)
	go func() { claimed <- nodes[0].Claim(ctx(t), "k", u) }()
	eventually(t, "the claim is known", func() bool { return nodes[1].Holder("k") == nodes[0].ID() })
	for i, text := range []string{"first\n", "second\n"} {
		must(t, nodes[1-i].Send(ctx(t), "k", []byte(text)))
		nodes[0].mu.Lock()
		if _, granted := nodes[0].machine.Own("k"); !granted {
			t.Errorf("%q was taken before the claim was granted", text)
		}
		nodes[0].mu.Unlock()
	}
	must(t, await(t, claimed, "the claim is granted"))
	if got := u.end(t); got != "first\nsecond\n" {
		t.Errorf("%q", got)
	}
}

// A session whose client reads nothing refuses what does not fit in its queue, and the sender on another node is told so. What was accepted
// arrives, once and in order.
func TestSendToAFullSession(t *testing.T) {
	nodes := three(t)
	u := nodes[1].connect()
	must(t, nodes[1].Claim(ctx(t), "k", u))
	eventually(t, "it is known", func() bool { return nodes[0].Holder("k") == nodes[1].ID() })
	text := strings.Repeat("x", 64<<10)
	var err error
	accepted := 0
	for ; err == nil && accepted < 1000; accepted++ { // 64 MiB: more than any socket holds
		err = nodes[0].Send(ctx(t), "k", fmt.Appendf(nil, "%d %s\n", accepted, text))
	}
	accepted--
	want(t, "Send", err, session.ErrSendLimit)
	for i := range accepted {
		if got := u.line(t); got != fmt.Sprint(i, " ", text) {
			t.Fatalf("message %d is %.20q", i, got)
		}
	}
	must(t, nodes[0].Send(ctx(t), "k", []byte("there is room again\n")))
	if got := u.line(t); got != "there is room again" {
		t.Errorf("%.20q", got)
	}
}

// Close ends what waits, and all that comes later fails.
func TestClose(t *testing.T) {
	nodes := three(t)
	u := nodes[0].connect()
	nodes[2].crash()
	claimed := make(chan error, 1)
	go func() { claimed <- nodes[0].Claim(ctx(t), "k", u) }()
	eventually(t, "the claim is entered", func() bool { return nodes[0].Holder("k") != 0 })
	must(t, nodes[0].Close())
	want(t, "Claim", await(t, claimed, "Claim returns"), ErrClosed)
	want(t, "Close", nodes[0].Close(), ErrClosed)
	if err := nodes[0].Room("r").JoinWith(u, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("JoinWith: %v", err)
	}
	if u.Err() != nil {
		t.Errorf("the session has ended: %v", u.Err())
	}
	_, length := nodes[0].Room("r").Len(ctx(t))
	_, members := nodes[0].Room("r").Members(ctx(t))
	for what, err := range map[string]error{
		"Claim": nodes[0].Claim(ctx(t), "k", u), "Send": nodes[0].Send(ctx(t), "k", nil), "Broadcast": nodes[0].Room("r").Broadcast(nil),
		"Len": length, "Members": members, "Watch": nodes[0].Room("r").Watch(ctx(t), nil), "Drain": nodes[0].Drain(ctx(t), nil),
	} {
		want(t, what, err, ErrClosed)
	}
	if addr := nodes[0].RouteAddr(); addr != nil {
		t.Errorf("RouteAddr: %v", addr)
	}
}

// Close of the node that a Send waits on.
func TestCloseWhileSendWaits(t *testing.T) {
	nodes := three(t)
	nodes[2].crash() // nothing is granted until that is known
	go func() { _ = nodes[1].Claim(context.Background(), "k", nodes[1].connect()) }()
	eventually(t, "the claim is known", func() bool { return nodes[0].Holder("k") == nodes[1].ID() })
	sent := make(chan error, 1)
	go func() { sent <- nodes[0].Send(ctx(t), "k", []byte("?\n")) }()
	eventually(t, "it waits", func() bool {
		nodes[1].mu.Lock()
		defer nodes[1].mu.Unlock()
		return nodes[1].waiting > 0
	})
	must(t, nodes[0].Close())
	want(t, "Send", await(t, sent, "Send returns"), ErrClosed)
}

// Release takes a claim back that waits. Its Claim says so, and not that the session has ended.
func TestReleaseOfAWaitingClaim(t *testing.T) {
	nodes := three(t)
	nodes[2].crash()
	u := nodes[0].connect()
	claimed := make(chan error, 1)
	go func() { claimed <- nodes[0].Claim(ctx(t), "k", u) }()
	eventually(t, "the claim is entered", func() bool { return nodes[0].Holder("k") != 0 })
	nodes[0].Release("k", u)
	if err := await(t, claimed, "Claim returns"); err != errReleased || u.Err() != nil {
		t.Errorf("Claim: %v; the session: %v", err, u.Err())
	}
}

// A Send whose ctx ends while the claim is not granted, here and from elsewhere: it is ErrUnavailable and ctx's error.
func TestSendGivesUpOnTheClaim(t *testing.T) {
	nodes := three(t)
	nodes[2].crash()
	go func() { _ = nodes[0].Claim(context.Background(), "k", nodes[0].connect()) }()
	for _, n := range nodes[:2] {
		eventually(t, "the claim is known", func() bool { return n.Holder("k") == nodes[0].ID() })
		short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		err := n.Send(short, "k", []byte("?\n"))
		want(t, "Send", err, ErrUnavailable)
		want(t, "Send", err, context.DeadlineExceeded)
		want(t, "Send when ctx has ended", n.Send(short, "k", nil), context.DeadlineExceeded)
		cancel()
	}
}

// NATS waits for a write that is stuck; a Send does not.
func TestSendBesideAStuckWrite(t *testing.T) {
	s := natsServer(t, server.Options{})
	p := newProxy(t, s.Addr().String())
	const failAfter = 2 * patience // a write is given up after half of it
	a, b := open(t, Options{URL: "nats://" + p.address(), FailAfter: failAfter}), open(t, Options{URL: s.ClientURL(), FailAfter: failAfter})
	know(t, a, b)
	must(t, b.Claim(ctx(t), "k", b.connect()))
	eventually(t, "the claim is known", func() bool { return a.Holder("k") == b.ID() })
	u := a.connect()
	p.stall()
	stuck := func() bool { // the writer has its batch, and writes nothing of it
		before := a.Stats().Published
		time.Sleep(50 * time.Millisecond)
		return a.Stats().Published == before && before < 200
	}
	for range 200 {
		_ = a.Room("r").Broadcast(make([]byte, 64<<10), u)
	}
	eventually(t, "a write is stuck", stuck)
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	returned := make(chan error, 1)
	go func() { returned <- a.Send(short, "k", []byte("?\n")) }()
	select {
	case err := <-returned:
		want(t, "Send", err, context.DeadlineExceeded)
	case <-time.After(patience / 2): // far less than the write takes
		t.Error("Send waits for the write")
	}
	p.cut()
}

// What waits for claims is bounded in bytes, wherever it comes from, and so is what waits to be looked at.
func TestWaitingSendsAreBounded(t *testing.T) {
	s := natsServer(t, server.Options{})
	o := Options{URL: s.ClientURL(), QueueLimit: 1 << 20, FailAfter: 2 * patience} // the claim is not granted
	a, b, c := open(t, o), open(t, o), open(t, o)
	know(t, a, b, c)
	c.crash()
	go func() { _ = b.Claim(context.Background(), "k", b.connect()) }()
	eventually(t, "the claim is known", func() bool { return a.Holder("k") == b.ID() })
	waiting, cancel := context.WithCancel(context.Background())
	p := make([]byte, 256<<10)
	refused := make(chan error, 10)
	var sending sync.WaitGroup
	for range cap(refused) {
		sending.Go(func() { refused <- b.Send(waiting, "k", p) })
	}
	for range cap(refused) - 3 { // so many may wait
		want(t, "Send", await(t, refused, "the others are refused"), errWaiting)
	}
	err := a.Send(ctx(t), "k", p)
	want(t, "Send of another node", err, errWaiting)
	want(t, "Send of another node", err, ErrUnavailable)
	b.mu.Lock()
	if b.waiting > o.QueueLimit || b.waiting < 3*len(p) {
		t.Errorf("%d bytes wait", b.waiting)
	}
	b.mu.Unlock()
	cancel()
	sending.Wait()
	eventually(t, "nobody waits", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.waiting == 0
	})

	b.mu.Lock() // as while a large log is applied
	defer b.mu.Unlock()
	request := append([]byte{1, 'k'}, p...)
	for range 100 {
		if err := a.bus.Publish(a.prefix+".s."+b.ID().String(), request); err != nil {
			t.Error(err)
		}
	}
	eventually(t, "the rest is dropped", func() bool {
		n, err := b.asked.Dropped()
		return err == nil && n > 90
	})
	if _, bytes, err := b.asked.Pending(); err != nil || bytes > o.QueueLimit {
		t.Errorf("%d bytes wait, %v", bytes, err)
	}
}
