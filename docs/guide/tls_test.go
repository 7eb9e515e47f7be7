package guide_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"sync/atomic"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

// issue makes a certificate for 127.0.0.1, and the roots that trust it.
func issue() (tls.Certificate, *x509.CertPool) {
	key := value(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{SerialNumber: value(rand.Int(rand.Reader, big.NewInt(1<<62))), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature}
	der := value(x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key))
	leaf := value(x509.ParseCertificate(der))
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, roots
}

// greeter tells a client what was negotiated.
type greeter struct{ session.Session }

func (g *greeter) OnConnected(net.Addr) { // the handshake is done
	state := g.TLS() // nil without TLS
	g.Send(fmt.Appendf(nil, "%s, protocol %q\n", tls.VersionName(state.Version), state.NegotiatedProtocol))
}

func (g *greeter) OnRecv(data []byte) { g.Send(data) }

// caller is a client. It prints what it receives.
type caller struct {
	session.Session
	done chan struct{}
}

func (c *caller) OnRecv(data []byte) {
	fmt.Print(string(data))
	c.Disconnect()
}

func (c *caller) OnDisconnected(net.Addr) { close(c.done) }

func Example_tls() {
	cert, roots := issue() // or tls.LoadX509KeyPair("cert.pem", "key.pem")
	e := value(engine.New(engine.Options{}))
	l := value(e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return new(greeter) },
		engine.TLS(&tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"game"}})))
	must(e.Start())
	defer e.Close()

	c := &caller{done: make(chan struct{})}
	value(e.Dial(context.Background(), "tcp", l.Addr().String(), func() session.Handler { return c },
		engine.TLS(&tls.Config{RootCAs: roots, NextProtos: []string{"game"}})))
	<-c.done
	// Output: TLS 1.3, protocol "game"
}

// certificates is a certificate that can be replaced while the server runs.
type certificates struct {
	current atomic.Pointer[tls.Certificate]
}

// Replace has new handshakes use another certificate. Sessions are not touched.
func (c *certificates) Replace(cert *tls.Certificate) { c.current.Store(cert) }

func (c *certificates) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.current.Load(), nil
}

func Example_certificates() {
	first, _ := issue()
	second, roots := issue()
	var certs certificates
	certs.Replace(&first)
	e := value(engine.New(engine.Options{}))
	l := value(e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return new(greeter) },
		engine.TLS(&tls.Config{GetCertificate: certs.GetCertificate})))
	must(e.Start())
	defer e.Close()

	certs.Replace(&second)
	c := value(tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: roots}))
	defer c.Close()
	fmt.Print(value(bufio.NewReader(c).ReadString('\n')))
	// Output: TLS 1.3, protocol ""
}

// A manager gets certificates from an authority by ACME, and renews them. autocert.Manager (golang.org/x/crypto/acme/autocert) is one, and
// so is a *certmagic.Config.
type manager interface {
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
}

// managed returns the config of a server whose certificates come from m.
func managed(m manager) *tls.Config {
	return &tls.Config{
		GetCertificate: m.GetCertificate,
		// The authority asks for the protocol acme-tls/1 when it checks that the name is ours. A client that names protocols must name one
		// of these; one that names none is served too.
		NextProtos: []string{"game", "acme-tls/1"},
	}
}

func Example_acme() {
	cert, roots := issue()
	var m certificates // in place of an autocert.Manager
	m.Replace(&cert)
	e := value(engine.New(engine.Options{}))
	l := value(e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return new(greeter) }, engine.TLS(managed(&m))))
	must(e.Start())
	defer e.Close()
	for _, protocols := range [][]string{{"acme-tls/1"}, {"game"}, nil} {
		c := value(tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: roots, NextProtos: protocols}))
		fmt.Print(value(bufio.NewReader(c).ReadString('\n')))
		c.Close()
	}
	// Output:
	// TLS 1.3, protocol "acme-tls/1"
	// TLS 1.3, protocol "game"
	// TLS 1.3, protocol ""
}

// story is a text whose end is the client's close.
type story struct {
	session.Session
	size  int
	ended chan<- string
}

func (s *story) OnRecv(data []byte) { s.size += len(data) }

func (s *story) OnDisconnected(net.Addr) {
	switch err := s.Err(); {
	case errors.Is(err, session.ErrTruncated):
		s.ended <- fmt.Sprintf("%d bytes, and somebody has cut the connection: do not use them", s.size)
	case errors.Is(err, session.ErrPeerClosed):
		s.ended <- fmt.Sprintf("%d bytes, whole", s.size)
	}
}

func Example_truncated() {
	cert, roots := issue()
	ended := make(chan string)
	e := value(engine.New(engine.Options{}))
	l := value(e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return &story{ended: ended} },
		engine.TLS(&tls.Config{Certificates: []tls.Certificate{cert}})))
	must(e.Start())
	defer e.Close()
	for _, end := range []func(*tls.Conn) error{
		func(c *tls.Conn) error { return c.Close() },                               // close_notify, then FIN
		func(c *tls.Conn) error { return c.NetConn().(*net.TCPConn).CloseWrite() }, // FIN alone
	} {
		c := value(tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: roots}))
		value(c.Write([]byte("half a story")))
		must(end(c))
		fmt.Println(<-ended)
		c.Close()
	}
	// Output:
	// 12 bytes, whole
	// 12 bytes, and somebody has cut the connection: do not use them
}

func Example_refusedHandshakes() {
	cert, _ := issue()
	e := value(engine.New(engine.Options{Logger: slog.New(slog.DiscardHandler)})) // the log says why, a line a second at most
	l := value(e.Listen("tcp", "127.0.0.1:0", func() session.Handler { return new(greeter) },
		engine.TLS(&tls.Config{Certificates: []tls.Certificate{cert}})))
	must(e.Start())
	defer e.Close()

	plain := value(net.Dial("tcp", l.Addr().String()))
	value(io.WriteString(plain, "GET / HTTP/1.0\r\n\r\n"))
	answer, _ := bufio.NewReader(plain).ReadString('\n')
	fmt.Printf("%q\n", answer)
	plain.Close()

	client := value(engine.New(engine.Options{}))
	must(client.Start())
	defer client.Close()
	_, err := client.Dial(context.Background(), "tcp", l.Addr().String(), func() session.Handler { return new(greeter) },
		engine.TLS(nil)) // the system's roots, which do not have our authority
	var unknown x509.UnknownAuthorityError
	fmt.Println(errors.Is(err, session.ErrHandshake), errors.As(err, &unknown))
	for e.Stats().Refused.Handshake < 2 { // the client's alert is on its way
		time.Sleep(time.Millisecond)
	}
	fmt.Println(e.Stats().Refused.Handshake, "handshakes failed,", e.Stats().Accepted, "sessions were made")
	// Output:
	// "HTTP/1.0 400 Bad Request\r\n"
	// true true
	// 2 handshakes failed, 0 sessions were made
}
