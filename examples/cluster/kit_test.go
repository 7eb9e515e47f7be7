package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// asProgram is a variable with which this test binary is the program, so that the demo can start nodes.
const asProgram = "CLUSTER_TEST_IS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// patience bounds every wait: only a hang meets it.
const patience = 30 * time.Second

// output is what the demo prints.
type output struct {
	mu    sync.Mutex
	text  strings.Builder
	grown chan struct{}
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.grown <- struct{}{}:
	default:
	}
	return o.text.Write(b)
}

// until waits for output that the expression matches, and returns all matches.
func (o *output) until(t *testing.T, expression string) [][]string {
	t.Helper()
	e := regexp.MustCompile(expression)
	for late := time.After(patience); ; {
		o.mu.Lock()
		text := o.text.String()
		o.mu.Unlock()
		if found := e.FindAllStringSubmatch(text, -1); found != nil {
			return found
		}
		select {
		case <-o.grown:
		case <-late:
			t.Fatalf("%q is not in the output:\n%s", expression, text)
		}
	}
}

// process is a node of a demo.
type process struct {
	web, lines string
	pid        int
}

// running is a demo with three nodes, which ends with the test.
type running struct {
	*output
	web, lines string // of the balancer
	nodes      []process
}

func runDemo(t *testing.T, flags ...string) *running {
	t.Helper()
	t.Setenv(asProgram, "yes")
	c, err := parse(append([]string{"-addr", "127.0.0.1:0", "-web", "127.0.0.1:0"}, flags...), func(string) string { return "" }, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	d := &running{output: &output{grown: make(chan struct{}, 1)}}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- demo(ctx, c, d) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the demo has printed:\n%s", d.text.String())
		}
	})
	d.until(t, "Ctrl-C ends all")
	balancer := d.until(t, `(?m)^  open http://(\S+), or nc (\S+) (\S+)$`)[0]
	d.web, d.lines = balancer[1], net.JoinHostPort(balancer[2], balancer[3])
	for _, m := range d.until(t, `open http://(\S+), or nc (\S+) (\d+); process (\d+)`) {
		pid, _ := strconv.Atoi(m[4])
		d.nodes = append(d.nodes, process{m[1], net.JoinHostPort(m[2], m[3]), pid})
	}
	return d
}

// signal sends a signal to a node, and waits for its end.
func (d *running) signal(t *testing.T, node int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(d.nodes[node].pid, s); err != nil {
		t.Fatal(err)
	}
	d.until(t, fmt.Sprintf("process %d, has ended", d.nodes[node].pid))
}

// client is a user at a terminal.
type client struct {
	net.Conn
	t     *testing.T
	lines *bufio.Reader
}

func dial(t *testing.T, address string) *client {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return &client{c, t, bufio.NewReader(c)}
}

// enter connects and takes a name.
func enter(t *testing.T, address, name string) *client {
	t.Helper()
	c := dial(t, address)
	c.say("/name " + name)
	c.expect("* you are now " + name)
	return c
}

func (c *client) say(line string) {
	c.t.Helper()
	if _, err := fmt.Fprintln(c, line); err != nil {
		c.t.Fatal(err)
	}
}

// line is the next line, or nothing at the end.
func (c *client) line() string {
	line, _ := c.lines.ReadString('\n')
	return line
}

// expect reads until a line has the text, and returns it.
func (c *client) expect(text string) string {
	c.t.Helper()
	for {
		line, err := c.lines.ReadString('\n')
		if err != nil {
			c.t.Fatalf("%q, %v, while %q was expected", line, err, text)
		}
		if strings.Contains(line, text) {
			return line
		}
	}
}

// until types a line again and again until an answer has the text: what other nodes have to hear first takes a moment.
func (c *client) until(line, text string) {
	c.t.Helper()
	for {
		c.say(line)
		answer, err := c.lines.ReadString('\n')
		if err != nil {
			c.t.Fatalf("%v, while %q was expected", err, text)
		}
		if strings.Contains(answer, text) {
			return
		}
	}
}

// ended waits for the end of the connection.
func (c *client) ended() {
	c.t.Helper()
	if _, err := io.Copy(io.Discard, c.lines); err != nil {
		c.t.Errorf("the connection does not end: %v", err)
	}
}
