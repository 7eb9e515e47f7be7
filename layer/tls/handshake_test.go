package tls

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/servercore-go/servercore/session"
)

// fail drives two ends until the named one has failed and all bytes are carried, and returns the error.
func fail(t *testing.T, s, c, failing *end) *HandshakeError {
	t.Helper()
	exchange(s, c, failing.failed)
	var err *HandshakeError
	if !errors.As(failing.err, &err) || !errors.Is(failing.err, session.ErrHandshake) {
		t.Fatalf("Open returned %v, want a HandshakeError", failing.err)
	}
	if failing.layer.Established() {
		t.Error("established after a failure")
	}
	if data, used, more, again := failing.layer.Open(failing.dst, []byte("xyz")); len(data) != 0 || used != 3 || more || again != failing.err {
		t.Errorf("Open after the failure returned %q, %d, %t, %v", data, used, more, again)
	}
	return err
}

// textError is an error that panics when it is asked, if the pointer is nil.
type textError struct{ text string }

func (e *textError) Error() string { return e.text }

// Each failure has its cause, and the peer gets its alert.
func TestCauses(t *testing.T) {
	type configs struct{ server, client *tls.Config }
	for _, tt := range []struct {
		name   string
		change func(c *configs)
		cause  Cause  // the server's
		client string // part of what the client's error says
	}{
		{"version", func(c *configs) { c.server.MinVersion, c.client.MaxVersion = tls.VersionTLS13, tls.VersionTLS12 }, CauseVersion, "protocol version"},
		{"cipher suite", func(c *configs) {
			c.server.CipherSuites, c.server.MaxVersion = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}, tls.VersionTLS12
			c.client.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}
		}, CauseParameters, "handshake failure"},
		{"curve", func(c *configs) {
			c.server.CurvePreferences, c.client.CurvePreferences = []tls.CurveID{tls.CurveP384}, []tls.CurveID{tls.X25519}
		}, CauseParameters, "handshake failure"},
		{"server name", func(c *configs) {
			c.server = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return &tls.Config{}, nil }}
		}, CauseServerName, "unrecognized name"},
		{"ALPN", func(c *configs) { c.server.NextProtos, c.client.NextProtos = []string{"a"}, []string{"b"} }, CauseALPN, "no application protocol"},
		{"no client certificate, TLS 1.2", func(c *configs) {
			c.server.ClientAuth, c.server.MaxVersion = tls.RequireAnyClientCert, tls.VersionTLS12
		}, CauseCertificate, "handshake failure"},
		{"no client certificate, TLS 1.3", func(c *configs) { c.server.ClientAuth = tls.RequireAnyClientCert }, CauseCertificate, "certificate required"},
		{"unknown client certificate", func(c *configs) {
			c.server.ClientAuth, c.server.ClientCAs = tls.RequireAndVerifyClientCert, testAuthority().roots.Clone()
			key := *testAuthority()
			other := key.issue("somebody")
			other.Certificate[0][len(other.Certificate[0])-1] ^= 1 // a wrong signature
			c.client.Certificates = []tls.Certificate{other}
		}, CauseCertificate, "certificate"},
		{"refused by the client", func(c *configs) { c.client.ServerName = "elsewhere.test" }, CauseRefused, "elsewhere.test"},
		{"error of a callback", func(c *configs) {
			c.server.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, io.ErrClosedPipe }
			c.server.Certificates = nil
		}, CauseOther, "internal error"},
		{"panic of a callback", func(c *configs) {
			c.server.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { panic("boo") }
		}, CausePanic, ""},
		{"a nil pointer as the error of a callback", func(c *configs) {
			c.server.VerifyConnection = func(tls.ConnectionState) error { return (*textError)(nil) }
		}, CausePanic, ""},
		{"Goexit of a callback", func(c *configs) {
			c.server.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { runtime.Goexit(); return nil, nil }
		}, CausePanic, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			configs := configs{serverConfig(), clientConfig()}
			tt.change(&configs)
			h := &Handshakes{}
			s, c := newServer(t, configs.server, h), newClient(t, configs.client, h)
			if err := fail(t, s, c, s); err.Cause != tt.cause {
				t.Errorf("cause %v, want %v: %v", err.Cause, tt.cause, err)
			}
			if tt.client == "" {
				return
			}
			// A TLS 1.3 client is done before the server has looked at its certificate: its alert comes in the stream.
			deliver(s, c)
			if c.err == nil {
				exchange(s, c, c.failed)
			}
			if !strings.Contains(c.err.Error(), tt.client) {
				t.Errorf("the client's error is %v, want one with %q", c.err, tt.client)
			}
		})
	}
}

// What is not TLS is told so, in its own protocol if that is HTTP, and the error shows how it began.
func TestPlainText(t *testing.T) {
	for _, tt := range []struct{ send, answer, text string }{
		{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", badRequest, `"GET /"`},
		{"POST /x HTTP/1.1\r\n\r\n", badRequest, `"POST "`},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", badRequest, `"PRI *"`},
		{"hello\r\n", "", `"hello"`},
		{"\x00\x01\x02\x03\x04", "", `"\x00\x01\x02\x03\x04"`},
	} {
		s := newServer(t, serverConfig(), &Handshakes{})
		s.cut, s.kept = 1, []byte(tt.send)
		s.waitFor(s.failed)
		s.own()
		var err *HandshakeError
		if !errors.As(s.err, &err) || err.Cause != CausePlainText || !strings.Contains(err.Error(), tt.text) || string(s.out) != tt.answer {
			t.Errorf("after %q: %v, answer %q", tt.send, s.err, s.out)
		}
	}
	c := newClient(t, clientConfig(), &Handshakes{})
	c.kept = []byte("220 mail.test ESMTP\r\n")
	c.waitFor(c.failed)
	var err *HandshakeError
	if !errors.As(c.err, &err) || err.Cause != CausePlainText || !strings.Contains(err.Error(), `the server does not speak TLS, its first bytes are "220 m"`) {
		t.Errorf("a server of plain text: %v", c.err)
	}
	// SSLv2 gets an alert.
	s := newServer(t, serverConfig(), &Handshakes{})
	s.kept = []byte{0x80, 0x2e, 1, 0, 2}
	s.waitFor(s.failed)
	if s.own(); !errors.As(s.err, &err) || err.Cause != CauseProtocol || !bytes.Equal(s.out, []byte{typeAlert, 3, 1, 0, 2, 2, 70}) {
		t.Errorf("after an SSLv2 hello: %v, answer %x", s.err, s.out)
	}
}

// A garbage message in a good record gets its alert.
func TestGarbageHello(t *testing.T) {
	for name, hello := range map[string][]byte{
		"no ClientHello":   {typeHandshake, 3, 1, 0, 4, 2, 0, 0, 0},
		"empty record":     {typeHandshake, 3, 1, 0, 0},
		"garbage inside":   {typeHandshake, 3, 1, 0, 6, 1, 0, 0, 2, 9, 9},
		"message too long": {typeHandshake, 3, 1, 0, 6, 1, 0xff, 0, 0, 9, 9},
		"record too long":  {typeHandshake, 3, 1, 0xff, 0xff},
	} {
		s := newServer(t, serverConfig(), &Handshakes{})
		s.cut, s.kept = 1, hello
		s.waitFor(s.failed)
		s.own()
		var err *HandshakeError
		if !errors.As(s.err, &err) || err.Cause == CausePlainText || len(s.out) != 7 || s.out[0] != typeAlert {
			t.Errorf("%s: %v, answer %x", name, s.err, s.out)
		}
	}
}

// The peer's FIN in the handshake: an error when more input was needed, and no harm when all of the handshake was there.
func TestFINInTheHandshake(t *testing.T) {
	eachVersion(t, func(t *testing.T, server, client *tls.Config) {
		truncated := func(err error) bool {
			var h *HandshakeError
			return errors.As(err, &h) && h.Cause == CauseTruncated && errors.Is(err, session.ErrTruncated) && errors.Is(err, session.ErrHandshake)
		}
		h := &Handshakes{}
		s := newServer(t, server, h)
		if err := s.layer.Ended(); !truncated(err) {
			t.Errorf("before the first byte: %v", err)
		}
		s, c := newServer(t, server, h), newClient(t, client, h)
		c.waitFor(func() bool { return len(c.out) > 0 })
		s.kept = c.out[:20]
		s.turn()
		if err := s.layer.Ended(); !truncated(err) {
			t.Errorf("in the ClientHello: %v", err)
		}
		s = newServer(t, server, h)
		s.kept = c.out
		s.waitFor(func() bool { return len(s.out) > 0 })
		if err := s.layer.Ended(); !truncated(err) {
			t.Errorf("after the ClientHello: %v", err)
		}
		// The last flight, data, close_notify and FIN come together.
		s, c = newServer(t, server, h), newClient(t, client, h)
		first, last := c, s // to be done with the handshake
		if client.MaxVersion == tls.VersionTLS12 {
			first, last = s, c
		}
		exchange(s, c, first.layer.Established)
		first.seal([]byte("all at once"))
		first.layer.Finish(nil)
		first.own()
		last.kept = append(last.kept, first.out...)
		last.open()
		if err := last.layer.Ended(); err != nil && !last.layer.Established() {
			t.Errorf("Ended says %v when the whole handshake was there", err)
		}
		if last.waitFor(last.failed); last.err != io.EOF || string(last.got) != "all at once" || last.layer.Ended() != nil {
			t.Errorf("got %q and %v, Ended %v", last.got, last.err, last.layer.Ended())
		}
	})
}

// The features of a config: what the other side sees of them.
func TestConfigs(t *testing.T) {
	eachVersion(t, func(t *testing.T, server, client *tls.Config) {
		other := testAuthority().issue("other.test")
		var conns []net.Addr
		server.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			conns = append(conns, hello.Conn.LocalAddr(), hello.Conn.RemoteAddr())
			if hello.ServerName != "other.test" {
				return nil, nil
			}
			config := server.Clone()
			config.GetConfigForClient = nil
			config.Certificates = nil
			config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &other, nil }
			return config, nil
		}
		server.NextProtos = []string{"second", "first"}
		server.ClientAuth, server.ClientCAs = tls.RequireAndVerifyClientCert, testAuthority().roots
		client.NextProtos = []string{"first"}
		client.Certificates = []tls.Certificate{testAuthority().issue("client.test")}
		for _, name := range []string{"server.test", "other.test"} {
			client.ServerName = name
			s, c := pair(t, server, client)
			state, theirs := s.layer.ConnectionState(), c.layer.ConnectionState()
			if got := theirs.PeerCertificates[0].DNSNames[0]; got != name || state.ServerName != name {
				t.Errorf("asked for %s: certificate of %s, name %s", name, got, state.ServerName)
			}
			if state.NegotiatedProtocol != "first" || theirs.NegotiatedProtocol != "first" {
				t.Errorf("ALPN: %q and %q", state.NegotiatedProtocol, theirs.NegotiatedProtocol)
			}
			if len(state.VerifiedChains) != 1 || state.PeerCertificates[0].Subject.CommonName != "client.test" {
				t.Errorf("the client's certificate: %v", state.PeerCertificates)
			}
		}
		if len(conns) != 4 || conns[0] != net.Addr(testLocal) || conns[1] != net.Addr(testRemote) {
			t.Errorf("callbacks saw the addresses %v", conns)
		}
	})
}

// A ticket is worth its session at a server that shares the config, or only the ticket keys, as after a restart.
func TestResumption(t *testing.T) {
	eachVersion(t, func(t *testing.T, server, client *tls.Config) {
		key := [32]byte{1, 2, 3}
		server.SetSessionTicketKeys([][32]byte{key})
		client.ClientSessionCache = tls.NewLRUClientSessionCache(0)
		restarted := serverConfig()
		restarted.SetSessionTicketKeys([][32]byte{key})
		for i, config := range []*tls.Config{server, server, restarted} {
			s, c := pair(t, config, client)
			if got := c.layer.ConnectionState().DidResume; got != (i > 0) || s.layer.ConnectionState().DidResume != got {
				t.Errorf("connection %d resumed: %t", i+1, got)
			}
			s.seal(pattern(100))
			if deliver(s, c); !bytes.Equal(c.got, pattern(100)) {
				t.Errorf("connection %d: %d bytes arrived, want 100", i+1, len(c.got))
			}
		}
	})
}

// Drop ends a handshake at any stage: the context of a callback ends, the goroutine too, and wake is not called any more.
func TestDropEndsTheHandshake(t *testing.T) {
	h := &Handshakes{}
	entered := make(chan context.Context)
	left := make(chan struct{})
	config := serverConfig()
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		entered <- hello.Context()
		<-hello.Context().Done()
		close(left)
		return nil, hello.Context().Err()
	}
	flight := helloFlight(t, h)
	s := newEnd(t, Server(config, h, testLocal, testRemote))
	s.kept = flight
	s.turn()
	<-entered
	s.layer.Drop()
	<-left
	idle(t, h)
}

// helloFlight returns what a client sends first.
func helloFlight(t testing.TB, h *Handshakes) []byte {
	c := newEnd(t, Client(clientConfig(), "", h, nil, nil))
	defer c.layer.Drop()
	c.waitFor(func() bool { return len(c.out) > 0 })
	return c.out
}

// idle waits until no handshake has a place on a list. It polls with the scheduler's help: the last step of a goroutine tells nobody.
func idle(t testing.TB, h *Handshakes) {
	t.Helper()
	for range 1_000_000 {
		h.mu.Lock()
		n := h.running.n + h.blocked + h.resumed.n + h.fresh.n + h.waiting.n
		h.mu.Unlock()
		if n == 0 {
			return
		}
		runtime.Gosched()
	}
	t.Fatal("a handshake is still on a list")
}

// Many handshakes are dropped at moments that nobody chooses, from a goroutine that is their loop. wake never runs afterwards.
func TestNoWakeAfterDrop(t *testing.T) {
	h := &Handshakes{Running: 2, Waiting: 8}
	flight := helloFlight(t, h)
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for i := range 100 {
				var dropped bool // guarded by mu, so that the race detector does not settle the order
				var mu sync.Mutex
				l := Server(serverConfig(), h, testLocal, testRemote)
				l.Start(func() {
					mu.Lock()
					defer mu.Unlock()
					if dropped {
						t.Error("wake was called after Drop")
					}
				})
				l.Open(nil, flight)
				for range (i*7 + worker*13) % 50 * 20 {
					runtime.Gosched()
				}
				l.Drop()
				mu.Lock()
				dropped = true
				mu.Unlock()
			}
		})
	}
	all.Wait()
	idle(t, h)
}
