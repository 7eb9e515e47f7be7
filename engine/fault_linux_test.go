package engine

import (
	"os"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

// breakPoller has epoll_wait fail on a loop: what is in the place of its epoll then is none.
func breakPoller(t *testing.T, l *loop) {
	t.Helper()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	epoll := int(reflect.ValueOf(l.eventLoop).Elem().FieldByName("poller").Elem().FieldByName("fd").Int())
	if err := unix.Dup3(int(null.Fd()), epoll, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	l.Wake()
}
