package guide_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/session"
)

// Both sides use the same framer: two bytes of size in front of each packet, at most 1,000 bytes in it.
var packets = frame.ServerCore{Max: 1000}

const (
	askName = 1
	tellAge = 2
)

type player struct{ session.Session }

// OnRecv gets one whole packet in each call, however the network has cut the stream.
func (p *player) OnRecv(packet []byte) {
	if len(packet) < 2 {
		p.Abort() // no client of ours sends that
		return
	}
	switch binary.LittleEndian.Uint16(packet) {
	case askName:
		p.Send([]byte("my name is Kim")) // one Send is one packet
	case tellAge:
		p.Send(fmt.Appendf(nil, "you are %d", packet[2]))
	}
}

// asker is the client's side: a session too.
type asker struct {
	session.Session
	answers chan string
}

func (a *asker) OnConnected(net.Addr) {
	a.Send(binary.LittleEndian.AppendUint16(nil, askName))
	a.Send(append(binary.LittleEndian.AppendUint16(nil, tellAge), 42))
}

func (a *asker) OnRecv(packet []byte) { a.answers <- string(packet) }

func Example_packets() {
	e := value(engine.New(engine.Options{}))
	l := value(e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return new(player) }, engine.Framed(packets)))
	must(e.Start())
	defer e.Close()

	answers := make(chan string, 2)
	value(e.Dial(context.Background(), "tcp", l.Addr().String(),
		func() session.Handler { return &asker{answers: answers} }, engine.Framed(packets)))
	fmt.Println(<-answers)
	fmt.Println(<-answers)
	// Output:
	// my name is Kim
	// you are 42
}

func Example_withoutEngine() {
	buf, _ := packets.Append(nil, []byte("first"))
	buf, _ = packets.Append(buf, []byte("second"))
	for len(buf) > 0 {
		packet, n, err := packets.Split(buf)
		if err != nil {
			fmt.Println(err) // the stream cannot go on: where the next packet begins is not known
			return
		}
		if n == 0 {
			break // the rest of the packet has not arrived yet
		}
		fmt.Printf("%s\n", packet)
		buf = buf[n:]
	}
	// Output:
	// first
	// second
}
