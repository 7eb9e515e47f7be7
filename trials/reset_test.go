//go:build linux

package trials

import (
	"os/exec"
	"testing"
	"time"
)

// T1: a client that resets its connection before it is accepted is a session for a moment at most, or none.
//
// Leaving out the pump after OnOpen in internal/reactor/conn.go does not make it fail: the poller's first event reports the reset too.
func TestT01ResetBeforeAccept(t *testing.T) {
	o := begin(t, "T01", how{})
	n := scaled(500, 50)
	o.stopped(func() {
		for range n {
			c, err := connect(dialer(0), o.at.Records)
			must(t, err)
			c.reset()
		}
	})
	r, ok := o.settledAt(0, 2*time.Second)
	var longest time.Duration
	for _, l := range o.silent {
		longest = max(longest, time.Duration(l.Ended-l.Connected))
	}
	o.check("no session stays > 1 s", ok && longest <= within(time.Second), "%d connections, %d sessions, the longest %v", n,
		r.Connected-1-bystanders, round(longest))
	time.Sleep(5 * bystanderEvery) // of the bystanders' answers
	o.finish()
}

// T2: a reset is noticed at once, in any state of the session, and what is queued for it is dropped.
//
// Fails if a session that is not read misses its reset: have note in internal/reactor/read.go ignore hang-ups of a paused connection. (Leaving
// out the probe alone does not make it fail: the write after the hang-up reports the reset too.)
func TestT02ResetIdleMidMessageQueued(t *testing.T) {
	o := begin(t, "T02", how{})
	n := scaled(1000, 100)
	for _, state := range []string{"idle", "half a record", "8 MiB queued"} {
		var slowest time.Duration
		wrong := 0
		resets := make([]int64, n)
		clients := make([]*client, n)
		atOnce := 10
		if state == "8 MiB queued" {
			atOnce = 2 // it is the reset that is tried, not the processor
		}
		each(n, atOnce, func(i int) {
			c := o.connect()
			clients[i] = c
			if err := c.echo(64); err != nil {
				t.Error(err)
			}
			switch state {
			case "half a record":
				_, _ = c.Write(c.out.add(nil, make([]byte, 100))[:60])
			case "8 MiB queued":
				_ = c.ask(request(verbGive, 8<<20))
				_ = c.take(make([]byte, 1024), nil, func() bool { return c.in.bytes > 1000 }) // it has begun
			}
			resets[i] = c.reset()
		})
		if _, ok := o.settledAt(0, patience); !ok {
			t.Fatal("sessions live that were reset")
		}
		for i, c := range clients {
			l := o.lives[c.out.id]
			slowest = max(slowest, time.Duration(l.Ended-resets[i]))
			if !because(l, "reset") {
				wrong++
			}
		}
		o.check("reset, "+state+": OnDisconnected <= 100 ms, cause reset", slowest <= within(100*time.Millisecond) && wrong == 0,
			"%d resets, the slowest after %v, %d with another cause", n, round(slowest), wrong)
		r := o.report()
		o.check("reset, "+state+": buffers returned", r.Buffers == 0, "%d buffers", r.Buffers)
	}
	o.finish()
}

// T3: of what was sent before a reset, everything or a prefix is delivered, and then the end, once.
//
// Fails if OnDisconnected is called twice: call callDisconnected twice in finish of session/finish.go.
func TestT03DataThenReset(t *testing.T) {
	o := begin(t, "T03", how{})
	n := scaled(1000, 100)
	each(n, 20, func(int) {
		c := o.connect()
		payload := make([]byte, 16<<10-headerSize)
		payload[0] = verbNothing
		var data []byte
		for range 4 {
			data = c.out.add(data, payload)
		}
		if _, err := c.Write(data); err != nil {
			t.Error(err)
		}
		c.reset()
	})
	_, ok := o.settledAt(0, patience)
	var delivered, whole, other int
	for _, c := range o.clients {
		l := o.lives[c.out.id]
		delivered += int(l.Received)
		if l.Received == 64<<10 {
			whole++
		}
		if l.ID != 0 && !because(l, "reset") {
			other++
		}
	}
	o.check("all or a prefix, then one OnDisconnected", ok && other == 0, "%d connections, %d delivered whole, %s in all, %d with another cause than reset",
		n, whole, size(delivered), other)
	o.finish()
}

// T10: sessions whose connections the administrator kills (ss -K) end at once.
//
// Fails if hang-ups are ignored: have note in internal/reactor/read.go return on them.
func TestT10KilledByTheKernel(t *testing.T) {
	ss, err := exec.LookPath("ss")
	if err != nil {
		skip(t, "T10", "ss is not installed (package iproute2)")
	}
	o := begin(t, "T10", how{})
	n := scaled(200, 20)
	d := dialer(0)
	d.LocalAddr = addressOf("127.0.0.2")
	ended := make([]int64, n)
	killed := make(chan struct{})
	clients := make([]*client, n)
	for i := range n {
		c, err := connect(d, o.at.Records)
		must(t, err)
		o.watch(c)
		must(t, c.echo(64))
		clients[i] = c
	}
	go func() {
		defer close(killed)
		each(n, n, func(i int) {
			_ = clients[i].takeAll()
			ended[i] = clients[i].endAt
		})
	}()
	_, port := split(t, o.at.Records)
	out, err := exec.Command(ss, "-K", "-t", "src", "127.0.0.1:"+port, "dst", "127.0.0.2").CombinedOutput()
	if err != nil {
		skip(t, "T10", "ss -K: "+string(out))
	}
	select {
	case <-killed:
	case <-time.After(patience):
		t.Fatalf("ss -K has killed nothing: %s", out)
	}
	if _, ok := o.settledAt(0, patience); !ok {
		t.Fatal("sessions live that were killed")
	}
	var slowest time.Duration
	wrong := 0
	for i, c := range clients {
		l := o.lives[c.out.id]
		slowest = max(slowest, time.Duration(l.Ended-ended[i]))
		if !because(l, "reset") {
			wrong++
		}
	}
	o.check("OnDisconnected <= 100 ms each", slowest <= within(100*time.Millisecond) && wrong == 0,
		"%d killed, the slowest %v after its client knew, %d with another cause", n, round(slowest), wrong)
	o.finish()
}
