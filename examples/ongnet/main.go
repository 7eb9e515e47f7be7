// Command ongnet is examples/echo on stock gnet: gnet's own event loops and options, the same sessions. SIGINT ends it as gnet has it: at once.
package main

import (
	"log"

	"github.com/panjf2000/gnet/v2"

	"github.com/servercore-go/servercore/ongnet"
	"github.com/servercore-go/servercore/session"
)

type player struct{ session.Session } // one for each connection

func (p *player) OnRecv(data []byte) { p.Send(data) }

func main() {
	h := ongnet.Handler(func() session.Handler { return new(player) }, ongnet.Options{})
	log.Fatal(gnet.Run(h, "tcp://:7777", gnet.WithMulticore(true), gnet.WithReuseAddr(true)))
}
