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

	"github.com/servercore-go/servercore/internal/guard"
	"github.com/servercore-go/servercore/internal/reactor"
	"github.com/servercore-go/servercore/internal/wheel"
	"github.com/servercore-go/servercore/session"
)

const firstHalf, secondHalf = "PROXY TCP4 192.0.2.1 ", "192.0.2.2 1000 2000\r\n"

// arrive connects to a listener behind a proxy and waits until the loop waits for the header. home is a session on the same
// loop, for onLoop.
func arrive(t *testing.T, opts ...Option) (client net.Conn, home *conn) {
	t.Helper()
	return arriveIn(t, Options{}, opts...)
}

func arriveIn(t *testing.T, o Options, opts ...Option) (client net.Conn, home *conn) {
	t.Helper()
	o.Loops, o.Logger = 1, slog.New(slog.DiscardHandler)
	e, err := New(o)
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
	home = l.Conns()[0]
	client = dial(t, behind)
	for deadline := time.Now().Add(5 * time.Second); onLoop(t, home, func() int { return len(l.headers) }) == 0; {
		if time.Now().After(deadline) {
			t.Fatal("nobody has arrived within 5 s")
		}
	}
	return client, home
}

// only returns the connection that awaits its header, on the loop.
func only(l *loop) *headerReader {
	for _, a := range l.headers {
		return a
	}
	return nil
}

// L4: a connection that awaits its header and is to be looked at once more, because Goexit may have lost its event, may be a session by
// then, and a session that workers serve is not the loop's to look at.
func TestHeaderOfAnOffloadedSession(t *testing.T) {
	client, home := arrive(t, Offload(1))
	write(t, client, firstHalf)
	l := loopOf(home)
	onLoop(t, home, func() bool {
		a := only(l)
		a.conn.Again() // as after a Goexit
		write(t, client, secondHalf)
		for b := make([]byte, len(firstHalf)+len(secondHalf)); ; time.Sleep(time.Millisecond) {
			if n, _, err := unix.Recvfrom(a.conn.Fd(), b, unix.MSG_PEEK); err != nil || n == len(b) {
				break
			}
		}
		l.OnReady(a.conn)
		return true
	})
	exchange(t, client, 3)
}

// A header that ends in its midst is refused as soon as the peer has finished.
func TestHeaderFinishedEarly(t *testing.T) {
	client, home := arrive(t)
	write(t, client, firstHalf)
	_ = client.(*net.TCPConn).CloseWrite()
	_ = client.SetDeadline(time.Now().Add(5 * time.Second))
	if b, err := io.ReadAll(client); len(b) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%q, %v, want the end", b, err)
	}
	if n := loopOf(home).engine.Stats().Refused.ProxyHeader; n != 1 {
		t.Errorf("%d refused for their header, want 1", n)
	}
}

// A header has as long as FirstByteTimeout says, 5 s if that is off.
func TestHeaderDeadline(t *testing.T) {
	for timeout, want := range map[time.Duration]time.Duration{0: 5 * time.Second, -1: 5 * time.Second, time.Hour: time.Hour, 7 * time.Second: 7 * time.Second} {
		began := time.Now()
		_, home := arriveIn(t, Options{FirstByteTimeout: timeout})
		l := loopOf(home)
		left := onLoop(t, home, func() time.Duration { return only(l).deadline - l.Now() })
		if left > want || left < want-time.Since(began) {
			t.Errorf("FirstByteTimeout %v: %v are left of %v after %v at most", timeout, left, want, time.Since(began))
		}
	}
}

// A deadline beyond the wheel's horizon is met: the connection is looked at before, stays, and is armed again each time.
func TestHeaderDeadlineBeyondHorizon(t *testing.T) {
	const timeout = 10 * reactor.TickSlots * reactor.Tick
	client, home := arriveIn(t, Options{FirstByteTimeout: timeout})
	l := loopOf(home)
	onLoop(t, home, func() bool {
		a := only(l)
		armed := func() bool { return *a.conn.WheelPosition() != wheel.Position{} }
		for _, now := range []time.Duration{a.deadline - timeout/2, a.deadline - 1} {
			if !armed() {
				t.Error("it was not armed")
			}
			l.Disarm(a.conn) // as the loop does
			l.OnDeadline(a.conn, now)
			if only(l) != a || !armed() {
				t.Errorf("at %v of %v: the connection waits: %t, and is armed: %t", now, a.deadline, only(l) == a, armed())
			}
		}
		l.OnDeadline(a.conn, a.deadline)
		if len(l.headers) != 0 || armed() || l.awaiting.Load() != 0 {
			t.Errorf("at its deadline: %d wait, %d are counted, and it is armed: %t", len(l.headers), l.awaiting.Load(), armed())
		}
		return true
	})
	_ = client.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := client.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v, want the end", err)
	}
	if n := loopOf(home).engine.Stats().Refused.ProxyLate; n != 1 {
		t.Errorf("%d refused as late, want 1", n)
	}
}

// A header that was whole when its deadline passed is in time: the loop may be late to look.
func TestHeaderInTimeLoopLate(t *testing.T) {
	client, home := arrive(t)
	l := loopOf(home)
	onLoop(t, home, func() bool {
		a := only(l)
		write(t, client, firstHalf+secondHalf)
		for b := make([]byte, len(firstHalf)+len(secondHalf)); ; time.Sleep(time.Millisecond) {
			if n, _, err := unix.Recvfrom(a.conn.Fd(), b, unix.MSG_PEEK); err != nil || n == len(b) {
				break
			}
		}
		l.OnDeadline(a.conn, a.deadline+time.Second)
		return true
	})
	exchange(t, client, 3)
}

// Connections that wait for their header are shared out among the loops, and count until they are sessions or gone.
func TestHeadersAreSharedOut(t *testing.T) {
	e, err := New(Options{Loops: 2, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return &recorder{connected: func() {}} },
		ProxyProtocol(netip.MustParsePrefix("127.0.0.0/8")))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	wait := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(5 * time.Second); !done(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("not within 5 s: %s", what)
			}
		}
	}
	var clients []net.Conn
	for i := range 10 { // one by one, or those on their way to a loop count too
		clients = append(clients, dial(t, l))
		wait("it waits for its header", func() bool { return int(e.loops[0].awaiting.Load()+e.loops[1].awaiting.Load()) == i+1 })
	}
	if a, b := e.loops[0].awaiting.Load(), e.loops[1].awaiting.Load(); a != 5 || b != 5 {
		t.Errorf("%d and %d wait on the two loops, want 5 and 5", a, b)
	}
	for i, c := range clients {
		if i%2 == 0 {
			write(t, c, firstHalf+secondHalf)
		} else {
			_ = c.Close()
		}
	}
	wait("none waits", func() bool { return e.loops[0].awaiting.Load()+e.loops[1].awaiting.Load() == 0 })
	wait("five are sessions", func() bool { return e.Stats().Sessions == 5 && e.Stats().Total.Sessions == 5 })
}

// A connection that comes to a loop when the engine ends, or after the loop's poller has failed, and would have to wait for its header,
// is refused: nothing would tell of it any more.
func TestHeaderOfAnEngineThatEnds(t *testing.T) {
	for name, end := range map[string]func(l *loop){
		"ends":  func(l *loop) { l.engine.stop() },
		"fails": func(l *loop) { l.fault = errors.New("the poller has failed") },
	} {
		l := unstarted(t)
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.SetNonblock(pair[1], true); err != nil {
			t.Fatal(err)
		}
		l.engine.sessions.Add(1)
		l.enqueue(pendingConn{fd: pair[0], origin: &origin{network: "tcp", entry: &entry{trusted: new(guard.Prefixes)}}})
		end(l)
		l.Turn()
		if s := l.engine.Stats(); len(l.headers) != 0 || l.awaiting.Load() != 0 || s.Sessions != 0 || s.Refused != (Refused{Closing: 1}) {
			t.Errorf("%s: %d wait, %d are expected, %d are counted, refused %+v", name, len(l.headers), l.awaiting.Load(), s.Sessions, s.Refused)
		}
		if n, err := unix.Read(pair[1], make([]byte, 1)); n != 0 || err != nil {
			t.Errorf("%s: the peer reads %d, %v, want the end", name, n, err)
		}
		unix.Close(pair[1])
	}
}
