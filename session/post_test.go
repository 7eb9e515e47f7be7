package session_test

import (
	"errors"
	"testing"

	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

// As many functions wait as MaxPosts says, none more; those that were accepted run, in their order, and then there is room again.
func TestPostsAreBounded(t *testing.T) {
	h := &testkit.Handler{Quiet: true}
	l, _ := connect(t, session.Limits{}, h)
	ran := 0
	for n := range session.MaxPosts {
		if err := h.Post(func() {
			if ran != n {
				t.Errorf("%d runs as number %d", n, ran)
			}
			ran++
		}); err != nil {
			t.Fatalf("post %d: %v", n, err)
		}
	}
	for range 3 {
		if err := h.Post(func() { t.Error("this one was refused") }); !errors.Is(err, session.ErrPostLimit) {
			t.Errorf("one too many: %v", err)
		}
	}
	l.Run()
	if ran != session.MaxPosts {
		t.Errorf("%d have run", ran)
	}
	if err := h.Post(func() { ran = 0 }); err != nil {
		t.Error(err)
	}
	l.Run()
	if ran != 0 || h.Err() != nil {
		t.Errorf("%d, Err %v", ran, h.Err())
	}
}

// The same holds in callbacks: in one that runs, for those it posts itself, and in the last one.
func TestPostsOfPostsAreBounded(t *testing.T) {
	h := &testkit.Handler{Quiet: true}
	l, c := connect(t, session.Limits{}, h)
	accepted, ran := 0, 0
	fill := func(*testkit.Handler) {
		for {
			err := h.Post(func() { ran++ })
			if err == nil {
				accepted++
				continue
			}
			if !errors.Is(err, session.ErrPostLimit) && !errors.Is(err, session.ErrClosed) {
				t.Error(err)
			}
			return
		}
	}
	h.Recv = func(h *testkit.Handler, _ []byte) { fill(h) }
	h.Disconnected = fill
	for round := 1; round <= 3; round++ {
		c.PeerWrite([]byte("x"))
		c.Serve(testkit.Input)
		l.Run()
		if accepted != round*session.MaxPosts || ran != accepted {
			t.Errorf("%d accepted, %d have run", accepted, ran)
		}
	}
	chain := 0 // each posts the next, and there is always room for that one
	var next func()
	next = func() {
		if chain++; chain < 3*session.MaxPosts {
			if err := h.Post(next); err != nil {
				t.Errorf("link %d: %v", chain, err)
			}
		}
	}
	next()
	l.Run()
	if chain != 3*session.MaxPosts {
		t.Errorf("%d links", chain)
	}
	fill(h)
	h.Abort()
	l.Run()
	if ran != accepted || accepted != 4*session.MaxPosts {
		t.Errorf("%d accepted, %d have run at the end", accepted, ran)
	}
	wantErr(t, "after the end", h.Post(func() {}), session.ErrClosed)
}
