package engine_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/session"
)

// actingLayer changes nothing and has nothing of its own. It acts in one method, before or after the session begins.
type actingLayer struct {
	method string // that acts
	before bool   // there is a session, in the handshake
	act    func()
	opened bool // something
	asked  bool // for what it has of its own
}

var errActing = errors.New("not this peer")

func (l *actingLayer) in(method string) {
	if l.method == method {
		l.act()
	}
}

func (l *actingLayer) Start(func())               { l.in("Start") }
func (l *actingLayer) Established() bool          { return !l.before }
func (l *actingLayer) Discard()                   { l.in("Discard") }
func (l *actingLayer) Finish(error)               { l.in("Finish") }
func (l *actingLayer) Drop()                      { l.in("Drop") }
func (l *actingLayer) NextAt() time.Duration      { return 0 }
func (l *actingLayer) Ended() error               { l.in("Ended"); return session.ErrTruncated }
func (l *actingLayer) Expire(time.Duration) error { l.in("Expire"); return nil }

// Pending is true once: in the handshake at once, in a session when something was received.
func (l *actingLayer) Pending() bool { return l.method == "Own" && !l.asked && (l.before || l.opened) }

func (l *actingLayer) Own(dst []byte, _ bool) []byte {
	l.asked = true
	l.in("Own")
	return dst
}

// Open returns one byte for each byte. In the handshake it takes none.
func (l *actingLayer) Open(dst, in []byte) ([]byte, int, bool, error) {
	switch {
	case l.before && len(in) == 0:
		return nil, 0, false, nil
	case l.before && l.method == "Drop":
		return nil, 0, false, errActing
	case len(in) > 0:
		l.in("Open")
	}
	if l.before || len(in) == 0 {
		return nil, len(in), false, nil
	}
	l.opened = true
	dst[0] = in[0]
	return dst[:1], 1, false, nil
}

func (l *actingLayer) Seal(dst, plain []byte) ([]byte, error) {
	l.in("Seal")
	return append(dst, plain...), nil
}

// layerPlaces are the methods of a layer that may run code of the application's, each with what brings a call about.
var layerPlaces = []struct {
	name, method string
	before       bool // there is a session, in the handshake
	recv         func(*kit.Session, []byte)
	fin          bool
}{
	{name: "Start", method: "Start", before: true},
	{name: "Open before", method: "Open", before: true},
	{name: "Own before", method: "Own", before: true},
	{name: "Ended before", method: "Ended", before: true, fin: true},
	{name: "Drop before", method: "Drop", before: true},
	{name: "Open", method: "Open"},
	{name: "Own", method: "Own"},
	{name: "Seal", method: "Seal", recv: kit.Echo},
	{name: "Discard", method: "Discard", recv: func(p *kit.Session, _ []byte) { p.Disconnect() }},
	{name: "Finish", method: "Finish", recv: func(p *kit.Session, _ []byte) { p.Disconnect() }},
	{name: "Ended", method: "Ended", fin: true},
	{name: "Expire", method: "Expire"},
	{name: "Drop", method: "Drop", recv: func(p *kit.Session, _ []byte) { p.Abort() }},
}

// K14: a layer's method that calls what waits for callbacks is told so, and that it is a layer's.
func TestCloseInALayer(t *testing.T) {
	kit.NoLeaks(t)
	for _, mode := range kit.Modes {
		for _, place := range layerPlaces {
			t.Run(place.name+mode, func(t *testing.T) {
				result := make(chan error, 1)
				var s *kit.Server
				var once sync.Once
				act := func() { once.Do(func() { result <- s.Close() }) }
				o := engine.Options{Loops: 1, LingerTimeout: 50 * time.Millisecond, DrainTimeout: 50 * time.Millisecond}
				s = kit.Prepare(t, "tcp", "127.0.0.1:0", o, kit.Hooks{Recv: place.recv}, engine.Layered(func(engine.Handshake) session.Handshaker {
					return &actingLayer{method: place.method, before: place.before, act: act}
				}))
				kit.Must(t, s.Start())
				c := s.Client()
				_, _ = c.Write([]byte("hello"))
				if place.fin {
					kit.CloseWrite(t, c)
				}
				err := kit.Await(t, result, "Close returns")
				wantInside(t, err, "Close", "Layer")
				kit.Await(t, s.Done(), "the engine ends")
			})
		}
	}
}
