package reactor

import (
	"errors"
	"testing"
	"time"

	gerrors "github.com/panjf2000/gnet/v2/pkg/errors"
	"github.com/panjf2000/gnet/v2/pkg/netpoll"
	"golang.org/x/sys/unix"
)

// What a loop relies on in gnet's poller, each fact by itself, so that an upgrade that changes one says so.
func TestGnetPoller(t *testing.T) {
	p, err := netpoll.OpenPoller()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	var told []event
	other := errors.New("not gnet's")
	done := make(chan error, 1)
	steps := []func() error{
		// What is true already is told; an error of another kind does not end Polling.
		func() error { _, err := unix.Write(pair[1], []byte("a")); return errors.Join(err, other) },
		// Each arrival is told, though nothing was read.
		func() error { _, err := unix.Write(pair[1], []byte("b")); return err },
		func() error { return unix.Shutdown(pair[1], unix.SHUT_WR) },
		func() error { return gerrors.ErrEngineShutdown },
	}
	if err := p.AddReadWrite(&netpoll.PollAttachment{FD: pair[0]}, true); err != nil {
		t.Fatal(err)
	}
	go func() {
		done <- p.Polling(func(fd int, e netpoll.IOEvent, flags netpoll.IOFlags) error {
			if fd != pair[0] {
				t.Errorf("event of descriptor %d, want %d", fd, pair[0])
			}
			told = append(told, translate(e, flags))
			return steps[len(told)-1]()
		})
	}()
	select {
	case err = <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("Polling did not end within 5 s")
	}
	if !errors.Is(err, gerrors.ErrEngineShutdown) {
		t.Errorf("Polling returned %v", err)
	}
	want := []event{{writable: true}, {writable: true, readable: true}, {writable: true, readable: true}}
	for i, n := range want {
		if told[i] != n {
			t.Errorf("event %d tells %+v, want %+v", i+1, told[i], n)
		}
	}
	if !told[3].hangup {
		t.Errorf("the peer's end is told as %+v", told[3])
	}
	// A descriptor that is closed leaves by itself.
	if err := unix.Close(pair[0]); err != nil {
		t.Fatal(err)
	}
	again, err := unix.Dup(pair[1])
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(again)
	if err := p.AddReadWrite(&netpoll.PollAttachment{FD: again}, true); err != nil {
		t.Errorf("the number cannot be used again: %v", err)
	}
}
