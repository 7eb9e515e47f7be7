//go:build linux

package trials

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/servercore-go/servercore/cluster"
)

const perTurn = 50 // keys in each repetition

// claimants connects clients with a node, each of which claims one of the keys PREFIX0, PREFIX1, ..., and wants all claims granted.
func (f *fleet) claimants(prefix string, from, to, node int) []*person {
	f.t.Helper()
	persons := make([]*person, to-from)
	var claiming sync.WaitGroup
	for i := range persons {
		persons[i] = f.join(fmt.Sprint(prefix, from+i, "-on-", node), node)
		claiming.Go(func() {
			if what, took := persons[i].line().claim(fmt.Sprint(prefix, from+i)); what != "ok" {
				f.fault("Claim of %s%d on node %d: %s after %v", prefix, from+i, node, what, took)
			}
		})
	}
	claiming.Wait()
	return persons
}

// holders returns who holds the keys PREFIX0 to PREFIXn-1 as a node sees it: indexes of nodes, -1 for nobody.
func (f *fleet) holders(m *machine, prefix string, n int) []int {
	f.t.Helper()
	indexes := make([]int, n)
	for i, id := range ask[[]cluster.NodeID](m.process, "holders %s %d", prefix, n) {
		indexes[i] = f.owner(id)
	}
	return indexes
}

// isOne reports whether each key has exactly one live session, and all nodes know where. claims are, for each key, the persons that were
// granted it.
func (f *fleet) isOne(prefix string, claims [][]*person) bool {
	f.t.Helper()
	where := make([]int, len(claims))
	for i, persons := range claims {
		live := 0
		for _, p := range persons {
			if !p.line().isOver() {
				live++
				where[i] = p.line().node
			}
		}
		if live != 1 {
			return false
		}
	}
	granted := 0
	for _, m := range f.nodes {
		for i, holder := range f.holders(m, prefix, len(claims)) {
			if holder != where[i] {
				return false
			}
		}
		granted += ask[int](m.process, "granted %s %d", prefix, len(claims))
	}
	return granted == len(claims)
}

// pairs makes one list of claimants for each key from lists of claimants of all keys.
func pairs(lists ...[]*person) (claims [][]*person) {
	for i := range lists[0] {
		var persons []*person
		for _, l := range lists {
			persons = append(persons, l[i])
		}
		claims = append(claims, persons)
	}
	return claims
}

// leave ends the connections.
func leave(lists ...[]*person) {
	for _, l := range lists {
		for _, p := range l {
			_ = p.line().conn.Close()
		}
	}
}

// N3: a node that is killed frees its claims, and its members are gone, within 10 s. A claim of one of its keys that comes meanwhile waits
// and is granted. Others notice nothing.
//
// It notices: a node that is not taken for down, claims or members that stay behind, a claim that waits for a node that is not there any
// more.
func TestN3Kill(t *testing.T) {
	beside(t)
	for _, k := range []kind{routes, outside} {
		t.Run(string(k), func(t *testing.T) {
			beside(t)
			f := launch(t, "N3 kill -9", k, 3)
			var freed, granted spread
			c := f.chorus("by", 0, 1)
			c.start(20 * time.Millisecond)
			for turn := range scaled(20, 2) {
				victim := f.nodes[2]
				prefix := fmt.Sprint("k", turn, ".")
				lost := f.claimants(prefix, 0, perTurn, 2)
				for _, p := range lost {
					p.line().do("join", "g%d", 0)
				}
				until(t, "the members are known", func() bool { return ask[[]int](f.nodes[0].process, "lengths g 1")[0] == perTurn })
				heir := f.join("heir", 1)
				victim.signal(syscall.SIGKILL)
				began := time.Now()
				claimed := heir.line().begin("claim", "%s0", prefix)
				freed = append(freed, until(t, "claims and members are gone", func() bool {
					for _, m := range f.nodes[:2] {
						for i, holder := range f.holders(m, prefix, perTurn) {
							if holder >= 0 && (i != 0 || holder != 1) {
								return false
							}
						}
						if ask[[]int](m.process, "lengths g 1")[0] != 0 {
							return false
						}
					}
					return true
				}))
				if what := <-claimed; what[:2] != "ok" {
					f.fault("the heir's claim: %s", what)
				}
				granted = append(granted, time.Since(began))
				leave([]*person{heir}, lost)
				victim.gone()
				f.startNode(2)
				f.whole()
			}
			c.stop()
			f.check("claims are free, members gone within 10 s", freed.worst() <= 10*time.Second, "%v", freed)
			f.check("a claim meanwhile is granted within 10 s", granted.worst() <= 10*time.Second, "%v", granted)
			c.account("others miss nothing", true)
			f.judge()
		})
	}
}

// N3: a node that was stopped for 10 s and goes on has lost what others have claimed meanwhile, and keeps the rest, within 5 s.
//
// It notices: a node that goes on with a claim that another was granted, one that stays out, one whose sessions are ended though nobody has
// claimed their keys.
func TestN3Stop(t *testing.T) {
	beside(t)
	for _, k := range []kind{routes, outside} {
		t.Run(string(k), func(t *testing.T) {
			beside(t)
			f := launch(t, "N3 SIGSTOP", k, 3, time.Hour, 0, -time.Hour)
			var right spread
			pause := lasting(10*time.Second, 5*time.Second)
			turns := scaled(20, 1)
			for turn := range turns {
				victim := f.nodes[turn%3]
				prefix := fmt.Sprint("s", turn, ".")
				before := f.claimants(prefix, 0, perTurn, victim.index)
				victim.signal(syscall.SIGSTOP)
				over := time.After(pause)
				after := f.claimants(prefix, 0, perTurn/2, (turn+1)%3)
				<-over
				victim.signal(syscall.SIGCONT)
				claims := pairs(before[:perTurn/2], after)
				claims = append(claims, pairs(before[perTurn/2:])...)
				right = append(right, until(t, "each key has one holder", func() bool { return f.isOne(prefix, claims) && f.isWhole(f.nodes...) }))
				for _, p := range after {
					if p.line().isOver() {
						f.fault("the later claim of %s has lost", p.name)
					}
				}
				leave(before, after)
			}
			f.check("one holder, the later one, within 5 s", right.worst() <= 5*time.Second, "%v; stopped for %v, %d keys, clocks 1 h apart", right, pause, perTurn)
			f.judge()
		})
	}
}

// N3: while the bus is split both sides claim the same keys. After it has healed each key has one holder on all nodes within 5 s, and a key
// that one side alone has claimed is still held.
//
// It notices: stamps that are not compared, or compared differently on two nodes; a log that is not fetched anew; a session that lives on
// without its key.
func TestN3Split(t *testing.T) {
	beside(t)
	for _, k := range []kind{routes, outside2} {
		t.Run(string(k), func(t *testing.T) {
			beside(t)
			f := launch(t, "N3 split", k, 3, -time.Hour, time.Hour, 0)
			var right spread
			left := 0
			c := f.chorus("a", 0, 1, 2)
			c.start(20 * time.Millisecond)
			for turn := range scaled(20, 2) {
				heal := f.split()
				until(t, "both sides know that they are alone", func() bool { return f.isWhole(f.nodes[0]) && f.isWhole(f.nodes[1:]...) })
				prefix := fmt.Sprint("p", turn, ".")
				one, two := f.claimants(prefix, 0, perTurn, 0), f.claimants(prefix, 0, perTurn, 1+turn%2)
				only := f.claimants(prefix, perTurn, 2*perTurn, turn%3)
				heal()
				claims := append(pairs(one, two), pairs(only)...)
				right = append(right, until(t, "each key has one holder", func() bool { return f.isOne(prefix, claims) && f.isWhole(f.nodes...) }))
				for _, p := range one {
					if !p.line().isOver() {
						left++
					}
				}
				leave(one, two, only)
			}
			c.stop()
			f.check("one holder within 5 s", right.worst() <= 5*time.Second, "%v; %d keys claimed on both sides, node 0 has kept %d", right, perTurn*len(right), left)
			c.account("what was missed is counted", false)
			f.judge()
		})
	}
}

// split parts node 0 from the others.
func (f *fleet) split() (heal func()) {
	if f.kind == outside2 {
		return cut(f.net.places["bus0"], f.net.places["bus1"])
	}
	var heals []func()
	for _, m := range f.nodes[1:] {
		heals = append(heals, cut(f.nodes[0].place, m.place))
	}
	return func() {
		for _, h := range heals {
			h()
		}
	}
}

// N3: whatever the clocks of the nodes say, of two claims that follow one another the later wins.
//
// It notices: a stamp that is the wall clock alone, or a node that does not learn the stamps of others.
func TestN3Clocks(t *testing.T) {
	beside(t)
	for _, k := range []kind{routes, outside} {
		t.Run(string(k), func(t *testing.T) {
			beside(t)
			f := launch(t, "N3 clocks", k, 3, -time.Hour, time.Hour, 10*time.Millisecond)
			n, turns := perTurn, []int{1, 0, 2, 0, 1, 2}
			var all [][]*person
			for _, node := range turns {
				all = append(all, f.claimants("c", 0, n, node))
			}
			took := until(t, "each key has one holder", func() bool { return f.isOne("c", pairs(all...)) })
			last := 0
			for _, p := range all[len(all)-1] {
				if !p.line().isOver() {
					last++
				}
			}
			f.check("the later claim wins", last == n && took <= 5*time.Second, "%d of %d keys, each claimed %d times on nodes 2 h apart; %v", last, n, len(turns), round(took))
			f.judge()
		})
	}
}
