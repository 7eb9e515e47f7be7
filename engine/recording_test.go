package engine_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/layer/websocket"
	"github.com/servercore-go/servercore/record"
	"github.com/servercore-go/servercore/session"
)

// startRecording makes a Writer for a test. recorded closes it and returns the sessions by number.
func startRecording(t testing.TB, o record.Options) (w *record.Writer, recorded func() map[uint64]*record.Session) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "r.pcapng")
	o.Logger = kit.Quiet
	w, err := record.Create(path, o)
	kit.Must(t, err)
	t.Cleanup(func() { _ = w.Close() })
	return w, func() map[uint64]*record.Session {
		t.Helper()
		kit.Must(t, w.Close())
		r, err := record.Open(path)
		kit.Must(t, err)
		t.Cleanup(func() { kit.Must(t, r.Close()) })
		all := make(map[uint64]*record.Session)
		for _, s := range r.Sessions {
			if client, server := s.Missing(); client+server > 0 || s.Partial {
				t.Errorf("session %d is not whole", s.ID)
			}
			all[s.ID] = s
		}
		return all
	}
}

// bytesOf returns what one side of a session sent.
func bytesOf(t testing.TB, s *record.Session, client bool) (b []byte) {
	t.Helper()
	for e, err := range s.Events() {
		kit.Must(t, err)
		if e.Client == client {
			b = append(b, e.Data...)
		}
	}
	return b
}

// ending returns the events of a session that are no data.
func ending(t testing.TB, s *record.Session) string {
	t.Helper()
	var b strings.Builder
	for e, err := range s.Events() {
		kit.Must(t, err)
		if e.Kind != record.Data {
			fmt.Fprintf(&b, "%v %v;", map[bool]string{true: "client", false: "server"}[e.Client], e.Kind)
		}
	}
	return b.String()
}

// V3: what clients send and get is what is recorded, whole and in order, for many of them, on loops and workers, over TCP and unix sockets.
func TestRecordEcho(t *testing.T) {
	kit.OnNetworks(t, func(t *testing.T, network string, loops int) {
		w, recorded := startRecording(t, record.Options{Memory: 256 << 20})
		s := kit.Serve(t, network, engine.Options{Loops: loops}, kit.Hooks{Recv: kit.Echo}, engine.Record(w))
		const clients, size = 8, 200_000
		var all sync.WaitGroup
		ids := make(chan uint64, clients)
		for i := range clients {
			c, p := s.Connect()
			ids <- p.ID()
			data := kit.Stream()[i*size : (i+1)*size]
			all.Go(func() {
				go func() {
					_, _ = c.Write(data)
					_ = c.(interface{ CloseWrite() error }).CloseWrite()
				}()
				if err := kit.ReadAll(c, data); err != nil {
					t.Errorf("client %d: %v", i, err)
				}
			})
		}
		all.Wait()
		kit.Must(t, s.Shutdown(t.Context()))
		sessions := recorded()
		for i := range clients {
			r := sessions[<-ids]
			data := kit.Stream()[i*size : (i+1)*size]
			if r == nil || !bytes.Equal(bytesOf(t, r, true), data) || !bytes.Equal(bytesOf(t, r, false), data) {
				t.Fatalf("client %d: what is recorded differs", i)
			}
			if got := ending(t, r); got != "client finished;server finished;" || !r.Ended || r.Reason != session.ErrPeerClosed.Error() {
				t.Errorf("client %d: %s, %q", i, got, r.Reason)
			}
		}
		if len(sessions) != clients {
			t.Errorf("%d sessions are recorded, want %d", len(sessions), clients)
		}
	})
}

// V3, L5: a session that ends just when its peer has reset the connection, before an event tells of that, has the reset as its second reason, and in
// the recording.
func TestRecordResetAtTheEnd(t *testing.T) {
	kit.OnLoops(t, func(t *testing.T, loops int) {
		w, recorded := startRecording(t, record.Options{})
		s := kit.Serve(t, "tcp", engine.Options{Loops: loops}, kit.Hooks{Recv: kit.Echo}, engine.Record(w))
		c, p := s.Connect()
		kit.Exchange(t, c, "hello")
		p.Run(t, func() {
			kit.Reset(t, c) // on loopback it has come when close(2) returns; the loop, which is here, has not looked
			p.Disconnect()
		})
		kit.WantError(t, "reason", kit.AwaitEnd(t, p), session.ErrDisconnected, session.ErrPeerReset, syscall.ECONNRESET)
		kit.Must(t, s.Shutdown(t.Context()))
		if got := ending(t, recorded()[p.ID()]); got != "client reset;" {
			t.Errorf("recorded: %s", got)
		}
	})
}

// V3: above TLS what is recorded is what the application gets and sends, with WebSocket its frames and the upgrade.
func TestRecordLayers(t *testing.T) {
	server, client := certificate(t)
	kit.OnLoops(t, func(t *testing.T, loops int) {
		for _, secure := range []bool{false, true} {
			for _, web := range []bool{false, true} {
				w, recorded := startRecording(t, record.Options{})
				opts := []engine.Option{engine.Record(w)}
				var config *tls.Config
				if secure {
					config, opts = client, append(opts, engine.TLS(server))
				}
				if web {
					opts = append(opts, engine.WebSocket(engine.WebSocketOptions{Path: "/game"}))
				}
				s := kit.Serve(t, "tcp", engine.Options{Loops: loops}, kit.Hooks{Recv: kit.Echo}, opts...)
				talk(t, s.Client(), config, web)
				id := kit.Await(t, s.Arrivals, "OnConnected").ID()
				kit.Must(t, s.Shutdown(t.Context()))
				r := recorded()[id]
				if r == nil {
					t.Fatalf("TLS %v, WebSocket %v: not recorded", secure, web)
				}
				checkTalk(t, r, web)
			}
		}
	})
}

// talk has a client say "hello" and wait for the answer, and end.
func talk(t *testing.T, raw net.Conn, config *tls.Config, web bool) {
	t.Helper()
	if web {
		c, err := webSocket(t, raw, config, websocket.Options{}, "/game", nil)
		kit.Must(t, err)
		kit.Must(t, c.WriteMessage([]byte("hello"), false))
		wantMessage(t, c, "hello", false)
		kit.Must(t, c.CloseWrite())
		_, _, err = c.ReadMessage()
		kit.WantError(t, "the end", err, io.EOF)
		return
	}
	if config != nil {
		raw = finisher{tls.Client(raw, config)}
	}
	kit.Exchange(t, raw, "hello")
	kit.CloseWrite(t, raw)
	_, _ = io.ReadAll(raw)
}

// checkTalk checks what is recorded of talk.
func checkTalk(t *testing.T, r *record.Session, web bool) {
	t.Helper()
	in, out := bytesOf(t, r, true), bytesOf(t, r, false)
	if !web {
		if string(in) != "hello" || string(out) != "hello" {
			t.Errorf("%s: %q and %q are recorded", t.Name(), in, out)
		}
		return
	}
	if !bytes.HasPrefix(in, []byte("GET /game HTTP/1.1\r\n")) || !bytes.HasPrefix(out, []byte("HTTP/1.1 101 ")) {
		t.Errorf("%s: the upgrade is not recorded: %q, %q", t.Name(), in, out)
	}
	_, in, _ = bytes.Cut(in, []byte("\r\n\r\n"))
	_, out, _ = bytes.Cut(out, []byte("\r\n\r\n"))
	if len(in) < 11 || in[0] != 0x82 || in[1] != 0x85 || in[11] != 0x88 { // a masked binary frame, then the close frame
		t.Errorf("%s: the client's frames are % x", t.Name(), in)
	}
	if len(out) < 8 || string(out[:7]) != "\x82\x05hello" || out[7] != 0x88 {
		t.Errorf("%s: the server's frames are % x", t.Name(), out)
	}
}

// V3: requests that are no upgrade are recorded too.
func TestRecordHTTP(t *testing.T) {
	w, recorded := startRecording(t, record.Options{})
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "the page") })
	s := kit.Serve(t, "tcp", engine.Options{}, kit.Hooks{}, engine.Record(w), engine.WebSocket(engine.WebSocketOptions{HTTP: page}))
	c := s.Client()
	kit.Write(t, c, []byte("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
	answer, err := io.ReadAll(c)
	kit.Must(t, err)
	kit.Must(t, s.Shutdown(t.Context()))
	all := recorded()
	if len(all) != 1 {
		t.Fatalf("%d sessions", len(all))
	}
	for _, r := range all {
		if !bytes.HasPrefix(bytesOf(t, r, true), []byte("GET / HTTP/1.1\r\n")) || !bytes.Equal(bytesOf(t, r, false), answer) {
			t.Errorf("recorded are %q and %q", bytesOf(t, r, true), bytesOf(t, r, false))
		}
	}
}

// V3: a reset is recorded as that of the side that made it, with the reason.
func TestRecordResets(t *testing.T) {
	w, recorded := startRecording(t, record.Options{})
	s := kit.Serve(t, "tcp", engine.Options{}, kit.Hooks{Recv: func(p *kit.Session, data []byte) {
		if string(data) == "abort" {
			p.Abort()
		}
	}}, engine.Record(w))
	ours, p := s.Connect()
	kit.Write(t, ours, []byte("abort"))
	kit.Await(t, p.Ended, "OnDisconnected")
	theirs, q := s.Connect()
	kit.Write(t, theirs, []byte("hello"))
	kit.Eventually(t, "it is received", func() bool { return q.Got.Load() == 5 })
	kit.Reset(t, theirs)
	kit.Await(t, q.Ended, "OnDisconnected")
	kit.Must(t, s.Close())
	all := recorded()
	if r := all[p.ID()]; ending(t, r) != "server reset;" || r.Reason != session.ErrAborted.Error() {
		t.Errorf("Abort is recorded as %s %q", ending(t, r), r.Reason)
	}
	if r := all[q.ID()]; ending(t, r) != "client reset;" || string(bytesOf(t, r, true)) != "hello" {
		t.Errorf("the peer's reset is recorded as %s", ending(t, r))
	}
}

// V3: sessions of Dial are recorded as those of the client, also above TLS.
func TestRecordDial(t *testing.T) {
	server, client := certificate(t)
	for _, secure := range []bool{false, true} {
		w, recorded := startRecording(t, record.Options{})
		listening, dialing := []engine.Option{}, []engine.Option{engine.Record(w)}
		if secure {
			listening, dialing = append(listening, engine.TLS(server)), append(dialing, engine.TLS(client))
		}
		s := kit.Serve(t, "tcp", engine.Options{}, kit.Hooks{Recv: kit.Echo}, listening...)
		got := make(chan string, 10)
		d := kit.Dialler(t, engine.Options{}, kit.Hooks{Recv: func(_ *kit.Session, data []byte) { got <- string(data) }})
		d.Wire = secure
		p := d.DialTo(s.Listener.Addr(), dialing...)
		kit.Must(t, p.Send([]byte("question")))
		if answer := kit.Await(t, got, "the answer"); answer != "question" {
			t.Errorf("the answer is %q", answer)
		}
		p.Disconnect()
		kit.Await(t, p.Ended, "OnDisconnected")
		kit.Must(t, d.Close())
		r := recorded()[p.ID()]
		if r == nil || !r.Dialed || string(bytesOf(t, r, true)) != "question" || string(bytesOf(t, r, false)) != "question" || r.Client.String() != p.LocalAddr().String() {
			t.Errorf("TLS %v: recorded is %+v", secure, r)
		}
	}
}

// The disk is a pipe that nobody reads: recording waits, sessions do not. Memory is bounded, and what is left out is counted.
func TestRecordSlowDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	kit.Must(t, unix.Mkfifo(path, 0o600))
	reader, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	kit.Must(t, err)
	defer reader.Close()
	w, err := record.Create(path, record.Options{Memory: 256 << 10, Logger: kit.Quiet})
	kit.Must(t, err)
	s := kit.Serve(t, "tcp", engine.Options{}, kit.Hooks{Recv: kit.Echo}, engine.Record(w))
	c := s.Client()
	data := kit.Stream()[:4<<20]
	go func() {
		_, _ = c.Write(data)
		_ = c.(interface{ CloseWrite() error }).CloseWrite()
	}()
	kit.Must(t, kit.ReadAll(c, data))
	if n := w.Stats().Dropped; n == 0 {
		t.Error("nothing was left out")
	}
	kit.Must(t, s.Close())
	read := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, reader)
		read <- err
	}()
	kit.Must(t, w.Close())
	kit.Must(t, kit.Await(t, read, "the end of the pipe"))
}

// Only sessions that are asked for are recorded, and a Writer that is closed disturbs nobody.
func TestRecordFilter(t *testing.T) {
	server, client := certificate(t)
	wanted := make(chan uint64, 10)
	n := 0
	w, recorded := startRecording(t, record.Options{Filter: func(i record.Info) bool {
		if n++; n%2 == 0 {
			return false
		}
		wanted <- i.ID
		return true
	}})
	s := kit.Serve(t, "tcp", engine.Options{Loops: 1}, kit.Hooks{Recv: kit.Echo}, engine.Record(w), engine.TLS(server))
	for range 4 {
		talk(t, s.Client(), client, false)
	}
	all := recorded()
	talk(t, s.Client(), client, false)
	if len(all) != 2 || all[<-wanted] == nil || all[<-wanted] == nil {
		t.Errorf("%d sessions are recorded, want 2", len(all))
	}
}

// L4: a Filter that panics costs the recording of that session, and nothing else.
func TestRecordFilterPanics(t *testing.T) {
	w, recorded := startRecording(t, record.Options{Filter: func(i record.Info) bool { panic("in Filter") }})
	s := kit.Serve(t, "tcp", engine.Options{Loops: 1}, kit.Hooks{Recv: kit.Echo}, engine.Record(w))
	for range 2 {
		talk(t, s.Client(), nil, false)
	}
	if n := len(recorded()); n != 0 {
		t.Errorf("%d sessions are recorded", n)
	}
}

// T6: options that cannot be are refused.
func TestRecordOptions(t *testing.T) {
	w, _ := startRecording(t, record.Options{})
	e, err := engine.New(engine.Options{Logger: kit.Quiet})
	kit.Must(t, err)
	defer e.Close()
	factory := func() session.Handler { return new(session.Session) }
	for want, opts := range map[string][]engine.Option{
		"writer is nil":         {engine.Record(nil)},
		"Record is given twice": {engine.Record(w), engine.Record(w)},
	} {
		if _, err := e.Listen("tcp", "127.0.0.1:0", factory, opts...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	request := httptest.NewRequestWithContext(context.Background(), "GET", "/", nil)
	if err := e.Upgrade(httptest.NewRecorder(), request, factory, engine.Record(w)); err == nil || !strings.Contains(err.Error(), "Record is not an option of Upgrade") {
		t.Errorf("Upgrade: %v", err)
	}
}
