package reactor

import (
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

// R5: after a Goexit each connection is looked at once more, and from then on read as before: a read that brings little has
// emptied the socket. Those that a worker serves, those that are not open, and those whose reading is off too.
func TestGoexitLeavesReadsAsTheyWere(t *testing.T) {
	o := running(t)
	workers := NewWorkers[*side](2, func() any { return nil })
	plainly, plain := o.served(newSide())
	paused, pause := o.served(newSide())
	client, fd := unixPair(t)
	local := o.open(fd, newSide(), func(c *Conn[*side]) { c.ReadsEndShort() })
	worked, fd := tcp(t)
	offloaded := o.open(fd, newSide(), func(c *Conn[*side]) { o.Offload(c, workers) })
	awaited, fd := tcp(t)
	early := newSide()
	looked := make(chan struct{}, 10)
	early.resume = func(*Conn[*side]) { looked <- struct{}{} }
	await := ask(o, func() *Conn[*side] {
		c := o.NewConn(fd)
		c.Context = early
		if err := o.Register(c); err != nil {
			t.Error(err)
		}
		return c
	})
	ask(o, func() bool { pause.Reading(false); return true })

	dying := newSide()
	dying.traffic = func(c *Conn[*side], _ []byte) {
		finish(c, true)
		runtime.Goexit()
	}
	dies, _ := o.served(dying)
	write(t, dies, "die")
	_ = ended(t, dies)
	receive(t, looked)
	if n := o.boots.Load(); n != 2 {
		t.Errorf("%d goroutines have run the loop, want 2", n)
	}
	ask(o, func() bool {
		early.resume = nil
		o.Open(await, nil)
		pause.Reading(true)
		pause.Again()
		return true
	})
	for _, c := range []net.Conn{plainly, paused, client, worked, awaited} {
		exchange(t, c, 3)
	}
	for name, c := range map[string]*Conn[*side]{"plain": plain, "paused": pause, "not open": await} {
		if got := ask(o, func() shortRead { return c.shortRead }); got != emptied {
			t.Errorf("%s: reads are distrusted (%d)", name, got)
		}
	}
	if got := ask(o, func() shortRead { return local.shortRead }); got != unsure {
		t.Errorf("unix: %d, want %d", got, unsure)
	}
	asked := make(chan shortRead, 1)
	offloaded.Context.wake = func(c *Conn[*side]) { asked <- c.shortRead }
	offloaded.Wake()
	if got := receive(t, asked); got != emptied {
		t.Errorf("offloaded: reads are distrusted (%d)", got)
	}
}

// R5: a handler that ends its goroutine in OnOpen, on the loop or on a worker, loses nothing: after has run, and what was sent is read.
func TestGoexitInOnOpen(t *testing.T) {
	for name, offload := range map[string]bool{"on the loop": false, "on a worker": true} {
		t.Run(name, func(t *testing.T) {
			o := running(t)
			workers := NewWorkers[*side](1, func() any { return nil })
			client, fd := tcp(t)
			write(t, client, "x")
			other, _ := o.served(newSide())
			s := newSide()
			s.opened = func(*Conn[*side]) { runtime.Goexit() }
			after := make(chan struct{})
			o.do(func() {
				c := o.NewConn(fd)
				c.Context = s
				if err := o.Register(c); err != nil {
					t.Error(err)
				}
				if offload {
					o.Offload(c, workers)
				}
				o.Open(c, func() { close(after) })
			})
			receive(t, after)
			if _, err := client.Read(make([]byte, 1)); err != nil {
				t.Error(err)
			}
			exchange(t, client, 3)
			exchange(t, other, 3)
		})
	}
}

// R5: a turn that a handler cut short is made again: the owner's work that was left is done.
func TestGoexitInATurn(t *testing.T) {
	o := newOwner(t)
	done := make(chan struct{})
	o.do(func() { runtime.Goexit() })
	o.do(func() { close(done) })
	o.run()
	receive(t, done)
}

// A loop that was told to end while a handler took its goroutine down ends: the notice may be lost with the goroutine.
func TestGoexitLosesNoEnd(t *testing.T) {
	o := newOwner(t)
	o.woken.Store(true) // nobody wakes it any more
	close(o.quit)
	go o.Loop.run(true)
	receive(t, o.gone)
	o.Close()
}

// The stack of a goroutine shows that it runs a loop, or is a worker.
func TestStacksShowLoopsAndWorkers(t *testing.T) {
	o := running(t)
	shows := func(want string) func() bool {
		return func() bool {
			pcs := make([]uintptr, 64)
			frames := runtime.CallersFrames(pcs[:runtime.Callers(0, pcs)])
			for {
				frame, more := frames.Next()
				if frame.Function == want {
					return true
				}
				if !more {
					return false
				}
			}
		}
	}
	if !ask(o, shows(RunFunc)) || !ask(o, func() bool { return loops.Own().Loop }) {
		t.Errorf("%s is not on the stack of a loop", RunFunc)
	}
	if loops.Own().Loop {
		t.Error("a test is taken for a loop")
	}
	workers := NewWorkers[*side](1, func() any { return nil })
	before := AtWork()
	s := newSide()
	found, counted := make(chan bool, 1), make(chan [2]int64, 1)
	s.opened = func(*Conn[*side]) {
		found <- shows(WorkFunc)() && !loops.Own().Loop
		counted <- [2]int64{o.offloaded.Working.Load(), AtWork() - before}
	}
	_, fd := tcp(t)
	o.open(fd, s, func(c *Conn[*side]) { o.Offload(c, workers) })
	if !receive(t, found) {
		t.Errorf("%s is not on the stack of a worker", WorkFunc)
	}
	if n := receive(t, counted); n != [2]int64{1, 1} {
		t.Errorf("%v workers are counted, want 1 of this loop and 1 of the process", n)
	}
	eventually(t, "no worker is at work", func() bool { return o.offloaded.Working.Load() == 0 && o.offloaded.Waiting.Load() == 0 })
}

// No more workers are at work than they are limited to, and connections that wait are all served.
func TestWorkersAreLimited(t *testing.T) {
	const many, limit = 10, 3
	o := running(t)
	workers := NewWorkers[*side](limit, func() any { return nil })
	entered, release := make(chan struct{}, many), make(chan struct{})
	for range many {
		s := newSide()
		s.opened = func(*Conn[*side]) { entered <- struct{}{}; <-release }
		_, fd := tcp(t)
		o.open(fd, s, func(c *Conn[*side]) { o.Offload(c, workers) })
	}
	for range limit {
		receive(t, entered)
	}
	eventually(t, "the others wait", func() bool { return o.offloaded.Waiting.Load() == many-limit })
	select {
	case <-entered:
		t.Errorf("more than %d are at work", limit)
	case <-time.After(10 * time.Millisecond):
	}
	close(release)
	for range many - limit {
		receive(t, entered)
	}
}

func TestErrorsSayWhoSpeaks(t *testing.T) {
	for _, err := range []error{ErrWouldBlock, ErrNoMemory} {
		if !strings.HasPrefix(err.Error(), "reactor: ") {
			t.Errorf("%q", err)
		}
	}
}
