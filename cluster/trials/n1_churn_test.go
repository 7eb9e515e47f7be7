//go:build linux

package trials

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

const perRoom = 30 // members

// N1: rooms of 30 members over all nodes, half of which come and go while everybody speaks. Members that stay get everything once, in each
// sender's order; who comes and goes gets nothing twice. In the end all nodes know who is where, and a Broadcast has crossed the bus once
// per node.
//
// It notices: a node that subscribes once per member, one that forgets to unsubscribe or to subscribe again, numbers that are given out of
// the order of Publish, a membership that is lost in the log.
func TestN1Churn(t *testing.T) {
	for _, k := range []kind{alone, routes, outside} {
		t.Run(string(k), func(t *testing.T) { churn(t, k) })
	}
}

// crowd is persons who are each in 30 of the rooms r0, r1, ..., so that each room has 30 of them.
type crowd struct {
	f       *fleet
	rooms   int
	persons []*person
}

func (f *fleet) crowd(rooms int) *crowd {
	f.t.Helper()
	c := &crowd{f: f, rooms: rooms}
	for i := range rooms {
		c.persons = append(c.persons, f.join(fmt.Sprint("p", i), i%len(f.nodes)))
	}
	var joining sync.WaitGroup
	for i, p := range c.persons {
		joining.Go(func() {
			for j := range perRoom {
				if what := p.line().do("join", "r%d", (i+j)%rooms); what != "ok" {
					f.fault("join: %s", what)
				}
			}
		})
	}
	joining.Wait()
	return c
}

// isKnown reports whether all nodes have the right number of members of all rooms r.
func (c *crowd) isKnown() bool {
	for _, m := range c.f.nodes {
		for _, k := range ask[[]int](m.process, "lengths r %d", c.rooms) {
			if k != perRoom {
				return false
			}
		}
	}
	return true
}

func churn(t *testing.T, k kind) {
	count := 3
	if k == alone {
		count = 1
	}
	f := launch(t, "N1 churn", k, count)
	rooms, pause := scaled(1000, 60), time.Second
	c := f.crowd(rooms)
	until(t, "all members are known", c.isKnown)

	stop := time.After(lasting(30*time.Second, 2*time.Second))
	ended := make(chan struct{})
	var running sync.WaitGroup
	var said sync.Map // stream -> last number
	for i, p := range c.persons {
		running.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			next := make(map[string]int)
			tick := time.NewTicker(pause)
			defer tick.Stop()
			for {
				select {
				case <-ended:
					return
				case <-tick.C:
				}
				room := fmt.Sprint("r", (i+random.IntN(perRoom))%rooms)
				next[room]++
				said.Store(stream{room, p.name}, next[room])
				_ = p.line().write("0 say %s %d", room, next[room])
				if i%2 == 1 { // one that comes and goes, also where nobody stays
					away := fmt.Sprint("r", (i+random.IntN(perRoom))%rooms)
					lonely := fmt.Sprint("x", random.IntN(max(rooms/10, 3)))
					p.line().do("leave", "%s", away)
					p.line().do("join", "%s", lonely)
					next[lonely]++
					_ = p.line().write("0 say %s %d", lonely, next[lonely])
					p.line().do("join", "%s", away)
					p.line().do("leave", "%s", lonely)
				}
			}
		})
	}
	<-stop
	close(ended)
	running.Wait()
	settled := until(t, "all members are known again", c.isKnown)
	f.check("all nodes know all members within 5 s", settled <= 5*time.Second, "%d rooms of %d, %v after the last change", rooms, perRoom, round(settled))
	c.judgeSteady(&said)
	c.judgeCrossings()
	s := sum(f.states())
	f.check("nothing missed, repeated or dropped", s.Missed+s.Repeated+s.Dropped+s.Overflowed+s.Unsent+s.Slow+s.Malformed == 0,
		"published %d, received %d, missed %d, repeated %d, dropped %d, overflowed %d, unsent %d, slow %d, malformed %d",
		s.Published, s.Received, s.Missed, s.Repeated, s.Dropped, s.Overflowed, s.Unsent, s.Slow, s.Malformed)
	f.judge()
}

// judgeSteady wants everything with those who have stayed.
func (c *crowd) judgeSteady(said *sync.Map) {
	short, streams := -1, 0
	look := func() bool {
		short, streams = 0, 0
		said.Range(func(key, last any) bool {
			s := key.(stream)
			room := number(s.room[1:])
			for j := range perRoom {
				i := (room - j + c.rooms) % c.rooms
				if i%2 == 1 {
					continue
				}
				streams++
				l := c.persons[i].line()
				l.mu.Lock()
				if p := l.streams[s]; p == nil || p.first != 1 || p.last != last.(int) || p.count != p.last {
					short++
				}
				l.mu.Unlock()
			}
			return true
		})
		return short == 0
	}
	for began := time.Now(); !look() && time.Since(began) < 5*time.Second; {
		time.Sleep(20 * time.Millisecond)
	}
	c.f.check("who stays gets everything", short == 0 && streams > 0, "%d streams, %d of them incomplete", streams, short)
}

// judgeCrossings counts what crosses the bus for a number of Broadcasts to rooms that have members everywhere.
func (c *crowd) judgeCrossings() {
	f := c.f
	until(f.t, "the bus is quiet", func() bool { // what was said before has come
		before := sum(f.states()).Received
		time.Sleep(50 * time.Millisecond)
		return sum(f.states()).Received == before
	})
	before, each := f.states(), 20
	var voices []*voice
	for i := range f.nodes {
		voices = append(voices, &voice{person: f.join(fmt.Sprint("v", i), i), room: "r0"})
	}
	for range each {
		for _, v := range voices {
			v.say("")
		}
	}
	stays := c.persons[0].line()
	until(f.t, "all have come", func() bool {
		for _, v := range voices {
			stays.mu.Lock()
			p := stays.streams[stream{v.room, v.name}]
			stays.mu.Unlock()
			if p == nil || p.last < each {
				return false
			}
		}
		return true
	})
	expected := uint64(each * (len(f.nodes) - 1))
	var crossed []uint64
	until(f.t, "all nodes have received them", func() bool {
		crossed = nil
		for i, s := range f.states() {
			crossed = append(crossed, s.Received-before[i].Received)
		}
		return slices.Min(crossed) >= expected
	})
	f.check("a Broadcast crosses the bus once per node with members", slices.Max(crossed) == expected,
		"%d Broadcasts on each node, %d members: each node has received %v of the others'", each, perRoom, crossed)
}

// sum adds what nodes have counted.
func sum(all []state) (s state) {
	for _, x := range all {
		s.Published += x.Published
		s.Received += x.Received
		s.Repeated += x.Repeated
		s.Missed += x.Missed
		s.Dropped += x.Dropped
		s.Overflowed += x.Overflowed
		s.Unsent += x.Unsent
		s.Slow += x.Slow
		s.Malformed += x.Malformed
	}
	return s
}
