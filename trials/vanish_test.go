//go:build linux

package trials

import (
	"io"
	"sync"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
)

const verbTick = 'k' // send a record of 1 KiB each second, at the scale of the run

// timers are the timers that T7 and T8 set in the engine. TCP counts keep-alive in whole seconds.
func timers() engine.Options {
	if full() {
		return engine.Options{KeepAlive: 10 * time.Second, KeepAliveInterval: 2 * time.Second, KeepAliveCount: 3}
	}
	return engine.Options{KeepAlive: 2 * time.Second, KeepAliveInterval: time.Second, KeepAliveCount: 2}
}

func init() {
	plans["T07"] = func() plan { return plan{address: farAddress + ":0", options: timers()} }
	plans["T08"] = func() plan {
		p := plan{address: farAddress + ":0", options: engine.Options{UserTimeout: lasting(10*time.Second, 3*time.Second)}}
		p.verb = func(m *member, payload []byte) {
			if payload[0] == verbTick {
				m.tick()
			}
		}
		return p
	}
	plans["T09"] = func() plan { return plan{address: farAddress + ":0"} }
}

func (m *member) tick() {
	_ = m.send(append([]byte{verbNothing}, make([]byte, 1<<10)...))
	m.AfterFunc(lasting(time.Second, 0), m.tick)
}

// T7: keep-alive ends the session of a peer that has vanished while it was silent.
//
// Fails without keep-alive: leave its options out of socketOptions in engine/socket.go.
func TestT07VanishedIdle(t *testing.T) {
	tool(t, "T07", "iptables")
	near, far := pair(t, "T07")
	o := begin(t, "T07", how{from: near, inside: far})
	k := timers()
	least := k.KeepAlive + time.Duration(k.KeepAliveCount)*k.KeepAliveInterval
	clients := make([]*client, scaled(100, 10))
	for i := range clients {
		clients[i] = o.connect()
		must(t, clients[i].echo(64))
	}
	silent := monotonic()
	heal := partition(t, near, far)
	o.idle(time.Second)
	first, last, wrong := o.vanished(clients, silent, least+patience)
	heal()
	most := least + max(lasting(4*time.Second, 0), time.Second)
	o.check("OnDisconnected from KeepAlive + Count * Interval to 4 s later (16 to 20 s), cause timeout", first >= least-100*time.Millisecond &&
		last <= most && wrong == 0, "%d sessions, after %v to %v of silence, want %v to %v, %d with another cause", len(clients),
		first.Round(time.Millisecond), last.Round(time.Millisecond), least, most, wrong)
	o.finish()
}

// T8: unacknowledged bytes (TCP_USER_TIMEOUT) end the session of a peer that has vanished while it was sent to.
//
// Fails without TCP_USER_TIMEOUT: have userTimeout in engine/socket_linux.go do nothing.
func TestT08VanishedBusy(t *testing.T) {
	tool(t, "T08", "iptables")
	near, far := pair(t, "T08")
	o := begin(t, "T08", how{from: near, inside: far})
	limit := plans["T08"]().options.UserTimeout
	clients := make([]*client, scaled(100, 10))
	var reading sync.WaitGroup
	each(len(clients), len(clients), func(i int) {
		c := o.connect()
		clients[i] = c
		must(t, c.ask([]byte{verbTick}))
		must(t, c.take(make([]byte, 4<<10), nil, func() bool { return c.in.seq >= 2 }))
		reading.Go(func() { _ = c.takeAll() })
	})
	gone := monotonic()
	heal := partition(t, near, far)
	_, last, wrong := o.vanished(clients, gone, limit+patience)
	heal()
	for _, c := range clients {
		_ = c.Close()
	}
	reading.Wait()
	o.check("gone <= 1.3 * UserTimeout (13 s), cause timeout", last <= limit*13/10 && wrong == 0, "%d sessions, the last after %v of %v, %d with another cause",
		len(clients), last.Round(time.Millisecond), limit, wrong)
	o.finish()
}

// vanished waits until the sessions of all clients have ended. It returns when the first and the last ended, and how many ended for
// another reason than a timeout.
func (o *oracle) vanished(clients []*client, since int64, within time.Duration) (first, last time.Duration, wrong int) {
	o.t.Helper()
	first = time.Hour
	for _, c := range clients {
		l := o.ended(c, within)
		after := time.Duration(l.Ended - since)
		first, last = min(first, after), max(last, after)
		if !because(l, "timeout") {
			wrong++
		}
	}
	return first, last, wrong
}

// T9: a network that is down for a while costs no session and no byte.
//
// Fails if bytes that are unacknowledged for a moment end a session: divide by 20 in setUserTimeout of engine/socket_linux.go.
func TestT09PartitionHeals(t *testing.T) {
	tool(t, "T09", "iptables")
	near, far := pair(t, "T09")
	o := begin(t, "T09", how{from: near, inside: far})
	long := lasting(5*time.Second, 2*time.Second)
	talk := o.converse(100, 20*time.Millisecond, 10*time.Second+long)
	time.Sleep(time.Second)
	heal := partition(t, near, far)
	until := time.Now().Add(long)
	o.idle(time.Second)
	time.Sleep(time.Until(until))
	before := time.Now()
	heal()
	talk.stopAfter(3 * time.Second)
	whole, bytes, slowest := talk.result(before)
	r := o.report()
	o.check("0 disconnects, all bytes, resumed <= 5 s after", whole == 100 && slowest <= 5*time.Second && r.Stats.Total.Ended.PeerReset == 0,
		"%d of 100 sessions whole, %s answered, the last resumed %v after a partition of %v", whole, size(bytes), round(slowest), long)
	o.finish()
}

// conversation is a number of clients that send records and get them back.
type conversation struct {
	clients []*client
	quit    chan struct{}
	done    sync.WaitGroup
	mu      sync.Mutex
	resumed map[*client][]time.Time // when answers came, the first of every 20 ms
}

// converse begins a conversation: n clients send 1 KiB per interval, for d at most.
func (o *oracle) converse(n int, every, d time.Duration) *conversation {
	o.t.Helper()
	v := &conversation{quit: make(chan struct{}), resumed: map[*client][]time.Time{}}
	for i := range n {
		c := o.connect()
		v.clients = append(v.clients, c)
		v.done.Go(func() {
			end := time.Now().Add(d)
			payload := append([]byte{verbEcho}, make([]byte, 1<<10-1)...)
			for next := time.Now().Add(every * time.Duration(i) / time.Duration(n)); next.Before(end); next = next.Add(every) {
				select {
				case <-v.quit:
					_ = c.CloseWrite()
					return
				case <-time.After(time.Until(next)):
				}
				if c.ask(payload) != nil {
					return
				}
			}
			_ = c.CloseWrite()
		})
		v.done.Go(func() {
			var last time.Time
			c.err = c.take(make([]byte, 16<<10), func([]byte) {
				if now := time.Now(); now.Sub(last) > 20*time.Millisecond {
					last = now
					v.mu.Lock()
					v.resumed[c] = append(v.resumed[c], now)
					v.mu.Unlock()
				}
			}, nil)
		})
	}
	return v
}

// stopAfter makes all clients finish, and waits for that.
func (v *conversation) stopAfter(d time.Duration) {
	time.Sleep(d)
	close(v.quit)
	v.done.Wait()
}

// result returns how many clients got all of their records back and then a FIN, and the longest time from the given moment to the next
// answer.
func (v *conversation) result(from time.Time) (whole int, bytes int64, slowest time.Duration) {
	for _, c := range v.clients {
		if c.err == io.EOF && c.orderly && c.in.whole() && c.in.bytes == c.sent {
			whole++
		}
		bytes += c.in.bytes
		first := time.Hour
		for _, at := range v.resumed[c] {
			if at.After(from) {
				first = at.Sub(from)
				break
			}
		}
		slowest = max(slowest, first)
	}
	return whole, bytes, slowest
}
