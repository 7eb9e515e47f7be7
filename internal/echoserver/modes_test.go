package echoserver

import (
	"bytes"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// noise returns n bytes that look the same in every run.
func noise(n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{}).Read(p)
	return p
}

// forEachAddr runs test against a fresh server on each kind of listener.
func forEachAddr(t *testing.T, test func(*testing.T, *server), args ...string) {
	for _, addr := range everyAddr(t) {
		kind, _, _ := strings.Cut(addr, ":0")
		if strings.HasPrefix(addr, "unix:") {
			kind = "unix"
		}
		t.Run(kind, func(t *testing.T) { test(t, start(t, append(args, "-addr", addr)...)) })
	}
}

// The echo mode sends back every byte.
func TestEcho(t *testing.T) {
	forEachAddr(t, func(t *testing.T, s *server) {
		c := s.dial()
		sent := noise(8 << 20)
		go func() {
			c.Write(sent)
			c.CloseWrite()
		}()
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("%d of %d bytes came back, identical: %v, error %v", len(got), len(sent), bytes.Equal(got, sent), err)
		}
	}, "-mode", "echo")
}

// The smallest -send-limit carries any stream, also to a client that begins to read late.
func TestEchoAtTheSmallestSendLimit(t *testing.T) {
	forEachAddr(t, func(t *testing.T, s *server) {
		c := s.dial()
		sent := noise(16 << 20)
		wrote := make(chan struct{})
		go func() {
			defer close(wrote)
			c.Write(sent)
			c.CloseWrite()
		}()
		// Time for the writer to fill every buffer on the way. There is no event for that. On a machine that takes longer, the
		// test is easier but not wrong.
		select {
		case <-wrote:
		case <-time.After(200 * time.Millisecond):
		}
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("%d of %d bytes came back, identical: %v, error %v", len(got), len(sent), bytes.Equal(got, sent), err)
		}
	}, "-send-limit", "131072", "-loops", "1")
}

// The game mode greets, logs every callback, and disconnects after a second.
func TestGame(t *testing.T) {
	forEachAddr(t, func(t *testing.T, s *server) {
		begin := time.Now()
		c := s.dial()
		if _, err := io.WriteString(c, "hello, \"world\"\n"); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		if err != nil || string(got) != "Welcome to MMORPG Server!" {
			t.Fatalf("read %q, error %v", got, err)
		}
		if took := time.Since(begin); took < disconnectAfter {
			t.Errorf("disconnected after %v, want %v", took, disconnectAfter)
		}
		c.Close()
		s.log.wait(t, "msg=disconnected", 1)
		for _, want := range []string{
			"msg=connected session=", " remote=",
			`msg=received`, `bytes=15 data="hello, \"world\"\n"`,
			"msg=transferred", "bytes=25",
		} {
			if !strings.Contains(s.log.String(), want) {
				t.Errorf("the log does not hold %s:\n%s", want, s.log)
			}
		}
		if a := c.LocalAddr(); a.Network() == "tcp" && !strings.Contains(s.log.String(), "remote="+a.String()) &&
			!strings.Contains(s.log.String(), `remote="`+a.String()) {
			t.Errorf("the log does not name the client %v:\n%s", a, s.log)
		}
	}, "-mode", "game")
}

// The game mode disconnects each client after a second. Clients on the same loop do not wait for each other.
func TestGameDoesNotBlockItsLoop(t *testing.T) {
	s := start(t, "-mode", "game", "-loops", "1", "-addr", "127.0.0.1:0")
	const clients = 10
	begin := time.Now()
	var all []stream
	for range clients {
		all = append(all, s.dial())
	}
	for _, c := range all {
		if _, err := io.ReadAll(c); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	if took := time.Since(begin); took > clients*disconnectAfter/2 {
		t.Errorf("%d clients took %v together, want little more than %v", clients, took, disconnectAfter)
	}
	s.log.wait(t, "msg=disconnected", clients)
}

// If a client leaves first, its timer is stopped.
func TestGameClientLeavesFirst(t *testing.T) {
	s := start(t, "-mode", "game", "-addr", "127.0.0.1:0")
	c := s.dial()
	if _, err := io.ReadFull(c, make([]byte, len(greeting))); err != nil {
		t.Fatal(err)
	}
	c.Close()
	s.log.wait(t, "msg=disconnected", 1)
}

// The broadcast mode sends what one client sends to every other client.
func TestBroadcast(t *testing.T) {
	forEachAddr(t, func(t *testing.T, s *server) {
		a, b, c := s.dial(), s.dial(), s.dial()
		s.log.wait(t, "msg=connected", 3)
		said := noise(64 << 10)
		if _, err := a.Write(said); err != nil {
			t.Fatal(err)
		}
		for _, listener := range []stream{b, c} {
			heard := make([]byte, len(said))
			if _, err := io.ReadFull(listener, heard); err != nil || !bytes.Equal(heard, said) {
				t.Fatalf("heard something else, error %v", err)
			}
		}
		// The first byte that comes back to a is one that b sent: a does not hear itself.
		if _, err := b.Write([]byte("b")); err != nil {
			t.Fatal(err)
		}
		heard := make([]byte, 1)
		if _, err := io.ReadFull(a, heard); err != nil || heard[0] != 'b' {
			t.Fatalf("a heard %q, error %v", heard, err)
		}
		// A client that has left is no longer a member, and the others go on.
		c.Close()
		s.log.wait(t, "msg=disconnected", 1)
		if _, err := b.Write([]byte("B")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(a, heard); err != nil || heard[0] != 'B' {
			t.Fatalf("a heard %q, error %v", heard, err)
		}
	}, "-mode", "broadcast", "-log-level", "debug")
}

// A member that does not read delays no other member, and the log names it, once a second at most.
func TestBroadcastSlowMemberDisturbsNobody(t *testing.T) {
	s := start(t, "-mode", "broadcast", "-send-limit", "131072", "-log-level", "debug", "-addr", "127.0.0.1:0")
	speaker, listener := s.dial(), s.dial()
	s.dial() // never reads
	s.log.wait(t, "msg=connected", 3)

	said := noise(64 << 10)
	heard := make([]byte, len(said))
	speak := func() {
		t.Helper()
		if _, err := speaker.Write(said); err != nil {
			t.Fatal(err)
		}
		clear(heard)
		if _, err := io.ReadFull(listener, heard); err != nil || !bytes.Equal(heard, said) {
			t.Fatalf("heard something else, error %v", err)
		}
	}
	// One message at a time, so that the member that listens is never the slow one.
	for spoken := 0; !strings.Contains(s.log.String(), "messages to slow members are skipped"); spoken++ {
		if spoken > 64<<20/len(said) {
			t.Fatal("64 MiB were taken for a member that does not read")
		}
		speak()
	}
	for range 100 {
		speak()
	}
	if n := strings.Count(s.log.String(), "messages to slow members are skipped"); n > int(patience/time.Second) {
		t.Errorf("%d log lines about one slow member", n)
	}
}

// The discard mode reads everything and sends nothing.
func TestDiscard(t *testing.T) {
	forEachAddr(t, func(t *testing.T, s *server) {
		c := s.dial()
		if _, err := c.Write(noise(4 << 20)); err != nil {
			t.Fatal(err)
		}
		c.CloseWrite()
		if got, err := io.ReadAll(c); err != nil || len(got) > 0 {
			t.Fatalf("read %d bytes, error %v", len(got), err)
		}
	}, "-mode", "discard")
}
