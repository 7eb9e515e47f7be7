package bench

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The last word waits for the end of the peer's, throws away what comes before, and does not wait for ever.
func TestLastWord(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const late = 50 * time.Millisecond
	for name, k := range map[string]struct {
		serve  func(c net.Conn)
		within time.Duration
		want   bool
	}{
		"closes late": {func(c net.Conn) {
			_, _ = c.Write(make([]byte, 100_000))
			_, _ = c.Read(make([]byte, 1)) // until it ends
			time.Sleep(late)
			_ = c.Close()
		}, 10 * time.Second, true},
		"never closes": {func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1))
			time.Sleep(20 * late)
			_ = c.Close()
		}, late, false},
		"resets": {func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1)) // the client is connected
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}, 10 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			served := make(chan struct{})
			go func() {
				defer close(served)
				if c, err := l.Accept(); err == nil {
					k.serve(c)
				}
			}()
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			file, err := c.(*net.TCPConn).File()
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			fd := int(file.Fd())
			if err := unix.SetNonblock(fd, true); err != nil { // Fd has made it wait
				t.Fatal(err)
			}
			if name == "resets" {
				if _, err := c.Write([]byte("x")); err != nil {
					t.Fatal(err)
				}
			}
			began := time.Now()
			if got := lastWord(fd, make([]byte, 4096), k.within); got != k.want {
				t.Errorf("the peer has ended it: %t, want %t", got, k.want)
			}
			if took := time.Since(began); name != "resets" && took < late {
				t.Errorf("it has waited for %v, want %v or more", took, late)
			}
			_ = file.Close()
			_ = c.Close()
			<-served
		})
	}
}

// The end of a run does not close all connections at once: now and then it waits until the server has closed one.
func TestFinishKeepsPace(t *testing.T) {
	const late = 300 * time.Millisecond
	var mu sync.Mutex
	var first, last time.Time // when the server has heard of the end of a connection
	p := short(Idle, peer(t, func(_ int, c *net.TCPConn) {
		_, _ = io.Copy(io.Discard, c)
		mu.Lock()
		if last = time.Now(); first.IsZero() {
			first = last
		}
		mu.Unlock()
		time.Sleep(late)
	}))
	p.Conns, p.Threads = 2*closeTogether+10, 1
	wantErrors(t, carryOut(t, p), nil)
	mu.Lock()
	defer mu.Unlock()
	if between := last.Sub(first); between < late { // two waits; the server may have heard of the first end late
		t.Errorf("%d connections were closed within %v, want %v or more", p.Conns, between, late)
	}
}
