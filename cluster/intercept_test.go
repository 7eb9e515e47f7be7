package cluster

import (
	"strings"
	"sync"
	"testing"

	"github.com/servercore-go/servercore/session"
)

// A function of Intercept gets each Broadcast, of this node and of others, once and in order, also without members here; what members get is
// its decision. Without it all is as before.
func TestIntercept(t *testing.T) {
	nodes := three(t)
	a, b := nodes[0], nodes[1]
	room, other := a.Room("r"), b.Room("r")
	var mu sync.Mutex
	var heard []string
	probed := false
	heardAll := func(want ...string) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return strings.Join(heard, "") == strings.Join(want, "")
		}
	}
	f := func(p []byte, except ...session.Handler) {
		mu.Lock()
		defer mu.Unlock()
		if string(p) == "are you there?" {
			probed = true
			return
		}
		heard = append(heard, string(p))
		if !strings.HasPrefix(string(p), "secret") {
			room.Local().Broadcast(p, except...)
		}
	}
	room.Intercept(f)
	room.Intercept(f) // once is enough
	eventually(t, "the node subscribes without a member", func() bool {
		must(t, other.Broadcast([]byte("are you there?")))
		mu.Lock()
		defer mu.Unlock()
		return probed
	})
	must(t, other.Broadcast([]byte("one\n")))
	eventually(t, "it hears the other node", heardAll("one\n"))

	u, v := a.connect(), a.connect()
	room.Join(u)
	room.Join(v)
	must(t, room.Broadcast([]byte("two\n"), v))
	must(t, room.Broadcast([]byte("secret\n")))
	eventually(t, "it hears its own node", heardAll("one\n", "two\n", "secret\n"))
	must(t, other.Broadcast([]byte("three\n")))
	if got := v.line(t); got != "three" {
		t.Errorf("the one that was excepted gets %q", got)
	}
	room.Intercept(nil)
	room.Intercept(nil)
	must(t, room.Broadcast([]byte("secret no more\n")))
	if got := v.end(t); got != "secret no more\n" {
		t.Errorf("v gets %q", got)
	}
	if got := u.end(t); got != "two\nthree\nsecret no more\n" {
		t.Errorf("u gets %q", got)
	}
	if !heardAll("one\n", "two\n", "secret\n", "three\n")() {
		t.Errorf("heard: %q", heard)
	}
	eventually(t, "the node does not subscribe any more", func() bool { return room.sub.Load() == nil })
	a.mu.Lock()
	defer a.mu.Unlock()
	if room.ref.uses != 0 || room.ref.strong != nil {
		t.Errorf("the room is kept: %d uses", room.ref.uses)
	}
}
