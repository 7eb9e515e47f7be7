package engine

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/session"
)

const firstHalf, secondHalf = "PROXY TCP4 192.0.2.1 ", "192.0.2.2 1000 2000\r\n"

// arrive connects to a listener behind a proxy and waits until the loop waits for the header. home is a session on the same
// loop, for onLoop.
func arrive(t *testing.T, opts ...Option) (client net.Conn, home *conn) {
	t.Helper()
	e, err := New(Options{Loops: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	factory := func() session.Handler {
		s := &recorder{connected: func() {}}
		s.recv = func(data []byte) { _ = s.Send(data) }
		return s
	}
	plain, err := e.Listen("tcp", "127.0.0.1:0", factory)
	if err != nil {
		t.Fatal(err)
	}
	behind, err := e.Listen("tcp", "127.0.0.1:0", factory, append(opts, ProxyProtocol(netip.MustParsePrefix("127.0.0.0/8")))...)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	exchange(t, dial(t, plain), 1)
	l := e.loops[0]
	l.connsMu.Lock()
	home = l.conns[0]
	l.connsMu.Unlock()
	client = dial(t, behind)
	for deadline := time.Now().Add(5 * time.Second); onLoop(t, home, func() int { return len(l.arrivals) }) == 0; {
		if time.Now().After(deadline) {
			t.Fatal("nobody has arrived within 5 s")
		}
	}
	return client, home
}

// only returns the arrival, on the loop.
func only(l *loop) *arrival {
	for _, a := range l.arrivals {
		return a
	}
	return nil
}

// L4: an arrival that is to be looked at once more, because Goexit may have lost its event, may be a session by then, and
// a session that workers serve is not the loop's to look at.
func TestArrivalBecomesStrand(t *testing.T) {
	client, home := arrive(t, Offload(1))
	write(t, client, firstHalf)
	l := home.on()
	onLoop(t, home, func() bool {
		a := only(l)
		l.resurvey()
		write(t, client, secondHalf)
		for b := make([]byte, len(firstHalf)+len(secondHalf)); ; time.Sleep(time.Millisecond) {
			if n, _, err := unix.Recvfrom(int(a.conn.fd), b, unix.MSG_PEEK); err != nil || n == len(b) {
				break
			}
		}
		l.hear(a, news{readable: true})
		return true
	})
	exchange(t, client, 3)
}

// A header that ends in its midst is refused as soon as the peer has finished.
func TestArrivalFinishedEarly(t *testing.T) {
	client, home := arrive(t)
	write(t, client, firstHalf)
	_ = client.(*net.TCPConn).CloseWrite()
	_ = client.SetDeadline(time.Now().Add(5 * time.Second))
	if b, err := io.ReadAll(client); len(b) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%q, %v, want the end", b, err)
	}
	if n := home.on().engine.Stats().Refused.ProxyHeader; n != 1 {
		t.Errorf("%d refused for their header, want 1", n)
	}
}
