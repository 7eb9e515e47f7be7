package engine

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/session"
)

// T6b: a Dial whose context ends when the connection is made, and waits for a loop that is held up, returns at once, and no
// session follows.
func TestDialGivenUpWhileItsLoopIsHeld(t *testing.T) {
	for _, opts := range [][]Option{nil, {Offload(1)}} {
		sessions := make(chan *recorder, 1)
		e, l := oneLoop(t, func() *recorder {
			s := &recorder{recv: func([]byte) {}}
			s.connected = func() { sessions <- s }
			return s
		})
		far, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer far.Close()
		dial(t, l)
		release := hold(t, receive(t, sessions))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		results := make(chan error, 1)
		var made atomic.Int32
		go func() {
			_, err := e.Dial(ctx, "tcp", far.Addr().String(), func() session.Handler { made.Add(1); return &plain{connected: make(chan struct{})} }, opts...)
			results <- err
		}()
		for deadline := time.Now().Add(5 * time.Second); e.loops[0].opening.Load() == 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the connection does not wait for the loop")
			}
		}
		cancel()
		if err := receive(t, results); !errors.Is(err, context.Canceled) {
			t.Errorf("Dial returns %v, want the context's error", err)
		}
		release()
		if err := e.Ping(t.Context()); err != nil { // the loop has come to it
			t.Fatal(err)
		}
		for deadline := time.Now().Add(5 * time.Second); e.Stats().Sessions != 1; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d sessions are counted, want 1", e.Stats().Sessions)
			}
		}
		if st := e.Stats(); made.Load() != 0 || st.Dialed != 0 || st.DialErrors != 1 {
			t.Errorf("%d sessions were made, %d dialled, %d failed, want 0, 0, 1", made.Load(), st.Dialed, st.DialErrors)
		}
		_ = e.Close()
	}
}
