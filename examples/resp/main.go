// Command resp is a small key-value server with Redis' protocol: PING, ECHO, SET, GET, DEL, and the commands that redis-benchmark and
// redis-cli send first.
//
//	go run ./examples/resp
//	redis-cli -p 6380 set greeting hello
//	redis-benchmark -p 6380 -t ping,set,get -P 16
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

// store has the values of all clients.
type store struct {
	mu     sync.RWMutex
	values map[string][]byte // a value is never modified
}

// client is one connection. Its packets are the elements of commands: the listener's framer is elements. The answers to all commands of
// one read leave in one write.
type client struct {
	session.Session
	command
	store *store
	reply []byte
}

func (c *client) OnRecv(element []byte) {
	args, err := c.add(element)
	if err != nil {
		c.send("-ERR Protocol error: %v\r\n", err)
		c.Disconnect() // the next command cannot be found in the stream
		return
	}
	if len(args) > 0 {
		c.do(strings.ToUpper(string(args[0])), args[1:])
	}
}

func (c *client) do(name string, args [][]byte) {
	arity := map[string][2]int{"PING": {0, 1}, "ECHO": {1, 1}, "SET": {2, 2}, "GET": {1, 1}, "DEL": {1, maxArgs}, "QUIT": {0, 0},
		"COMMAND": {0, maxArgs}, "CONFIG": {1, maxArgs}, "CLIENT": {1, maxArgs}, "SELECT": {1, 1}}
	n, known := arity[name]
	switch {
	case !known:
		c.send("-ERR unknown command '%.64q'\r\n", name)
		return
	case len(args) < n[0] || len(args) > n[1]:
		c.send("-ERR wrong number of arguments for '%s' command\r\n", strings.ToLower(name))
		return
	}
	switch name {
	case "PING":
		if len(args) == 0 {
			c.send("+PONG\r\n")
			return
		}
		c.bulk(args[0])
	case "ECHO":
		c.bulk(args[0])
	case "SET":
		c.store.mu.Lock()
		c.store.values[string(args[0])] = args[1]
		c.store.mu.Unlock()
		c.send("+OK\r\n")
	case "GET":
		c.store.mu.RLock()
		value, ok := c.store.values[string(args[0])]
		c.store.mu.RUnlock()
		if !ok {
			c.send("$-1\r\n")
			return
		}
		c.bulk(value)
	case "DEL":
		gone := 0
		c.store.mu.Lock()
		for _, key := range args {
			if _, ok := c.store.values[string(key)]; ok {
				delete(c.store.values, string(key))
				gone++
			}
		}
		c.store.mu.Unlock()
		c.send(":%d\r\n", gone)
	case "QUIT":
		c.send("+OK\r\n")
		c.Disconnect()
	case "CONFIG": // GET name: there are no settings
		c.send("*2\r\n")
		c.bulk(args[len(args)-1])
		c.bulk(nil)
	case "COMMAND": // nothing to report
		c.send("*0\r\n")
	default:
		c.send("+OK\r\n")
	}
}

// send sends an answer. The queue has room for it, because PauseAbove stops reading from a client that does not read its answers.
func (c *client) send(format string, args ...any) {
	c.reply = fmt.Appendf(c.reply[:0], format, args...)
	_ = c.Send(c.reply)
}

func (c *client) bulk(value []byte) {
	c.reply = strconv.AppendInt(append(c.reply[:0], '$'), int64(len(value)), 10)
	c.reply = append(append(append(c.reply, "\r\n"...), value...), "\r\n"...)
	_ = c.Send(c.reply)
	if cap(c.reply) > 4096 {
		c.reply = nil
	}
}

func serve(addr string) (*engine.Engine, *engine.Listener, error) {
	e, err := engine.New(engine.Options{SendLimit: 2 << 20})
	if err != nil {
		return nil, nil, err
	}
	s := &store{values: make(map[string][]byte)}
	l, err := e.Listen("tcp", addr, func() session.Handler { return &client{store: s} }, engine.Framed(elements{}))
	return e, l, err
}

func main() {
	addr := flag.String("addr", ":6380", "address to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	e, _, err := serve(*addr)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("resp on %s", *addr)
	if err := e.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
