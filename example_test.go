package servercore_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

type echoSession struct{ session.Session }

func (s *echoSession) OnRecv(data []byte) { _ = s.Send(data) }

// The smallest echo server. A real one would end ctx on SIGTERM, with signal.NotifyContext.
func Example() {
	e, err := engine.New(engine.Options{})
	if err != nil {
		log.Fatal(err)
	}
	l, err := e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return new(echoSession) })
	if err != nil {
		log.Fatal(err)
	}
	if err := e.Start(); err != nil { // or e.Run(ctx)
		log.Fatal(err)
	}
	defer e.Close()

	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintln(c, "hello")
	answer, _ := bufio.NewReader(c).ReadString('\n')
	fmt.Print(answer)
	// Output: hello
}

// packetSession cuts its input into packets: two bytes of length, little-endian, then that many bytes.
type packetSession struct {
	session.Session
	partial []byte // of a packet that has not wholly arrived
}

func (s *packetSession) OnRecv(data []byte) {
	s.partial = append(s.partial, data...)
	for len(s.partial) >= 2 {
		n := 2 + int(binary.LittleEndian.Uint16(s.partial))
		if len(s.partial) < n {
			break
		}
		s.onPacket(s.partial[2:n])
		s.partial = s.partial[n:]
	}
	if len(s.partial) == 0 {
		s.partial = nil // an idle session holds no buffer
	}
}

func (s *packetSession) onPacket(packet []byte) {
	_ = s.Send(fmt.Appendf(nil, "%d:%s ", len(packet), packet))
}

// Messages with a length in front, however the network cuts them.
func Example_framing() {
	e, err := engine.New(engine.Options{})
	if err != nil {
		log.Fatal(err)
	}
	l, err := e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return new(packetSession) })
	if err != nil {
		log.Fatal(err)
	}
	if err := e.Start(); err != nil {
		log.Fatal(err)
	}
	defer e.Close()

	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	for _, part := range []string{"\x05\x00he", "llo\x05", "\x00world"} {
		_, _ = io.WriteString(c, part)
		time.Sleep(time.Millisecond) // so that the parts travel apart
	}
	answer := make([]byte, len("5:hello 5:world "))
	_, _ = io.ReadFull(c, answer)
	fmt.Println(string(answer))
	// Output: 5:hello 5:world
}

// A stop that loses nothing: every session is drained and gets our FIN, at most for ten seconds.
func Example_gracefulStop() {
	e, err := engine.New(engine.Options{LingerTimeout: 100 * time.Millisecond})
	if err != nil {
		log.Fatal(err)
	}
	events := session.Events{
		OnConnected:    func(s *session.Session, _ net.Addr) { _ = s.Send([]byte("good bye")) },
		OnDisconnected: func(s *session.Session, _ net.Addr) { fmt.Println("ended:", s.Err()) },
	}
	l, err := e.Listen("tcp", "127.0.0.1:0", events.Factory())
	if err != nil {
		log.Fatal(err)
	}
	if err := e.Start(); err != nil {
		log.Fatal(err)
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	for e.Stats().Total.Writes == 0 {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := e.Shutdown(ctx); err != nil {
		log.Fatal(err)
	}
	rest, _ := io.ReadAll(c)
	_ = c.Close()
	fmt.Println(string(rest))
	// Output:
	// ended: session: engine shut down
	// good bye
}
