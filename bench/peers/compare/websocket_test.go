//go:build linux

package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// speakers are the servers that speak WebSocket, each program once.
func speakers() []server {
	return slices.DeleteFunc(slices.Clone(wsServers), func(s server) bool { return s.plain || s.name == oursAgain })
}

func dialWS(t *testing.T, p *running) *websocket.Conn {
	t.Helper()
	c, _, err := websocket.DefaultDialer.Dial("ws://"+p.addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	return c
}

func expect(t *testing.T, c *websocket.Conn, kind int, want []byte) {
	t.Helper()
	got, p, err := c.ReadMessage()
	if err != nil || got != kind || !bytes.Equal(p, want) {
		t.Fatalf("got a message of kind %d with %d bytes, want kind %d with %d, identical: %v, error %v", got, len(p), kind, len(want), bytes.Equal(p, want), err)
	}
}

// The sizes are those at which the header of a frame changes, and some between. An empty message is not among them: nbio does not deliver it.
func TestWebSocketEcho(t *testing.T) {
	r := testRunner(t)
	for _, s := range speakers() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			c := dialWS(t, r.mustLaunch(t, s, find(t, "ws-echo-64x64")))
			messages := [][]byte{noise(1), noise(64), noise(125), noise(126), noise(4096), noise(1<<16 - 1), noise(1 << 16), noise(300_000)}
			var writing sync.WaitGroup
			writing.Go(func() {
				for range 3 { // all under way at once
					for _, m := range messages {
						c.WriteMessage(websocket.BinaryMessage, m)
					}
				}
			})
			for range 3 {
				for _, m := range messages {
					expect(t, c, websocket.BinaryMessage, m)
				}
			}
			writing.Wait() // a connection has one writer
			testFragments(t, c)
		})
	}
}

// testFragments sends a text message in pieces, with a ping between them.
func testFragments(t *testing.T, c *websocket.Conn) {
	t.Helper()
	ponged := false
	c.SetPongHandler(func(data string) error {
		ponged = data == "between"
		return nil
	})
	w, err := c.NextWriter(websocket.TextMessage)
	if err != nil {
		t.Fatal(err)
	}
	said := []byte(strings.Repeat("text in pieces, ", 2000))
	for i, piece := range slices.Collect(slices.Chunk(said, 10_000)) {
		if _, err := w.Write(piece); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			if err := c.WriteControl(websocket.PingMessage, []byte("between"), time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	expect(t, c, websocket.TextMessage, said)
	if !ponged {
		t.Error("no pong came before the reply")
	}
}

func TestWebSocketBroadcast(t *testing.T) {
	r := testRunner(t)
	for _, s := range speakers() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			testWebSocketBroadcast(t, r.mustLaunch(t, s, find(t, "ws-fanout-1000")))
		})
	}
}

func testWebSocketBroadcast(t *testing.T, p *running) {
	publisher := dialWS(t, p)
	var members []*websocket.Conn
	for range 20 {
		members = append(members, dialWS(t, p))
	}
	greetMembers(t, publisher, members)
	message := func(i int) []byte { return append(fmt.Appendf(nil, "%d ", i), noise(i*37)...) }
	go func() {
		for i := range 100 {
			publisher.WriteMessage(websocket.BinaryMessage, message(i))
		}
	}()
	for _, m := range members {
		for i := range 100 {
			if i == 0 {
				skipGreetings(t, m, message(0))
				continue
			}
			expect(t, m, websocket.BinaryMessage, message(i))
		}
	}
	members[1].Close()
	// The first message that comes back to the publisher is another one's: it does not hear itself.
	if err := members[0].WriteMessage(websocket.BinaryMessage, []byte("back")); err != nil {
		t.Fatal(err)
	}
	expect(t, publisher, websocket.BinaryMessage, []byte("back"))
	expect(t, members[19], websocket.BinaryMessage, []byte("back"))
}

var hello = []byte("hello")

// greetMembers publishes until each member has got something: a server may not know a connection yet when it is connected.
func greetMembers(t *testing.T, publisher *websocket.Conn, members []*websocket.Conn) {
	t.Helper()
	stop, stopped := make(chan struct{}), make(chan error)
	go func() {
		again := time.NewTicker(10 * time.Millisecond)
		defer again.Stop()
		for {
			if err := publisher.WriteMessage(websocket.BinaryMessage, hello); err != nil {
				stopped <- err
				return
			}
			select {
			case <-again.C:
			case <-stop:
				stopped <- nil
				return
			}
		}
	}()
	for _, m := range members {
		if _, p, err := m.ReadMessage(); err != nil || !bytes.Equal(p, hello) {
			t.Errorf("a member got %d bytes, error %v", len(p), err)
		}
	}
	close(stop)
	if err := <-stopped; err != nil || t.Failed() {
		t.Fatalf("the publisher: %v", err)
	}
}

// skipGreetings reads up to the first message that is no greeting.
func skipGreetings(t *testing.T, m *websocket.Conn, want []byte) {
	t.Helper()
	for {
		_, p, err := m.ReadMessage()
		if err != nil || !bytes.Equal(p, hello) {
			if err != nil || !bytes.Equal(p, want) {
				t.Fatalf("got %d bytes, want %d, error %v", len(p), len(want), err)
			}
			return
		}
	}
}

// The packets that ours makes of a stream are netbench's messages, whatever came together.
func TestPlainPackets(t *testing.T) {
	r := testRunner(t)
	s := wsServers[1]
	p := r.mustLaunch(t, s, find(t, "ws-echo-64x64"))
	if p.speaks != nil || !slices.Contains(p.cmd.Args, "-frame") {
		t.Fatalf("%s speaks %q, was started with %q", s, p.speaks, p.cmd.Args)
	}
	c := dial(t, p)
	sent := noise(64 * 1000)
	for message := range slices.Chunk(sent, 64) {
		message[14], message[15] = 0, 0 // as in netbench's header
	}
	go func() {
		for piece := range slices.Chunk(sent, 1001) {
			c.Write(piece)
		}
	}()
	got := make([]byte, len(sent))
	if n, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d of %d bytes came back, identical: %v, error %v", n, len(sent), bytes.Equal(got, sent), err)
	}
}

// Each server compresses, and its messages come back right, also when memory is what counts.
func TestDeflate(t *testing.T) {
	r := testRunner(t, "-duration", "200ms", "-warmup", "50ms")
	for _, name := range []string{"ws-deflate-64", "ws-deflate-fanout-1000", "ws-deflate-idle"} {
		w := find(t, name)
		w.few, w.many = min(w.few, 20), min(w.many, 100)
		for i, arg := range w.args {
			if arg == "1000" {
				w.args = slices.Concat(w.args[:i], []string{"30"}, w.args[i+1:])
			}
		}
		for _, s := range deflateServers {
			t.Run(name+"/"+s.name, func(t *testing.T) {
				t.Parallel()
				got := r.measure(t.Context(), w, s)
				if got.Failure != "" || len(got.Errors) > 0 || (got.RSSPerConn == 0) == w.idle() || (got.CPU > 0) == w.idle() {
					t.Errorf("%+v", got)
				}
			})
		}
	}
	// A server without it is found out.
	if got, _ := r.deflate(t.Context(), find(t, "ws-echo-64x64"), wsServers[5], nil); !strings.Contains(got.Failure, "has not agreed") {
		t.Errorf("gobwas: %+v", got)
	}
}
