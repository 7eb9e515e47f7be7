package cluster

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"
	"weak"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/servercore-go/servercore/session"
)

// Members are the same on all nodes, with their values. Watch tells of all steps, and of a node that dies.
func TestPresence(t *testing.T) {
	t.Parallel() // it mostly waits
	nodes := three(t)
	events := make(chan Event, 100)
	watching, stop := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	u := nodes[1].connect()
	must(t, nodes[1].Room("r").JoinWith(u, []byte("ann")))
	eventually(t, "she is known", func() bool { k, _ := nodes[0].Room("r").Len(ctx(t)); return k == 1 })
	go func() { stopped <- nodes[0].Room("r").Watch(watching, func(e Event) { events <- e }) }()
	ann := Member{nodes[1].ID(), u.ID(), "ann"}
	next := func(what string, want Event) {
		t.Helper()
		if got := await(t, events, what); got != want {
			t.Errorf("%s: %+v, want %+v", what, got, want)
		}
	}
	next("who is there", Event{ann, true})
	v := nodes[2].connect()
	bob := Member{nodes[2].ID(), v.ID(), "bob"}
	must(t, nodes[2].Room("r").JoinWith(v, []byte("bob")))
	next("who joins", Event{bob, true})
	ann.Value = "anna"
	must(t, nodes[1].Room("r").JoinWith(u, []byte("anna")))
	next("another value", Event{ann, true})
	for _, n := range nodes {
		eventually(t, "all know the same", func() bool {
			m, err := n.Room("r").Members(ctx(t))
			return err == nil && len(m) == 2 && (m[0] == ann && m[1] == bob || m[0] == bob && m[1] == ann)
		})
	}
	nodes[2].crash()
	next("who was on a node that died", Event{bob, false})
	u.end(t)
	next("who has left", Event{ann, false})
	stop()
	want(t, "Watch", await(t, stopped, "Watch returns"), context.Canceled)
	go func() { stopped <- nodes[0].Room("r").Watch(ctx(t), func(Event) {}) }()
	eventually(t, "it watches", func() bool {
		nodes[0].mu.Lock()
		defer nodes[0].mu.Unlock()
		return len(nodes[0].rooms["r"].watches) > 0
	})
	must(t, nodes[0].Close())
	want(t, "Watch", await(t, stopped, "Watch returns"), ErrClosed)
}

// A room that nobody uses is garbage; one with members is not, even if nothing refers to it.
func TestRoomsAreGarbage(t *testing.T) {
	n := open(t, Options{})
	u := n.connect()
	n.Room("kept").Join(u)
	for i := range 100 {
		r := n.Room(fmt.Sprint("room", i))
		r.Join(u)
		r.Leave(u)
	}
	eventually(t, "they are collected", func() bool {
		runtime.GC()
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.rooms) == 1
	})
	if n.Room("kept").Local().Len() != 1 {
		t.Error("the room with a member has been forgotten")
	}
	u.end(t)
}

// A closed cluster is garbage, whatever its rooms have, and also if that was just being looked at. A session that goes on refers to it.
func TestClosedClustersAreGarbage(t *testing.T) {
	users := open(t, Options{})
	for _, waits := range []bool{false, true} {
		closed := func() weak.Pointer[Cluster] {
			c, err := Open(Options{Logger: quiet})
			must(t, err)
			u := users.connect()
			c.Room("intercepted").Intercept(func([]byte, ...session.Handler) {})
			c.Room("joined").Join(u)
			for _, name := range []string{"intercepted", "joined"} {
				r := c.Room(name)
				eventually(t, "it is subscribed to", func() bool { return !waits || r.sub.Load() != nil })
			}
			must(t, c.Close())
			c.Room("intercepted").Intercept(func([]byte, ...session.Handler) {}) // nothing any more
			u.end(t)
			return weak.Make(c)
		}()
		eventually(t, "it is collected", func() bool {
			runtime.GC()
			return closed.Value() == nil
		})
	}
}

// The others do not take a node for up again that has ended while it had much to say.
func TestByeIsTheLastWord(t *testing.T) {
	s := natsServer(t, server.Options{})
	a := open(t, Options{URL: s.ClientURL(), FailAfter: patience})
	for range 3 {
		b := open(t, Options{URL: s.ClientURL(), FailAfter: patience})
		know(t, a, b)
		u := b.connect()
		const rooms = 3000
		for i := range rooms {
			b.Room(fmt.Sprint("room", i)).Join(u)
		}
		eventually(t, "all is known", func() bool { return a.Stats().KnownMembers == rooms })
		u.Disconnect()
		await(t, u.ended, "the session has ended")
		must(t, b.Close())
		eventually(t, "it is known to be gone", func() bool { return len(a.Nodes()) == 1 && a.Stats().KnownMembers == 0 })
		must(t, a.Claim(ctx(t), "k", a.connect())) // nothing is waited for
		if n := len(a.Nodes()); n != 1 {
			t.Fatalf("%d nodes are up", n)
		}
	}
}

// A session counts while it is in a room or holds a key, and Drain waits for such sessions only.
func TestDrainWaitsForThoseInRooms(t *testing.T) {
	nodes := three(t)
	n := nodes[0]
	u, v := n.connect(), n.connect()
	wantSessions := func(want int) {
		t.Helper()
		if got := n.Stats().Sessions; got != want {
			t.Errorf("%d sessions, want %d", got, want)
		}
	}
	r := n.Room("r")
	r.Join(u)
	r.Join(v)
	must(t, n.Claim(ctx(t), "k", u))
	wantSessions(2)
	r.Leave(u)
	wantSessions(2) // it has the key
	n.Release("k", u)
	n.Release("k", u)
	r.Leave(u)
	wantSessions(1)
	r.Join(u)
	wantSessions(2)
	r.Leave(u)
	nodes[2].crash() // a claim waits
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	want(t, "Claim", n.Claim(short, "k", u), context.DeadlineExceeded)
	wantSessions(1)
	told := make(chan session.Handler, 2)
	drained := make(chan error, 1)
	go func() { drained <- n.Drain(ctx(t), func(h session.Handler) { told <- h }) }()
	if h := await(t, told, "one is told"); h != v {
		t.Errorf("%v was told", h)
	}
	r.Leave(v)
	must(t, await(t, drained, "Drain returns"))
	wantSessions(0)
	if len(told) > 0 || u.Err() != nil || v.Err() != nil {
		t.Errorf("%d more were told; the sessions: %v, %v", len(told), u.Err(), v.Err())
	}
}

// Drain tells each session once, takes no claims, and ends when all have gone. A Send to a key that moves meanwhile is delivered once or
// fails.
func TestDrain(t *testing.T) {
	nodes := three(t)
	a, b, c := nodes[0], nodes[1], nodes[2]
	const keys = 20
	var moving sync.WaitGroup
	var mu sync.Mutex
	told := make(map[session.Handler]int)
	old := make(map[string]*user)
	for i := range keys {
		key := fmt.Sprint("key", i)
		old[key] = a.connect()
		must(t, a.Claim(ctx(t), key, old[key]))
	}
	eventually(t, "all is known", func() bool { return c.Stats().KnownClaims == keys })
	sent := make(map[string][]string) // what was accepted
	maybe := make(map[string]bool)    // what may have been
	var sending sync.WaitGroup
	stop := make(chan struct{})
	for key := range old {
		sending.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				text := fmt.Sprintf("%s-%d", key, i)
				err := c.Send(ctx(t), key, []byte(text+"\n"))
				mu.Lock()
				switch {
				case err == nil:
					sent[key] = append(sent[key], text)
				case !errors.Is(err, ErrNoHolder):
					maybe[text] = true
				}
				mu.Unlock()
			}
		})
	}
	renewed := make(map[string]*user)
	tell := func(h session.Handler) {
		mu.Lock()
		told[h]++
		mu.Unlock()
		for key, u := range old {
			if u != h {
				continue
			}
			next := b.connect()
			renewed[key] = next
			moving.Go(func() {
				if err := b.Claim(ctx(t), key, next); err != nil {
					t.Error(err)
				}
			})
		}
	}
	must(t, a.Drain(ctx(t), tell))
	if n := a.Stats().Sessions; n != 0 {
		t.Errorf("Drain has returned, and %d sessions are left", n)
	}
	moving.Wait()
	want(t, "Claim", a.Claim(ctx(t), "another", a.connect()), ErrDraining)
	if !c.Nodes()[a.ID()] {
		t.Error("the others do not see it drain")
	}
	close(stop)
	sending.Wait()
	for key, u := range old {
		if told[u] != 1 {
			t.Errorf("%s was told %d times", key, told[u])
		}
		want(t, key, u.Err(), ErrReplaced)
		got := make(map[string]int)
		for _, text := range splitLines(u.end(t) + renewed[key].end(t)) {
			got[text]++
		}
		for _, text := range sent[key] {
			if got[text] != 1 {
				t.Errorf("%s was accepted, and delivered %d times", text, got[text])
			}
			delete(got, text)
		}
		for text, n := range got {
			if n != 1 || !maybe[text] {
				t.Errorf("%s was delivered %d times, and its Send has failed", text, n)
			}
		}
	}
}
