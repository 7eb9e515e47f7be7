package layer_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/layer"
	layertls "github.com/servercore-go/servercore/layer/tls"
	"github.com/servercore-go/servercore/layer/websocket"
	"github.com/servercore-go/servercore/session"
)

// taker is a transport that takes everything and forgets it.
type taker struct {
	scratch *session.Scratch // of the loop
	arms    int
}

func (t *taker) Scratch() *session.Scratch { return t.scratch }
func (*taker) Wake()                       {}
func (*taker) WakeAll([]session.Transport) {}
func (*taker) Again()                      {}
func (*taker) Now() time.Duration          { return time.Second }
func (t *taker) Arm(time.Duration)         { t.arms++ }
func (*taker) CloseWrite() error           { return nil }
func (*taker) Reading(bool) error          { return nil }
func (*taker) Unread() bool                { return false }
func (*taker) Unsent() int                 { return 0 }
func (*taker) Received() int               { return 0 }
func (*taker) Close(bool)                  {}
func (*taker) Done()                       {}
func (*taker) Failed(string, any, []byte)  {}
func (*taker) Write(bufs [][]byte) (n int, err error) {
	for _, b := range bufs {
		n += len(b)
	}
	return n, nil
}

type benchSession struct{ session.Session }

func (s *benchSession) OnRecv(data []byte) { _ = s.Send(data) }

// spoken is what a session of a benchmark speaks.
type spoken struct {
	name    string
	framing *session.Framing                                        // nil for that of the layer
	layers  func(tb testing.TB) (server, client session.Handshaker) // nil without a layer
	frame   func(payload []byte) []byte                             // a client's message of it, before TLS; nil: as it is
}

func spokenKinds(tb testing.TB) []spoken {
	serverTLS, clientTLS := configs(tb)
	hs := &layertls.Handshakes{}
	ws, err := websocket.NewServer(websocket.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	wsClient := func(tb testing.TB) session.Handshaker {
		c, err := websocket.NewClient(websocket.Options{}, "ws://localhost/", nil)
		if err != nil {
			tb.Fatal(err)
		}
		return c
	}
	masked := func(payload []byte) []byte { return message(0x82, true, string(payload)) }
	field := frame.LengthField{LengthFieldLength: 2, InitialBytesToStrip: 2}
	return []spoken{
		{name: "plain"},
		{name: "frame", framing: session.NewFraming(field), frame: func(payload []byte) []byte {
			b, err := field.Append(nil, payload)
			if err != nil {
				tb.Fatal(err)
			}
			return b
		}},
		{name: "ws", frame: masked, layers: func(tb testing.TB) (server, client session.Handshaker) { return ws.Layer(nil), wsClient(tb) }},
		{name: "tls", layers: func(testing.TB) (server, client session.Handshaker) {
			return layertls.Server(serverTLS, hs, nil, nil), layertls.Client(clientTLS, "", hs, nil, nil)
		}},
		{name: "wss", frame: masked, layers: func(tb testing.TB) (server, client session.Handshaker) {
			return layer.Stack(layertls.Server(serverTLS, hs, nil, nil), ws.Layer(nil)),
				layer.Stack(layertls.Client(clientTLS, "", hs, nil, nil), wsClient(tb))
		}},
	}
}

// connect returns a session that speaks k, and the client's layer, nil without.
func (k spoken) connect(tb testing.TB, loop *session.Loop, scratch *session.Scratch) (*session.Driver, session.Handshaker) {
	tb.Helper()
	addr := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7777}
	framing, more := k.framing, false
	var server, client *end
	if k.layers != nil {
		s, c := k.layers(tb)
		server, client = newEnd(tb, s, 1<<16), newEnd(tb, c, 1<<16)
		establish(server, client)
		if framing, more = session.FramingOf(s), server.more; more || len(server.in) > 0 {
			tb.Fatal("the handshake has left something")
		}
	}
	d, err := session.Bind(&benchSession{}, &taker{scratch: scratch}, loop, framing, addr, addr)
	if err != nil {
		tb.Fatal(err)
	}
	if server == nil {
		d.Connected()
		return d, nil
	}
	d.UseLayer(server.l, more)
	d.Connected()
	return d, client.l
}

func benchLoop() (*session.Loop, *session.Scratch) {
	return session.NewLoop(session.Limits{SendLimit: 1 << 20, PauseAbove: 1 << 18, Write: time.Second}), session.NewScratch()
}

// BenchmarkEcho is a message received and sent back: all of an echo but for the system calls, in each protocol. Over TLS the client's sealing is in
// it: a record has a number, and cannot be received twice.
func BenchmarkEcho(b *testing.B) {
	for _, k := range spokenKinds(b) {
		for _, size := range []int{64, 4096} {
			b.Run(fmt.Sprintf("%s/%d", k.name, size), func(b *testing.B) {
				loop, scratch := benchLoop()
				d, client := k.connect(b, loop, scratch)
				message := make([]byte, size)
				if k.frame != nil {
					message = k.frame(message)
				}
				wire := make([]byte, 0, 8<<10)
				sealer, seals := client.(session.Sealer)
				b.ReportAllocs()
				for b.Loop() {
					if wire = append(wire[:0], message...); seals {
						var err error
						if wire, err = sealer.Seal(wire[:0], message); err != nil {
							b.Fatal(err)
						}
					}
					d.Receive(wire)
				}
				if sent := d.Tally().MessagesOut; int(sent) < b.N {
					b.Fatalf("%d messages were sent, want %d", sent, b.N)
				}
			})
		}
	}
}

// BenchmarkDelivery is what one member of a room costs when all are told something, but for the system calls.
func BenchmarkDelivery(b *testing.B) {
	for _, k := range spokenKinds(b) {
		members := 1_000
		if strings.HasSuffix(k.name, "s") && k.name != "ws" { // handshakes take their time
			members = 100
		}
		loop, scratch := benchLoop()
		var room session.Group
		drivers := make([]*session.Driver, members)
		for i := range drivers {
			drivers[i], _ = k.connect(b, loop, scratch)
			room.Join(drivers[i].Handler())
		}
		payload := make([]byte, 64)
		b.Run(k.name, func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; n < b.N; n += members {
				if room.Broadcast(payload) != members {
					b.Fatal("a member was not reached")
				}
				for _, d := range drivers {
					d.Turn()
				}
			}
		})
	}
}
