// Command echo is the smallest server: it sends back what it receives. Talk to it with
//
//	go run ./examples/echo
//	nc 127.0.0.1 7777
package main

import (
	"context"
	"flag"
	"log"
	"os/signal"
	"syscall"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

type player struct{ session.Session } // one for each connection

func (p *player) OnRecv(data []byte) { p.Send(data) }

func main() {
	addr := flag.String("addr", ":7777", "address to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	e, err := engine.New(engine.Options{}) // the zero value is ready; every field is documented
	if err != nil {
		log.Fatal(err)
	}
	if _, err := e.Listen("tcp", *addr, func() session.Handler { return new(player) }); err != nil {
		log.Fatal(err)
	}
	if err := e.Run(ctx); err != nil { // until ctx ends; then it drains and returns nil
		log.Fatal(err)
	}
}
