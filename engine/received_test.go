package engine_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/session"
)

// The tests of E2c where a connection comes in another way; enginetest has the rest. What the peer sent before it went, and our kernel
// holds, comes to OnRecv, whatever has failed in the other direction. A server of package net gets it.

// lastWords is what the clients of these tests send before they go: more than one read, and what every kernel's buffers hold.
var lastWords = bytes.Repeat([]byte("a line of fifty bytes, which nobody reads an answ\n"), 2000)

// departures are the ways in which a client goes without reading.
var departures = map[string]func(testing.TB, net.Conn){
	"close": func(t testing.TB, c net.Conn) { kit.Must(t, c.Close()) },
	"reset": func(t testing.TB, c net.Conn) {
		if tcp, ok := c.(*net.TCPConn); ok {
			kit.Must(t, tcp.SetLinger(0))
		}
		kit.Must(t, c.Close())
	},
}

// readByPackageNet returns what a server of package net reads that answers as ours do: it writes until that fails and reads on.
func readByPackageNet(t *testing.T, network string, depart func(testing.TB, net.Conn)) int {
	t.Helper()
	l, err := net.Listen(network, kit.FreeAddress(t, network))
	kit.Must(t, err)
	defer l.Close()
	c, err := net.Dial(network, l.Addr().String())
	kit.Must(t, err)
	s, err := l.Accept()
	kit.Must(t, err)
	defer s.Close()
	kit.Write(t, c, lastWords)
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
	l, err := net.Listen(network, kit.FreeAddress(t, network))
	kit.Must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return engine.From(l.(syscall.Conn))
}

// The client writes and goes before OnRecv is called for the first time: the answer fails, or the one after it.
func TestE2cWhatWasSentBeforeThePeerWent(t *testing.T) {
	for name, kind := range map[string]struct {
		header    string
		opts      func(t *testing.T, network string) []engine.Option
		connected func(*kit.Session)
		recv      func(p *kit.Session, data []byte)
		then      func(*kit.Session) // after the client has gone
		o         engine.Options
		lost      int // bytes that are not OnRecv's: the ends of lines
	}{
		"behind a proxy": {
			header: v1Header,
			opts:   func(*testing.T, string) []engine.Option { return []engine.Option{behindProxy} },
			recv:   func(p *kit.Session, data []byte) { _ = p.Send(data) },
		},
		"on a socket handed in": {
			opts: func(t *testing.T, network string) []engine.Option { return []engine.Option{handedIn(t, network)} },
			recv: func(p *kit.Session, data []byte) { _ = p.Send(data) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			kit.OnNetworks(t, func(t *testing.T, network string, loops int) {
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
					s := kit.Serve(t, network, o, kit.Hooks{Recv: kind.recv, Connected: func(p *kit.Session) {
						if kind.connected != nil {
							kind.connected(p)
						}
						<-gate
					}}, opts...)
					c := s.SmallClient()
					kit.Write(t, c, []byte(kind.header))
					p := kit.Await(t, s.Arrivals, "OnConnected")
					kit.Write(t, c, lastWords)
					depart(t, c)
					close(gate)
					if kind.then != nil {
						kind.then(p)
					}
					kit.Await(t, p.Ended, how+": OnDisconnected")
					if got, want := int(p.Got.Load()), len(lastWords)-kind.lost; got != want {
						t.Errorf("%s: OnRecv got %d bytes, want %d as package net; Err %v", how, got, want, p.Err())
					}
				}
			})
		})
	}
}

// E2c on the dialling side: a server that says what is wrong and hangs up while we upload is heard.
func TestE2cAnAnswerToAnUploadIsHeard(t *testing.T) {
	const answer = "413 too large"
	for _, network := range []string{"tcp", "unix"} {
		for _, size := range []int{1 << 20, 8 << 20} { // all of it queued; above PauseAbove either way
			t.Run(network, func(t *testing.T) {
				kit.NoLeaks(t)
				l, err := net.Listen(network, kit.FreeAddress(t, network))
				kit.Must(t, err)
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
				d := kit.Dialler(t, engine.Options{SendLimit: 16 << 20}, kit.Hooks{
					Connected: func(p *kit.Session) { _ = p.Send(make([]byte, size)) },
					Recv:      func(_ *kit.Session, data []byte) { heard = append(heard, data...) },
					Disconnected: func(p *kit.Session) {
						got <- string(heard)
						if !errors.Is(p.Err(), session.ErrPeerReset) {
							t.Errorf("Err %v", p.Err())
						}
					},
				})
				_, err = d.Dial(t.Context(), network, l.Addr().String(), d.New)
				kit.Must(t, err)
				if s := kit.Await(t, got, "OnDisconnected"); s != answer {
					t.Errorf("heard %q, want %q", s, answer)
				}
			})
		}
	}
}
