//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package poll

import (
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const patience = 10 * time.Second

func newPoller(t testing.TB) *Poller {
	t.Helper()
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return p
}

// newPair returns the ends of a non-blocking stream, closed by the test or at
// its end through the function.
func newPair(t testing.TB) (a, b int, closeEnd func(fd int)) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	open := map[int]bool{}
	for _, fd := range fds {
		open[fd] = true
		if err := unix.SetNonblock(fd, true); err != nil {
			t.Fatal(err)
		}
	}
	closeEnd = func(fd int) {
		if open[fd] {
			open[fd] = false
			if err := unix.Close(fd); err != nil {
				t.Errorf("close %d: %v", fd, err)
			}
		}
	}
	t.Cleanup(func() { closeEnd(fds[0]); closeEnd(fds[1]) })
	return fds[0], fds[1], closeEnd
}

// await runs Wait until one of the events satisfies want, and returns all
// that were seen.
func await(t testing.TB, p *Poller, want func(Event) bool) []Event {
	t.Helper()
	var seen []Event
	events := make([]Event, 8)
	stuck := time.AfterFunc(patience, func() { p.Close() })
	defer stuck.Stop()
	for !slices.ContainsFunc(seen, want) {
		n, err := p.Wait(events)
		if err != nil {
			t.Fatalf("Wait: %v, after %+v", err, seen)
		}
		seen = append(seen, events[:n]...)
	}
	return seen
}

// settle collects what Wait has to say at once: everything up to the event of
// a descriptor registered for the purpose, with the key sentinel.
func settle(t testing.TB, p *Poller) []Event {
	t.Helper()
	const sentinel = math.MaxUint64
	a, _, closeEnd := newPair(t)
	if err := p.Add(a, sentinel, Write); err != nil {
		t.Fatal(err)
	}
	seen := await(t, p, func(ev Event) bool { return ev.Key == sentinel })
	if err := p.Remove(a); err != nil {
		t.Fatal(err)
	}
	closeEnd(a)
	return slices.DeleteFunc(seen, func(ev Event) bool { return ev.Key == sentinel })
}

func fill(t testing.TB, fd int) (n int) {
	t.Helper()
	chunk := make([]byte, 4096)
	for {
		m, err := unix.Write(fd, chunk)
		if err == unix.EAGAIN || err == unix.ENOBUFS {
			return n
		}
		if err != nil {
			t.Fatalf("write: %v", err)
		}
		n += m
	}
}

func drain(t testing.TB, fd int) (n int) {
	t.Helper()
	chunk := make([]byte, 65536)
	for {
		m, err := unix.Read(fd, chunk)
		if err == unix.EAGAIN || err == nil && m == 0 {
			return n
		}
		if err != nil {
			t.Fatalf("read: %v", err)
		}
		n += m
	}
}

func TestWritable(t *testing.T) {
	for _, in := range []Interest{Write, ReadWrite} {
		p := newPoller(t)
		a, b, _ := newPair(t)
		fill(t, a)
		if err := p.Add(a, 7, in); err != nil {
			t.Fatal(err)
		}
		for _, ev := range settle(t, p) {
			if ev.Writable {
				t.Fatalf("interest %d: full, but %+v", in, ev)
			}
		}
		// More than once: the registration stays.
		for range 3 {
			drain(t, b)
			for _, ev := range await(t, p, func(ev Event) bool { return ev.Writable }) {
				if ev.Key != 7 || ev.Hangup || ev.Readable {
					t.Errorf("interest %d: %+v", in, ev)
				}
			}
			settle(t, p) // the peer's reading in pieces may show as several events
			fill(t, a)
		}
	}
}

func TestAnnouncesWhatIsAlreadyTrue(t *testing.T) {
	p := newPoller(t)
	a, b, _ := newPair(t)
	if _, err := unix.Write(b, []byte("x")); err != nil {
		t.Fatal(err)
	}
	both := func(key uint64) {
		t.Helper()
		var readable, writable bool
		for _, ev := range settle(t, p) {
			if ev.Key != key {
				t.Errorf("key %d: %+v", key, ev)
			}
			readable = readable || ev.Readable
			writable = writable || ev.Writable
		}
		if !readable || !writable {
			t.Errorf("key %d: readable %v, writable %v", key, readable, writable)
		}
	}
	if err := p.Add(a, 1, ReadWrite); err != nil {
		t.Fatal(err)
	}
	both(1)
	if seen := settle(t, p); len(seen) != 0 {
		t.Errorf("announced twice: %+v", seen)
	}
	if err := p.Modify(a, 2, ReadWrite); err != nil {
		t.Fatal(err)
	}
	both(2)
}

func TestReadable(t *testing.T) {
	p := newPoller(t)
	a, b, _ := newPair(t)
	if err := p.Add(a, 1, ReadWrite); err != nil {
		t.Fatal(err)
	}
	settle(t, p)
	for range 3 {
		if _, err := unix.Write(b, []byte("x")); err != nil {
			t.Fatal(err)
		}
		await(t, p, func(ev Event) bool { return ev.Readable && !ev.Hangup })
		if n := drain(t, a); n != 1 {
			t.Fatalf("read %d bytes", n)
		}
	}
}

func TestWriteInterestIsNotToldOfReading(t *testing.T) {
	p := newPoller(t)
	a, b, _ := newPair(t)
	if err := p.Add(a, 1, ReadWrite); err != nil {
		t.Fatal(err)
	}
	if err := p.Modify(a, 1, Write); err != nil {
		t.Fatal(err)
	}
	settle(t, p)
	if _, err := unix.Write(b, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Shutdown(b, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	for _, ev := range settle(t, p) {
		if ev.Readable || ev.Hangup {
			t.Errorf("%+v", ev)
		}
	}
	if err := p.Modify(a, 1, ReadWrite); err != nil {
		t.Fatal(err)
	}
	await(t, p, func(ev Event) bool { return ev.Readable })
}

func TestReadInterestIsNotToldOfRoom(t *testing.T) {
	p := newPoller(t)
	a, b, _ := newPair(t)
	if err := p.Add(a, 1, Read); err != nil {
		t.Fatal(err)
	}
	fill(t, a)
	drain(t, b)
	for _, ev := range settle(t, p) {
		if ev.Writable {
			t.Errorf("%+v", ev)
		}
	}
	if _, err := unix.Write(b, []byte("x")); err != nil {
		t.Fatal(err)
	}
	await(t, p, func(ev Event) bool { return ev.Readable })
	if err := p.Modify(a, 1, ReadWrite); err != nil {
		t.Fatal(err)
	}
	await(t, p, func(ev Event) bool { return ev.Writable })
	if err := unix.Shutdown(b, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	await(t, p, func(ev Event) bool { return ev.Hangup })
}

func TestHalfClose(t *testing.T) {
	p := newPoller(t)
	a, b, _ := newPair(t)
	if err := p.Add(a, 1, ReadWrite); err != nil {
		t.Fatal(err)
	}
	settle(t, p)
	if _, err := unix.Write(b, []byte("last words")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Shutdown(b, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	await(t, p, func(ev Event) bool { return ev.Hangup })
	if n := drain(t, a); n != len("last words") {
		t.Errorf("read %d bytes", n)
	}
	if _, err := unix.Write(a, []byte("reply")); err != nil {
		t.Errorf("other direction: %v", err)
	}
}

func TestPeerGone(t *testing.T) {
	for _, in := range []Interest{Read, Write, ReadWrite} {
		p := newPoller(t)
		a, b, closeEnd := newPair(t)
		fill(t, a)
		if err := p.Add(a, 1, in); err != nil {
			t.Fatal(err)
		}
		settle(t, p)
		closeEnd(b)
		await(t, p, func(ev Event) bool { return ev.Hangup })
	}
}

func TestReset(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, in := range []Interest{Read, Write, ReadWrite} {
		client, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		server, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		raw, err := server.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		p := newPoller(t)
		if err := raw.Control(func(fd uintptr) {
			fill(t, int(fd))
			if err := p.Add(int(fd), 1, in); err != nil {
				t.Fatal(err)
			}
		}); err != nil {
			t.Fatal(err)
		}
		settle(t, p)
		if err := client.(*net.TCPConn).SetLinger(0); err != nil {
			t.Fatal(err)
		}
		client.Close()
		await(t, p, func(ev Event) bool { return ev.Hangup })
	}
}

func TestKeys(t *testing.T) {
	p := newPoller(t)
	a, _, _ := newPair(t)
	if err := p.Add(a, 0, Write); err != nil {
		t.Fatal(err)
	}
	for _, key := range []uint64{0, 1, 1 << 31, 1<<32 - 1, 1 << 32, 1<<63 | 1, 0xc000123456, 0xfedcba9876543210, math.MaxUint64 - 1} {
		if key > math.MaxUint { // only the lower half is promised on 32 bits
			continue
		}
		if err := p.Modify(a, key, Write); err != nil {
			t.Fatal(err)
		}
		if seen := settle(t, p); len(seen) != 1 || seen[0].Key != key {
			t.Errorf("key %#x: %+v", key, seen)
		}
	}
}

// A number that comes back after close belongs to the new key only.
func TestReusedDescriptor(t *testing.T) {
	p := newPoller(t)
	a, b, closeEnd := newPair(t)
	if err := p.Add(a, 1, ReadWrite); err != nil {
		t.Fatal(err)
	}
	settle(t, p)
	if _, err := unix.Write(b, []byte("old")); err != nil {
		t.Fatal(err)
	}
	if err := p.Remove(a); err != nil {
		t.Fatal(err)
	}
	closeEnd(a)

	c, d, closeNew := newPair(t)
	fd := c
	if c != a {
		if err := unix.Dup2(c, a); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(a)
		closeNew(c)
		fd = a
	}
	if err := p.Add(fd, 2, ReadWrite); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(d, []byte("new")); err != nil {
		t.Fatal(err)
	}
	for _, ev := range await(t, p, func(ev Event) bool { return ev.Readable }) {
		if ev.Key != 2 {
			t.Errorf("%+v", ev)
		}
	}
}

// Events already in the kernel's hands may be seen after Remove. They have to
// carry the old key, so fetch first and replace the descriptor then.
func TestStaleEventKeepsItsKey(t *testing.T) {
	p := newPoller(t)
	a, _, closeEnd := newPair(t)
	if err := p.Add(a, 1, Write); err != nil {
		t.Fatal(err)
	}
	events := make([]Event, 1)
	if _, err := p.Wait(events); err != nil {
		t.Fatal(err)
	}
	if err := p.Remove(a); err != nil {
		t.Fatal(err)
	}
	closeEnd(a)
	c, _, _ := newPair(t)
	if err := p.Add(c, 2, Write); err != nil {
		t.Fatal(err)
	}
	if events[0].Key != 1 {
		t.Errorf("%+v", events[0])
	}
	if seen := settle(t, p); len(seen) != 1 || seen[0].Key != 2 {
		t.Errorf("%+v", seen)
	}
}

func TestMoreEventsThanRoom(t *testing.T) {
	p := newPoller(t)
	const pairs = 20
	for key := range uint64(pairs) {
		a, _, _ := newPair(t)
		if err := p.Add(a, key, Write); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[uint64]bool{}
	events := make([]Event, 3)
	for len(seen) < pairs {
		n, err := p.Wait(events)
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range events[:n] {
			seen[ev.Key] = true
		}
	}
}

func TestMistakes(t *testing.T) {
	p := newPoller(t)
	a, _, closeEnd := newPair(t)
	if err := p.Add(a, 1, 0); !errors.Is(err, errInterest) {
		t.Errorf("Add without interest: %v", err)
	}
	if err := p.Modify(a, 1, ReadWrite+1); !errors.Is(err, errInterest) {
		t.Errorf("Modify with unknown interest: %v", err)
	}
	if err := p.Remove(a); !errors.Is(err, unix.ENOENT) {
		t.Errorf("Remove of a stranger: %v", err)
	}
	if _, err := p.Wait(nil); !errors.Is(err, unix.EINVAL) {
		t.Errorf("Wait without room: %v", err)
	}
	closeEnd(a)
	if err := p.Add(a, 1, Write); !errors.Is(err, unix.EBADF) {
		t.Errorf("Add of a closed descriptor: %v", err)
	}
}

func TestCloseWakesWait(t *testing.T) {
	for _, pause := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond} {
		p := newPoller(t)
		a, _, _ := newPair(t)
		fill(t, a)
		if err := p.Add(a, 1, Write); err != nil {
			t.Fatal(err)
		}
		woken := make(chan error)
		go func() {
			events := make([]Event, 4)
			for {
				if n, err := p.Wait(events); err != nil {
					if n != 0 {
						err = errors.Join(err, fmt.Errorf("and %d events", n))
					}
					woken <- err
					return
				}
			}
		}()
		time.Sleep(pause)

		var closers sync.WaitGroup
		for range 4 {
			closers.Go(func() {
				if err := p.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
		}
		select {
		case err := <-woken:
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("Wait: %v", err)
			}
		case <-time.After(patience):
			t.Fatal("Wait sleeps on")
		}
		closers.Wait()
	}
}

func TestClosed(t *testing.T) {
	p := newPoller(t)
	a, _, _ := newPair(t)
	if err := p.Add(a, 1, Write); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	_, waited := p.Wait(make([]Event, 1))
	for name, err := range map[string]error{
		"Wait":   waited,
		"Add":    p.Add(a, 1, Write),
		"Modify": p.Modify(a, 1, Write),
		"Remove": p.Remove(a),
	} {
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The number of the queue may be anybody's now.
	if _, err := unix.Write(a, []byte("x")); err != nil {
		t.Errorf("registered descriptor: %v", err)
	}
}

func TestWaitDoesNotAllocate(t *testing.T) {
	p := newPoller(t)
	a, b, _ := newPair(t)
	if err := p.Add(a, 1, ReadWrite); err != nil {
		t.Fatal(err)
	}
	events := make([]Event, 64)
	data := []byte("x")
	round := func() {
		if _, err := unix.Write(b, data); err != nil {
			t.Fatal(err)
		}
		if n, err := p.Wait(events); err != nil || n == 0 {
			t.Fatal(n, err)
		}
		if _, err := unix.Read(a, data); err != nil {
			t.Fatal(err)
		}
	}
	if avg := testing.AllocsPerRun(1000, round); avg != 0 {
		t.Errorf("%v allocations without waiting", avg)
	}

	// The same, with the writer elsewhere: now Wait really waits.
	next := make(chan struct{})
	go func() {
		data := []byte("x")
		for range next {
			time.Sleep(50 * time.Microsecond)
			unix.Write(b, data)
		}
	}()
	defer close(next)
	parked := func() {
		next <- struct{}{}
		for {
			n, err := p.Wait(events)
			if err != nil {
				t.Fatal(err)
			}
			if slices.ContainsFunc(events[:n], func(ev Event) bool { return ev.Readable }) {
				break
			}
		}
		if _, err := unix.Read(a, data); err != nil {
			t.Fatal(err)
		}
	}
	if avg := testing.AllocsPerRun(200, parked); avg != 0 {
		t.Errorf("%v allocations with waiting", avg)
	}
}

// Many streams are pumped through small buffers by goroutines that sleep until
// the one poller wakes them. An edge that gets lost is a stream that stops.
// Bystanders register and leave all the while, and everything is closed in
// the midst of it.
func TestConcurrent(t *testing.T) {
	const (
		streams = 16
		volume  = 1 << 20
	)
	p := newPoller(t)
	wake := make([]chan struct{}, 2*streams)
	for i := range wake {
		wake[i] = make(chan struct{}, 1)
	}
	waited := make(chan error, 1)
	go func() {
		events := make([]Event, 8)
		for {
			n, err := p.Wait(events)
			if err != nil {
				waited <- err
				return
			}
			for _, ev := range events[:n] {
				if ev.Key < uint64(len(wake)) {
					select {
					case wake[ev.Key] <- struct{}{}:
					default:
					}
				}
			}
		}
	}()

	// pump repeats op, which moves some bytes, until volume bytes are through.
	pump := func(fd int, key uint64, in Interest, op func(int, []byte) (int, error)) error {
		buf := make([]byte, 16<<10)
		registered := false
		for left := volume; left > 0; {
			n, err := op(fd, buf[:min(len(buf), left)])
			switch {
			case err == nil:
				left -= n
			case err != unix.EAGAIN && err != unix.ENOBUFS:
				return err
			case !registered:
				registered = true
				if err := p.Add(fd, key, in); err != nil {
					return err
				}
			default:
				select {
				case <-wake[key]:
				case <-time.After(patience):
					return fmt.Errorf("stream %d: no event, %d bytes left", key, left)
				}
			}
		}
		if registered {
			return p.Remove(fd)
		}
		return nil
	}

	var pumps, bystanders sync.WaitGroup
	for i := range streams {
		a, b, _ := newPair(t)
		for _, fd := range []int{a, b} {
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4096); err != nil {
				t.Fatal(err)
			}
		}
		pumps.Go(func() {
			if err := pump(a, uint64(2*i), Write, unix.Write); err != nil {
				t.Errorf("write: %v", err)
			}
		})
		pumps.Go(func() {
			if err := pump(b, uint64(2*i+1), ReadWrite, unix.Read); err != nil {
				t.Errorf("read: %v", err)
			}
		})
	}
	for i := range 4 {
		a, _, _ := newPair(t)
		key := uint64(1000 + i)
		bystanders.Go(func() {
			for {
				for _, op := range []func() error{
					func() error { return p.Add(a, key, Write) },
					func() error { return p.Modify(a, key, ReadWrite) },
					func() error { return p.Remove(a) },
				} {
					if err := op(); errors.Is(err, net.ErrClosed) {
						return
					} else if err != nil {
						t.Errorf("bystander: %v", err)
						return
					}
				}
				time.Sleep(100 * time.Microsecond) // leave room for the streams
			}
		})
	}
	pumps.Wait()
	if err := p.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	bystanders.Wait()
	if err := <-waited; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Wait: %v", err)
	}
}

func BenchmarkAddRemove(b *testing.B) {
	p := newPoller(b)
	go func() {
		events := make([]Event, 64)
		for {
			if _, err := p.Wait(events); err != nil {
				return
			}
		}
	}()
	fd, _, _ := newPair(b)
	fill(b, fd)
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Add(fd, 1, Write); err != nil {
			b.Fatal(err)
		}
		if err := p.Remove(fd); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWait(b *testing.B) {
	p := newPoller(b)
	fd, _, _ := newPair(b)
	if err := p.Add(fd, 1, Write); err != nil {
		b.Fatal(err)
	}
	events := make([]Event, 64)
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Modify(fd, 1, Write); err != nil {
			b.Fatal(err)
		}
		if _, err := p.Wait(events); err != nil {
			b.Fatal(err)
		}
	}
}
