package checksum

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/servercore-go/servercore/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what must happen in a test.
const patience = 20 * time.Second

// wires returns both ends of a TCP connection.
func wires(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{client, server} {
		_ = c.SetDeadline(time.Now().Add(patience))
		t.Cleanup(func() { _ = c.Close() })
	}
	return client, server
}

// conns returns both ends of a TCP connection with layers, and checks at the end that none is left.
func conns(t *testing.T, shape Shape) (client, server *Conn) {
	t.Helper()
	before := Live()
	a, b := wires(t)
	client, server = Client(a, shape), Server(b, shape)
	t.Cleanup(func() {
		_, _ = client.Close(), server.Close()
		if Live() != before {
			t.Errorf("%d layers live, %d before", Live(), before)
		}
	})
	return client, server
}

func eachShape(t *testing.T, f func(t *testing.T, shape Shape)) {
	for _, shape := range []Shape{Sealing, Framing} {
		t.Run(shape.String(), func(t *testing.T) { f(t, shape) })
	}
}

// 1 MiB goes there and back, both sides close in good order, and no byte is lost.
func TestConnEcho(t *testing.T) {
	eachShape(t, func(t *testing.T, shape Shape) {
		client, server := conns(t, shape)
		served := make(chan error, 1)
		go func() {
			if err := server.Handshake(); err != nil {
				served <- err
				return
			}
			_, err := io.Copy(struct{ io.Writer }{server}, struct{ io.Reader }{server})
			served <- errors.Join(err, server.CloseWrite())
		}()
		sent := make(chan error, 1)
		go func() {
			n, err := client.Write(pattern(1 << 20))
			if n != 1<<20 && err == nil {
				err = io.ErrShortWrite
			}
			sent <- errors.Join(err, client.CloseWrite())
		}()
		got, err := io.ReadAll(client)
		if err != nil || !bytes.Equal(got, pattern(1<<20)) {
			t.Errorf("%d bytes came back, error %v", len(got), err)
		}
		if err := errors.Join(<-served, <-sent); err != nil {
			t.Error(err)
		}
		if client.Word() != io.EOF || server.Word() != io.EOF || client.Truncated() {
			t.Errorf("last words %v and %v, truncated %v", client.Word(), server.Word(), client.Truncated())
		}
		if _, err := client.Write([]byte("x")); err == nil || !strings.Contains(err.Error(), "Write after CloseWrite") {
			t.Errorf("Write after CloseWrite: %v", err)
		}
	})
}

func TestConnProbes(t *testing.T) {
	eachShape(t, func(t *testing.T, shape Shape) {
		client, server := conns(t, shape)
		answered := make(chan int, 10)
		client.OnAnswer = func(n int) { answered <- n }
		if err := client.Probe(nil); err == nil || !strings.Contains(err.Error(), "before the handshake") {
			t.Errorf("a probe before the handshake: %v", err)
		}
		if err := errors.Join(server.Handshake(), client.Handshake()); err != nil {
			t.Fatal(err)
		}
		results := make(chan error, 2)
		for _, c := range []*Conn{client, server} {
			go func() {
				_, err := io.Copy(io.Discard, struct{ io.Reader }{c})
				results <- err
			}()
		}
		deadline := time.After(patience)
		for want := 1; want <= 3; want++ {
			if err := client.Probe([]byte{byte(want)}); err != nil {
				t.Fatal(err)
			}
			select {
			case n := <-answered:
				if n != want {
					t.Errorf("%d probes answered, want %d", n, want)
				}
			case <-deadline:
				t.Fatal("no answer")
			}
		}
		if c := client.Counts(); c.ProbesOut != 3 || c.Answered != 3 {
			t.Errorf("the client's counts: %+v", c)
		}
		if c := server.Counts(); c.ProbesIn != 3 || c.AnswersOut != 3 {
			t.Errorf("the server's counts: %+v", c)
		}
		if err := errors.Join(client.CloseWrite(), server.CloseWriteWith(errors.New("bye")), <-results, <-results); err != nil {
			t.Error(err)
		}
		var reason *session.CloseError
		if !errors.As(client.Word(), &reason) || reason.Reason != "bye" {
			t.Errorf("the server's last word: %v", client.Word())
		}
	})
}

// A FIN without the last word is seen.
func TestConnTruncation(t *testing.T) {
	eachShape(t, func(t *testing.T, shape Shape) {
		for _, tolerant := range []bool{false, true} {
			client, server := conns(t, shape)
			client.Tolerant = tolerant
			if err := errors.Join(server.Handshake(), client.Handshake()); err != nil {
				t.Fatal(err)
			}
			if _, err := server.Write([]byte("half of it")); err != nil {
				t.Fatal(err)
			}
			_ = server.NetConn().(*net.TCPConn).CloseWrite()
			got, err := io.ReadAll(client)
			if string(got) != "half of it" || !client.Truncated() || client.Word() != nil {
				t.Errorf("read %q, truncated %v, last word %v", got, client.Truncated(), client.Word())
			}
			if want := map[bool]error{false: session.ErrTruncated}[tolerant]; err != want {
				t.Errorf("tolerant %v: error %v, want %v", tolerant, err, want)
			}
		}
	})
}

// A byte between the last word and FIN is an error.
func TestConnBytesAfterTheLastWord(t *testing.T) {
	a, b := wires(t)
	client, server := Client(a, Sealing), newEnd(t, Sealing, Options{Server: true})
	defer client.Close()
	hello := make([]byte, 100)
	n, err := b.Read(hello)
	if err != nil {
		t.Fatal(err)
	}
	server.open(t, hello[:n])
	wire := server.send(t, server.Own(nil, true), []byte("data"))
	server.Finish(nil)
	if _, err := b.Write(append(server.Own(wire, true), "xyz"...)); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(client)
	if string(got) != "data" || err == nil || !strings.Contains(err.Error(), "3 bytes after close") || client.Word() != io.EOF {
		t.Errorf("read %q, error %v, last word %v", got, err, client.Word())
	}
}

func TestConnCloseSaysTheLastWord(t *testing.T) {
	eachShape(t, func(t *testing.T, shape Shape) {
		client, server := conns(t, shape)
		if _, err := client.Write([]byte("bye")); err != nil {
			t.Fatal(err)
		}
		if err := client.Close(); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 10)
		if n, err := server.Read(buf); string(buf[:n]) != "bye" || err != nil {
			t.Errorf("read %q, %v", buf[:n], err)
		}
		// Our hello may meet a reset now: the client is gone.
		if _, err := server.Read(buf); server.Word() != io.EOF {
			t.Errorf("last word %v, error %v", server.Word(), err)
		}
		for _, err := range []error{client.Close(), second(client.Write(buf)), second(client.Read(buf))} {
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		}
	})
}

func second(_ int, err error) error { return err }

// Handshake waits for a Read of another goroutine, and for its error.
func TestConnHandshakeWhileAnotherGoroutineReads(t *testing.T) {
	for _, fails := range []bool{false, true} {
		client, server := conns(t, Sealing)
		results := make(chan error, 8)
		for range 4 {
			go func() {
				_, err := client.Read(make([]byte, 1))
				results <- err
			}()
			go func() { results <- client.Handshake() }()
		}
		if fails {
			_ = server.NetConn().Close()
		} else if _, err := server.Write([]byte("x")); err == nil {
			t.Error("Write before the handshake was done")
		} else if err := server.Handshake(); err != nil {
			t.Error(err)
		} else if _, err := server.Write([]byte("1234")); err != nil {
			t.Error(err)
		}
		for range cap(results) {
			if err := <-results; (err != nil) != fails {
				t.Errorf("error %v, want one: %v", err, fails)
			}
		}
		if client.Handshake() == nil == fails {
			t.Errorf("Handshake again: want an error: %v", fails)
		}
	}
}

func TestConnRefusal(t *testing.T) {
	a, b := wires(t)
	client, server := Client(a, Sealing), Server(b, Framing)
	defer client.Close()
	defer server.Close()
	if err := server.Handshake(); !errors.Is(err, session.ErrHandshake) {
		t.Errorf("server: %v", err)
	}
	if err := client.Handshake(); !errors.Is(err, session.ErrHandshake) || !strings.Contains(err.Error(), "the peer refused") {
		t.Errorf("client: %v", err)
	}
}

// A reader does not wait for its answers to leave: the peer may not read before we have read.
func TestConnReadsWhileItCannotWrite(t *testing.T) {
	a, b := net.Pipe() // it has no buffer
	client, server := Client(a, Sealing), newEnd(t, Sealing, Options{Server: true})
	hello := make([]byte, 100)
	n, err := b.Read(hello)
	if err != nil {
		t.Fatal(err)
	}
	server.open(t, hello[:n])
	wire := server.Own(nil, true)
	if err := server.Probe([]byte("p")); err != nil {
		t.Fatal(err)
	}
	wire = server.send(t, server.Own(wire, true), []byte("data"))
	go func() { _, _ = b.Write(wire) }()
	buf := make([]byte, 10)
	if n, err := client.Read(buf); string(buf[:n]) != "data" || err != nil {
		t.Fatalf("read %q, %v", buf[:n], err)
	}
	answer := make([]byte, Overhead+1)
	if _, err := io.ReadFull(b, answer); err != nil {
		t.Fatal(err)
	}
	server.open(t, answer)
	if server.Counts().Answered != 1 {
		t.Errorf("%+v", server.Counts())
	}
	go func() { _, _ = io.Copy(io.Discard, b) }()
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	_ = b.Close()
}

// A Write that ends by its deadline has left part of a record: no other follows.
func TestConnWriteDeadline(t *testing.T) {
	client, _ := conns(t, Sealing)
	_ = client.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	n, err := client.Write(make([]byte, 32<<20)) // more than the kernel holds
	if !errors.Is(err, os.ErrDeadlineExceeded) || n >= 32<<20 || n%MaxSeal != 0 {
		t.Fatalf("Write: %d, %v", n, err)
	}
	_ = client.SetWriteDeadline(time.Now().Add(patience))
	if _, again := client.Write([]byte("x")); again != err {
		t.Errorf("the next Write: %v", again)
	}
	// Close does not wait for the peer.
	if err := client.Close(); err != nil {
		t.Error(err)
	}
}
