package enginekit

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/servercore-go/servercore/engine"
)

// OnLoops runs f with one loop and with several, with callbacks on the loops and on as many workers, and checks that
// nothing is left over.
func OnLoops(t *testing.T, f func(t *testing.T, loops int)) {
	NoLeaks(t)
	for _, loops := range []int{1, 4} {
		for _, mode := range Modes {
			t.Run(fmt.Sprintf("loops=%d%s", loops, mode), func(t *testing.T) {
				t.Parallel()
				f(t, loops)
			})
		}
	}
}

// OnNetworks is OnLoops, over TCP and over unix sockets.
func OnNetworks(t *testing.T, f func(t *testing.T, network string, loops int)) {
	NoLeaks(t)
	for _, network := range []string{"tcp", "unix"} {
		for _, loops := range []int{1, 4} {
			for _, mode := range Modes {
				t.Run(fmt.Sprintf("%s,loops=%d%s", network, loops, mode), func(t *testing.T) {
					t.Parallel()
					f(t, network, loops)
				})
			}
		}
	}
}

// Offloaded ends the names of tests whose servers run callbacks on workers, as many as they have loops.
const Offloaded = ",offloaded"

// Modes are the ends of names of OnLoops and OnNetworks.
var Modes = []string{"", Offloaded}

// InMode adds what the test's mode asks for.
func InMode(t testing.TB, o engine.Options, opts []engine.Option) []engine.Option {
	if strings.HasSuffix(t.Name(), Offloaded) {
		opts = append(opts, engine.Offload(max(o.Loops, 1)))
	}
	return opts
}

// Server is an engine with one listener, or none, all of whose sessions are watched over.
type Server struct {
	*engine.Engine
	*Watch
	Listener *engine.Listener
}

// Serve starts a server, on a free port of the loopback or a path of its own, and has it closed and checked at
// the end of the test.
func Serve(t testing.TB, network string, o engine.Options, h Hooks, opts ...engine.Option) *Server {
	t.Helper()
	s := Prepare(t, network, FreeAddress(t, network), o, h, opts...)
	Must(t, s.Start())
	return s
}

// Prepare is Serve without the start.
func Prepare(t testing.TB, network, address string, o engine.Options, h Hooks, opts ...engine.Option) *Server {
	t.Helper()
	s := NewServer(t, o, h)
	s.Wire = len(opts) > 0
	l, err := s.Listen(network, address, s.New, InMode(t, o, opts)...)
	Must(t, err)
	s.Listener = l
	return s
}

// Dialler starts a server without a listener, for sessions that it dials itself.
func Dialler(t testing.TB, o engine.Options, h Hooks) *Server {
	t.Helper()
	s := NewServer(t, o, h)
	Must(t, s.Start())
	return s
}

// NewServer makes a server that has no listener yet and is not started.
func NewServer(t testing.TB, o engine.Options, h Hooks) *Server {
	t.Helper()
	if o.Logger == nil {
		o.Logger = Quiet
	}
	e, err := engine.New(o)
	Must(t, err)
	s := &Server{Engine: e, Watch: NewWatch(t, h)}
	t.Cleanup(func() {
		_ = s.Close()
		Await(t, s.Done(), "the engine ends")
		s.Check(s.Stats())
	})
	return s
}

// Client connects to the server, without waiting for the session.
func (s *Server) Client() net.Conn {
	s.T.Helper()
	return s.ClientOf(net.Dialer{})
}

// SmallClient is Client with so little room to receive that the server soon finds the connection full.
func (s *Server) SmallClient() net.Conn {
	s.T.Helper()
	return s.ClientOf(Small)
}

// ClientOf is Client with a dialler of the test's own.
func (s *Server) ClientOf(d net.Dialer) net.Conn {
	s.T.Helper()
	return Dial(s.T, s.Listener.Addr(), d)
}

// Connect is Client, and waits for the session.
func (s *Server) Connect() (net.Conn, *Session) {
	s.T.Helper()
	return s.Accepted(s.Client())
}

// Accepted waits for the session of a client.
func (s *Server) Accepted(c net.Conn) (net.Conn, *Session) {
	s.T.Helper()
	return c, Await(s.T, s.Arrivals, "OnConnected")
}

// DialTo dials a server and returns the session, which is one of s's.
func (s *Server) DialTo(a net.Addr, opts ...engine.Option) *Session {
	s.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	h, err := s.Dial(ctx, a.Network(), a.String(), s.New, opts...)
	Must(s.T, err)
	return h.(*Session)
}

// WantRefused waits until exactly these refusals are counted.
func (s *Server) WantRefused(want engine.Refused) {
	s.T.Helper()
	Eventually(s.T, fmt.Sprintf("%+v are refused", want), func() bool { return s.Stats().Refused == want })
	if want.Sum() != s.Stats().Refused.Sum() {
		s.T.Errorf("Sum is %d, want %d", s.Stats().Refused.Sum(), want.Sum())
	}
}
