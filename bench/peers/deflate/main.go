// Command deflate loads a server over WebSocket with permessage-deflate, which netbench does not speak. Its client is
// github.com/gorilla/websocket. It prints four numbers: replies or deliveries, seconds, seconds of the server's processor time, and the
// server's resident bytes at the end. Every byte that comes back is compared, and a reply that was not compressed is an error.
//
//	deflate -addr 127.0.0.1:7777 -pid 4711 echo      each connection sends the next message when the reply has come
//	deflate -addr 127.0.0.1:7777 -pid 4711 fanout    one connection sends to -conns others; the next when all have it
//	deflate -addr 127.0.0.1:7777 -pid 4711 idle      each connection gets one reply, then nothing happens
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"time"
)

type config struct {
	addr, path       string
	pid, conns, size int
	warmup, duration time.Duration
}

// patience is how long a connect or a reply may take.
const patience = 20 * time.Second

func main() {
	var c config
	flag.StringVar(&c.addr, "addr", "", "`host:port` of the server")
	flag.StringVar(&c.path, "ws", "/ws", "`path` of the URL")
	flag.IntVar(&c.pid, "pid", 0, "process `id` of the server")
	flag.IntVar(&c.conns, "conns", 64, "`number` of connections; of subscribers for fanout")
	flag.IntVar(&c.size, "size", 2048, "`bytes` of a message, before it is compressed")
	flag.DurationVar(&c.warmup, "warmup", time.Second, "`time` of load before the measured part")
	flag.DurationVar(&c.duration, "duration", 3*time.Second, "`time` of the measured part")
	flag.Parse()
	load, known := map[string]func(*load) error{"echo": (*load).echo, "fanout": (*load).fanout, "idle": (*load).idle}[flag.Arg(0)]
	if !known || flag.NArg() != 1 || c.conns < 1 || c.size < 1 {
		fmt.Fprintln(os.Stderr, "deflate: say echo, fanout or idle after the flags; deflate -h lists those")
		os.Exit(2)
	}
	result, err := run(c, load)
	if err != nil {
		fmt.Fprintf(os.Stderr, "deflate: %v\n", err)
		os.Exit(1)
	}
	fmt.Println(result.units, result.seconds, result.cpu, result.rss)
}

// A result is what is printed.
type result struct {
	units        int64 // replies or deliveries in the measured part
	seconds, cpu float64
	rss          int64 // bytes
}

// run loads the server for the warm-up and the measured part.
func run(c config, mode func(*load) error) (result, error) {
	l, err := newLoad(c)
	if err != nil {
		return result{}, err
	}
	defer l.close()
	if err := mode(l); err != nil {
		return result{}, err
	}
	if err := l.during(c.warmup); err != nil {
		return result{}, err
	}
	began, units := time.Now(), l.units.Load()
	before, err := cpuTime(c.pid)
	if err != nil {
		return result{}, err
	}
	if err := l.during(c.duration); err != nil {
		return result{}, err
	}
	r := result{units: l.units.Load() - units, seconds: time.Since(began).Seconds()}
	after, err := cpuTime(c.pid)
	if err != nil {
		return result{}, err
	}
	r.cpu = after - before
	if r.rss, err = resident(c.pid); err != nil {
		return result{}, err
	}
	l.end()
	if read, all := l.read.Load(), l.messages.Load()*int64(c.size); read > all/2 {
		return result{}, fmt.Errorf("%d bytes came for %d of messages: the server does not compress", read, all)
	}
	return r, nil
}

// during waits, or returns the first error of a connection.
func (l *load) during(d time.Duration) error {
	select {
	case err := <-l.failed:
		return err
	case <-time.After(d):
		return nil
	}
}

var errNotCompressed = errors.New("the server has not agreed to permessage-deflate")
