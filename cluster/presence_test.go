package cluster

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"

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
