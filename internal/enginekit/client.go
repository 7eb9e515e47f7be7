package enginekit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/internal/freeport"
)

// FreeAddress returns an address to listen on: a free port of the loopback, or a path of its own.
func FreeAddress(t testing.TB, network string) string {
	t.Helper()
	switch network {
	case "unix":
		dir, err := os.MkdirTemp("", "sc") // a short one: paths of sockets are
		Must(t, err)
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		return filepath.Join(dir, "s")
	case "tcp6":
		return "[::1]:0"
	}
	return "127.0.0.1:0"
}

// FixedAddress is FreeAddress for one where another server listens when the first has ended: nobody is given its port in between.
func FixedAddress(t testing.TB, network string) string {
	t.Helper()
	if network != "tcp" {
		return FreeAddress(t, network)
	}
	addr, err := freeport.Addr("127.0.0.1")
	Must(t, err)
	return addr
}

// NoServer returns an address at which nobody listens, and the error of those who connect to it.
func NoServer(t testing.TB, network string) (addr string, refusal error) {
	t.Helper()
	if network == "unix" {
		return FreeAddress(t, network), syscall.ENOENT
	}
	addr, free, err := freeport.Refusing()
	Must(t, err)
	t.Cleanup(func() { _ = free() })
	return addr, syscall.ECONNREFUSED
}

// Dial connects to an address. A connection that was reset before the dial has returned, by a session that was ended in OnConnected, is
// one whose calls say so.
func Dial(t testing.TB, a net.Addr, d net.Dialer) net.Conn {
	t.Helper()
	d.Timeout = Patience
	c, err := d.Dial(a.Network(), a.String())
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return resetConn{}
	}
	Must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	Must(t, c.SetDeadline(time.Now().Add(3*Patience)))
	return c
}

// Small makes connections with so little room to receive that a server soon finds them full.
var Small = net.Dialer{Control: SmallBuffer}

// SmallBuffer is Small for a dialler or a listener of package net.
func SmallBuffer(_, _ string, c syscall.RawConn) (err error) {
	if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<10) }); e != nil {
		return e
	}
	return err
}

// resetConn stands for a connection that was reset before dial had returned.
type resetConn struct{ net.Conn }

func (resetConn) Read([]byte) (int, error)         { return 0, syscall.ECONNRESET }
func (resetConn) Write([]byte) (int, error)        { return 0, syscall.ECONNRESET }
func (resetConn) SetLinger(int) error              { return nil }
func (resetConn) CloseWrite() error                { return nil }
func (resetConn) SetDeadline(time.Time) error      { return nil }
func (resetConn) SetReadDeadline(time.Time) error  { return nil }
func (resetConn) SetWriteDeadline(time.Time) error { return nil }
func (resetConn) Close() error                     { return nil }

// Listen returns a listener of package net, for what an engine would never do.
func Listen(t testing.TB, network string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, FixedAddress(t, network))
	Must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// Accept returns the listener's next connection.
func Accept(t testing.TB, l net.Listener) net.Conn {
	t.Helper()
	Must(t, l.(interface{ SetDeadline(time.Time) error }).SetDeadline(time.Now().Add(Patience)))
	c, err := l.Accept()
	Must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	Must(t, c.SetDeadline(time.Now().Add(3*Patience)))
	return c
}

// Reset closes a TCP connection with a reset.
func Reset(t testing.TB, c net.Conn) {
	t.Helper()
	Must(t, c.(interface{ SetLinger(int) error }).SetLinger(0))
	Must(t, c.Close())
}

// CloseWrite sends the FIN.
func CloseWrite(t testing.TB, c net.Conn) {
	t.Helper()
	Must(t, c.(interface{ CloseWrite() error }).CloseWrite())
}

// Write writes all of data.
func Write(t testing.TB, c net.Conn, data []byte) {
	t.Helper()
	_, err := c.Write(data)
	Must(t, err)
}

// Expect reads exactly the bytes of want.
func Expect(t testing.TB, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v, want %q", got[:n], err, want)
	}
}

// Exchange sends a message to an echo server and reads it back.
func Exchange(t testing.TB, c net.Conn, message string) {
	t.Helper()
	Write(t, c, []byte(message))
	Expect(t, c, message)
}

// ReadAll reads to the end of a connection and compares with what was to come.
func ReadAll(c net.Conn, want []byte) error {
	buf := make([]byte, 64<<10)
	for off := 0; ; {
		n, err := c.Read(buf)
		if n > len(want)-off || !bytes.Equal(buf[:n], want[off:off+n]) {
			return fmt.Errorf("foreign bytes between %d and %d of %d", off, off+n, len(want))
		}
		switch off += n; {
		case err == io.EOF && off == len(want):
			return nil
		case err != nil:
			return fmt.Errorf("%w after %d of %d bytes", err, off, len(want))
		}
	}
}

// Stream is some MiB in which no two places look alike.
var Stream = sync.OnceValue(func() []byte {
	b := make([]byte, 32<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
})

// Pattern is n bytes that repeat with no power of two, so that a lost or doubled buffer shows.
func Pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}
