package poll

import (
	"bytes"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The waiting goroutine has to be parked by the runtime, and stay so: one
// call of epoll_wait that finds nothing, then silence.
func TestWaitIsParked(t *testing.T) {
	p := newPoller(t)
	a, b, _ := newPair(t)
	fill(t, a)
	if err := p.Add(a, 1, Write); err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int32
	p.queue.fetchFunc = func(fd uintptr) bool {
		calls.Add(1)
		return p.queue.fetch(fd)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if n, err := p.Wait(make([]Event, 4)); n != 1 || err != nil {
			t.Errorf("Wait: %d, %v", n, err)
		}
	}()
	for deadline := time.Now().Add(patience); waitState() != "IO wait"; {
		if time.Now().After(deadline) {
			t.Fatalf("goroutine in Wait: %q", waitState())
		}
		time.Sleep(time.Millisecond)
	}
	time.Sleep(100 * time.Millisecond)
	if n := calls.Load(); n != 1 {
		t.Errorf("%d calls while idle", n)
	}
	if state := waitState(); state != "IO wait" {
		t.Errorf("goroutine in Wait: %q", state)
	}
	drain(t, b)
	<-done
	if n := calls.Load(); n > 4 {
		t.Errorf("%d calls for one event", n)
	}
}

// waitState returns the state of the goroutine in Wait, as the runtime prints
// it.
func waitState() string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	for g := range bytes.SplitSeq(buf, []byte("\n\n")) {
		if bytes.Contains(g, []byte("(*Poller).Wait(")) {
			_, rest, _ := strings.Cut(string(g), "[")
			state, _, _ := strings.Cut(rest, "]")
			state, _, _ = strings.Cut(state, ",")
			return state
		}
	}
	return "none"
}

// Closing a descriptor that was not removed, while a duplicate lives on,
// leaves a registration behind. Its events must not be taken for the
// successor's.
func TestForgottenRegistration(t *testing.T) {
	p := newPoller(t)
	a, b, closeEnd := newPair(t)
	dup, err := unix.Dup(a)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dup)
	if err := p.Add(a, 1, ReadWrite); err != nil {
		t.Fatal(err)
	}
	settle(t, p)
	closeEnd(a)

	c, d, _ := newPair(t)
	if c != a { // somebody else has the number already, or a lower one was free
		if err := unix.Dup3(c, a, unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(a)
		c = a
	}
	if err := p.Add(c, 2, ReadWrite); err != nil {
		t.Fatal(err)
	}
	settle(t, p)
	for _, peer := range []int{b, d} {
		if _, err := unix.Write(peer, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	keys := map[uint64]bool{}
	for _, ev := range settle(t, p) {
		if ev.Readable {
			keys[ev.Key] = true
		}
	}
	if !keys[1] || !keys[2] || len(keys) != 2 {
		t.Errorf("keys %v", keys)
	}
}

func TestNoDescriptorLeaks(t *testing.T) {
	// The runtime opens its own on first use.
	newPoller(t).Close()

	before := openDescriptors(t)
	for i := range 100 {
		p, err := New()
		if err != nil {
			t.Fatal(err)
		}
		left := make(chan struct{})
		if i%2 == 0 {
			go func() {
				defer close(left)
				p.Wait(make([]Event, 1))
			}()
			runtime.Gosched()
		} else {
			close(left)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if n := openDescriptors(t); n != before {
			t.Fatalf("%d descriptors, %d before", n, before)
		}
		<-left
	}
}

// A Close that freed its number twice would hit the descriptor that got it in
// between.
func TestCloseFreesOnce(t *testing.T) {
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	a, b, _ := newPair(t) // very likely on the number of the queue
	p.Close()
	runtime.GC()
	if err := p.Remove(a); err == nil {
		t.Error("Remove after Close")
	}
	for _, fd := range []int{a, b} {
		if _, err := unix.Write(fd, []byte("x")); err != nil {
			t.Error(err)
		}
	}
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
