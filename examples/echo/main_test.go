package main

import (
	"flag"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/servercore-go/servercore/internal/freeport"
)

// The program answers, and SIGTERM ends it in good order: what was sent to it before still comes back.
func TestEcho(t *testing.T) {
	defer goleak.VerifyNone(t)
	os.Args = []string{"echo", "-addr", freeAddress(t)}
	flag.CommandLine = flag.NewFlagSet(os.Args[0], flag.ExitOnError)
	ended := make(chan struct{})
	go func() { defer close(ended); main() }()

	c := dial(t, os.Args[2])
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, len("hello"))
	if _, err := io.ReadFull(c, answer); err != nil || string(answer) != "hello" {
		t.Fatalf("the answer is %q, error %v", answer, err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil { // main has its handler: it has answered
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
		t.Errorf("after SIGTERM came %q, error %v, want a FIN", rest, err)
	}
	c.Close()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the program did not end within 10 s")
	}
}

// freeAddress returns an address of the loopback that nobody listened on a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	addr, err := freeport.Addr("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// dial waits for the program to listen.
func dial(t *testing.T, addr string) net.Conn {
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			return c
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(err)
		}
	}
}
