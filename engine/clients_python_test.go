//go:build clients

package engine_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/session"
)

// debianPython is the Python that has Debian's python3-websockets; another one may come first on PATH.
const debianPython = "/usr/bin/python3"

// answering echoes messages as what they were, text or binary. The text bye ends the session.
type answering struct{ session.Session }

func (a *answering) OnRecv(p []byte) {
	if err := a.Send(p); err != nil {
		a.DisconnectWith(err)
	}
}

func (a *answering) OnText(p []byte) {
	if string(p) == "bye" {
		a.DisconnectWith(&session.CloseError{Code: 4001, Reason: "goodbye"})
	} else if err := a.SendText(p); err != nil {
		a.DisconnectWith(err)
	}
}

// Python's websockets as the client, over ws and wss: testdata/clients.py tells what it checks.
func TestClientsPython(t *testing.T) {
	kit.NoLeaks(t)
	server, _ := certificate(t)
	server.NextProtos = nil
	cert, _ := trust(t, server)
	ws := engine.WebSocket(engine.WebSocketOptions{Path: "/echo", Compression: true, MaxMessage: 2 << 20, Subprotocols: []string{"echo"},
		Check: func(r *http.Request) error {
			if r.URL.RawQuery == "refuse" {
				return errors.New("refused")
			}
			return nil
		}})
	for scheme, opts := range map[string][]engine.Option{"ws": {ws}, "wss": {ws, engine.TLS(server)}} {
		e, addr := serveWith(t, engine.Options{Loops: 2, SendLimit: 8 << 20}, func() session.Handler { return new(answering) }, opts...)
		p := launch(t, debianPython, "testdata/clients.py", "client", scheme+"://localhost:"+fmt.Sprint(addr.(*net.TCPAddr).Port), cert)
		if said, code := p.end(); code != 0 {
			t.Errorf("exit code %d:\n%s", code, said)
		}
		p.show(everyLine)
		kit.Eventually(t, "all sessions have ended", func() bool { return e.Stats().Sessions == 0 })
		if st := e.Stats(); st.Accepted != 2+4+30 || st.Total.Ended.PeerClosed < 32 {
			t.Errorf("%d sessions, ends %+v", st.Accepted, st.Total.Ended)
		}
		kit.Must(t, e.Close())
	}
}

// heard is a client of the engine that keeps what comes.
type heard struct {
	session.Session
	messages chan string
	ended    chan error
}

func (h *heard) OnRecv(p []byte)         { h.messages <- "binary " + string(p) }
func (h *heard) OnText(p []byte)         { h.messages <- "text " + string(p) }
func (h *heard) OnDisconnected(net.Addr) { h.ended <- h.Err() }

// Python's websockets as the server that the engine dials. It answers in two fragments.
func TestClientsPythonServer(t *testing.T) {
	kit.NoLeaks(t)
	server, client := certificate(t)
	cert, dir := trust(t, server)
	key := filepath.Join(dir, "key.pem")
	kit.Must(t, os.WriteFile(key, keyPEM(t, server), 0o600))
	p := launch(t, debianPython, "testdata/clients.py", "server", cert, key)
	p.want("ports ")
	p.want("\n")
	var ports [2]int
	_, err := fmt.Sscanf(p.said.String(), "ports %d %d", &ports[0], &ports[1])
	kit.Must(t, err)
	e, err := engine.New(engine.Options{SendLimit: 8 << 20, Logger: kit.Quiet})
	kit.Must(t, err)
	kit.Must(t, e.Start())
	t.Cleanup(func() { _ = e.Close() })
	for i, secure := range []*tls.Config{nil, client} {
		for _, compressed := range []bool{false, true} {
			for _, ours := range []bool{true, false} { // who ends it
				opts := []engine.Option{engine.WebSocket(engine.WebSocketOptions{Path: "/echo?name=engine", Compression: compressed, MaxMessage: 2 << 20,
					Subprotocols: []string{"echo"}})}
				if secure != nil {
					opts = append(opts, engine.TLS(secure))
				}
				h := &heard{messages: make(chan string, 10), ended: make(chan error, 1)}
				_, err := e.Dial(t.Context(), "tcp", fmt.Sprint("127.0.0.1:", ports[i]), func() session.Handler { return h }, opts...)
				kit.Must(t, err)
				for _, m := range []string{"hello", "", "grüße, 世界", strings.Repeat("0123456789abcdef", 1<<16)} {
					kit.Must(t, h.SendText([]byte(m)))
					if got := kit.Await(t, h.messages, "a text message"); got != "text "+m {
						t.Fatalf("%d bytes of text came back as %.100q, %d bytes", len(m), got, len(got))
					}
					kit.Must(t, h.Send([]byte(m)))
					if got := kit.Await(t, h.messages, "a binary message"); got != "binary "+m {
						t.Fatalf("%d bytes came back as %.100q, %d bytes", len(m), got, len(got))
					}
				}
				if ours {
					h.DisconnectWith(&session.CloseError{Code: 4003, Reason: "goodbye from Go"})
					p.want("4003")
				} else {
					kit.Must(t, h.SendText([]byte("bye")))
				}
				err = kit.Await(t, h.ended, "OnDisconnected")
				if !ours && (!isClose(err, 4002, "goodbye from Python") || !errors.Is(err, session.ErrPeerClosed)) || ours && !isClose(err, 4003, "goodbye from Go") {
					t.Errorf("ended by us %v: %v", ours, err)
				}
			}
		}
	}
	if said, code := p.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, said)
	}
	p.show(everyLine)
}
