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

// What waits for one side is between these, in bytes, while the other one sends faster than it takes. At most 64 KiB, one
// OnRecv, come on top.
const (
	high = 256 << 10
	low  = 64 << 10
)

// half is one of the two sessions of a forwarded connection. What it receives is sent to the other.
type half struct {
	session.Session
	other    atomic.Pointer[half]
	finished atomic.Bool // its peer has sent FIN
	accept   func(*half) // of the side that came to us: what its OnConnected does
}

func (h *half) OnConnected(net.Addr) {
	if h.accept != nil {
		h.PauseRecv() // until there is somebody to send to
		h.accept(h)
	}
}

// OnRecv passes data on, and stops the sender when the other side takes it too slowly.
func (h *half) OnRecv(data []byte) {
	o := h.other.Load()
	if o.Send(data) != nil {
		return // it is ending, and tells us so by its OnDisconnected
	}
	if o.Pending() > high {
		h.PauseRecv()
		if o.Pending() <= low { // all has left meanwhile, and its last OnSend came before the pause
			h.ResumeRecv()
		}
	}
}

// OnSend lets the other side go on when enough of what it sent has left.
func (h *half) OnSend(int) {
	if o := h.other.Load(); o != nil && h.Pending() <= low {
		o.ResumeRecv()
	}
}

// OnHalfClose carries the peer's FIN over. The other direction goes on.
func (h *half) OnHalfClose() {
	h.finished.Store(true)
	if o := h.other.Load(); o != nil {
		o.CloseWrite()
	}
}

// OnDisconnected ends the other side as this one has ended.
func (h *half) OnDisconnected(net.Addr) {
	if o := h.other.Load(); o != nil {
		o.endLike(h)
	}
}

// endLike ends h by a reset if that is how o has ended, otherwise in order: what h was sent still arrives.
func (h *half) endLike(o *half) {
	for _, broken := range []error{session.ErrPeerReset, session.ErrAborted, session.ErrPanic, os.ErrDeadlineExceeded} {
		if errors.Is(o.Err(), broken) {
			h.Abort()
			return
		}
	}
	h.Disconnect()
}

// forward connects a half that has come in with a new one to the server. Dial waits, so it is not for a callback.
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
	// What became of front before it knew its other side was told to nobody.
	if front.Pending() <= low { // back may have been paused for what has left since
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
