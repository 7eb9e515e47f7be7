package servercore_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/frame"
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

// answerSession is a client: it asks when it is connected, prints the answer and leaves.
type answerSession struct{ session.Session }

func (s *answerSession) OnConnected(net.Addr)      { _ = s.Send([]byte("anybody there?")) }
func (s *answerSession) OnRecv(data []byte)        { fmt.Println(string(data)); s.Disconnect() }
func (s *answerSession) OnDisconnected(_ net.Addr) { fmt.Println("ended:", s.Err()) }

// Outbound sessions: a dummy client with a thousand of them, or ten thousand, is this in a loop, on a few goroutines.
func Example_dial() {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	go func() {
		if c, err := server.Accept(); err == nil {
			_, _ = io.CopyN(c, c, int64(len("anybody there?"))) // and reads on until the client closes
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}
	}()

	e, err := engine.New(engine.Options{})
	if err != nil {
		log.Fatal(err)
	}
	if err := e.Start(); err != nil { // no listener: for Dial alone
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	factory := func() session.Handler { return new(answerSession) }
	// With engine.Reconnect(engine.Policy{}) as a last argument, a session that is lost is followed by another one.
	if _, err := e.Dial(ctx, server.Addr().Network(), server.Addr().String(), factory); err != nil {
		log.Fatal(err)
	}
	for e.Stats().Sessions > 0 {
		time.Sleep(time.Millisecond)
	}
	_ = e.Close()
	// Output:
	// anybody there?
	// ended: session: disconnected
}

// packetSession gets one packet a call: its listener has a framer.
type packetSession struct{ session.Session }

func (s *packetSession) OnRecv(packet []byte) {
	_ = s.Send(fmt.Appendf(nil, "%d bytes: %s", len(packet), packet))
}

// Packets with a length in front, the course's, however the network cuts them.
func Example_framing() {
	e, err := engine.New(engine.Options{})
	if err != nil {
		log.Fatal(err)
	}
	packets := frame.ServerCore{Max: 1000}
	l, err := e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return new(packetSession) }, engine.Framed(packets))
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
	for _, part := range []string{"\x07\x00he", "llo\x07", "\x00world"} {
		_, _ = io.WriteString(c, part)
		time.Sleep(time.Millisecond) // so that the parts travel apart
	}
	var answers []byte
	for range 2 {
		for {
			packet, n, err := packets.Split(answers)
			if err != nil {
				log.Fatal(err)
			}
			if n > 0 {
				fmt.Printf("%s\n", packet)
				answers = answers[n:]
				break
			}
			var b [100]byte
			if n, err = c.Read(b[:]); err != nil {
				log.Fatal(err)
			}
			answers = append(answers, b[:n]...)
		}
	}
	// Output:
	// 5 bytes: hello
	// 5 bytes: world
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
