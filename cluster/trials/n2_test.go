//go:build linux

package trials

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"
)

const (
	atOnce   = 100 * time.Millisecond // what a call may take that fails at once
	mayGrow  = 32 << 20               // bytes, while the bus is gone
	perNode  = 30                     // keys, and members of a room, on each node
	longest  = 30 * time.Second       // that the bus is gone
	shortest = 4 * time.Second
)

// N2: while the bus is gone each node serves what is local, calls that need others fail at once, and nothing grows. When it is back
// everything is right again within 5 s: members who came and went meanwhile, sessions that ended and left their keys, claims, Broadcasts.
//
// It notices: a call that waits for the bus, a queue that keeps what cannot be sent, a Broadcast that local members do not get, a change of
// the log that the others never learn, a loss that nobody counts.
func TestN2BusGone(t *testing.T) {
	beside(t)
	for _, k := range []kind{routes, outside} {
		t.Run(string(k), func(t *testing.T) {
			beside(t)
			f := launch(t, "N2 bus gone", k, 3)
			c := f.chorus("a", 0, 1, 2)
			c.padding = " " + string(make([]byte, 1000))
			o := &outage{f: f, claims: spread{}}
			for i := range f.nodes {
				o.persons = append(o.persons, f.claimants("b", i*perNode, (i+1)*perNode, i)...)
			}
			for _, p := range o.persons {
				p.line().do("join", "%s", "b0")
			}
			c.start(10 * time.Millisecond)
			for turn := range scaled(20, 2) {
				gone := shortest
				if turn == 0 {
					gone = lasting(longest, shortest)
				}
				o.run(gone, turn)
			}
			c.stop()
			f.check("right again within 5 s", o.right.worst() <= 5*time.Second, "%v; gone for %v, then %v", o.right, lasting(longest, shortest), shortest)
			if k == outside {
				f.check("calls fail at once with ErrUnavailable", o.claims.worst() <= atOnce && o.others == 0 && len(o.claims) > 0,
					"%d Claims: %v; %d Claims and Sends with another outcome", len(o.claims), o.claims, o.others)
				refused := c.refused()
				f.check("Broadcasts are refused, and not kept", slices.Min(refused) > 0, "%v to the voices of the nodes", refused)
			}
			f.check("nothing grows", o.grown <= mayGrow, "%.1f MiB at most", float64(o.grown)/(1<<20))
			c.account("what was missed is counted", false)
			c.judgeLocal()
			f.judge()
		})
	}
}

// outage is the bus going and coming back.
type outage struct {
	f       *fleet
	persons []*person // the holder of key b0, b1, ..., each a member of room b0
	right   spread
	claims  spread // what Claims have taken while it was gone
	others  int    // outcomes other than ErrUnavailable
	grown   int
}

// run takes the bus away for a while, changes what there is meanwhile, gives it back, and measures how long it takes until all is right.
func (o *outage) run(gone time.Duration, turn int) {
	f := o.f
	f.t.Helper()
	before := o.memory()
	back := f.takeBus()
	over := time.After(gone)
	if f.kind == outside {
		until(f.t, "all know that the bus is gone", func() bool {
			for _, s := range f.states() {
				if s.Available {
					return false
				}
			}
			return true
		})
		o.tryCalls(turn)
	}
	o.change(turn)
	<-over
	o.grown = max(o.grown, o.memory()-before)
	back()
	o.right = append(o.right, until(f.t, "everything is right again", o.isRight))
}

// takeBus kills the NATS server, or cuts all nodes off from one another.
func (f *fleet) takeBus() (giveBack func()) {
	if f.kind == outside {
		f.buses[0].signal(syscall.SIGKILL)
		f.buses[0].gone()
		return func() { f.startBus(0) }
	}
	n := f.nodes
	heals := []func(){cut(n[0].place, n[1].place), cut(n[0].place, n[2].place), cut(n[1].place, n[2].place)}
	return func() {
		for _, heal := range heals {
			heal()
		}
	}
}

// tryCalls makes calls that need other nodes.
func (o *outage) tryCalls(turn int) {
	for i := range o.f.nodes {
		p := o.f.join(fmt.Sprint("caller", turn, ".", i), i)
		what, took := p.line().claim(fmt.Sprint("never", turn))
		o.claims = append(o.claims, took)
		if what != "unavailable" {
			o.others++
		}
		began := time.Now()
		if what := p.line().do("tell", "b%d 1", (i+1)%3*perNode+perNode-1); what != "unavailable" || time.Since(began) > 10*atOnce {
			o.others++
		}
		_ = p.line().conn.Close()
	}
}

// change ends a third of the sessions, and has others leave the room or come to it.
func (o *outage) change(turn int) {
	for i, p := range o.persons {
		l := p.line()
		switch (i + turn) % 3 {
		case 0:
			if !l.isOver() {
				_ = l.conn.Close()
				<-l.ended
			}
		case 1:
			if !l.isOver() {
				l.do("leave", "b0")
			}
		case 2:
			if !l.isOver() {
				l.do("join", "b0")
			}
		}
	}
}

// isRight reports whether all nodes know one another, the holders, the members, and whether new claims and Broadcasts arrive.
func (o *outage) isRight() bool {
	f := o.f
	if !f.isWhole(f.nodes...) {
		return false
	}
	var want []int
	for _, p := range o.persons {
		if l := p.line(); l.isOver() {
			want = append(want, -1)
		} else {
			want = append(want, l.node)
		}
	}
	members := -1
	for _, m := range f.nodes {
		for i, holder := range f.holders(m, "b", len(want)) {
			if holder != want[i] {
				return false
			}
		}
		k := ask[[]int](m.process, "lengths b 1")[0]
		if members >= 0 && k != members {
			return false
		}
		members = k
	}
	return members == o.members() && o.renew()
}

// members is how many sessions say that they are in the room.
func (o *outage) members() (n int) {
	for _, p := range o.persons {
		if l := p.line(); !l.isOver() && l.joined() {
			n++
		}
	}
	return n
}

// renew gives those keys that are free a new session, and reports whether that was granted.
func (o *outage) renew() bool {
	for i, p := range o.persons {
		if !p.line().isOver() {
			continue
		}
		again := o.f.join(p.name, i/perNode)
		if what, _ := again.line().claim(fmt.Sprint("b", i)); what != "ok" {
			_ = again.line().conn.Close()
			return false
		}
		again.line().do("join", "b0")
		o.persons[i] = again
	}
	return true
}

func (o *outage) memory() (n int) {
	for _, m := range o.f.nodes {
		n = max(n, m.resident())
	}
	return n
}

// judgeLocal wants that each ear has everything that was said on its own node.
func (c *chorus) judgeLocal() {
	short := 0
	for i := range c.ears {
		short += c.between(i, i)
	}
	c.f.check("what is local goes on", short == 0, "%d short of what was said on their own node", short)
}
