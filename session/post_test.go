package session_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

// No more functions wait than MaxPosts. Those that were accepted run, in their order, and then there is room again.
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

// The bound holds in callbacks too: in one that runs, for those that it posts itself, and in the last one.
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

// Posted functions run once, in order, outside of callbacks, before OnDisconnected.
func TestPostsRunOnceAndInOrder(t *testing.T) {
	h := &testkit.Handler{}
	l, c := connect(t, session.Limits{}, h)
	post := func(name string, f func()) {
		t.Helper()
		if err := h.Post(h.Posted(name, f)); err != nil {
			t.Errorf("Post: %v", err)
		}
	}
	post("1", func() { post("3", nil) })
	post("2", nil)
	if c.Wakes() != 1 {
		t.Errorf("%d wakes", c.Wakes())
	}
	l.Run()
	wantLog(t, h, "connected", "post 1", "post 2", "post 3")

	h.Log = nil
	h.Recv = func(h *testkit.Handler, _ []byte) {
		post("recv", func() { mustSend(t, h, "x") })
	}
	h.Sent = func(h *testkit.Handler, _ int) {
		h.Sent = nil
		post("sent", nil)
	}
	h.Disconnected = func(h *testkit.Handler) {
		if err := h.Post(func() { t.Error("ran after the end") }); !errors.Is(err, session.ErrClosed) {
			t.Errorf("Post in OnDisconnected: %v", err)
		}
	}
	c.PeerWrite([]byte("a"))
	l.Run()
	wantLog(t, h, "recv a", "post recv", "sent 1", "post sent")

	h.Log = nil
	want := []string{"post before the end", "post behind Abort", "disconnected"}
	post("before the end", func() {
		if h.Post(h.Posted("later", nil)) == nil { // allowed to accept, but then it runs
			want = slices.Insert(want, 2, "post later")
		}
	})
	h.Abort()
	post("behind Abort", func() {
		if err := h.Send([]byte("x")); !errors.Is(err, session.ErrClosed) {
			t.Errorf("Send behind Abort: %v", err)
		}
	})
	l.Run()
	wantClosed(t, c, true)
	wantLog(t, h, want...)
	if err := h.Post(func() { t.Error("ran after the end") }); !errors.Is(err, session.ErrClosed) {
		t.Errorf("Post after the end: %v", err)
	}
	l.Run()
}

// A Post in each callback is not forgotten, also when nothing else happens to the session.
func TestPostInEachCallback(t *testing.T) {
	post := func(h *testkit.Handler) {
		if err := h.Post(h.Posted("f", nil)); err != nil {
			t.Errorf("Post: %v", err)
		}
	}
	h := &testkit.Handler{
		Connected: post,
		Recv:      func(h *testkit.Handler, _ []byte) { post(h) },
		Sent:      func(h *testkit.Handler, _ int) { post(h) },
	}
	l, c := connect(t, session.Limits{}, h)
	l.Run()
	wantLog(t, h, "connected", "post f")
	c.PeerWrite([]byte("x"))
	l.Run()
	wantLog(t, h, "connected", "post f", "recv x", "post f")
	mustSend(t, h, "y")
	l.Run()
	wantLog(t, h, "connected", "post f", "recv x", "post f", "sent 1", "post f")
}

func TestPostOfNilPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	_ = new(session.Session).Post(nil)
}
