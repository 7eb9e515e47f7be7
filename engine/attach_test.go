package engine

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
	"unsafe"
)

// A newcomer that speaks becomes gnet's, without a byte lost, and leaves it when its peer has finished.
func TestAttach(t *testing.T) {
	client, c := connect(t, Options{})
	becomeAttached(t, client, c)
	exchange(t, client, 100)
	if in := onLoop(t, c, func() int { return len(c.loop.watched) }); in != 0 {
		t.Errorf("%d descriptors are in the loop's poller, want none", in)
	}
	data := bytes.Repeat([]byte("half-close"), 1<<20)
	wrote := make(chan error, 1)
	go func() {
		_, err := client.Write(data)
		wrote <- errors.Join(err, client.(*net.TCPConn).CloseWrite())
	}()
	got, err := io.ReadAll(client)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d of %d bytes came back, %v", len(got), len(data), err)
	}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
}

// A connection that has ended, or may not be read, by the time gnet has opened it is not gnet's.
func TestAttachTooLate(t *testing.T) {
	for name, end := range map[string]func(*conn){
		"paused":  func(c *conn) { c.driver.Session().PauseRecv() },
		"aborted": func(c *conn) { c.driver.Session().Abort() },
		"ending":  func(c *conn) { c.driver.Session().Disconnect() },
	} {
		t.Run(name, func(t *testing.T) {
			client, c := connect(t, Options{LingerTimeout: 50 * time.Millisecond})
			l := c.loop
			started := onLoop(t, c, func() bool {
				c.attach() // gnet's answer waits until this turn is over
				end(c)
				return c.inputs == boarded
			})
			if !started {
				t.Fatal("the step to gnet was not taken")
			}
			for deadline := time.Now().Add(5 * time.Second); l.boarding.Load() > 0; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("gnet has not answered within 5 s")
				}
			}
			if name == "paused" {
				if onLoop(t, c, func() bool { return attached(c) }) {
					t.Error("a paused connection is gnet's")
				}
				c.driver.Session().ResumeRecv()
				exchange(t, client, 20)
				return
			}
			_ = client.SetDeadline(time.Now().Add(5 * time.Second))
			if _, err := client.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the client was told nothing: %v", err)
			}
		})
	}
}

// A connection that says little is left where it is, and a rush of busy ones does not go to gnet all at once.
func TestAttachIsPaced(t *testing.T) {
	_, c := connect(t, Options{})
	count := func(now time.Duration, inputs int) bool {
		return onLoop(t, c, func() bool {
			c.loop.engine.born = time.Now().Add(-now + time.Second) // now is counted from a second before
			for range inputs {
				c.attachIfBusy()
			}
			return c.inputs == boarded
		})
	}
	const s = time.Second
	if count(10*s, attachAfter-1) || count(11*s+s/4, attachAfter-1) {
		t.Error("attached, but not busy")
	}
	if onLoop(t, c, func() bool { c.loop.boardAt = 12 * s; return false }) || count(11*s+s/2, 100) {
		t.Error("attached before its time")
	}
	if !count(12*s+s/4, attachAfter) {
		t.Error("not attached although busy")
	}
}

// Names of interfaces are as package net has them, and numbers where there is none.
func TestZone(t *testing.T) {
	l := &Listener{zones: make(map[uint32]string)}
	interfaces, err := net.Interfaces()
	if err != nil || len(interfaces) == 0 {
		t.Fatal("no interface", err)
	}
	for range 2 { // asked, then remembered
		if got, want := l.zone(uint32(interfaces[0].Index)), interfaces[0].Name; got != want {
			t.Errorf("zone %d is %q, want %q", interfaces[0].Index, got, want)
		}
		if got := l.zone(0) + l.zone(1<<20); got != "1048576" {
			t.Errorf("zones 0 and 2^20 are %q", got)
		}
	}
}

// What every session costs besides session.Session, whatever it does.
func TestConnIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(conn{}); n > 64 {
		t.Errorf("a conn takes %d bytes, want at most 64: the next size the allocator has is 80", n)
	}
}
