package servercore_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/session"
)

// The tests of E2c: what the peer sent before it went, and our kernel holds, comes to OnRecv, whatever has failed in the other
// direction. A server of package net gets it.

// lastWords is what the clients of these tests send before they go: more than one read, and what every kernel's buffers hold.
var lastWords = bytes.Repeat([]byte("a line of fifty bytes, which nobody reads an answ\n"), 2000)

// departures are the ways in which a client goes without reading.
var departures = map[string]func(testing.TB, net.Conn){
	"close": func(t testing.TB, c net.Conn) { must(t, c.Close()) },
	"reset": func(t testing.TB, c net.Conn) {
		if tcp, ok := c.(*net.TCPConn); ok {
			must(t, tcp.SetLinger(0))
		}
		must(t, c.Close())
	},
}

// readByPackageNet returns what a server of package net reads that answers as ours do: it writes until that fails and reads on.
func readByPackageNet(t *testing.T, network string, depart func(testing.TB, net.Conn)) int {
	t.Helper()
	l, err := net.Listen(network, freeAddress(t, network))
	must(t, err)
	defer l.Close()
	c, err := net.Dial(network, l.Addr().String())
	must(t, err)
	s, err := l.Accept()
	must(t, err)
	defer s.Close()
	write(t, c, lastWords)
	depart(t, c)
	total, buf := 0, make([]byte, 64<<10)
	for {
		n, err := s.Read(buf)
		if total += n; err != nil {
			return total
		}
		_, _ = s.Write(buf[:n])
	}
}

// handedIn returns the option for a socket that somebody else listens on.
func handedIn(t *testing.T, network string) engine.Option {
	l, err := net.Listen(network, freeAddress(t, network))
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return engine.From(l.(syscall.Conn))
}

// The client writes and goes before OnRecv is called for the first time: the answer fails, or the one after it.
func TestE2cWhatWasSentBeforeThePeerWent(t *testing.T) {
	choked := make([]byte, 300<<10) // more than PauseAbove and what the client's kernel takes
	for name, kind := range map[string]struct {
		header    string
		opts      func(t *testing.T, network string) []engine.Option
		connected func(*peer)
		recv      func(p *peer, data []byte)
		then      func(*peer) // after the client has gone
		o         engine.Options
		lost      int // bytes that are not OnRecv's: the ends of lines
	}{
		"answers": {recv: func(p *peer, data []byte) { _ = p.Send(data) }},
		"answers with packets": {
			opts: func(*testing.T, string) []engine.Option { return []engine.Option{engine.Framed(frame.Line{})} },
			recv: func(p *peer, data []byte) { _ = p.Send(data) },
			lost: bytes.Count(lastWords, []byte("\n")),
		},
		"behind a proxy": {
			header: v1Header,
			opts:   func(*testing.T, string) []engine.Option { return []engine.Option{behindProxy} },
			recv:   func(p *peer, data []byte) { _ = p.Send(data) },
		},
		"on a socket handed in": {
			opts: func(t *testing.T, network string) []engine.Option { return []engine.Option{handedIn(t, network)} },
			recv: func(p *peer, data []byte) { _ = p.Send(data) },
		},
		"finishes": {recv: func(p *peer, _ []byte) { p.CloseWrite() }},
		"has much to send and is not read": {
			connected: func(p *peer) { _ = p.Send(choked) },
			recv:      func(*peer, []byte) {},
			o:         engine.Options{PauseAbove: 32 << 10, SendBuffer: 16 << 10},
		},
		"is paused": {
			connected: func(p *peer) { p.PauseRecv() },
			recv:      func(p *peer, data []byte) { _ = p.Send(data) },
			then:      func(p *peer) { _ = p.Send([]byte("x")); p.ResumeRecv() },
		},
		"is paused, and the write fails first": {
			connected: func(p *peer) { p.PauseRecv() },
			then: func(p *peer) {
				for p.Send([]byte("x")) == nil {
					time.Sleep(time.Millisecond)
				}
				p.ResumeRecv()
			},
		},
		"pauses with the first bytes": {
			recv: func(p *peer, data []byte) {
				if p.got.Load() == int64(len(data)) {
					p.PauseRecv()
				}
				_ = p.Send(data)
			},
			then: func(p *peer) {
				for p.Send([]byte("x")) == nil {
					time.Sleep(time.Millisecond)
				}
				p.ResumeRecv()
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			onNetworks(t, func(t *testing.T, network string, loops int) {
				if network == "unix" && kind.header != "" {
					return // there are no such listeners
				}
				for how, depart := range departures {
					if n := readByPackageNet(t, network, depart); n != len(lastWords) {
						t.Fatalf("%s: package net reads %d of %d bytes", how, n, len(lastWords))
					}
					var opts []engine.Option
					if kind.opts != nil {
						opts = kind.opts(t, network)
					}
					gate := make(chan struct{})
					o := kind.o
					o.Loops = loops
					s := serve(t, network, o, hooks{recv: kind.recv, connected: func(p *peer) {
						if kind.connected != nil {
							kind.connected(p)
						}
						<-gate
					}}, opts...)
					c := s.dialSmallOn(network)
					write(t, c, []byte(kind.header))
					p := await(t, s.arrivals, "OnConnected")
					write(t, c, lastWords)
					depart(t, c)
					close(gate)
					if kind.then != nil {
						kind.then(p)
					}
					await(t, p.ended, how+": OnDisconnected")
					if got, want := int(p.got.Load()), len(lastWords)-kind.lost; got != want {
						t.Errorf("%s: OnRecv got %d bytes, want %d as package net; Err %v", how, got, want, p.Err())
					}
				}
			})
		})
	}
}

// dialSmallOn is dialSmall where that makes a difference.
func (s *server) dialSmallOn(network string) net.Conn {
	if network == "tcp" {
		return s.dialSmall()
	}
	return s.dial()
}

// E2c, S7: a session that is paused when its connection fails is not held for ever, and Send fails at once.
func TestE2cPausedForGood(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string, loops int) {
		s := serve(t, network, engine.Options{Loops: loops, LingerTimeout: 300 * time.Millisecond}, hooks{
			connected: func(p *peer) { p.PauseRecv() },
			recv:      func(*peer, []byte) { t.Error("OnRecv of a paused session") },
		})
		c, p := s.connect()
		write(t, c, lastWords)
		must(t, c.Close())
		eventually(t, "Send fails", func() bool { return p.Send([]byte("x")) != nil })
		wantError(t, "Send", p.Send([]byte("x")), session.ErrClosed)
		wantError(t, "reason", p.Err(), session.ErrPeerReset)
		await(t, p.ended, "OnDisconnected")
	})
}

// E2c on the dialling side: a server that says what is wrong and hangs up while we upload is heard.
func TestE2cAnAnswerToAnUploadIsHeard(t *testing.T) {
	const answer = "413 too large"
	for _, network := range []string{"tcp", "unix"} {
		for _, size := range []int{1 << 20, 8 << 20} { // all of it queued; above PauseAbove either way
			t.Run(network, func(t *testing.T) {
				noLeaks(t)
				l, err := net.Listen(network, freeAddress(t, network))
				must(t, err)
				defer l.Close()
				go func() {
					c, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = io.ReadFull(c, make([]byte, 1000))
					_, _ = io.WriteString(c, answer)
					_ = c.Close() // with input unread: a reset
				}()
				got := make(chan string, 1)
				var heard []byte
				d := dialler(t, engine.Options{SendLimit: 16 << 20}, hooks{
					connected: func(p *peer) { _ = p.Send(make([]byte, size)) },
					recv:      func(_ *peer, data []byte) { heard = append(heard, data...) },
					disconnected: func(p *peer) {
						got <- string(heard)
						if !errors.Is(p.Err(), session.ErrPeerReset) {
							t.Errorf("Err %v", p.Err())
						}
					},
				})
				_, err = d.Dial(t.Context(), network, l.Addr().String(), d.newPeer)
				must(t, err)
				if s := await(t, got, "OnDisconnected"); s != answer {
					t.Errorf("heard %q, want %q", s, answer)
				}
			})
		}
	}
}
