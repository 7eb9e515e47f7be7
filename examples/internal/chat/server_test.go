package chat

import (
	"bufio"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/internal/freeport"
)

type client struct {
	*testing.T
	net.Conn
	lines *bufio.Reader
}

func dial(t *testing.T, addr string) *client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return &client{t, c, bufio.NewReader(c)}
}

func (c *client) say(line string) {
	c.Helper()
	if _, err := fmt.Fprintf(c.Conn, "%s\n", line); err != nil {
		c.Fatal(err)
	}
}

func (c *client) want(line string) {
	c.Helper()
	if got, err := c.lines.ReadString('\n'); err != nil || got != line+"\n" {
		c.Fatalf("got %q, %v; want %q", got, err, line)
	}
}

// fixed is an address for a server that is started again: nobody is given its port in between, in which the browser makes connections.
func fixed(t *testing.T) string {
	t.Helper()
	addr, err := freeport.Addr("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// start starts a server, and ends it with the test.
func start(t *testing.T, web string, secure bool, both ...engine.Option) *Server {
	t.Helper()
	s, err := New(Options{Lines: fixed(t), Web: web, SelfSigned: secure, Listen: both})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestChat(t *testing.T) {
	s := start(t, "", false)
	enter := func(name string, others int) *client {
		c := dial(t, s.Lines.Addr().String())
		var guest string
		if _, err := fmt.Fscanf(c.lines, "* you are %s in lobby, with "+fmt.Sprint(others)+" others\n", &guest); err != nil {
			t.Fatal(err)
		}
		c.say("/name " + name)
		c.want("* you are now " + name)
		return c
	}
	anna := enter("anna", 0)
	anna.say("/who")
	anna.want("* anna")
	ben := enter("ben", 1)
	for range 2 { // ben is here; ben has a name
		if _, err := anna.lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	ben.say("hello")
	anna.want("ben: hello")
	anna.say("hi, ben")
	ben.want("anna: hi, ben")

	ben.say("/join kitchen")
	ben.want("* you are ben in kitchen, with 0 others")
	anna.want("* ben goes to kitchen")
	ben.say("nobody hears that")
	ben.say("/join lobby")
	ben.want("* you are ben in lobby, with 1 others")
	ben.want("ben: hello")
	ben.want("anna: hi, ben")
	anna.want("* ben is here")
	ben.say("/frobnicate")
	ben.want("* /join ROOM, /name NAME, /who, /quit")
	ben.say("/quit")
	anna.want("* ben has left")
	if _, err := ben.lines.ReadString('\n'); err == nil {
		t.Error("ben is still connected")
	}
}
