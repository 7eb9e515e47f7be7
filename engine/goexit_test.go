package engine

import (
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/servercore-go/servercore/session"
)

// K12: after a Goexit every kind of connection is served as before: plain ones, those that a worker serves, those whose PROXY header has not
// come, those of a unix socket, and those that are paused. How they are read from then on is internal/reactor's test of this name.
func TestGoexitLeavesReadsAsTheyWere(t *testing.T) {
	e, err := New(Options{Loops: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	sessions := make(chan *recorder, 10)
	listen := func(network, address string, opts ...Option) *Listener {
		l, err := e.Listen(network, address, func() session.Handler {
			s := &recorder{}
			s.connected = func() { sessions <- s }
			s.recv = func(data []byte) {
				if string(data) == "die" {
					runtime.Goexit()
				}
				_ = s.Send(data)
			}
			return s
		}, opts...)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	plain := listen("tcp", "127.0.0.1:0")
	offloaded := listen("tcp", "127.0.0.1:0", Offload(2))
	proxied := listen("tcp", "127.0.0.1:0", ProxyProtocol(netip.MustParsePrefix("127.0.0.0/8")))
	local := listen("unix", filepath.Join(t.TempDir(), "s"))
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	dialTo := func(l *Listener) net.Conn {
		c, err := net.Dial(l.Addr().Network(), l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	type side struct {
		net.Conn
		s *recorder
	}
	open := func(l *Listener) side {
		client := dialTo(l)
		return side{client, receive(t, sessions)}
	}
	plainly, paused, unixly, worked := open(plain), open(plain), open(local), open(offloaded)
	awaited := dialTo(proxied)
	for e.loops[0].awaiting.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	paused.s.PauseRecv()

	dies := open(plain)
	write(t, dies, "die")
	if _, err := dies.Read(make([]byte, 1)); err == nil {
		t.Fatal("the session that failed goes on")
	}
	write(t, awaited, "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n")
	headed := side{awaited, receive(t, sessions)}
	paused.s.ResumeRecv()
	for _, s := range []side{plainly, paused, unixly, worked, headed} {
		exchange(t, s, 3)
	}
}
