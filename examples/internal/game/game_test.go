package game

import (
	"context"
	"net"
	"testing"
	"time"
)

// Fifty dummies play for a second, and each sees every move once and in order.
func TestGame(t *testing.T) {
	if err := Play(t.Context(), "127.0.0.1:0", "127.0.0.1:0", 50, 200*time.Millisecond, time.Second); err != nil {
		t.Fatal(err)
	}
}

// An invalid packet ends its session and no other.
func TestNonsenseIsThrownOut(t *testing.T) {
	s, err := Listen("127.0.0.1:0", "", 0, here())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, stop := context.WithCancel(t.Context())
	ticking := make(chan struct{})
	go func() {
		defer close(ticking)
		s.Tick(ctx)
	}()
	defer func() { stop(); <-ticking }()
	c, err := net.Dial("tcp", s.Players.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write([]byte("\x05\x00abc")); err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, 100); err == nil; {
		_, err = c.Read(b)
	}
	if e, ok := err.(net.Error); ok && e.Timeout() {
		t.Error("the session goes on")
	}
	if err := new(Swarm).Run(t.Context(), []string{s.Players.Addr().String()}, 5, 50*time.Millisecond, 200*time.Millisecond); err != nil {
		t.Error(err)
	}
}
