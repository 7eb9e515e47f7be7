package engine

import (
	"log/slog"
	"net"
	"sync/atomic"
	"testing"

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
