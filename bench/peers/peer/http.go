package peer

import (
	"errors"
	"net"
	"net/http"
)

// MostMessage is the longest message of a WebSocket that a server takes, in bytes, where its library has a limit.
const MostMessage = 1 << 20

// ServeUpgrades runs a server of package net/http for the libraries that take connections over from it: upgrade gets each request to the path
// of -ws. It does not return. It ends the program if -ws is missing.
func (c *Config) ServeUpgrades(upgrade http.HandlerFunc) {
	if c.WebSocket == "" {
		fail(2, "-ws is missing: this program speaks WebSocket only")
	}
	listener, err := net.Listen("tcp", c.Addr)
	if err != nil {
		Fail(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc(c.WebSocket, upgrade)
	c.Listening()
	Fail(errors.Join(errors.New("net/http"), http.Serve(listener, mux)))
}
