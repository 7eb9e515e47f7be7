package engine

import (
	"errors"
	"net"
	"sync/atomic"
	"testing"

	"github.com/servercore-go/servercore/internal/reactor"
)

// T3: a session whose peer sends as fast as it is read, so that there is always more, does not keep the events of others waiting.
func TestEndlessInputLeavesRoomForEvents(t *testing.T) {
	sessions, heard := make(chan *recorder, 2), make(chan int32, 1)
	var reads atomic.Int32
	var feed net.Conn
	_, l := oneLoop(t, func() *recorder {
		s := &recorder{}
		s.connected = func() { sessions <- s }
		s.recv = func(data []byte) {
			if len(data) == 1 {
				heard <- reads.Load()
				return
			}
			if reads.Add(1) < 1000 { // as much as was read comes at once: it fits into the kernel
				if _, err := feed.Write(data); err != nil && !errors.Is(err, net.ErrClosed) { // closed: the test is over
					t.Error(err)
				}
			}
		}
		return s
	})
	feed = dial(t, l)
	flooded := receive(t, sessions)
	other := dial(t, l)
	receive(t, sessions)
	release := hold(t, flooded)
	if _, err := feed.Write(make([]byte, reactor.ReadSize)); err != nil {
		t.Fatal(err)
	}
	write(t, other, "x")
	release()
	if n := receive(t, heard); n > 2*reactor.PumpReads {
		t.Errorf("an event waited for %d reads of another session, want some", n)
	}
}
