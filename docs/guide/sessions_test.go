package guide_test

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

type client struct {
	session.Session
	received, sent int
	ended          chan struct{}
}

func (c *client) OnConnected(remote net.Addr) { fmt.Println("connected") }

func (c *client) OnRecv(data []byte) {
	c.received += len(data) // data is valid until OnRecv returns: copy what you keep
	c.Send(data)
}

func (c *client) OnSend(n int) { c.sent += n } // the kernel has taken n more bytes

func (c *client) OnDisconnected(remote net.Addr) {
	fmt.Println("received", c.received, "sent", c.sent)
	fmt.Println(c.Err())
	close(c.ended)
}

func Example_callbacks() {
	e := value(engine.New(engine.Options{}))
	ended := make(chan struct{})
	l := value(e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return &client{ended: ended} }))
	must(e.Start())
	defer e.Close()

	ask(l.Addr(), "hello") // one line there, one line back
	<-ended
	// Output:
	// connected
	// received 6 sent 6
	// session: closed by the peer
}

type worker struct {
	session.Session
	results []string // the session's own: changed in callbacks only
	done    chan struct{}
}

func (w *worker) OnConnected(net.Addr) {
	go func() { // slow work belongs on a goroutine of its own
		result := compute()
		w.Post(func() { // and its result comes back to the session's loop
			w.results = append(w.results, result)
			w.Send(fmt.Appendln(nil, w.results))
		})
	}()
	w.AfterFunc(50*time.Millisecond, func() { w.Disconnect() }) // cancelled with the session
}

func (w *worker) OnDisconnected(net.Addr) { close(w.done) }

func compute() string { return "42" }

func Example_post() {
	e := value(engine.New(engine.Options{}))
	done := make(chan struct{})
	l := value(e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return &worker{done: done} }))
	must(e.Start())
	defer e.Close()

	fmt.Println(ask(l.Addr(), "compute, please"))
	<-done
	// Output: [42]
}

type fragile struct {
	session.Session
	ended chan error
}

func (f *fragile) OnRecv(data []byte) { panic("a bug") }

func (f *fragile) OnDisconnected(net.Addr) { f.ended <- f.Err() }

func Example_panic() {
	quiet := engine.Options{Logger: discard} // the engine logs the panic with its stack
	e := value(engine.New(quiet))
	ended := make(chan error)
	l := value(e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return &fragile{ended: ended} }))
	must(e.Start())

	c := value(net.Dial("tcp", l.Addr().String()))
	defer c.Close()
	fmt.Fprintln(c, "hello")
	fmt.Println(errors.Is(<-ended, session.ErrPanic))
	stop(e) // the engine and every other session have gone on until here
	fmt.Println(e.Stats().Total.Ended.Panic)
	// Output:
	// true
	// 1
}
