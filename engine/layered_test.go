package engine_test

import (
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
