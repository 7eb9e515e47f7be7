// Command acme serves a page by https and its WebSocket by wss, with a certificate that it gets from Let's Encrypt, or from another
// authority that speaks ACME (RFC 8555), and renews by itself. On the machine that the name leads to:
//
//	go run ./examples/acme -domain www.example.org
//
// The authority must reach ports 443 and 80 of the name: it checks with either that the name is yours. Certificates and the account's key
// are kept in a folder, so that a restart asks for nothing. Tests use an authority of their own; see main_test.go.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

// echo answers each message.
type echo struct{ session.Session }

func (e *echo) OnRecv(p []byte) { _ = e.Send(p) }

const page = `<!doctype html><meta charset="utf-8"><title>acme</title><p id="log">connecting</p><script>
const socket = new WebSocket(location.href.replace(/^http/, "ws").replace(/[^/]*$/, "ws"));
socket.onopen = () => socket.send("hello by wss");
socket.onmessage = (e) => { log.textContent = e.data; };
</script>`

// newManager returns what gets certificates for these names. directory is the authority's URL, "" for Let's Encrypt's.
func newManager(folder, directory string, names ...string) *autocert.Manager {
	return &autocert.Manager{
		Prompt:     autocert.AcceptTOS, // you agree to the authority's terms
		HostPolicy: autocert.HostWhitelist(names...),
		Cache:      autocert.DirCache(folder),
		Client:     &acme.Client{DirectoryURL: directory},
	}
}

// server is an engine with two listeners.
type server struct {
	*engine.Engine
	secure, plain *engine.Listener
}

// serve makes a server whose certificates come from m.
func serve(m *autocert.Manager, secure, plain string) (*server, error) {
	e, err := engine.New(engine.Options{})
	if err != nil {
		return nil, err
	}
	s := &server{Engine: e}
	newEcho := func() session.Handler { return new(echo) }

	// GetCertificate gets a certificate when the first client asks for the name; the handshake waits, and delays no other. The authority may
	// check the name on this port: it asks for the protocol acme-tls/1, and GetCertificate answers it (TLS-ALPN-01, RFC 8737).
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, page) })
	s.secure, err = e.Listen("tcp", secure, newEcho,
		engine.TLS(&tls.Config{GetCertificate: m.GetCertificate, NextProtos: []string{"http/1.1", acme.ALPNProto}}),
		engine.WebSocket(engine.WebSocketOptions{Path: "/ws", Text: true, HTTP: mux}))
	if err != nil {
		return nil, err
	}

	// Or it checks the name on port 80 (HTTP-01): HTTPHandler answers it, and sends everybody else to https.
	s.plain, err = e.Listen("tcp", plain, newEcho, engine.WebSocket(engine.WebSocketOptions{HTTP: m.HTTPHandler(nil), Check: useTLS}))
	return s, err
}

// useTLS refuses a WebSocket without TLS.
func useTLS(*http.Request) error {
	return &engine.StatusError{Code: http.StatusForbidden, Message: "use wss"}
}

func main() {
	domain := flag.String("domain", "", "`name` of this machine, or several with commas between them")
	secure := flag.String("https", ":443", "`address` for https and wss")
	plain := flag.String("http", ":80", "`address` for http, which leads to https")
	directory := flag.String("directory", "", "`URL` of the authority's directory; empty for Let's Encrypt")
	cache, _ := os.UserCacheDir()
	folder := flag.String("cache", filepath.Join(cache, "servercore-acme"), "`folder` for certificates and keys")
	flag.Parse()
	if *domain == "" {
		log.Fatal("-domain is missing: the name that leads to this machine")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	s, err := serve(newManager(*folder, *directory, strings.Split(*domain, ",")...), *secure, *plain)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("open https://%s", strings.Split(*domain, ",")[0])
	if err := s.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
