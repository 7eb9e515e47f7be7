package session_test

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

// L4: a handler without a session is an error, whatever kind of nil it is.
func TestBindRefusesHandlersWithoutSession(t *testing.T) {
	type handler struct {
		_ int
		session.Session
	}
	for name, h := range map[string]session.Handler{
		"nil":                     nil,
		"nil session":             (*session.Session)(nil),
		"nil handler":             (*handler)(nil),
		"nil session in handler":  struct{ *session.Session }{},
		"nil Handler in handler":  struct{ session.Handler }{},
		"nil handler, in handler": struct{ *handler }{},
	} {
		if _, err := newLoop(t, session.Limits{}).Bind(h, nil); !errors.Is(err, session.ErrHandler) {
			t.Errorf("%s: %v, want ErrHandler", name, err)
		}
	}
}

// L4: when two loops get the same handler from their factories at the same time, one of them is refused.
func TestBindTwiceAtOnceRefusesOne(t *testing.T) {
	for range 1000 {
		h := &struct{ session.Session }{}
		var refused atomic.Int32
		var both sync.WaitGroup
		start := make(chan struct{})
		loops := []*testkit.Loop{newLoop(t, session.Limits{}), newLoop(t, session.Limits{})}
		for _, l := range loops {
			both.Go(func() {
				<-start
				if c, err := l.Bind(h, nil); err == nil {
					c.Connected()
				} else if errors.Is(err, session.ErrHandler) {
					refused.Add(1)
				}
			})
		}
		close(start)
		both.Wait()
		if n := refused.Load(); n != 1 {
			t.Fatalf("%d of 2 are refused, want 1", n)
		}
	}
}

// A factory may have shown its handler to another goroutine, which uses it during Bind. A call takes effect or does nothing. What was ended
// stays ended, and what is sent is framed.
func TestCallsDuringBindCountOrDoNothing(t *testing.T) {
	framing := session.NewFraming(frame.LengthField{LengthFieldLength: 4, InitialBytesToStrip: 4})
	for range 2000 {
		h := &testkit.Handler{Framed: true}
		l := newLoop(t, session.Limits{})
		var others sync.WaitGroup
		var accepted, size int
		begun := make(chan struct{}, 2)
		others.Go(func() {
			begun <- struct{}{}
			for i := 1; h.Send([]byte("payload")) != nil; i++ {
				if h.Err() != nil {
					return
				}
				yield(i)
			}
			accepted++
			size = h.Pending()
			if h.Disconnect(); h.Err() == nil {
				t.Error("Disconnect does nothing after a Send that was accepted")
			}
		})
		others.Go(func() {
			begun <- struct{}{}
			for i := 1; h.Err() == nil; i++ {
				h.Disconnect()
				yield(i)
			}
			if err := h.Send([]byte("after")); !errors.Is(err, session.ErrClosed) {
				t.Errorf("Send after Disconnect: %v", err)
			}
		})
		<-begun
		<-begun
		c, err := l.Bind(h, framing)
		if err != nil {
			t.Fatal(err)
		}
		others.Wait()
		if err := h.Send([]byte("late")); !errors.Is(err, session.ErrClosed) {
			t.Fatalf("Send after Disconnect: %v", err)
		}
		if accepted == 1 && size != len("payload") {
			t.Fatalf("%d bytes pending, want %d", size, len("payload"))
		}
		c.Connected()
		l.Run()
		if want := accepted * (4 + len("payload")); len(c.Wire) != want {
			t.Fatalf("%d bytes sent, want %d", len(c.Wire), want)
		}
	}
}

// yield lets other goroutines have the processor now and then. Without it they wait until Go takes it away.
func yield(i int) {
	if i%200 == 0 {
		runtime.Gosched()
	}
}
