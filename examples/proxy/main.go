// Command proxy forwards each connection to another server and back: bytes, back-pressure, FINs and resets.
//
//	go run ./cmd/echoserver -addr 127.0.0.1:7777
//	go run ./examples/proxy -listen :7778 -to 127.0.0.1:7777
//	nc localhost 7778
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"net"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

// Marks of the queue of one side, in bytes. Above high, the other side is paused; below low, it resumes. One OnRecv may add 64 KiB above
// high.
const (
	high = 256 << 10
	low  = 64 << 10
)

// half is one of the two sessions of a forwarded connection. It sends what it receives to the other.
type half struct {
	session.Session
	other    atomic.Pointer[half]
	finished atomic.Bool // its peer has sent FIN
	accept   func(*half) // called in OnConnected; set only on the accepted side
}

func (h *half) OnConnected(net.Addr) {
	if h.accept != nil {
		h.PauseRecv() // until the other side is connected
		h.accept(h)
	}
}

// OnRecv sends data to the other side, and pauses reading if the other side takes it too slowly.
func (h *half) OnRecv(data []byte) {
	o := h.other.Load()
	if o.Send(data) != nil {
		return // the other side is ending; its OnDisconnected will end this one
	}
	if o.Pending() > high {
		h.PauseRecv()
		if o.Pending() <= low { // the queue has become empty, and its last OnSend came before the pause
			h.ResumeRecv()
		}
	}
}

// OnSend resumes the other side when the queue is short again.
func (h *half) OnSend(int) {
	if o := h.other.Load(); o != nil && h.Pending() <= low {
		o.ResumeRecv()
	}
}

// OnHalfClose passes the peer's FIN on. The other direction goes on.
func (h *half) OnHalfClose() {
	h.finished.Store(true)
	if o := h.other.Load(); o != nil {
		o.CloseWrite()
	}
}

// OnDisconnected ends the other side in the way in which this side has ended.
func (h *half) OnDisconnected(net.Addr) {
	if o := h.other.Load(); o != nil {
		o.endLike(h)
	}
}

// endLike resets h if o was reset. Otherwise it disconnects h, which delivers what is queued.
func (h *half) endLike(o *half) {
	for _, broken := range []error{session.ErrPeerReset, session.ErrAborted, session.ErrPanic, os.ErrDeadlineExceeded} {
		if errors.Is(o.Err(), broken) {
			h.Abort()
			return
		}
	}
	h.Disconnect()
}

// forward connects an accepted half with a new half, dialled to the server. It must not be called in a callback, because Dial waits.
func forward(e *engine.Engine, to string, front *half) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	h, err := e.Dial(ctx, "tcp", to, func() session.Handler {
		back := &half{}
		back.other.Store(front)
		return back
	})
	if err != nil {
		log.Printf("%v is turned away: %v", front.RemoteAddr(), err)
		front.Abort()
		return
	}
	back := h.(*half)
	front.other.Store(back)
	front.ResumeRecv()
	// Events of front before it had another side have gone unnoticed: handle them now.
	if front.Pending() <= low { // back may have been paused for bytes that have left since
		back.ResumeRecv()
	}
	if front.finished.Load() {
		back.CloseWrite()
	}
	if front.Err() != nil {
		back.endLike(front)
	}
	if back.Err() != nil {
		front.endLike(back)
	}
}

func serve(listen, to string) (*engine.Engine, *engine.Listener, error) {
	e, err := engine.New(engine.Options{})
	if err != nil {
		return nil, nil, err
	}
	accept := func(front *half) { go forward(e, to, front) }
	l, err := e.Listen("tcp", listen, func() session.Handler { return &half{accept: accept} })
	return e, l, err
}

func main() {
	listen := flag.String("listen", ":7778", "address to listen on")
	to := flag.String("to", "127.0.0.1:7777", "address to forward to")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	e, _, err := serve(*listen, *to)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("proxy on %s to %s", *listen, *to)
	if err := e.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
