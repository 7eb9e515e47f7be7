package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/freeport"
	"github.com/servercore-go/servercore/pool"
)

// start returns the client's and the server's end of one connection through the proxy.
func start(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	target, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	e, l, err := serve("127.0.0.1:0", target.Addr().String())
	must(t, err)
	must(t, e.Start())
	t.Cleanup(func() {
		must(t, e.Close())
		if n := pool.Live(); n != 0 {
			t.Errorf("%d buffers were not released", n)
		}
	})
	c, err := net.Dial("tcp", l.Addr().String())
	must(t, err)
	s, err := target.Accept()
	must(t, err)
	must(t, target.Close())
	for _, c := range []net.Conn{c, s} {
		t.Cleanup(func() { _ = c.Close() })
		must(t, c.SetDeadline(time.Now().Add(30*time.Second)))
	}
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Streams in both directions at once, each read slowly at first, arrive with all bytes, and then the FINs, one by one.
func TestBothWays(t *testing.T) {
	client, server := start(t)
	const size = 32 << 20
	send := func(c *net.TCPConn, seed uint64, sum chan<- [32]byte) {
		h, r := sha256.New(), rand.NewChaCha8([32]byte{byte(seed)})
		_, err := io.CopyN(io.MultiWriter(c, h), r, size)
		if err == nil {
			err = c.CloseWrite()
		}
		if err != nil {
			t.Error(err)
		}
		sum <- [32]byte(h.Sum(nil))
	}
	receive := func(c *net.TCPConn) [32]byte {
		time.Sleep(50 * time.Millisecond) // time for all buffers to fill
		h := sha256.New()
		if n, err := io.Copy(h, c); n != size || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		return [32]byte(h.Sum(nil))
	}
	up, down, got := make(chan [32]byte, 1), make(chan [32]byte, 1), make(chan [32]byte, 1)
	go send(client, 1, up)
	go send(server, 2, down)
	go func() { got <- receive(client) }()
	if receive(server) != <-up {
		t.Error("the server got other bytes than the client sent")
	}
	if <-got != <-down {
		t.Error("the client got other bytes than the server sent")
	}
}

// A client that has sent FIN still gets its answer, also if the FIN came before the server was connected.
func TestHalfClose(t *testing.T) {
	for _, request := range []string{"", "question"} {
		client, server := start(t)
		_, err := io.WriteString(client, request)
		must(t, err)
		must(t, client.CloseWrite())
		got, err := io.ReadAll(server)
		must(t, err)
		if string(got) != request {
			t.Errorf("the server got %q", got)
		}
		answer := bytes.Repeat([]byte("answer"), 100_000)
		_, err = server.Write(answer)
		must(t, err)
		must(t, server.Close())
		if got, err = io.ReadAll(client); err != nil || !bytes.Equal(got, answer) {
			t.Errorf("the client got %d bytes, %v", len(got), err)
		}
	}
}

// A reset of one side resets the other.
func TestReset(t *testing.T) {
	for _, by := range []string{"client", "server"} {
		client, server := start(t)
		here, there := client, server
		if by == "server" {
			here, there = server, client
		}
		_, err := io.WriteString(here, "x")
		must(t, err)
		_, err = io.ReadFull(there, make([]byte, 1))
		must(t, err)
		must(t, here.SetLinger(0))
		must(t, here.Close())
		if _, err := io.ReadAll(there); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("reset by the %s: the other side sees %v", by, err)
		}
	}
}

// Without a server, the client is reset.
func TestNobodyThere(t *testing.T) {
	gone, free, err := freeport.Refusing()
	must(t, err)
	defer free()
	e, l, err := serve("127.0.0.1:0", gone)
	must(t, err)
	must(t, e.Start())
	defer e.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err == nil { // otherwise the connection was reset before Dial returned
		defer c.Close()
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		_, err = io.ReadAll(c)
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client sees %v", err)
	}
}
