package cluster

import (
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// N4: a bus that takes nothing holds up no Broadcast. Members here get it, and what does not fit in the queue is counted and refused.
func TestN4SlowBus(t *testing.T) {
	s := natsServer(t, server.Options{})
	p := newProxy(t, s.Addr().String())
	const failAfter = 4 * time.Second // a Broadcast that waited would for half of it
	a := open(t, Options{URL: "nats://" + p.address(), QueueLimit: 1 << 20, FailAfter: failAfter})
	u := a.connect()
	a.Room("r").Join(u)
	p.stall()
	big := make([]byte, 64<<10)
	var full error
	var longest time.Duration
	for range 400 { // 25 MiB: more than sockets and the queue hold
		began := time.Now()
		if err := a.Room("r").Broadcast(big, u); err != nil && full == nil {
			full = err
		}
		longest = max(longest, time.Since(began))
	}
	t.Logf("the longest Broadcast has taken %v", longest)
	if longest > failAfter/2 {
		t.Error("a Broadcast has waited")
	}
	want(t, "Broadcast", full, ErrUnavailable)
	if n := a.Stats().Overflowed; n == 0 {
		t.Errorf("nothing was counted: %+v", a.Stats())
	}
	_ = a.Room("r").Broadcast([]byte("here\n"))
	if got := u.line(t); got != "here" {
		t.Errorf("%.20q", got)
	}
	eventually(t, "the connection is given up", func() bool { return !a.Available() })
	p.cut()
	p.heal(s.Addr().String())
	eventually(t, "it is back", a.Available)
	must(t, a.Room("r").Broadcast([]byte("again\n")))
}

// N4: a node whose loops do not come to what arrives drops it, counts it, and goes on; the sender, and other nodes, notice nothing.
func TestN4SlowNode(t *testing.T) {
	nodes := three(t)
	slow := nodes[2]
	users := [3]*user{}
	for i, n := range nodes {
		users[i] = n.connect()
		n.Room("r").Join(users[i])
	}
	eventually(t, "all are known", func() bool { k, _ := nodes[0].Room("r").Len(ctx(t)); return k == 3 })
	slow.in.mu.Lock()
	slow.in.limit = 100 << 10 // reached soon
	slow.in.mu.Unlock()
	slow.Room("r").Local().EndSlow = false
	release := make(chan struct{})
	must(t, users[2].Post(func() { <-release })) // the loop of the slow node
	const messages, size = 2000, 1 << 10
	text := make([]byte, size)
	for i := range text {
		text[i] = 'x'
	}
	text[size-1] = '\n'
	const window = 200 // messages under way: what the reader has not read
	read := make(chan struct{}, window)
	var reading sync.WaitGroup
	reading.Go(func() {
		for range messages {
			if _, err := users[1].lines.ReadString('\n'); err != nil {
				t.Error(err)
				close(read)
				return
			}
			<-read
		}
	})
	for range messages {
		read <- struct{}{}
		must(t, nodes[0].Room("r").Broadcast(text, users[0]))
	}
	reading.Wait()
	eventually(t, "the slow node has had or dropped all", func() bool {
		s := slow.Stats()
		return s.Received+s.Dropped >= messages
	})
	close(release)
	skipped := slow.Room("r").Local().Skipped()
	if s := slow.Stats(); s.Dropped == 0 && skipped == 0 {
		t.Errorf("nothing is counted: %+v", s)
	}
	if s := nodes[1].Stats(); s.Dropped+s.Missed != 0 {
		t.Errorf("another node is short of some: %+v", s)
	}
}

// N4: what NATS' client drops of what nodes say to one another is counted too, and still is when the node is closed. So Slow never stands
// there alone.
func TestN4DroppedByNATS(t *testing.T) {
	s := natsServer(t, server.Options{})
	a, b := open(t, Options{URL: s.ClientURL()}), open(t, Options{URL: s.ClientURL()})
	know(t, a, b)
	a.mu.Lock() // readControl waits for it as soon as b is heard
	eventually(t, "something is dropped", func() bool {
		for range 100 {
			must(t, b.bus.Publish(a.prefix+".all", []byte("not understood")))
		}
		return a.droppedByNATS() > 0
	})
	a.mu.Unlock()
	eventually(t, "NATS has said so", func() bool { return a.Stats().Slow > 0 })
	before := a.Stats().Dropped
	must(t, a.Close())
	if after := a.Stats().Dropped; before == 0 || after < before {
		t.Errorf("%d dropped, and %d when closed", before, after)
	}
}

// stall takes what comes and passes nothing on, and after a while takes nothing.
func (p *proxy) stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled = make(chan struct{})
}

// N3: a node that has much to say over a slow link is heard meanwhile.
func TestHeartbeatBesideAFlood(t *testing.T) {
	t.Parallel() // it mostly waits
	s := natsServer(t, server.Options{})
	p := newProxy(t, s.Addr().String())
	p.mu.Lock()
	p.perSecond = 1 << 20
	p.mu.Unlock()
	a := open(t, Options{URL: "nats://" + p.address(), FailAfter: 6 * time.Second})
	b := open(t, Options{URL: s.ClientURL(), FailAfter: 6 * time.Second})
	know(t, a, b)
	u := a.connect()
	must(t, a.Claim(ctx(t), "k", u))
	eventually(t, "it is known", func() bool { return b.Holder("k") == a.ID() })
	n := uint64(0)
	for a.Room("r").Broadcast(make([]byte, 16<<10), u) == nil { // 16 MiB: 16 s of the link
		n++
	}
	eventually(t, "all is said", func() bool {
		if len(b.Nodes()) != 2 || b.Holder("k") != a.ID() {
			t.Fatalf("after %d of %d messages b takes a for down", a.Stats().Published, n)
		}
		return a.Stats().Published == n
	})
}
