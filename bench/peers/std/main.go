// Command std serves echo or broadcast with the standard library, over TCP or TLS: a goroutine for each connection.
package main

import (
	"crypto/tls"
	"net"

	"github.com/servercore-go/servercore/bench/peers/peer"
)

// bufferSize is the buffer size of io.Copy, with which package net documents an echo server. io.Copy itself would use splice(2) here,
// which needs two pipe descriptors per connection and costs more for small messages.
const bufferSize = 32 << 10

var config peer.Config

func main() {
	config = peer.Parse(peer.TLS)
	serve := echo
	if !config.Echo {
		serve = broadcast
	}
	listener, err := net.Listen("tcp", config.Addr)
	if err != nil {
		peer.Fail(err)
	}
	if config.Cert != "" {
		certificate, err := tls.LoadX509KeyPair(config.Cert, config.Key)
		if err != nil {
			peer.Fail(err)
		}
		listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{certificate}})
	}
	config.Listening()
	for {
		c, err := listener.Accept()
		if err != nil {
			peer.Fail(err)
		}
		go serve(c)
	}
}

func echo(c net.Conn) {
	defer c.Close()
	buffer := make([]byte, bufferSize)
	for {
		n, err := c.Read(buffer)
		if err != nil {
			return
		}
		if _, err := c.Write(buffer[:n]); err != nil {
			return
		}
	}
}

var room peer.Room[net.Conn]

// broadcast writes from the goroutine that has read. That is cheaper than a writing goroutine for each member, but it blocks for a member
// that does not read.
func broadcast(c net.Conn) {
	room.Join(c)
	defer c.Close()
	defer room.Leave(c)
	buffer := make([]byte, bufferSize)
	for {
		n, err := c.Read(buffer)
		if err != nil {
			return
		}
		for message := range config.Messages(buffer[:n]) {
			// An error means that the member is closing. Its own Read will return the error.
			room.Others(c, func(other net.Conn) { other.Write(message) })
		}
	}
}
