package engine

import (
	"errors"
	"net"
	"os"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"
)

// anchor is a connection of the engine to itself that lives on one loop as long as the loop does: through it the
// engine learns gnet's handle of the loop, and by its closing that the loop has ended.
type anchor struct {
	loop   *loop
	opened chan gnet.EventLoop
	far    *os.File
}

// cast puts an anchor on one of gnet's loops and makes that loop l's. gnet places connections where there are
// fewest, so casting one at a time reaches each loop once.
func (l *loop) cast(client *gnet.Client) error {
	pair, err := socketPair()
	if err != nil {
		return err
	}
	a := &anchor{loop: l, opened: make(chan gnet.EventLoop, 1), far: os.NewFile(uintptr(pair[1]), "anchor")}
	l.anchor = a
	near := os.NewFile(uintptr(pair[0]), "anchor")
	nc, err := net.FileConn(near)
	_ = near.Close()
	if err != nil {
		return err
	}
	if _, err := client.EnrollContext(nc, a); err != nil {
		return err
	}
	select {
	case l.gnet = <-a.opened:
		return nil
	case <-time.After(5 * time.Second):
		return errors.New("gnet did not open the anchor within 5 s")
	}
}

func socketPair() ([2]int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return pair, os.NewSyscallError("socketpair", err)
	}
	for _, fd := range pair {
		unix.CloseOnExec(fd)
		if err := unix.SetNonblock(fd, true); err != nil {
			_ = unix.Close(pair[0])
			_ = unix.Close(pair[1])
			return pair, os.NewSyscallError("fcntl", err)
		}
	}
	return pair, nil
}
