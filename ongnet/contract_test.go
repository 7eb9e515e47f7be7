package ongnet_test

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"

	"github.com/panjf2000/gnet/v2"
	"github.com/panjf2000/gnet/v2/pkg/logging"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/enginetest"
	"github.com/servercore-go/servercore/ongnet"
	"github.com/servercore-go/servercore/session"
)

func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	switch { // the tests wait most of the time; -short is for the race detector, which makes everything beside a test slow
	case given:
	case testing.Short():
		_ = flag.Set("test.parallel", "4")
	default:
		_ = flag.Set("test.parallel", "6")
	}
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil { // the runtime's own descriptors exist from here on
		_ = l.Close()
	}
	os.Exit(m.Run())
}

// except is what stock gnet does not allow us to promise: the list of the package's comment. See docs/decisions/0003-reactor.md.
func except(network string) map[string]enginetest.Exception {
	const reads = "gnet cannot stop reading a connection: the session ends when SendLimit bytes are kept (ErrNotHeld), early or late"
	list := map[string]enginetest.Exception{
		"S7 PauseRecv holds the peer, ResumeRecv delivers all of it":  enginetest.NotPromised(reads),
		"S7 an echo of a client that does not read loses nothing":     enginetest.NotPromised(reads),
		"L4 a factory that calls Goexit refuses that connection only": enginetest.Fails(goexit),
		"L4 Goexit in a callback loses no other session's end":        enginetest.Fails(goexit),
	}
	for _, where := range []string{"OnConnected", "OnRecv", "OnSend", "OnDisconnected", "Post"} {
		list["L4 Goexit in "+where+" ends that session only"] = enginetest.Fails(goexit)
	}
	if network == "unix" {
		list["E4 Shutdown in a rush leaves nothing behind"] = enginetest.NotPromised("gnet goes on accepting while its loops end, and nobody closes " +
			"a connection that no loop hears of; on TCP an error of accept ends it before")
	}
	return list
}

const goexit = "the goroutine that Goexit ends is gnet's event loop: all its sessions end with it, and gnet stops"

// The contract holds on gnet's own loops, but for what except has.
func TestContract(t *testing.T) {
	variants := []enginetest.Variant{{Network: "tcp4", Loops: 4}, {Network: "unix", Loops: 4}, {Network: "tcp4", Loops: 1}}
	if testing.Short() {
		variants = variants[:1]
	}
	for _, v := range variants {
		v.NoEngine, v.New, v.Except = true, newServer, except(v.Network)
		t.Run(fmt.Sprintf("%s,loops=%d", v.Network, v.Loops), func(t *testing.T) { enginetest.Run(t, v) })
	}
}

// server runs an adapter under gnet.
type server struct {
	*ongnet.Adapter
	address string
	options []gnet.Option
	booted  chan struct{}
	engine  gnet.Engine
	addr    net.Addr
	start   sync.Once
	ran     chan struct{} // closed when gnet.Run has returned
	err     error         // of gnet.Run
}

func newServer(o engine.Options, network, address string, f session.Factory, _ ...engine.Option) (enginetest.Server, func() net.Addr, error) {
	a := ongnet.Handler(f, o).(*ongnet.Adapter)
	s := &server{Adapter: a, address: network + "://" + address, booted: make(chan struct{}), ran: make(chan struct{}),
		options: []gnet.Option{gnet.WithNumEventLoop(o.Loops), gnet.WithLogger(quiet{}), gnet.WithReuseAddr(true)}}
	return s, func() net.Addr { return s.addr }, nil
}

// OnBoot notes where the engine listens.
func (s *server) OnBoot(e gnet.Engine) gnet.Action {
	defer close(s.booted)
	if fd, err := e.Dup(); err == nil {
		f := os.NewFile(uintptr(fd), "listener")
		if l, err := net.FileListener(f); err == nil {
			s.addr = l.Addr()
			if u, ok := l.(*net.UnixListener); ok {
				u.SetUnlinkOnClose(false)
			}
			_ = l.Close()
		}
		_ = f.Close()
	}
	s.engine = e
	return s.Adapter.OnBoot(e)
}

func (s *server) Start() (err error) {
	s.start.Do(func() {
		go func() {
			defer close(s.ran)
			s.err = gnet.Run(s, s.address, s.options...)
		}()
		select {
		case <-s.booted:
		case <-s.ran:
			err = s.err
		}
	})
	return err
}

func (s *server) Shutdown(ctx context.Context) error {
	s.start.Do(func() { close(s.ran) }) // it never ran
	select {
	case <-s.ran:
		return nil
	default:
	}
	err := s.Adapter.Shutdown(ctx)
	<-s.ran
	return err
}

func (s *server) Close() error {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.Shutdown(over)
	return nil
}

// quiet is a logger of gnet's.
type quiet struct{ logging.Logger }

func (quiet) Debugf(string, ...any) {}
func (quiet) Infof(string, ...any)  {}
func (quiet) Warnf(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(string, ...any) {}
