package engine_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/session"
)

// certificate returns the configs of a server for 127.0.0.1 and of a client that trusts it.
func certificate(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	kit.Must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "servercore test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, DNSNames: []string{"localhost"},
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	kit.Must(t, err)
	leaf, err := x509.ParseCertificate(der)
	kit.Must(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"game"}},
		&tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}
}

// C1, C3, L5: a client of crypto/tls is served; Session.TLS tells what was negotiated; Disconnect ends with close_notify and FIN, and the
// client's close_notify is its FIN.
func TestTLS(t *testing.T) {
	server, client := certificate(t)
	client.NextProtos = []string{"game"}
	kit.OnLoops(t, func(t *testing.T, loops int) {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			config := client.Clone()
			config.MaxVersion = version
			s := kit.Serve(t, "tcp", engine.Options{Loops: loops}, kit.Hooks{Recv: kit.Echo}, engine.TLS(server))
			c := tls.Client(s.Client(), config)
			data := kit.Pattern(3 << 20)
			wrote := make(chan error, 1)
			go func() {
				_, err := c.Write(data)
				wrote <- errors.Join(err, c.CloseWrite())
			}()
			p := kit.Await(t, s.Arrivals, "OnConnected")
			if state := p.TLS(); state == nil || state.Version != version || state.NegotiatedProtocol != "game" || !state.HandshakeComplete {
				t.Errorf("TLS is %+v", state)
			}
			got, err := io.ReadAll(c)
			if err != nil || string(got) != string(data) {
				t.Errorf("%d of %d bytes came back, %v", len(got), len(data), err)
			}
			kit.Must(t, kit.Await(t, wrote, "the client has written"))
			_ = c.Close()
			kit.WantError(t, "Err", kit.AwaitEnd(t, p), session.ErrPeerClosed)

			c = tls.Client(s.Client(), config)
			kit.Must(t, c.Handshake())
			p = kit.Await(t, s.Arrivals, "OnConnected")
			kit.Must(t, p.Send([]byte("bye")))
			p.Disconnect()
			if got, err := io.ReadAll(c); err != nil || string(got) != "bye" { // io.ErrUnexpectedEOF without close_notify
				t.Errorf("%q, %v", got, err)
			}
			_ = c.Close()
			if err := kit.AwaitEnd(t, p); err != session.ErrDisconnected {
				t.Errorf("Err %v", err)
			}
		}
	})
}

// A FIN without close_notify is ErrTruncated.
func TestTLSTruncated(t *testing.T) {
	server, client := certificate(t)
	s := kit.Serve(t, "tcp", engine.Options{}, kit.Hooks{}, engine.TLS(server))
	raw := s.Client()
	c := tls.Client(raw, client)
	kit.Write(t, c, []byte("half a story"))
	p := kit.Await(t, s.Arrivals, "OnConnected")
	kit.CloseWrite(t, raw)
	kit.WantError(t, "Err", kit.AwaitEnd(t, p), session.ErrTruncated, io.ErrUnexpectedEOF)
	if n := p.Got.Load(); n != int64(len("half a story")) {
		t.Errorf("%d bytes came before it", n)
	}
}

// C1, C6: what is no TLS handshake reaches no factory, is counted, and its sender is told what is wrong; the others do not notice.
func TestTLSRefusals(t *testing.T) {
	server, client := certificate(t)
	log := new(kit.Log)
	o := engine.Options{LingerTimeout: 100 * time.Millisecond, Logger: slog.New(log)}
	s := kit.Serve(t, "tcp", o, kit.Hooks{Recv: kit.Echo}, engine.TLS(server))
	o.HandshakeTimeout = 300 * time.Millisecond
	hurried := kit.Serve(t, "tcp", o, kit.Hooks{Recv: kit.Echo}, engine.TLS(server))
	good := tls.Client(s.Client(), client)
	kit.Exchange(t, good, "hello")
	p := kit.Await(t, s.Arrivals, "OnConnected")

	c := s.Client()
	kit.Write(t, c, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	if got, _ := io.ReadAll(c); !strings.HasPrefix(string(got), "HTTP/1.0 400 Bad Request") {
		t.Errorf("a client of plain HTTP reads %q", got)
	}
	c = s.Client()
	kit.Write(t, c, []byte{0x16, 3, 1, 0, 5, 99, 0, 0, 1, 0})
	if got, _ := io.ReadAll(c); len(got) != 7 || got[0] != 21 {
		t.Errorf("garbage is answered by %x, want an alert", got)
	}
	wrong := client.Clone()
	wrong.RootCAs = x509.NewCertPool()
	if err := tls.Client(s.Client(), wrong).Handshake(); err == nil {
		t.Error("an unknown authority is believed")
	}
	kit.Eventually(t, "three are refused", func() bool { return s.Stats().Refused.Handshake == 3 })
	late := hurried.Client()
	kit.Write(t, late, []byte{0x16})
	if got, err := io.ReadAll(late); err != nil || len(got) != 0 {
		t.Errorf("a client that stalls reads %x, %v", got, err)
	}
	hurried.WantRefused(engine.Refused{HandshakeLate: 1})
	kit.Exchange(t, good, "still there")
	if n := s.Stats().Accepted + hurried.Stats().Accepted; n != 1 {
		t.Errorf("%d sessions were made, want 1", n)
	}
	_ = good.Close()
	kit.AwaitEnd(t, p)
}

// Dial speaks TLS, takes the name from the address, and its error says what is wrong.
func TestTLSDial(t *testing.T) {
	server, client := certificate(t)
	client.ServerName = ""
	s := kit.Serve(t, "tcp", engine.Options{}, kit.Hooks{Recv: kit.Echo}, engine.TLS(server))
	d := kit.Dialler(t, engine.Options{}, kit.Hooks{})
	d.Wire = true
	p := d.DialTo(s.Listener.Addr(), engine.TLS(client))
	kit.Must(t, p.Send([]byte("question")))
	kit.Eventually(t, "the echo comes", func() bool { return p.Got.Load() == 8 })
	if p.TLS() == nil {
		t.Error("no TLS")
	}
	p.Disconnect()
	kit.AwaitEnd(t, p)

	ctx, cancel := context.WithTimeout(context.Background(), kit.Patience)
	defer cancel()
	address := s.Listener.Addr().String()
	_, err := d.Dial(ctx, "tcp", address, d.New, engine.TLS(nil))
	var unknown x509.UnknownAuthorityError
	if !errors.Is(err, session.ErrHandshake) || !errors.As(err, &unknown) {
		t.Errorf("an unknown authority: %v", err)
	}
	silent := kit.Listen(t, "tcp")
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := d.Dial(short, "tcp", silent.Addr().String(), d.New, engine.TLS(client)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a server that stalls: %v", err)
	}
	kit.Eventually(t, "the abandoned dial gives its place back", func() bool { return d.Stats().Sessions == 0 })
}

// Nonsense is refused at once, with what to do.
func TestTLSConfigs(t *testing.T) {
	e, err := engine.New(engine.Options{Logger: kit.Quiet})
	kit.Must(t, err)
	for _, opts := range [][]engine.Option{{engine.TLS(nil)}, {engine.TLS(&tls.Config{})}, {engine.TLS(nil), engine.TLS(nil)}} {
		if _, err := e.Listen("tcp", "127.0.0.1:0", session.Events{}.Factory(), opts...); err == nil {
			t.Error("Listen accepts it")
		}
	}
	kit.Must(t, e.Start())
	defer e.Close()
	for _, config := range []*tls.Config{{Renegotiation: tls.RenegotiateOnceAsClient}} {
		if _, err := e.Dial(t.Context(), "tcp", "127.0.0.1:1", session.Events{}.Factory(), engine.TLS(config)); err == nil || !strings.Contains(err.Error(), "Renegotiation") {
			t.Errorf("Dial: %v", err)
		}
	}
}
