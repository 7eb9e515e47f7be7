package engine

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/reactor"
)

// T3: an event does not wait for all of a mailbox whose sessions have much to write, or take their time: a turn ends when it has written
// reactor.TurnBytes, or, looked at every reactor.WakeLooks sessions, after reactor.WakeTime.
func TestMailboxIsBoundedByBytesAndTime(t *testing.T) {
	const piece = 128 << 10 // what the kernel takes at once
	for name, tt := range map[string]struct {
		post func(s *recorder)
		most int32
	}{
		"bytes": {func(s *recorder) { _ = s.Send(make([]byte, piece)) }, reactor.TurnBytes/piece + 1},
		"time":  {func(*recorder) { time.Sleep(reactor.WakeTime / 2) }, reactor.WakeLooks},
	} {
		t.Run(name, func(t *testing.T) {
			const many = 4 * reactor.WakeLooks
			sessions, received := make(chan *recorder, many+1), make(chan int32, 1)
			var told atomic.Int32
			_, l := oneLoop(t, func() *recorder {
				s := &recorder{}
				s.connected = func() { sessions <- s }
				s.recv = func([]byte) { received <- told.Load() }
				return s
			})
			var all []*recorder
			var client net.Conn
			for range many + 1 {
				client = dial(t, l)
				all = append(all, receive(t, sessions))
			}
			last := make(chan struct{})
			release := hold(t, all[many])
			for _, s := range all[:many] {
				if err := s.Post(func() {
					tt.post(s)
					if told.Add(1) == many {
						close(last)
					}
				}); err != nil {
					t.Fatal(err)
				}
			}
			write(t, client, "x")
			release()
			if n := receive(t, received); n > tt.most {
				t.Errorf("an event waited for %d sessions of the mailbox, want %d at most", n, tt.most)
			}
			receive(t, last) // none is forgotten
		})
	}
}
