package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// Users of two nodes are in one room; a name is taken from the one who has it by the one who takes it later; a private line finds its user;
// a node that ends tells its users first.
func TestTwoNodes(t *testing.T) {
	var c [2]config
	for i := range c {
		c[i] = config{listen: free(t), route: free(t)}
	}
	c[0].others, c[1].others = []string{c[1].route}, []string{c[0].route}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	first, endFirst := context.WithCancel(ctx)
	ended := make(chan error, 2)
	go func() { ended <- serve(first, c[0]) }()
	go func() { ended <- serve(ctx, c[1]) }()
	ann, bob := dial(t, c[0].listen), dial(t, c[1].listen)
	ann.expect("* you are guest")
	bob.expect("* you are guest")
	bob.until("/who", "* 2 users on 2 nodes")
	fmt.Fprintln(bob, "hello")
	ann.expect("hello")
	ann.until("/name ann", "* you are ann")
	bob.until("/to ann psst", "")
	ann.expect("to you: psst")
	bob.until("/to carl psst", "* nobody has taken the name carl")
	bob.until("/name ann", "* you are ann")
	if _, err := ann.read(); err == nil {
		t.Error("the first ann is still connected")
	}
	dora := dial(t, c[0].listen)
	dora.expect("* you are guest")
	endFirst()
	dora.expect("* this node ends")
	dora.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	bob.until("/who", "* 1 users on 1 nodes")
	bob.Close()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// free is an address that nobody listens on.
func free(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// client is a user at a terminal.
type client struct {
	net.Conn
	t     *testing.T
	lines *bufio.Reader
}

// dial connects as soon as the node listens.
func dial(t *testing.T, address string) *client {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		c, err := net.Dial("tcp", address)
		if err == nil {
			t.Cleanup(func() { c.Close() })
			_ = c.SetDeadline(deadline)
			return &client{c, t, bufio.NewReader(c)}
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (c *client) read() (string, error) {
	for {
		line, err := c.lines.ReadString('\n')
		if err != nil || !strings.Contains(line, "has left") {
			return line, err
		}
	}
}

// expect reads until a line has the text.
func (c *client) expect(text string) {
	c.t.Helper()
	for {
		line, err := c.read()
		if err != nil {
			c.t.Fatalf("%v, while %q was expected", err, text)
		}
		if strings.Contains(line, text) {
			return
		}
	}
}

// until types a line again and again until the answer has the text: what other nodes have to hear first takes a moment. Empty: once,
// whatever the answer.
func (c *client) until(line, text string) {
	c.t.Helper()
	for {
		fmt.Fprintln(c, line)
		if text == "" {
			return
		}
		for {
			answer, err := c.read()
			if err != nil {
				c.t.Fatalf("%v, while %q was expected", err, text)
			}
			if strings.Contains(answer, text) {
				return
			}
			if strings.HasSuffix(strings.TrimSpace(answer), "nodes") {
				break // of /who: ask again
			}
		}
	}
}
