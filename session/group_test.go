package session_test

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

// roomOf connects n sessions of one loop and has them join g.
func roomOf(l *testkit.Loop, g *session.Group, n int) (handlers []*testkit.Handler, conns []*testkit.Conn) {
	for range n {
		h := &testkit.Handler{}
		conns = append(conns, l.Connect(h))
		handlers = append(handlers, h)
		g.Join(h)
	}
	return handlers, conns
}

func wantMembers(t testing.TB, g *session.Group, want ...session.Handler) {
	t.Helper()
	if n := g.Len(); n != len(want) {
		t.Errorf("Len is %d, want %d", n, len(want))
	}
	seen := 0
	for h := range g.All() {
		if seen++; !slices.Contains(want, h) {
			t.Errorf("All yields %v, which is no member", h)
		}
	}
	if seen != len(want) {
		t.Errorf("All yields %d members, want %d", seen, len(want))
	}
}

func TestJoinTwiceIsOnce(t *testing.T) {
	l := newLoop(t, session.Limits{})
	var g, other session.Group
	h, c := roomOf(l, &g, 2)
	other.Join(h[0])
	for range 3 {
		g.Join(h[0])
		g.Join(&h[0].Session) // the same session under another name
	}
	wantMembers(t, &g, h[0], h[1])
	wantReached(t, &g, 2, "once")
	g.Leave(&h[0].Session)
	wantMembers(t, &g, h[1])
	for range 2 {
		g.Leave(h[0]) // no member any more
		g.Leave(nil)
		other.Leave(h[1]) // never was
	}
	wantMembers(t, &g, h[1])
	wantMembers(t, &other, h[0])
	wantReached(t, &g, 1, "more")
	g.Join(h[0])
	wantMembers(t, &g, h[0], h[1])
	l.Run()
	wantWire(t, c[0], "once")
	wantWire(t, c[1], "oncemore")
}

func TestJoinOfNilPanics(t *testing.T) {
	var g session.Group
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
		wantMembers(t, &g)
	}()
	g.Join(nil)
}

// R4: there is no membership before the connection, nor after the end.
func TestOnlyLiveSessionsJoin(t *testing.T) {
	l := newLoop(t, session.Limits{})
	var g session.Group
	h := &testkit.Handler{}
	g.Join(h)
	g.Leave(h)
	wantMembers(t, &g)
	h.Connected = func(h *testkit.Handler) { g.Join(h) }
	h.Disconnected = func(h *testkit.Handler) { g.Join(h) }
	c := l.Connect(h)
	wantMembers(t, &g, h)
	c.PeerFIN()
	l.Run()
	g.Join(h)
	wantMembers(t, &g)
	wantReached(t, &g, 0, "nobody")
}

// R4: a session leaves all its groups when it ends, however it ends, before its OnDisconnected, which can tell the others.
func TestMembersLeaveAtTheirEnd(t *testing.T) {
	for name, end := range map[string]func(h *testkit.Handler, c *testkit.Conn){
		"FIN":        func(_ *testkit.Handler, c *testkit.Conn) { c.PeerFIN() },
		"reset":      func(_ *testkit.Handler, c *testkit.Conn) { c.PeerReset(errors.New("reset")) },
		"Abort":      func(h *testkit.Handler, _ *testkit.Conn) { h.Abort() },
		"Disconnect": func(h *testkit.Handler, c *testkit.Conn) { h.Disconnect(); c.PeerFIN() },
		"panic":      func(_ *testkit.Handler, c *testkit.Conn) { c.PeerWrite([]byte("panic")) },
		"Goexit":     func(_ *testkit.Handler, c *testkit.Conn) { c.PeerWrite([]byte("Goexit")) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLoop(t, session.Limits{})
			l.Isolate = true
			var groups [20]session.Group
			other := &testkit.Handler{}
			oc := l.Connect(other)
			h := &testkit.Handler{}
			h.Recv = func(_ *testkit.Handler, p []byte) {
				if string(p) == "panic" {
					panic("simulated")
				}
				runtime.Goexit()
			}
			h.Disconnected = func(h *testkit.Handler) {
				for i := range groups {
					wantMembers(t, &groups[i], other)
					wantReached(t, &groups[i], 1, "x")
				}
			}
			c := l.Connect(h)
			for i := range groups {
				groups[i].Join(h)
				groups[i].Join(other)
			}
			end(h, c)
			l.Run()
			if !c.Ended {
				t.Fatal("not ended")
			}
			wantWire(t, oc, strings.Repeat("x", len(groups)))
		})
	}
}

// An iteration may do to the group whatever it likes.
func TestAllIsASnapshot(t *testing.T) {
	l := newLoop(t, session.Limits{})
	var g session.Group
	h, c := roomOf(l, &g, 5)
	late := &testkit.Handler{}
	l.Connect(late)
	seen := 0
	for x := range g.All() {
		seen++
		g.Leave(x)
		g.Join(late)
		wantReached(t, &g, 1, "late", x, h[0], h[1], h[2], h[3], h[4])
		mustSend(t, x.(*testkit.Handler), "bye")
		for range g.All() {
			break
		}
	}
	if seen != 5 {
		t.Errorf("%d of 5 members", seen)
	}
	wantMembers(t, &g, late)
	l.Run()
	for _, x := range c {
		wantWire(t, x, "bye")
	}
}

// Sessions whose callbacks are functions are known by their *Session there.
func TestGroupOfEvents(t *testing.T) {
	l := newLoop(t, session.Limits{})
	var g session.Group
	factory := session.Events{
		OnConnected: func(s *session.Session, _ net.Addr) { g.Join(s) },
		OnRecv:      func(s *session.Session, p []byte) { wantReached(t, &g, 1, string(p), s) },
	}.Factory()
	a, b := factory(), factory()
	ca, cb := l.Connect(a), l.Connect(b)
	wantMembers(t, &g, a, b)
	ca.PeerWrite([]byte("hi"))
	l.Run()
	wantWire(t, ca, "")
	wantWire(t, cb, "hi")
	ca.PeerFIN()
	l.Run()
	wantMembers(t, &g, b)
}

// Whatever the shapes of groups and memberships: a session in many groups, many sessions in one.
func TestMembershipsAreFoundAndForgotten(t *testing.T) {
	for _, tt := range []struct{ sessions, groups int }{{1, 300}, {300, 1}, {40, 40}} {
		t.Run(fmt.Sprintf("%d sessions, %d groups", tt.sessions, tt.groups), func(t *testing.T) {
			l := newLoop(t, session.Limits{})
			groups := make([]session.Group, tt.groups)
			h, c := roomOf(l, &groups[0], tt.sessions)
			for i := range groups {
				for j := range h {
					groups[i].Join(h[(i+j)%len(h)])
				}
			}
			for i := range groups { // every third leaves
				for j := 0; j < len(h); j += 3 {
					groups[i].Leave(h[j])
				}
				if want := len(h) - (len(h)+2)/3; groups[i].Len() != want || groups[i].Broadcast(nil) != want {
					t.Fatalf("%d members, want %d", groups[i].Len(), want)
				}
			}
			for _, x := range c[1:] {
				x.PeerFIN()
			}
			l.Run()
			for i := range groups {
				wantMembers(t, &groups[i])
				groups[i].Join(h[0])
				wantMembers(t, &groups[i], h[0])
			}
		})
	}
}
