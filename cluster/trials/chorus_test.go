//go:build linux

package trials

import (
	"fmt"
	"sync"
	"time"
)

// chorus are voices on several nodes that speak in one room, and an ear on each: what an ear has missed is compared with what its node has
// counted.
type chorus struct {
	f       *fleet
	room    string
	nodes   []int
	voices  []*voice
	ears    []*person
	before  []state
	padding string

	done    chan struct{}
	running sync.WaitGroup
}

// chorus has a voice and an ear on each of these nodes, all of which know it.
func (f *fleet) chorus(room string, nodes ...int) *chorus {
	f.t.Helper()
	c := &chorus{f: f, room: room, nodes: nodes}
	for _, i := range nodes {
		c.voices = append(c.voices, &voice{person: f.join(fmt.Sprint("voice", i), i), room: room})
		ear := f.join(fmt.Sprint("ear", i), i)
		if what := ear.line().do("join", "%s", room); what != "ok" {
			f.t.Fatal(what)
		}
		c.ears = append(c.ears, ear)
	}
	for _, i := range nodes {
		until(f.t, "the ears are known", func() bool {
			c.hum() // until all have heard all
			return c.heard(1)
		})
		c.before = append(c.before, ask[state](f.nodes[i].process, "state"))
	}
	return c
}

// hum has each voice say something.
func (c *chorus) hum() {
	for _, v := range c.voices {
		v.say(c.padding)
	}
}

// heard reports whether each ear has a message of each voice with that number or a later one.
func (c *chorus) heard(from ...int) bool {
	for _, ear := range c.ears {
		for i, v := range c.voices {
			l := ear.line()
			l.mu.Lock()
			p := l.streams[stream{c.room, v.name}]
			l.mu.Unlock()
			if p == nil || p.last < from[min(i, len(from)-1)] {
				return false
			}
		}
	}
	return true
}

// start has all voices speak until stop, each by itself: a node that reads nothing holds up its own voice only.
func (c *chorus) start(interval time.Duration) {
	c.done = make(chan struct{})
	for _, v := range c.voices {
		c.running.Go(func() {
			tick := time.NewTicker(interval)
			defer tick.Stop()
			for {
				select {
				case <-c.done:
					return
				case <-tick.C:
					v.say(c.padding)
				}
			}
		})
	}
}

func (c *chorus) stop() {
	close(c.done)
	c.running.Wait()
}

// closeGaps speaks until every ear has heard something that was said after the call, so that all gaps are seen, and nothing is under way.
func (c *chorus) closeGaps() {
	c.f.t.Helper()
	var from []int
	for _, v := range c.voices {
		from = append(from, v.next+1)
	}
	until(c.f.t, "all hear all again", func() bool {
		c.hum()
		time.Sleep(50 * time.Millisecond)
		return c.heard(from...)
	})
	from = from[:0]
	for _, v := range c.voices {
		v.say(c.padding)
		from = append(from, v.next)
	}
	until(c.f.t, "all have heard the last", func() bool { return c.heard(from...) })
}

// account compares what each ear is short of with what its node has counted as missed or skipped, and the voices were told. If nothing is
// true, it wants nothing to be missing.
func (c *chorus) account(criterion string, nothing bool) {
	c.f.t.Helper()
	c.closeGaps()
	unsaid := c.refused()
	ok, said, text := true, 0, ""
	for _, v := range c.voices {
		said += v.next
	}
	for i, ear := range c.ears {
		now := ask[state](c.f.nodes[c.nodes[i]].process, "state")
		missed := int(now.Missed - c.before[i].Missed)
		told, full := 0, 0
		for j := range c.voices {
			if j != i {
				told += unsaid[j]
				s := ask[state](c.f.nodes[c.nodes[j]].process, "state")
				full += int(s.Overflowed - c.before[j].Overflowed) // these have a number, and so are in both
			}
		}
		missing := ear.line().missing(c.room)
		skipped := ask[int](c.f.nodes[c.nodes[i]].process, "skipped %s", c.room) // for members whose queues were full, ears or not
		unknown := missing - (missed + told - full)
		ok = ok && unknown >= 0 && unknown <= skipped && now.Repeated == c.before[i].Repeated && (!nothing || missing == 0)
		text += fmt.Sprintf("; node %d is short of %d: %d missed, %d refused to the sender, %d skipped", c.nodes[i], missing, missed, told, skipped)
	}
	c.f.check(criterion, ok, "%d said%s", said, text)
}

// between returns how many messages of one node's voice the ear of another is short of.
func (c *chorus) between(voice, ear int) int {
	l := c.ears[ear].line()
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.streams[stream{c.room, c.voices[voice].name}]
	return p.last - p.first + 1 - p.count
}

// refused returns, for each voice, how many of its Broadcasts were for its own node only, as it was told.
func (c *chorus) refused() (counts []int) {
	for _, v := range c.voices {
		l := v.line()
		l.mu.Lock()
		counts = append(counts, l.unsaid[c.room])
		l.mu.Unlock()
	}
	return counts
}
