package engine_test

import (
	"crypto/tls"
	"net"
	"net/http"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/internal/checksum"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/layer/websocket"
	"github.com/servercore-go/servercore/session"
)

// failing is a layer that panics in one method.
type failing struct {
	session.Handshaker
	method string
}

func (f failing) Start(wake func()) { f.fail("Start"); f.Handshaker.Start(wake) }

func (f failing) Own(dst []byte, between bool) []byte {
	f.fail("Own")
	return f.Handshaker.Own(dst, between)
}

func (f failing) Open(dst, in []byte) ([]byte, int, bool, error) {
	f.fail("Open")
	return f.Handshaker.Open(dst, in)
}

func (f failing) fail(method string) {
	if f.method == method {
		panic("on purpose")
	}
}

// L4: a layer that panics in its handshake costs that connection only.
func TestLayerThatPanicsInItsHandshake(t *testing.T) {
	for _, method := range []string{"Start", "Own", "Open"} {
		t.Run(method, func(t *testing.T) {
			var fails atomic.Bool
			s := kit.Serve(t, "tcp", engine.Options{Loops: 1}, kit.Hooks{Recv: kit.Echo}, engine.Layered(func(engine.Handshake) session.Handshaker {
				l := checksum.NewSealer(checksum.Options{Server: true})
				if fails.Load() {
					return failing{l, method}
				}
				return l
			}))
			good := checksum.Client(s.Client(), checksum.Sealing)
			defer good.Close()
			kit.Exchange(t, good, "hello")
			fails.Store(true)
			bad := checksum.Client(s.Client(), checksum.Sealing)
			defer bad.Close()
			if err := bad.Handshake(); err == nil {
				t.Error("the handshake is done")
			}
			s.WantRefused(engine.Refused{Handshake: 1})
			kit.Exchange(t, good, "still there")
		})
	}
}

// fragile is an error that panics when it is asked, if the pointer is nil.
type fragile struct{ is error }

func (e *fragile) Error() string        { return e.is.Error() }
func (e *fragile) Is(target error) bool { return target == e.is }

// fragileLayer returns such an error.
type fragileLayer struct {
	*actingLayer
	from string
}

func (l fragileLayer) Open(dst, in []byte) ([]byte, int, bool, error) {
	if l.from == "Open" && len(in) > 0 {
		return nil, len(in), false, (*fragile)(nil)
	}
	return l.actingLayer.Open(dst, in)
}

func (l fragileLayer) Ended() error {
	if l.from == "Ended" {
		return (*fragile)(nil)
	}
	return l.actingLayer.Ended()
}

// L4: so does an error that panics when it is asked: of a layer, in its handshake and later, of Check, and of a callback of TLS.
func TestErrorsThatPanic(t *testing.T) {
	server, client := certificate(t)
	layered := func(from string, before bool) engine.Option {
		return engine.Layered(func(engine.Handshake) session.Handshaker { return fragileLayer{&actingLayer{before: before}, from} })
	}
	fragileTLS := server.Clone()
	fragileTLS.VerifyConnection = func(c tls.ConnectionState) error {
		if c.ServerName == "bad" {
			return (*fragile)(nil)
		}
		return nil
	}
	check := func(r *http.Request) error {
		if r.URL.Path == "/bad" {
			return (*fragile)(nil)
		}
		return nil
	}
	for name, tt := range map[string]struct {
		option engine.Option
		good   func(c net.Conn) net.Conn
		act    func(c net.Conn)
		later  bool // there is a session by then
	}{
		"TLS": {engine.TLS(fragileTLS), func(c net.Conn) net.Conn { return tls.Client(c, client) }, func(c net.Conn) {
			config := client.Clone()
			config.ServerName, config.InsecureSkipVerify = "bad", true
			_ = tls.Client(c, config).Handshake()
		}, false},
		"Check": {engine.WebSocket(engine.WebSocketOptions{Check: check}), nil, func(c net.Conn) {
			_, _ = webSocket(t, c, nil, websocket.Options{}, "/bad", nil)
		}, false},
		"handshake": {layered("Open", true), nil, func(c net.Conn) { kit.Write(t, c, []byte("x")) }, false},
		"Open":      {layered("Open", false), nil, func(c net.Conn) { kit.Write(t, c, []byte("x")) }, true},
		"Ended":     {layered("Ended", false), nil, func(c net.Conn) { kit.CloseWrite(t, c) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := kit.Serve(t, "tcp", engine.Options{Loops: 1, LingerTimeout: 50 * time.Millisecond}, kit.Hooks{Recv: kit.Echo}, tt.option)
			c := s.Client()
			tt.act(c)
			if tt.later {
				err := kit.AwaitEnd(t, kit.Await(t, s.Arrivals, "OnConnected"))
				kit.WantError(t, "Err", err, session.ErrPanic)
			} else {
				s.WantRefused(engine.Refused{Handshake: 1})
			}
			if tt.good != nil {
				kit.Exchange(t, tt.good(s.Client()), "the loop is still there")
			}
			kit.Eventually(t, "the connection is gone", func() bool { return tt.good != nil || s.Stats().Sessions == 0 })
		})
	}
}

// L4: so does one that panics, or ends the goroutine, when its handshake has come to an end.
func TestLayerThatFailsAfterItsHandshake(t *testing.T) {
	kit.NoLeaks(t)
	for _, method := range []string{"Ended", "Drop"} {
		for name, fail := range map[string]func(){"panic": func() { panic("on purpose") }, "Goexit": runtime.Goexit} {
			t.Run(method+" "+name, func(t *testing.T) {
				var fails atomic.Bool
				failed := make(chan struct{}, 1)
				act := func() { failed <- struct{}{}; fail() }
				s := kit.Serve(t, "tcp", engine.Options{Loops: 1}, kit.Hooks{Recv: kit.Echo}, engine.Layered(func(engine.Handshake) session.Handshaker {
					if fails.Load() {
						return &actingLayer{method: method, before: true, act: act}
					}
					return &actingLayer{}
				}))
				good := s.Client()
				kit.Exchange(t, good, "hello")
				fails.Store(true)
				bad := s.Client()
				if method == "Drop" { // the layer refuses what it gets
					kit.Write(t, bad, []byte("x"))
				}
				kit.CloseWrite(t, bad)
				s.WantRefused(engine.Refused{Handshake: 1})
				kit.Await(t, failed, method+" is called")
				kit.Eventually(t, "the connection is gone", func() bool { return s.Stats().Sessions == 1 })
				kit.Exchange(t, good, "still there")
			})
		}
	}
}

// A layer that goes on waking after its handshake costs nothing.
func TestWakeAfterTheHandshake(t *testing.T) {
	wakes := make(chan func(), 1)
	s := kit.Serve(t, "tcp", engine.Options{Loops: 1}, kit.Hooks{Recv: kit.Echo}, engine.Layered(func(engine.Handshake) session.Handshaker {
		return wakingLayer{&actingLayer{}, wakes}
	}))
	c := s.Client()
	kit.Await(t, s.Arrivals, "OnConnected")
	wake := kit.Await(t, wakes, "Start")
	wake()
	if n := testing.AllocsPerRun(1000, wake); n > 0 {
		t.Errorf("wake allocates %v times", n)
	}
	kit.Exchange(t, c, "hello")
}

// wakingLayer tells what it wakes the loop by.
type wakingLayer struct {
	*actingLayer
	wakes chan func()
}

func (l wakingLayer) Start(wake func()) { l.wakes <- wake }
