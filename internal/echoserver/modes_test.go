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

// The smallest limit that the flags allow must still carry any stream, also to a client that reads late.
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
		// Time for the writer to fill every buffer on the way. No event tells when that has happened; a machine
		// on which it takes longer makes the test easier, not wrong.
		select {
		case <-wrote:
		case <-time.After(200 * time.Millisecond):
		}
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("%d of %d bytes came back, identical: %v, error %v", len(got), len(sent), bytes.Equal(got, sent), err)
		}
	}, "-send-limit", "131072", "-loops", "1")
}

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
		if took := time.Since(begin); took < farewellAfter {
			t.Errorf("disconnected after %v, want %v", took, farewellAfter)
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

// The farewell of one client waits a second; nobody else may wait with it, not even on the same loop.
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
	if took := time.Since(begin); took > clients*farewellAfter/2 {
		t.Errorf("%d clients took %v together, want little more than %v", clients, took, farewellAfter)
	}
	s.log.wait(t, "msg=disconnected", clients)
}

// A client that leaves before the farewell takes its timer along.
func TestGameClientLeavesFirst(t *testing.T) {
	s := start(t, "-mode", "game", "-addr", "127.0.0.1:0")
	c := s.dial()
	if _, err := io.ReadFull(c, make([]byte, len(welcome))); err != nil {
		t.Fatal(err)
	}
	c.Close()
	s.log.wait(t, "msg=disconnected", 1)
}

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
		// Who has left is no longer a member, and the others go on.
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
	for spoken := 0; !strings.Contains(s.log.String(), "slow member skipped"); spoken++ {
		if spoken > 64<<20/len(said) {
			t.Fatal("64 MiB were taken for a member that does not read")
		}
		speak()
	}
	for range 100 {
		speak()
	}
	if n := strings.Count(s.log.String(), "slow member skipped"); n > int(patience/time.Second) {
		t.Errorf("%d log lines about one slow member", n)
	}
}

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
