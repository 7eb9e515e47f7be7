// Command ongnet serves echo with our sessions on gnet's own event loops (package ongnet), to be compared with ../gnet: see pairs.
package main

import (
	"errors"

	"github.com/panjf2000/gnet/v2"

	"github.com/servercore-go/servercore/bench/peers/peer"
	"github.com/servercore-go/servercore/ongnet"
	"github.com/servercore-go/servercore/session"
)

func main() {
	config := peer.Parse()
	if !config.Echo {
		peer.Fail(errors.New("this program knows -mode echo only"))
	}
	h := &handler{ongnet.Handler(func() session.Handler { return new(echo) }, ongnet.Options{}), config}
	peer.Fail(gnet.Run(h, "tcp://"+config.Addr, gnet.WithNumEventLoop(config.Loops)))
}

type echo struct{ session.Session }

func (e *echo) OnRecv(data []byte) { e.Send(data) }

type handler struct {
	gnet.EventHandler
	config peer.Config
}

// OnBoot is called when the listener listens.
func (h *handler) OnBoot(e gnet.Engine) gnet.Action {
	h.config.Listening()
	return h.EventHandler.OnBoot(e)
}
