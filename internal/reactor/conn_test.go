package reactor

import (
	"errors"
	"io"
	"net"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What every connection costs, whatever it does: one of the allocator's sizes.
func TestConnIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(Conn[*side]{}); n != 48 {
		t.Errorf("a Conn takes %d bytes, want 48", n)
	}
}

// R7: an event of a descriptor whose number has passed to another connection does no harm to that one.
func TestStaleEvent(t *testing.T) {
	o := running(t)
	s := newSide()
	client, c := o.served(s)
	exchange(t, client, 1)
	closed := ask(o, func() bool {
		for _, e := range []event{{readable: true}, {writable: true}, {hangup: true}, {readable: true, writable: true, hangup: true, urgent: true}} {
			c.event(e)
		}
		return c.closed
	})
	if closed {
		t.Fatal("the connection was ended")
	}
	exchange(t, client, 3)
}

// R7: an event of the descriptor's last owner does not make a connection that is not open one that its peer has finished.
func TestStaleHangupIsAsked(t *testing.T) {
	o := running(t)
	client, fd := tcp(t)
	s := newSide()
	ready := make(chan []byte, 10)
	s.ready = func(c *Conn[*side]) {
		if b, err := c.Peek(100); err == nil {
			ready <- append([]byte(nil), b...)
		}
	}
	c := ask(o, func() *Conn[*side] {
		c := o.NewConn(fd)
		c.Context = s
		if err := errors.Join(o.Register(c), o.Register(c)); err != nil { // the second does nothing
			t.Error(err)
		}
		return c
	})
	if ask(o, func() bool { c.event(event{hangup: true}); return c.PeerFinished() }) {
		t.Error("the peer is taken to have finished")
	}
	write(t, client, "head")
	write(t, client, "er")
	for len(receive(t, ready)) < len("header") { // it stays in the kernel
	}
	got := make(chan string, 10)
	s.traffic = func(_ *Conn[*side], data []byte) { got <- string(data) }
	if err := ask(o, func() error {
		b, err := c.Peek(4)
		if err == nil {
			err = c.Discard(b)
		}
		o.Open(c, nil)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if data := receive(t, got); data != "er" {
		t.Errorf("%q was brought, want what was not discarded", data)
	}
	_ = client.(*net.TCPConn).CloseWrite()
	receive(t, s.released)
}

// A connection that is not open learns that its peer has finished.
func TestPeerFinished(t *testing.T) {
	o := running(t)
	client, fd := tcp(t)
	s := newSide()
	finished := make(chan bool, 10)
	s.ready = func(c *Conn[*side]) { finished <- c.PeerFinished() }
	c := ask(o, func() *Conn[*side] {
		c := o.NewConn(fd)
		c.Context = s
		if err := o.Register(c); err != nil {
			t.Error(err)
		}
		return c
	})
	write(t, client, "half a header")
	_ = client.(*net.TCPConn).CloseWrite()
	for !receive(t, finished) {
	}
	ask(o, func() bool { c.Close(false); return true }) // it was never opened
	if err := ended(t, client); err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Error(err)
	}
	if o.Len() != 0 || ask(o, func() bool { return o.table.get(fd) == c }) {
		t.Error("a connection that was closed before it was opened is not forgotten")
	}
}

// A connection that is closed leaves the wheel, whatever its deadline was, and events of its descriptor, which may be another's by
// then, are not its own any more.
func TestClosedConnectionIsForgotten(t *testing.T) {
	for name, offload := range map[string]bool{"on the loop": false, "on a worker": true} {
		t.Run(name, func(t *testing.T) {
			o := running(t)
			workers := NewWorkers[*side](1, func() any { return "worker" })
			client, fd := tcp(t)
			s := newSide()
			s.opened = func(c *Conn[*side]) { c.Arm(o.Now() + time.Hour) }
			c := o.open(fd, s, func(c *Conn[*side]) {
				if offload {
					o.Offload(c, workers)
				}
			})
			exchange(t, client, 1)
			eventually(t, "it is in the wheel", func() bool { return ask(o, o.wheel.Len) == 1 })
			_ = client.Close()
			receive(t, s.released)
			if n := ask(o, o.wheel.Len); n != 0 {
				t.Errorf("%d connections are in the wheel of a loop that has none", n)
			}
			if ask(o, func() bool { return o.table.get(fd) == c }) {
				t.Errorf("events of descriptor %d go to a connection that is closed", fd)
			}
			if o.Len() != 0 || len(o.Conns()) != 0 || !closedFd(fd) {
				t.Errorf("%d connections are open", o.Len())
			}
		})
	}
}

// R2: the peer's FIN is told once, after all bytes, and the connection takes bytes from then on; what breaks it afterwards is told too.
func TestHalfClose(t *testing.T) {
	o := running(t)
	s := newSide()
	var got atomic.Int64
	ends := make(chan error, 10)
	s.traffic = func(_ *Conn[*side], data []byte) { got.Add(int64(len(data))) }
	s.closed = func(_ *Conn[*side], err error) { ends <- err }
	client, c := o.served(s)
	const sent = 3*ReadSize + 17
	write(t, client, string(make([]byte, sent)))
	_ = client.(*net.TCPConn).CloseWrite()
	if err := receive(t, ends); err != nil || got.Load() != sent {
		t.Fatalf("the end is told as %v after %d bytes, want nil after %d", err, got.Load(), sent)
	}
	n, err := 0, error(nil)
	ask(o, func() bool { n, err = c.Write([][]byte{[]byte("the "), nil, []byte("answer")}); return true })
	if n != len("the answer") || err != nil {
		t.Errorf("a write after the peer's FIN: %d, %v", n, err)
	}
	b := make([]byte, 10)
	if _, err := io.ReadFull(client, b); err != nil || string(b) != "the answer" {
		t.Errorf("%q, %v", b, err)
	}
	if n := ask(o, c.Unsent); n != 0 && runtime.GOOS == "linux" {
		eventually(t, "all is acknowledged", func() bool { return ask(o, c.Unsent) == 0 })
	}
	_ = client.(*net.TCPConn).SetLinger(0)
	_ = client.Close()
	if err := receive(t, ends); err == nil {
		t.Error("a reset after the FIN is told as another FIN")
	}
	ask(o, func() bool { finish(c, false); return true })
}

// R2: a reset that has come with the FIN, before the loop looks, is told too: nothing tells of it again.
func TestResetWithFIN(t *testing.T) {
	o := running(t)
	s := newSide()
	ends := make(chan error, 10)
	s.closed = func(_ *Conn[*side], err error) { ends <- err }
	client, c := o.served(s)
	exchange(t, client, 1)
	ask(o, func() bool { // the loop is busy meanwhile
		_ = client.(*net.TCPConn).CloseWrite()
		_ = client.(*net.TCPConn).SetLinger(0)
		_ = client.Close()
		eventually(t, "the reset has come", func() bool { return pollsBroken(c.Fd()) })
		return true
	})
	if err := receive(t, ends); err != nil {
		t.Errorf("the FIN is told as %v", err)
	}
	if err := receive(t, ends); err == nil {
		t.Error("the reset is told as another FIN")
	}
	ask(o, func() bool { finish(c, false); return true })
}

// pollsBroken reports whether a connection has failed, without taking the error from it.
func pollsBroken(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd)}}
	_, err := unix.Poll(p, 0)
	return err == nil && p[0].Revents&unix.POLLERR != 0
}

// A connection whose reading is off is not read, and its failure and its FIN are told.
func TestReadingOff(t *testing.T) {
	for name, tt := range map[string]struct {
		end    func(c *net.TCPConn)
		closes bool
	}{
		"reset": {func(c *net.TCPConn) { _ = c.SetLinger(0); _ = c.Close() }, false},
		"FIN":   {func(c *net.TCPConn) { _ = c.CloseWrite() }, true},
	} {
		t.Run(name, func(t *testing.T) {
			o := running(t)
			s := newSide()
			closes, failures := make(chan error, 10), make(chan error, 10)
			s.closed = func(c *Conn[*side], err error) { closes <- err; finish(c, false) }
			s.failed = func(c *Conn[*side], err error) { failures <- err; finish(c, true) }
			client, c := o.served(s)
			exchange(t, client, 1)
			ask(o, func() bool { c.Reading(false); return true })
			if !tt.closes {
				write(t, client, "unread")
				eventually(t, "it waits", func() bool { return ask(o, c.Received) == len("unread") && ask(o, c.Unread) })
			}
			tt.end(client.(*net.TCPConn))
			if tt.closes {
				if err := receive(t, closes); err != nil {
					t.Errorf("a FIN is told as %v", err)
				}
			} else if err := receive(t, failures); !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("a reset is told as %v", err)
			}
			receive(t, s.released)
		})
	}
}

// Reading that was turned off and on brings what came in between.
func TestReadingOnAgain(t *testing.T) {
	o := running(t)
	client, c := o.served(newSide())
	ask(o, func() bool { c.Reading(false); return true })
	write(t, client, "a")
	eventually(t, "it waits", func() bool { return ask(o, c.Received) == 1 })
	ask(o, func() bool { c.Reading(true); c.Again(); return true })
	if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

// A socket that is full holds something, and an event will tell when that has left; one that holds nothing and takes
// nothing has met a want of memory, of which no event tells the end.
func TestStarved(t *testing.T) {
	if runtime.GOOS != "linux" {
		return // the BSDs say ENOBUFS
	}
	o := running(t)
	s := newSide()
	writable := make(chan struct{}, 1000)
	s.writable = func(*Conn[*side]) { writable <- struct{}{} }
	client, c := o.served(s)
	isStarved := func() bool { return ask(o, func() bool { return starved(c.Fd()) }) }
	if !isStarved() {
		t.Error("a socket to which nothing was written holds something")
	}
	full := ask(o, func() error {
		for range 10_000 {
			if _, err := c.Write([][]byte{make([]byte, 16<<10)}); err != nil {
				return err
			}
		}
		return nil
	})
	if full != ErrWouldBlock {
		t.Fatalf("a socket that is not read from: %v, want ErrWouldBlock", full)
	}
	if isStarved() {
		t.Error("a full socket holds nothing")
	}
	go func() { _, _ = io.Copy(io.Discard, client) }()
	receive(t, writable)
	eventually(t, "what the socket holds leaves", isStarved)
}

// A connection that Open is called for is told what came before, without an event, and after runs when OnOpen has returned.
func TestOpenFollowedByTraffic(t *testing.T) {
	for name, offload := range map[string]bool{"on the loop": false, "on a worker": true} {
		t.Run(name, func(t *testing.T) {
			o := running(t)
			workers := NewWorkers[*side](1, func() any { return "worker" })
			client, fd := tcp(t)
			write(t, client, "early")
			steps := make(chan string, 10)
			s := newSide()
			s.opened = func(c *Conn[*side]) {
				steps <- c.Scratch().(string)
				steps <- "OnOpen"
			}
			s.traffic = func(_ *Conn[*side], data []byte) { steps <- string(data) }
			ask(o, func() bool {
				c := o.NewConn(fd)
				c.Context = s
				if err := o.Register(c); err != nil {
					t.Error(err)
				}
				if offload {
					o.Offload(c, workers)
				}
				if c.Offloaded() != offload || c.Loop() != o.Loop || o.Handler() != Handler[*side](o) {
					t.Error("a connection does not know where it is")
				}
				o.Open(c, func() { steps <- "after" })
				return true
			})
			where := "loop"
			if offload {
				where = "worker"
			}
			for _, want := range []string{where, "OnOpen", "after", "early"} {
				if got := receive(t, steps); got != want {
					t.Errorf("%q, want %q", got, want)
				}
			}
		})
	}
}

// Open itself reads nothing: what has come is told of by the event of Register, and most connections have sent nothing when they are accepted.
func TestOpenDoesNotRead(t *testing.T) {
	o := running(t)
	client, fd := tcp(t)
	write(t, client, "early")
	s, got := newSide(), make(chan string, 1)
	s.traffic = func(_ *Conn[*side], data []byte) { got <- string(data) }
	if n := ask(o, func() int {
		c := o.NewConn(fd)
		c.Context = s
		for c.Received() < len("early") {
			time.Sleep(time.Millisecond)
		}
		if err := o.Register(c); err != nil {
			t.Error(err)
		}
		o.Open(c, nil)
		return len(got)
	}); n != 0 {
		t.Error("the connection was read before an event told of it")
	}
	if data := receive(t, got); data != "early" {
		t.Errorf("%q was brought", data)
	}
}

// Accept takes a connection that waits, and does not wait for one.
func TestAccept(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	listening, err := Duplicate(l.(syscall.Conn))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(listening)
	if _, _, err := Accept(listening); err != unix.EAGAIN {
		t.Errorf("%v, want EAGAIN", err)
	}
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	fd, peer, err := Accept(listening)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if in4, ok := peer.(*unix.SockaddrInet4); !ok || in4.Port != client.LocalAddr().(*net.TCPAddr).Port {
		t.Errorf("the peer is %+v", peer)
	}
	status, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	flags, err2 := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil || err2 != nil || status&unix.O_NONBLOCK == 0 || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("status %x, flags %x, %v, %v", status, flags, err, err2)
	}
}
