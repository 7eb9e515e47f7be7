package reactor

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	gerrors "github.com/panjf2000/gnet/v2/pkg/errors"
	"golang.org/x/sys/unix"
)

// R4: however many connections have much to be read, the events of those that have little are served in between.
func TestBulkLeavesRoomForEvents(t *testing.T) {
	const many, each = 20, 2 * ReadSize
	o := running(t)
	var bulk, before atomic.Int32 // reads of much, since the loop was held; and how many of them came before the byte
	read := make(chan int, 100*many)
	var conns []*Conn[*side]
	var clients []net.Conn
	for range many + 1 {
		s := newSide()
		s.traffic = func(_ *Conn[*side], data []byte) {
			if len(data) == 1 {
				before.Store(bulk.Load())
			} else {
				bulk.Add(1)
				time.Sleep(TurnTime) // what a handler takes for so much
			}
			read <- len(data)
		}
		client, c := o.served(s)
		clients, conns = append(clients, client), append(conns, c)
	}
	left := 0
	bring := func() { // each of the many sends
		for _, c := range clients[:many] {
			left += each
			write(t, c, string(make([]byte, each)))
		}
	}
	drain := func() { // and all of it is read
		for left > 0 {
			left -= receive(t, read)
		}
	}
	bring()
	drain() // from here on it is known that they bring much, but for those whose last piece was a small one
	for range 3 {
		held, release := make(chan struct{}), make(chan struct{})
		allowed := int32(3) // the piece that was begun, one among the events, one in a turn
		o.do(func() {
			bulk.Store(0)
			for _, c := range conns[:many] {
				if !c.bulky {
					allowed++
				}
			}
			close(held)
			<-release
		})
		receive(t, held)
		bring()
		left++
		write(t, clients[many], "x")
		close(release)
		drain()
		if n := before.Load(); n > allowed {
			t.Errorf("a connection that brought a byte waited for %d reads of others, want %d at most", n, allowed)
		}
	}
}

// R4: a connection whose peer sends as fast as it is read does not keep the events of others waiting.
func TestEndlessInputIsReadInPieces(t *testing.T) {
	o := newOwner(t)
	client, fd := tcp(t)
	s := newSide()
	reads := 0
	s.traffic = func(_ *Conn[*side], data []byte) {
		if reads++; reads < 100 {
			write(t, client, string(data)) // as much as was read comes at once
		}
	}
	c := o.NewConn(fd)
	c.Context = s
	if err := o.Register(c); err != nil {
		t.Fatal(err)
	}
	c.ReadsEndShort() // each read is followed by another
	o.enlist(c)
	c.readable = true
	write(t, client, "small")
	c.pump()
	if reads != PumpReads || !c.waiting || o.Wake() {
		t.Errorf("%d reads at a time, want %d, and then another turn", reads, PumpReads)
	}
	reads = 100 // and nothing follows
	c.readable, c.waiting = true, false
	write(t, client, string(make([]byte, bulkyRead)))
	eventually(t, "it is there", func() bool { return c.Received() >= bulkyRead })
	c.pump()
	if !c.bulky {
		t.Error("a read that brought much is not known to have")
	}
	finish(c, true)
	o.Close()
}

// A deadline that is brought forward moves the loop's timer, and one that is put off does not lose it.
func TestTimerOfTheLoop(t *testing.T) {
	o := newOwner(t)
	defer o.Close()
	now := o.Now()
	c := o.NewConn(-1)
	o.arm(c, now+time.Hour)
	o.setTimer(now + time.Minute)
	if o.timerAt != now+time.Minute {
		t.Errorf("the timer fires after %v, want a minute", o.timerAt-now)
	}
	o.setTimer(now + 2*time.Hour)
	if o.timerAt != now+time.Minute {
		t.Errorf("the timer fires after %v, want a minute still", o.timerAt-now)
	}
	o.Disarm(c)
	o.timerAt = 0
	o.arm(c, now+time.Hour) // as after a visit that was too early
	if o.timerAt != now+time.Hour {
		t.Error("no timer is set for a connection that is armed again")
	}
	o.Disarm(c)
}

// A deadline passes: the connection is visited at that time, and not before.
func TestDeadline(t *testing.T) {
	o := running(t)
	for name, offload := range map[string]bool{"on the loop": false, "on a worker": true} {
		workers := NewWorkers[*side](1, func() any { return nil })
		visits := make(chan time.Duration, 10)
		s := newSide()
		s.deadline = func(_ *Conn[*side], now time.Duration) { visits <- now }
		const after = 3 * Tick
		var at time.Duration
		s.opened = func(c *Conn[*side]) {
			at = o.Now() + after
			c.Arm(at + time.Hour)
			c.Arm(at)
		}
		_, fd := tcp(t)
		o.open(fd, s, func(c *Conn[*side]) {
			if offload {
				o.Offload(c, workers)
			}
		})
		if now := receive(t, visits); now < at-Tick {
			t.Errorf("%s: visited %v early", name, at-now)
		}
	}
}

// R3: a loop that was woken, and has not turned yet, is not woken again: one signal, however many ask.
func TestWakeOnce(t *testing.T) {
	o := newOwner(t)
	defer o.Close()
	for range 2 {
		if !o.Wake() {
			t.Error("a loop at rest was not woken")
		}
		if o.Wake() {
			t.Error("a loop that was woken is woken again")
		}
		o.Turn()
	}
}

// R3: a batch wakes each of its connections, in order, at the cost of one.
func TestBatch(t *testing.T) {
	const many = 10
	o := running(t)
	workers := NewWorkers[*side](2, func() any { return nil })
	woken := make(chan int, 3*many)
	var conns []*Conn[*side]
	for i := range many {
		s := newSide()
		s.wake = func(*Conn[*side]) { woken <- i }
		_, fd := tcp(t)
		conns = append(conns, o.open(fd, s, func(c *Conn[*side]) {
			if i >= many-2 {
				o.Offload(c, workers)
			}
		}))
	}
	held, release := make(chan struct{}), make(chan struct{})
	o.do(func() { close(held); <-release })
	receive(t, held)
	before := o.WakeUps()
	var batch Batch[*side]
	batch.Wake() // of nothing
	for _, c := range conns {
		batch.Add(c)
	}
	batch.Wake()
	close(release)
	last, seen := -1, 0
	for range many {
		i := receive(t, woken)
		seen |= 1 << i
		if i < many-2 {
			if i != last+1 {
				t.Errorf("connection %d is woken after %d", i, last)
			}
			last = i
		}
	}
	if seen != 1<<many-1 {
		t.Errorf("woken: %b", seen)
	}
	if n := o.WakeUps() - before; n > 1 {
		t.Errorf("%d wake-ups", n)
	}
}

// A ping is answered by the next turn. All who ask before it share one channel.
func TestPing(t *testing.T) {
	o := newOwner(t)
	defer o.Close()
	first := o.Ping()
	if o.Ping() != first {
		t.Error("each ping has a channel of its own")
	}
	o.Turn()
	receive(t, first)
	if o.Ping() == first {
		t.Error("a channel that is closed is given out")
	}
}

// R4: no more than maxAccepts connections are accepted at a listener before others are served, and none is forgotten.
func TestAcceptsAreBounded(t *testing.T) {
	const many = 2*maxAccepts + 5
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fd, err := Duplicate(l.(syscall.Conn))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	o := newOwner(t)
	accepted := 0
	if err := o.Listen(fd, func() bool {
		conn, _, err := Accept(fd)
		if err != nil {
			return false
		}
		accepted++
		_ = unix.Close(conn)
		return true
	}); err != nil {
		t.Fatal(err)
	}
	for range many {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if err := o.event(fd, 0, 0); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{maxAccepts, 2 * maxAccepts, many} {
		if accepted != want {
			t.Errorf("%d were accepted, want %d", accepted, want)
		}
		if more := accepted < many; more == o.Wake() {
			t.Errorf("after %d of %d: another turn is on its way: %t", accepted, many, !more)
		}
		o.Turn()
	}
	o.Unlisten(fd)
	o.Close()
}

// R4: a turn does not serve more of the mailbox than it is bounded to, and is followed by another.
func TestMailboxIsServedInPieces(t *testing.T) {
	o := newOwner(t)
	served := 0
	s := newSide()
	s.wake = func(*Conn[*side]) { served++ }
	for range TurnWakes + 3 {
		c := o.NewConn(-1)
		c.Context = s
		c.closed = true // there is no socket
		c.Wake()
	}
	o.Turn()
	if served != TurnWakes || o.Wake() {
		t.Errorf("%d connections were served by a turn, want %d and another turn", served, TurnWakes)
	}
	o.Turn()
	if served != TurnWakes+3 || !o.Wake() {
		t.Errorf("%d connections were served by two turns, want all", served)
	}
	o.Close()
}

// A loop that ends has the owner's work done to the last, however many turns that takes.
func TestSweepDoesAllWork(t *testing.T) {
	o := newOwner(t)
	done := 0
	for range 10 {
		o.do(func() { done++; time.Sleep(2 * TurnTime) })
	}
	o.ended = gerrors.ErrEngineShutdown
	o.sweep()
	if done != 10 || o.cause != nil {
		t.Errorf("%d of 10 were done; the owner was told %v", done, o.cause)
	}
	o.Close()
}

// A loop whose poller has failed says so, ends its connections, and does the owner's work until it is halted.
func TestFaultIsSwept(t *testing.T) {
	o := newOwner(t)
	fault := errors.New("the poller has failed")
	client, fd := tcp(t)
	s := newSide()
	o.do(func() {
		c := o.NewConn(fd)
		c.Context = s
		o.Open(c, nil)
	})
	o.Turn()
	o.ended = fault
	go o.Run()
	receive(t, s.released)
	_ = ended(t, client)
	for range 2 {
		if err := ask(o, func() error { return o.cause }); err != fault {
			t.Errorf("the owner was told %v, want the fault", err)
		}
	}
	o.Halt()
	o.Close()
}
