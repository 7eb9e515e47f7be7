//go:build clients

// TLS and WebSocket with clients and servers of others, openssl, curl, Python's websockets:
//
//	go test -tags clients -run '^TestClients' ./engine
//
// They have to be installed, so it stands behind a tag; .ci/clients runs it. With -v it shows what was typed and what was answered.

package engine_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/session"
)

// program is a running program that a test talks to. What it prints, on both streams, comes in pieces of what it writes at once.
type program struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	pieces chan string
	said   strings.Builder // of the pieces that were taken
	seen   int             // bytes of said that a want has matched
	wait   func() error
}

// launch starts a program, which is ended at the end of the test if it still runs.
func launch(t *testing.T, name string, args ...string) *program {
	t.Helper()
	p := &program{t: t, cmd: exec.CommandContext(context.Background(), name, args...), pieces: make(chan string, 10_000)}
	r, w, err := os.Pipe()
	kit.Must(t, err)
	p.cmd.Stdout, p.cmd.Stderr = w, w
	p.stdin, err = p.cmd.StdinPipe()
	kit.Must(t, err)
	kit.Must(t, p.cmd.Start())
	_ = w.Close()
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(p.pieces)
		defer r.Close()
		for b := make([]byte, 64<<10); ; {
			n, err := r.Read(b)
			if n > 0 {
				p.pieces <- string(b[:n])
			}
			if err != nil {
				return
			}
		}
	}()
	p.wait = sync.OnceValue(func() error { <-read; return p.cmd.Wait() })
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.wait()
	})
	return p
}

// say types a line.
func (p *program) say(line string) {
	p.t.Helper()
	_, err := io.WriteString(p.stdin, line+"\n")
	kit.Must(p.t, err)
}

// want waits until the program has printed that text, behind what was waited for before.
func (p *program) want(text string) {
	p.t.Helper()
	deadline := time.After(kit.Patience)
	for {
		if i := strings.Index(p.said.String()[p.seen:], text); i >= 0 {
			p.seen += i + len(text)
			return
		}
		select {
		case piece, open := <-p.pieces:
			if !open {
				p.t.Fatalf("%s: has ended without %q. It said:\n%s", p.cmd, text, &p.said)
			}
			p.said.WriteString(piece)
		case <-deadline:
			p.t.Fatalf("%s: not within %v: %q. It said:\n%s", p.cmd, kit.Patience, text, &p.said)
		}
	}
}

// end waits for the end of the program, and returns all that it has said and its exit code.
func (p *program) end() (said string, code int) {
	p.t.Helper()
	_ = p.stdin.Close()
	deadline := time.After(kit.Patience)
	for open := true; open; {
		var piece string
		select {
		case piece, open = <-p.pieces:
			p.said.WriteString(piece)
		case <-deadline:
			p.t.Fatalf("%s: does not end within %v. It said:\n%s", p.cmd, kit.Patience, &p.said)
		}
	}
	var exit *exec.ExitError
	if err := p.wait(); err != nil && !errors.As(err, &exit) {
		p.t.Fatalf("%s: %v", p.cmd, err)
	}
	return p.said.String(), p.cmd.ProcessState.ExitCode()
}

// show puts the command, and the lines of what it said that the expression finds, into the transcript.
func (p *program) show(lines *regexp.Regexp) {
	out := p.t.Output()
	fmt.Fprintf(out, "$ %s\n", strings.ReplaceAll(strings.Join(p.cmd.Args, " "), os.TempDir()+"/", ""))
	for line := range strings.Lines(p.said.String()) {
		if line = strings.TrimRight(line, "\r\n"); lines.MatchString(line) {
			fmt.Fprintf(out, "  %.160s\n", strings.TrimSpace(line))
		}
	}
}

var everyLine = regexp.MustCompile(`\S`)

// trust writes the certificate of a server's config into a file, for a client to trust, and its key into another.
func trust(t *testing.T, server *tls.Config) (cert, dir string) {
	t.Helper()
	dir = t.TempDir()
	cert = filepath.Join(dir, "cert.pem")
	kit.Must(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificates[0].Certificate[0]}), 0o600))
	return cert, dir
}

// keyPEM returns the key of a server's config as openssl reads it.
func keyPEM(t *testing.T, server *tls.Config) []byte {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(server.Certificates[0].PrivateKey)
	kit.Must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
}

// telling are the lines of openssl that tell what was negotiated, and what the test typed and read.
var telling = regexp.MustCompile(`^(New|Reused), |^ALPN protocol|^No ALPN|Verif(y return|ication)|KeyUpdate|KEYUPDATE|RENEGOTIATING|^said |^DONE|alert number|:error:`)

// openssl s_client: what it negotiates, echoes, a session that is resumed, KeyUpdate in both directions, close_notify.
func TestClientsOpenSSL(t *testing.T) {
	kit.NoLeaks(t)
	server, _ := certificate(t)
	cert, dir := trust(t, server)
	s := kit.Serve(t, "tcp", engine.Options{Loops: 2}, kit.Hooks{Recv: kit.Echo}, engine.TLS(server))
	for _, version := range []struct {
		flag, name string
		number     uint16
	}{{"-tls1_2", "TLSv1.2", tls.VersionTLS12}, {"-tls1_3", "TLSv1.3", tls.VersionTLS13}} {
		state := filepath.Join(dir, version.name)
		for _, resumed := range []bool{false, true} {
			args := []string{"s_client", "-connect", s.Listener.Addr().String(), version.flag, "-CAfile", cert, "-verify_return_error", "-servername", "localhost",
				"-verify_hostname", "localhost", "-alpn", "other,game", "-sess_out", state, "-msg"}
			negotiated := "New, " + version.name
			if resumed {
				args, negotiated = append(args, "-sess_in", state), "Reused, "+version.name
			}
			p := launch(t, "openssl", args...)
			arrived := kit.Await(t, s.Arrivals, "OnConnected")
			p.want(negotiated)
			p.want("ALPN protocol: game")
			p.want("Verify return code: 0 (ok)")
			p.say("said by openssl")
			p.want("said by openssl")
			if version.number == tls.VersionTLS13 {
				for _, key := range []string{"k", "K", "k", "K"} { // K asks for an update of the other direction too
					p.say(key)
					p.want("KeyUpdate")
					if p.say("said after " + key); key == "K" {
						p.want("<<< TLS 1.3, Handshake [length 0005], KeyUpdate")
					}
					p.want("said after " + key)
				}
			}
			p.say("Q")
			if said, code := p.end(); code != 0 {
				t.Errorf("exit code %d:\n%s", code, said)
			}
			kit.WantError(t, "after openssl's close_notify", kit.AwaitEnd(t, arrived), session.ErrPeerClosed)
			if state := arrived.TLS(); state.Version != version.number || state.DidResume != resumed || state.NegotiatedProtocol != "game" || state.ServerName != "localhost" {
				t.Errorf("%s, resumed %v: the server has %#x, resumed %v, protocol %q for %q", version.name, resumed, state.Version, state.DidResume,
					state.NegotiatedProtocol, state.ServerName)
			}
			p.show(telling)
		}
	}
}

// C6: what openssl does against the rules costs its own connection, and gets its alert.
func TestClientsOpenSSLRefused(t *testing.T) {
	kit.NoLeaks(t)
	server, _ := certificate(t)
	server.MinVersion = tls.VersionTLS12
	cert, _ := trust(t, server)
	s := kit.Serve(t, "tcp", engine.Options{}, kit.Hooks{Recv: kit.Echo}, engine.TLS(server))
	client := func(args ...string) *program {
		t.Helper()
		return launch(t, "openssl", append([]string{"s_client", "-connect", s.Listener.Addr().String(), "-CAfile", cert}, args...)...)
	}
	for _, tt := range []struct {
		name, alert string
		args        []string
	}{
		{"a version that is too old", "alert protocol version", []string{"-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"}},
		{"no protocol in common", "alert no application protocol", []string{"-alpn", "other"}},
		{"no cipher in common", "alert handshake failure", []string{"-tls1_2", "-cipher", "DHE-RSA-AES256-GCM-SHA384"}},
	} {
		p := client(tt.args...)
		if said, code := p.end(); code == 0 || !strings.Contains(said, tt.alert) {
			t.Errorf("%s: exit code %d, no %q in:\n%s", tt.name, code, tt.alert, said)
		}
		p.show(telling)
	}
	p := client("-tls1_2")
	renegotiating := kit.Await(t, s.Arrivals, "OnConnected")
	p.say("said before")
	p.want("said before")
	p.say("R")
	if said, code := p.end(); code == 0 || !strings.Contains(said, "alert unexpected message") {
		t.Errorf("renegotiation: exit code %d:\n%s", code, said)
	}
	p.show(telling)
	if err := kit.AwaitEnd(t, renegotiating); err == nil || errors.Is(err, session.ErrPeerClosed) {
		t.Errorf("renegotiation: the session ended with %v", err)
	}
	kit.Eventually(t, "three handshakes were refused", func() bool { return s.Stats().Refused.Handshake == 3 })
	p = client("-tls1_3") // others are served as before
	p.say("said afterwards")
	p.want("said afterwards")
	p.say("Q")
	if _, code := p.end(); code != 0 {
		t.Errorf("afterwards: exit code %d", code)
	}
}

// The engine as a client: it dials openssl s_server, which answers each line with the line reversed.
func TestClientsOpenSSLServer(t *testing.T) {
	kit.NoLeaks(t)
	server, client := certificate(t)
	cert, dir := trust(t, server)
	key := filepath.Join(dir, "key.pem")
	kit.Must(t, os.WriteFile(key, keyPEM(t, server), 0o600))
	p := launch(t, "openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", cert, "-key", key, "-rev", "-alpn", "game", "-num_tickets", "2")
	p.want("ACCEPT ")
	p.want("\n")
	_, listening, _ := strings.Cut(p.said.String(), "ACCEPT ")
	addr, err := net.ResolveTCPAddr("tcp", strings.TrimSpace(listening))
	kit.Must(t, err)
	client.NextProtos, client.ClientSessionCache = []string{"game"}, tls.NewLRUClientSessionCache(4)
	got := make(chan string, 10)
	d := kit.Dialler(t, engine.Options{}, kit.Hooks{Recv: func(_ *kit.Session, b []byte) { got <- string(b) }})
	d.Wire = true
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, resumed := range []bool{false, true} {
			config := client.Clone()
			config.MinVersion, config.MaxVersion = version, version
			s := d.DialTo(addr, engine.TLS(config))
			kit.Must(t, s.Send([]byte("hello\n")))
			answer := ""
			for !strings.HasSuffix(answer, "\n") {
				answer += kit.Await(t, got, "an answer of openssl")
			}
			if state := s.TLS(); answer != "olleh\n" || state.Version != version || state.DidResume != resumed || state.NegotiatedProtocol != "game" {
				t.Errorf("%s, resumed %v: answer %q, version %#x, resumed %v, protocol %q", tls.VersionName(version), resumed, answer, state.Version, state.DidResume,
					state.NegotiatedProtocol)
			}
			s.Disconnect()
			kit.WantError(t, "after Disconnect", kit.AwaitEnd(t, s), session.ErrDisconnected)
		}
	}
	p.show(regexp.MustCompile(`^(Reused|Protocol version|Ciphersuite|CONNECTION)`))
}

// chat builds and starts examples/chat, and returns where it says that browsers find it.
func chat(t *testing.T, args ...string) (url string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "chat")
	build := exec.Command("go", "build", "-o", file, "./examples/chat")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p := launch(t, file, append([]string{"-addr", "127.0.0.1:0", "-web", "127.0.0.1:0"}, args...)...)
	p.want("open ")
	p.want("\n")
	_, url, _ = strings.Cut(p.said.String(), "open ")
	t.Cleanup(func() {
		kit.Must(t, p.cmd.Process.Signal(syscall.SIGTERM))
		if said, code := p.end(); code != 0 {
			t.Errorf("the chat: exit code %d:\n%s", code, said)
		}
	})
	return strings.TrimSpace(url)
}

// curl: the page of the chat over https and http, an upgrade on the same port, plain HTTP to a port with TLS.
func TestClientsCurl(t *testing.T) {
	curl := func(want int, args ...string) string {
		t.Helper()
		p := launch(t, "curl", append([]string{"--silent", "--show-error", "--include", "--max-time", "20"}, args...)...)
		said, code := p.end()
		if code != want {
			t.Errorf("%s: exit code %d, want %d:\n%.1000s", p.cmd, code, want, said)
		}
		p.show(regexp.MustCompile(`^(HTTP|curl:|[Cc]ontent-[Tt]ype|<title>|Client sent|[a-z].*(upgrade|host))`))
		return said
	}
	contains := func(said string, parts ...string) {
		t.Helper()
		for _, part := range parts {
			if !strings.Contains(said, part) {
				t.Errorf("no %q in:\n%.2000s", part, said)
			}
		}
	}
	page := []string{"HTTP/1.1 200 OK", "text/html; charset=utf-8", "<title>chat</title>", "</html>"}
	plain := chat(t)
	contains(curl(0, plain), page...)
	contains(curl(0, "--head", plain), "HTTP/1.1 200 OK")
	contains(curl(0, "--data", "x=1", plain), "HTTP/1.1 405 Method Not Allowed")
	contains(curl(0, plain+"/nothing"), "HTTP/1.1 404 Not Found")

	secure := chat(t, "-tls-self-signed")
	address := strings.TrimPrefix(secure, "https://")
	contains(curl(60, secure), "self-signed certificate")
	p := launch(t, "openssl", "s_client", "-connect", address) // what a user does who wants to trust it
	said, _ := p.end()
	block, _ := pem.Decode([]byte(said[max(strings.Index(said, "-----BEGIN CERTIFICATE"), 0):]))
	if block == nil {
		t.Fatalf("no certificate in:\n%s", said)
	}
	cert := filepath.Join(t.TempDir(), "cert.pem")
	kit.Must(t, os.WriteFile(cert, pem.EncodeToMemory(block), 0o600))
	for _, version := range []string{"1.2", "1.3"} {
		contains(curl(0, "--cacert", cert, "--tlsv"+version, "--tls-max", version, secure), page...)
	}
	contains(curl(0, "--cacert", cert, secure, secure), page...) // on one connection
	contains(curl(0, "http://"+address), "HTTP/1.0 400 Bad Request")

	// The upgrade. The key and what must come back are those of RFC 6455, section 1.3. curl goes on reading until it is ended.
	upgrade := func(version, url string, args ...string) []string {
		return append([]string{"--http1.1", "--no-buffer", "--cacert", cert, "-H", "Connection: Upgrade", "-H", "Upgrade: websocket",
			"-H", "Sec-WebSocket-Version: " + version, "-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", url}, args...)
	}
	for _, url := range []string{plain, secure} {
		p := launch(t, "curl", append([]string{"--silent", "--include", "--max-time", "20"}, upgrade("13", url+"/chat?name=curl")...)...)
		p.want("HTTP/1.1 101 Switching Protocols")
		p.want("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
		p.want("\x81") // a text message
		p.want("* you are curl in lobby, with 0 others")
		kit.Must(t, p.cmd.Process.Kill())
		_ = p.wait()
		p.show(everyLine)
		contains(curl(0, upgrade("13", url+"/chat", "-H", "Origin: https://elsewhere.example")...), "HTTP/1.1 403 Forbidden")
		contains(curl(0, upgrade("7", url+"/chat")...), "HTTP/1.1 426 Upgrade Required", "the version of WebSocket here is 13")
	}
}
