// Package peer is the common part of the servers in this module: the command line, the announced address, and the end. Everything that
// affects the figures is in each server.
package peer

import (
	"flag"
	"fmt"
	"iter"
	"net"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"syscall"
)

// Config is the command line.
type Config struct {
	Addr  string // host:port; port 0 was replaced by a free one
	Loops int    // event loops; at least 1
	Echo  bool   // send back what came; otherwise what one client sends goes to every other
	// Message is the length, in bytes, of a message in broadcast mode, each of which is sent separately. With 0, the bytes of one read are
	// one message.
	Message int

	Cert, Key string // PEM files: speak TLS; "" for none
	WebSocket string // path of a URL: speak WebSocket; "" for none
	Deflate   bool   // allow permessage-deflate, without context takeover
}

// A Feature is what a program can do besides plain TCP.
type Feature int

// The features. Deflate is useless without WebSocket.
const (
	TLS Feature = iota
	WebSocket
	Deflate
)

// Parse reads the command line. can has the features that the program has. If the command line is invalid, or asks for another feature, Parse
// ends the program with exit code 2. From then on, SIGTERM and SIGINT end the program with exit code 0.
func Parse(can ...Feature) Config {
	c := Config{}
	mode := flag.String("mode", "echo", "`name`: echo, or broadcast: what one client sends goes to every other client")
	flag.StringVar(&c.Addr, "addr", "127.0.0.1:0", "where to listen, `host:port`. Port 0: any free port")
	flag.IntVar(&c.Loops, "loops", runtime.GOMAXPROCS(0), "`number` of event loops, for engines that have them")
	flag.IntVar(&c.Message, "message", 0, "broadcast: cut what one read brought into messages of so many `bytes` and send each by itself,\nas a server with a protocol does; 0: send it as it came")
	flag.StringVar(&c.Cert, "tls-cert", "", "PEM `file` with a certificate: speak TLS")
	flag.StringVar(&c.Key, "tls-key", "", "PEM `file` with the key of -tls-cert")
	flag.StringVar(&c.WebSocket, "ws", "", "`path` of a URL, such as /ws: speak WebSocket there")
	flag.BoolVar(&c.Deflate, "deflate", false, "with -ws: permessage-deflate, without context takeover")
	garbage := flag.Int("garbage", 0, "allocate so many `MiB` a second besides, on top of a live heap of 64 MiB, as an application does")
	flag.Parse()
	c.Echo = *mode == "echo"
	switch {
	case flag.NArg() > 0:
		fail(2, "unexpected argument %q: everything is set by flags", flag.Arg(0))
	case !c.Echo && *mode != "broadcast":
		fail(2, "-mode %q: use echo or broadcast", *mode)
	case c.Loops < 1:
		fail(2, "-loops %d: use a positive number", c.Loops)
	case c.Message < 0:
		fail(2, "-message %d: use 0 or a positive number", c.Message)
	case *garbage < 0:
		fail(2, "-garbage %d: use 0 or a positive number", *garbage)
	case (c.Cert == "") != (c.Key == ""):
		fail(2, "-tls-cert and -tls-key belong together: set both")
	case c.Cert != "" && !slices.Contains(can, TLS):
		fail(2, "-tls-cert: this program has no TLS")
	case c.WebSocket == "" && c.Deflate:
		fail(2, "-deflate: it needs -ws")
	case c.WebSocket != "" && c.WebSocket[0] != '/':
		fail(2, "-ws %q: use the path of a URL, such as /ws", c.WebSocket)
	case c.WebSocket != "" && !slices.Contains(can, WebSocket):
		fail(2, "-ws: this program has no WebSocket")
	case c.Deflate && !slices.Contains(can, Deflate):
		fail(2, "-deflate: this program has no permessage-deflate")
	}
	// Not every engine reports its port, and with SO_REUSEPORT each loop would get another one. So choose it here.
	l, err := net.Listen("tcp", c.Addr)
	if err != nil {
		fail(2, "-addr %s: %v", c.Addr, err)
	}
	c.Addr = l.Addr().String()
	l.Close()

	if *garbage > 0 {
		go allocate(*garbage)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		os.Exit(0)
	}()
	return c
}

// Listening announces the address. Call it when the listen queue exists.
func (c *Config) Listening() { fmt.Printf("listening on %s\n", c.Addr) }

// Messages splits the bytes of one read into messages of the length -message. A message in two reads becomes two. So no server needs a
// framer, and all do the same.
func (c *Config) Messages(data []byte) iter.Seq[[]byte] {
	n := c.Message
	if n == 0 {
		n = max(1, len(data))
	}
	return slices.Chunk(data, n)
}

// Fail ends the program because its engine has ended, or could not start.
func Fail(err error) { fail(1, "the server cannot go on: %v", err) }

func fail(code int, format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(code)
}

// A Room holds the connections of a broadcast server. The zero value is ready for use, by any goroutine.
type Room[C comparable] struct {
	mu      sync.RWMutex
	members map[C]struct{}
}

// Join adds c.
func (r *Room[C]) Join(c C) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.members == nil {
		r.members = make(map[C]struct{})
	}
	r.members[c] = struct{}{}
}

// Leave removes c, if it is a member.
func (r *Room[C]) Leave(c C) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.members, c)
}

// Others calls f for every member but c, under a read lock, as the reference server does.
func (r *Room[C]) Others(c C, f func(C)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for other := range r.members {
		if other != c {
			f(other)
		}
	}
}
