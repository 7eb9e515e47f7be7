//go:build linux

package trials

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
)

const (
	verbBlock = 'b' // hold the loop for blockFor
	blockFor  = 2 * time.Second
)

func init() {
	plans["T35"] = func() plan {
		return plan{
			options: engine.Options{Loops: 4, IdleTimeout: blockFor * 3 / 4}, // who waits for the loop must not seem idle
			verb:    func(*member, []byte) { time.Sleep(blockFor) },
		}
	}
}

// T33: there are never more sessions than MaxSessions, others are refused at once, and a place that becomes free is used.
func TestT33Admission(t *testing.T) {
	o := begin(t, "T33", how{})
	room := scaled(1000, 100)
	var refused, waiting atomic.Int64
	try := func(n int) (admitted []*client) {
		all := make([]*client, n)
		each(n, n, func(i int) {
			c, err := connect(dialer(0), o.at.Records)
			if err != nil { // refused before connect had returned
				refused.Add(1)
				return
			}
			o.watch(c)
			seconds(t, within(time.Second), c)
			switch err := c.echo(64); {
			case err == nil:
				all[i] = c
				return
			case isTimeout(err):
				waiting.Add(1)
			default:
				refused.Add(1)
			}
			_ = c.Close()
		})
		return slices.DeleteFunc(all, func(c *client) bool { return c == nil })
	}
	first := try(3 * room)
	over := int64(2 * room)
	r := o.report()
	o.check("refused see close <= 1 s", waiting.Load() == 0 && refused.Load() == over && r.Stats.Refused.Full == uint64(over),
		"%d admitted of %d, %d refused, %d in Stats, %d left waiting", len(first), 3*room, refused.Load(), r.Stats.Refused.Full, waiting.Load())
	if len(first) < room {
		t.Fatal("there are too few to go on with")
	}
	o.idle(time.Second)
	for _, c := range first[:room/2] {
		_ = c.CloseWrite()
		_ = c.takeAll()
		_ = c.Close()
	}
	o.settledAt(room-room/2, patience)
	later := try(room / 2)
	r = o.report()
	o.check("the later ones are all admitted", len(later) == room/2, "%d of %d", len(later), room/2)
	o.check("OnConnected never > cap", r.Peak == room+bystanders && r.Live == room+bystanders, "%d at most, allowed are %d", r.Peak, room+bystanders)
	for _, c := range append(first, later...) {
		_ = c.Close()
	}
	o.settledAt(0, patience)
	o.finish()
}

// echoes are clients that ask for echoes while a loop is blocked, and how long each waited.
type echoes struct {
	clients sync.WaitGroup
	mu      sync.Mutex
	blocked []time.Duration // of clients of the blocked loop
	others  []time.Duration // of clients of other loops
	lost    int             // clients whose connection has failed
}

func (e *echoes) start(clients []*client, began time.Time, isBlocked func(*client) bool) {
	for _, c := range clients {
		e.clients.Go(func() {
			for time.Since(began) < blockFor+time.Second {
				time.Sleep(blockFor / 8)
				at := time.Now()
				err := c.echo(64)
				wait := time.Since(at)
				e.mu.Lock()
				switch {
				case err != nil:
					e.lost++
				case isBlocked(c):
					e.blocked = append(e.blocked, wait)
				default:
					e.others = append(e.others, wait)
				}
				e.mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
}

// T35: a callback that blocks delays the sessions of its loop and no others, and the watchdog reports it while it lasts.
func TestT35BlockedLoop(t *testing.T) {
	o := begin(t, "T35", how{})
	n := scaled(1000, 100)
	clients := make([]*client, n)
	for i := range clients {
		clients[i] = o.connect()
	}
	each(n, 20, func(i int) { // soon: a session that is silent for 1.5 s is idle
		if err := clients[i].echo(64); err != nil {
			t.Error(err)
		}
	})
	loops := map[uint64]int{}
	for _, l := range ask[report](o.server, "report").Lives {
		loops[l.ID] = l.Loop
	}
	blocked := loops[clients[0].out.id]
	ask[calm](o.crowd, "look") // the time before
	began := time.Now()
	must(t, clients[0].ask([]byte{verbBlock}))
	var crowd echoes
	crowd.start(clients, began, func(c *client) bool { return loops[c.out.id] == blocked })
	var told time.Duration
	eventually(patience, func() bool { told = o.server.saidAfter(began, "a callback holds its loop"); return told > 0 })
	stalls := o.report().Stats.Total.Stalls
	bound := time.Second
	if !full() {
		bound = blockFor
	}
	o.check("the watchdog reports <= 1 s", told > 0 && told <= bound && stalls > 0, "after %v, %d in Stats", round(told), stalls)
	crowd.clients.Wait()
	others, same := crowd.others, crowd.blocked
	slices.Sort(others)
	slices.Sort(same)
	o.check("after 2 s all served, nothing timed out wrongly", crowd.lost == 0 && percentile(same, 100) > blockFor/2,
		"%d of %d sessions lost; those of the loop waited %v", crowd.lost, n, round(percentile(same, 100)))
	// The bystanders of the blocked loop wait as long as it does. Only the others are judged.
	o.calmSoFar()
	var longest []time.Duration
	for id, wait := range o.during.Each {
		if loops[id] != blocked {
			longest = append(longest, wait)
		}
	}
	slices.Sort(longest)
	o.during.P99 = percentile(longest, 99)
	o.check("other loops go on", len(others) > 0 && percentile(others, 50) <= within(20*time.Millisecond) && percentile(others, 100) < blockFor,
		"p50 %v, at most %v; of %d bystanders the longest %v", round(percentile(others, 50)), round(percentile(others, 100)), len(longest),
		round(o.during.P99))
	for _, c := range clients {
		_ = c.CloseWrite()
		_ = c.takeAll()
	}
	o.finish()
}

// saidAfter returns how long after began a line with the text was logged, 0 if none was.
func (p *process) saidAfter(began time.Time, text string) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, line := range p.log {
		if strings.Contains(line, text) && p.when[i].After(began) {
			return p.when[i].Sub(began)
		}
	}
	return 0
}
