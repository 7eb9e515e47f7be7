//go:build linux

package trials

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Rolling restart: three nodes end on SIGTERM and are started again, one after another, while 1,000 clients send to one another's keys. A
// client whose node drains connects elsewhere and claims its key there. What was accepted is delivered once; what failed with an error was
// not delivered, unless the error says that it may have been.
//
// It notices a former holder that is aborted with accepted messages in its queue (at full scale), and a drain that ends before the sessions
// have gone. It has not noticed, in a run of each, a claim that is granted before all have acknowledged, a Send that is repeated after an
// error (there were none), or a yes for a session that has just ended: keys move in less time than lies between two messages to one of them.
// Those are for the tests of package cluster and the simulator.
func TestRollingRestart(t *testing.T) {
	for _, k := range []kind{routes, outside} {
		t.Run(string(k), func(t *testing.T) {
			f := launch(t, "rolling restart", k, 3)
			r := &rolling{f: f, count: scaled(1000, 60), interval: 500 * time.Millisecond, stop: make(chan struct{}), outcomes: make(map[string]int)}
			r.begin()
			var ending, moving spread
			pause := lasting(3*time.Second, 500*time.Millisecond) // of load, between the steps
			for i, m := range f.nodes {
				r.load(pause)
				began := time.Now()
				m.signal(syscall.SIGTERM)
				code := m.gone()
				ending = append(ending, time.Since(began))
				if code != 0 {
					f.fault("node %d: exit code %d: %s", i, code, m.said())
				}
				f.startNode(i)
				f.whole()
			}
			r.load(pause)
			moving = r.end()
			lost, wrong := r.compare()
			f.check("no message to a claimed key is lost", lost == 0, "%d sent, %d accepted, %d received, %d lost", len(r.sent), r.outcomes["ok"], f.counts.told.Load(), lost)
			f.check("none is doubled", f.counts.doubled.Load() == 0, "%d", f.counts.doubled.Load())
			f.check("what failed was not delivered", wrong == 0 && r.outcomes["gone"] == 0, "outcomes %v; %d delivered though the error says no", r.outcomes, wrong)
			f.check("each node ends in good order", ending.worst() < 20*time.Second, "%v", ending)
			f.check("all clients have moved, each key has one holder", r.isWell(), "%d clients, %d moves: %v", r.count, len(moving), moving)
			f.judge()
		})
	}
}

// rolling is the clients of a rolling restart.
type rolling struct {
	f        *fleet
	count    int
	interval time.Duration // between two messages of a client
	clients  []*traveller
	stop     chan struct{}
	running  sync.WaitGroup
	total    atomic.Int64 // messages sent

	mu       sync.Mutex
	sent     []letter
	outcomes map[string]int
	moves    spread
}

// letter is one message to a key.
type letter struct {
	from, to *traveller
	number   int
	outcome  string
}

// traveller is a client that moves when it is asked to.
type traveller struct {
	*person
	key     string
	number  int
	waiting sync.WaitGroup // for outcomes
}

// begin connects the clients, and has them send.
func (r *rolling) begin() {
	f := r.f
	f.t.Helper()
	for i := range r.count {
		r.clients = append(r.clients, &traveller{person: f.join(fmt.Sprint("c", i), i%len(f.nodes)), key: fmt.Sprint("c", i)})
	}
	var claiming sync.WaitGroup
	for _, c := range r.clients {
		claiming.Go(func() {
			if what, _ := c.line().claim(c.key); what != "ok" {
				f.fault("%s: %s", c.key, what)
			}
		})
	}
	claiming.Wait()
	for i, c := range r.clients {
		r.running.Go(func() { r.live(c, rand.New(rand.NewPCG(uint64(i), 2))) })
	}
}

// live sends until the trial stops, and moves when the node asks to.
func (r *rolling) live(c *traveller, random *rand.Rand) {
	tick := time.NewTicker(r.interval)
	defer tick.Stop()
	for {
		l := c.line()
		select {
		case <-r.stop:
			c.waiting.Wait()
			return
		case <-l.moving:
			c.waiting.Wait() // for the answers, which come by this connection
			r.move(c, l, random)
		case <-l.ended:
			r.f.fault("%s: the connection has ended, and the node has not asked to move", c.key)
			return
		case <-tick.C:
			r.send(c, l, r.clients[random.IntN(r.count)])
		}
	}
}

// send sends one message to another client's key. Its outcome comes later.
func (r *rolling) send(c *traveller, l *line, to *traveller) {
	c.number++
	r.total.Add(1)
	one := letter{from: c, to: to, number: c.number}
	result := l.begin("tell", "%s %d", to.key, c.number)
	c.waiting.Go(func() {
		select {
		case one.outcome = <-result:
		case <-time.After(patience):
			one.outcome = "no answer"
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.sent = append(r.sent, one)
		r.outcomes[one.outcome]++
	})
}

// move connects to another node and claims the key there.
func (r *rolling) move(c *traveller, old *line, random *rand.Rand) {
	began := time.Now()
	why := "nothing was tried"
	for i := random.IntN(2); time.Since(began) < patience; i++ {
		node := (old.node + 1 + i%2) % len(r.f.nodes)
		if err := c.connect(node); err != nil {
			why = err.Error()
		} else if what, _ := c.line().claim(c.key); what == "ok" {
			r.mu.Lock()
			r.moves = append(r.moves, time.Since(began))
			r.mu.Unlock()
			return
		} else {
			why = what
			_ = c.line().conn.Close()
		}
		time.Sleep(50 * time.Millisecond) // as a client would
	}
	r.f.fault("%s has not got its key elsewhere: %s", c.key, why)
}

// load waits until the clients have sent as many messages as they do in that time.
func (r *rolling) load(d time.Duration) {
	r.f.t.Helper()
	until := int64(float64(r.count) * d.Seconds() / r.interval.Seconds())
	from := r.total.Load()
	deadline := time.Now().Add(patience)
	for r.total.Load() < from+until && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
}

// end stops the senders, and waits for all outcomes.
func (r *rolling) end() spread {
	close(r.stop)
	r.running.Wait()
	return r.moves
}

// compare returns how many messages were accepted and have not come, and how many have come though their error says that they were not
// delivered.
func (r *rolling) compare() (lost, wrong int) {
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		lost, wrong = 0, 0
		for _, one := range r.sent {
			one.to.mu.Lock()
			has := one.to.told[one.from.name][one.number]
			one.to.mu.Unlock()
			switch {
			case one.outcome == "ok" && !has:
				lost++
			case has && !strings.Contains("ok maybe gone", one.outcome):
				wrong++
			}
		}
		if lost == 0 || time.Since(began) > 5*time.Second {
			return lost, wrong
		}
	}
}

// isWell reports whether each client is connected and its key is its own.
func (r *rolling) isWell() bool {
	var all []*person
	for _, c := range r.clients {
		all = append(all, c.person)
	}
	return r.f.isOne("c", pairs(all))
}
