package engine

import (
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/session"
)

// T3: however many sessions were told something at once, the events of others are served in between.
func TestMailboxLeavesRoomForEvents(t *testing.T) {
	e, err := New(Options{Loops: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	const many = 2*turnMail + 50
	sessions, received := make(chan *recorder, many+1), make(chan int32, 1)
	var told atomic.Int32
	l, err := e.Listen("tcp", "127.0.0.1:0", func() session.Handler {
		s := &recorder{}
		s.connected = func() { sessions <- s }
		s.recv = func([]byte) { received <- told.Load() }
		return s
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	var all []*recorder
	var client net.Conn
	for range many + 1 {
		if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		all = append(all, receive(t, sessions))
	}
	held, release, last := make(chan struct{}), make(chan struct{}), make(chan struct{})
	if err := all[many].Post(func() { close(held); <-release }); err != nil {
		t.Fatal(err)
	}
	<-held
	for _, s := range all[:many] {
		if err := s.Post(func() {
			if told.Add(1) == many {
				close(last)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	close(release)
	if n := receive(t, received); n > turnMail {
		t.Errorf("an event waited for %d sessions of the mailbox, want %d at most", n, turnMail)
	}
	receive(t, last) // and nobody is forgotten
}

// T3: however many sessions have much to be read, the events of those who have little are served in between.
func TestBulkLeavesRoomForEvents(t *testing.T) {
	e, err := New(Options{Loops: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	const many, each = 20, 2 * readSize
	type heard struct {
		s *recorder
		n int
	}
	sessions, received := make(chan *recorder, many+1), make(chan heard, 10*many)
	var bulk atomic.Int32 // reads of much, since the loop was held
	var before atomic.Int32
	l, err := e.Listen("tcp", "127.0.0.1:0", func() session.Handler {
		s := &recorder{}
		s.connected = func() { sessions <- s }
		s.recv = func(data []byte) {
			if len(data) == 1 {
				before.Store(bulk.Load())
			} else {
				bulk.Add(1)
				time.Sleep(turnTime) // what content takes for so much
			}
			received <- heard{s, len(data)}
		}
		return s
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	var all []*recorder
	var clients []net.Conn
	for range many + 1 {
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		clients = append(clients, client)
		all = append(all, receive(t, sessions))
	}
	left := make(map[*recorder]int)
	bring := func() { // each of the many sends
		for i, c := range clients[:many] {
			left[all[i]] += each
			if _, err := c.Write(make([]byte, each)); err != nil {
				t.Error(err)
			}
		}
	}
	drain := func() { // and all of it is read
		for n := 1; n > 0; {
			h := receive(t, received)
			left[h.s] -= h.n
			n = 0
			for _, c := range all[:many] {
				n += max(left[c], 0)
			}
		}
	}
	bring()
	drain() // from here on it is known that they bring much
	for range 3 {
		held, release := make(chan struct{}), make(chan struct{})
		if err := all[many].Post(func() { close(held); <-release }); err != nil {
			t.Fatal(err)
		}
		<-held
		bulk.Store(0)
		bring()
		if _, err := clients[many].Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		close(release)
		drain()
		if n := before.Load(); n > 2 {
			t.Errorf("who sent a byte waited for %d reads of others, want 2 at most", n)
		}
	}
}
