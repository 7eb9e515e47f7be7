package engine_test

import (
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/internal/checksum"
	kit "github.com/servercore-go/servercore/internal/enginekit"
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
