//go:build linux

package trials

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// client is one connection, with its side of the record that the oracle compares.
type client struct {
	*net.TCPConn
	over    layered // what it speaks above TCP, nil for nothing
	out     writer
	in      reader
	sent    int64 // taken by the kernel
	cut     bool  // a write was told of a reset: a read then sees a plain end
	orderly bool  // read to the peer's FIN
	endAt   int64 // monotonic, when reading met the end
	err     error // how it ended
}

// layered is a stream above TCP: TLS or WebSocket. CloseWrite says its last word.
type layered interface {
	io.ReadWriter
	CloseWrite() error
}

// dialer returns a dialer that sets the kernel's receive buffer, in bytes; 0 leaves the default.
func dialer(receive int) net.Dialer {
	return net.Dialer{Timeout: patience, Control: func(_, _ string, c syscall.RawConn) (err error) {
		if receive == 0 {
			return nil
		}
		if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receive) }); e != nil {
			return e
		}
		return err
	}}
}

// connect makes a connection that no oracle knows yet.
func connect(d net.Dialer, address string) (*client, error) {
	address, secure := strings.CutPrefix(address, overTLS)
	address, messages := strings.CutPrefix(address, overWebSocket)
	conn, err := d.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	c := &client{TCPConn: conn.(*net.TCPConn), out: writer{id: lastConnection.Add(1)}}
	if secure {
		err = c.secure(d.Timeout)
	}
	if messages && err == nil {
		err = c.upgrade(d.Timeout)
	}
	return c, err
}

// ask sends one record.
func (c *client) ask(payload []byte) error {
	_, err := c.Write(c.out.add(nil, payload))
	return err
}

// Write writes and counts the bytes.
func (c *client) Write(b []byte) (int, error) {
	var n int
	var err error
	if c.over != nil {
		n, err = c.over.Write(b)
	} else {
		n, err = c.TCPConn.Write(b)
	}
	c.sent += int64(n)
	c.cut = c.cut || err != nil
	return n, err
}

// take reads until done returns true, or to the end of the stream. each is called for every record.
func (c *client) take(buf []byte, each func(payload []byte), done func() bool) error {
	c.in.id = c.out.id
	for done == nil || !done() {
		n, err := c.Read(buf)
		if wrong := c.in.feed(buf[:n], each); wrong != nil {
			return wrong
		}
		if err != nil {
			c.endAt, c.orderly, c.err = monotonic(), err == io.EOF && !c.cut, err
			return err
		}
	}
	return nil
}

// takeAll reads to the end of the stream. It returns nil for a FIN.
func (c *client) takeAll() error {
	err := c.take(make([]byte, 64<<10), nil, nil)
	if err == io.EOF {
		return nil
	}
	return err
}

// echo sends a payload of n bytes and checks that it comes back.
func (c *client) echo(n int) error {
	payload := make([]byte, n)
	payload[0] = verbEcho
	want := c.in.seq + 1
	if err := c.ask(payload); err != nil {
		return err
	}
	return c.take(make([]byte, 4<<10), func(got []byte) {
		if len(got) != n {
			c.in.wrong = errors.New("an echo of another length")
		}
	}, func() bool { return c.in.seq >= want })
}

// reset resets the connection and returns the time, on the monotonic clock.
func (c *client) reset() int64 {
	_ = c.SetLinger(0)
	at := monotonic()
	_ = c.Close()
	return at
}

// each runs f for 0 to n-1, a limited number at a time.
func each(n, atOnce int, f func(i int)) {
	var group sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for i := range n {
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }() // f may have failed the test, which ends its goroutine
			f(i)
		})
	}
	group.Wait()
}

func seconds(t testing.TB, d time.Duration, c *client) {
	t.Helper()
	must(t, c.SetDeadline(time.Now().Add(d)))
}
