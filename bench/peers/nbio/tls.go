package main

import (
	"github.com/lesismal/llib/std/crypto/tls"
	"github.com/lesismal/nbio"
	"github.com/lesismal/nbio/mempool"

	"github.com/servercore-go/servercore/bench/peers/peer"
)

// useTLS has the engine speak TLS with the library's own copy of crypto/tls, which knows no waiting.
//
// Its examples use the package extension/tls, which makes a buffer of 2 KiB for each read. This is what its HTTP server does, in package
// nbhttp: it decrypts into the memory of the read.
func useTLS(engine *nbio.Engine, config *peer.Config) {
	certificate, err := tls.LoadX509KeyPair(config.Cert, config.Key)
	if err != nil {
		peer.Fail(err)
	}
	settings := &tls.Config{Certificates: []tls.Certificate{certificate}}
	var room peer.Room[*tls.Conn]
	engine.OnOpen(func(c *nbio.Conn) {
		t := tls.NewConn(c, settings, false, true, mempool.DefaultMemPool)
		c.SetSession(t)
		if !config.Echo {
			room.Join(t)
		}
	})
	engine.OnClose(func(c *nbio.Conn, _ error) {
		if t, ok := c.Session().(*tls.Conn); ok {
			room.Leave(t)
		}
	})
	engine.OnData(func(c *nbio.Conn, data []byte) {
		t, ok := c.Session().(*tls.Conn)
		if !ok {
			return
		}
		defer t.ResetOrFreeBuffer()
		for in := data; ; in = nil {
			_, n, err := t.AppendAndRead(in, data)
			if err != nil {
				c.CloseWithError(err)
				return
			}
			if n == 0 {
				return
			}
			if config.Echo {
				t.Write(data[:n])
				continue
			}
			room.Others(t, func(other *tls.Conn) { other.Write(data[:n]) })
		}
	})
}
