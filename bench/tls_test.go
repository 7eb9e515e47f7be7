package bench

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// authority is a certificate for 127.0.0.1, with which a server of the tests speaks TLS.
type authority struct {
	config *tls.Config
	pin    string
	file   string // PEM
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"elsewhere.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{
		config: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
		pin:    fmt.Sprintf("%x", sha256.Sum256(der)), file: filepath.Join(t.TempDir(), "ca.pem"),
	}
	if err := os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// peer is a server that speaks TLS.
func (a *authority) peer(t *testing.T, serve func(n int, c *tls.Conn)) string {
	return peer(t, func(n int, c *net.TCPConn) { serve(n, tls.Server(c, a.config)) })
}

// server is the server's side of a connection.
func (a *authority) server(c net.Conn) net.Conn { return tls.Server(c, a.config) }

// sni is the name that the client has asked for.
func sni(c net.Conn) string { return c.(*tls.Conn).ConnectionState().ServerName }

func tlsEcho(_ int, c *tls.Conn) {
	if _, err := io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c}); err == nil { // close_notify has come
		c.Close()
	}
}

// tlsBroadcast is broadcast over TLS.
func tlsBroadcast() func(int, *tls.Conn) {
	var mu sync.Mutex
	members := map[*tls.Conn]bool{}
	return func(_ int, c *tls.Conn) {
		if c.Handshake() != nil {
			return
		}
		mu.Lock()
		members[c] = true
		mu.Unlock()
		b := make([]byte, 64<<10)
		for {
			n, err := c.Read(b)
			mu.Lock()
			if err != nil {
				delete(members, c)
				mu.Unlock()
				return
			}
			for m := range members {
				if m != c {
					m.Write(b[:n])
				}
			}
			mu.Unlock()
		}
	}
}

// Each mode works over TLS as without, counts and times its handshakes, and verifies every byte.
func TestTLSInEachMode(t *testing.T) {
	a := newAuthority(t)
	echo, others := a.peer(t, tlsEcho), a.peer(t, tlsBroadcast())
	for _, tt := range []struct {
		name   string
		change func(*Plan)
	}{
		{"echo", func(p *Plan) {}},
		{"deep echo", func(p *Plan) { p.Depth, p.Size = 16, 3000 }},
		{"large echo", func(p *Plan) { p.Size = 300_000 }},
		{"one byte", func(p *Plan) { p.Size = 1 }},
		{"rate", func(p *Plan) { p.Mode, p.Rate = Rate, 2000 }},
		{"idle", func(p *Plan) { p.Mode, p.Conns, p.Active = Idle, 30, 3 }},
		{"ramp", func(p *Plan) {
			p.Mode, p.Conns, p.ConnectRate, p.Every, p.Duration = Ramp, 20, 200, 5*time.Millisecond, time.Second // on a busy machine, too
		}},
		{"churn", func(p *Plan) { p.Mode, p.Messages = Churn, 3 }},
		{"churn with resets", func(p *Plan) { p.Mode, p.Linger0 = Churn, true }},
		{"fanout", func(p *Plan) { p.Mode, p.Conns, p.Addr = Fanout, 8, others }},
		{"fanout stream", func(p *Plan) { p.Mode, p.Conns, p.Addr, p.Stream, p.Size = Fanout, 8, others, true, 500 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := short(Echo, echo)
			p.TLS, p.TLSPin = true, a.pin
			tt.change(&p)
			r := carryOut(t, p)
			wantErrors(t, r, nil)
			if r.Totals.Messages+r.Totals.AfterEnd == 0 || r.Totals.Handshakes == 0 || r.Totals.Handshakes != r.Totals.ConnsOpened || r.Totals.Resumed != 0 {
				t.Errorf("totals %+v", r.Totals)
			}
			if !r.Parameters.TLS {
				t.Error("the result does not say that it was TLS")
			}
			if slow := p.Mode == Churn || p.Mode == Ramp; slow != strings.Contains(strings.Join(r.Warnings, "\n"), "handshakes wait for each other") {
				t.Errorf("warnings %q", r.Warnings)
			}
			d := r.Find("handshake")
			if d == nil || d.Count == 0 || d.Count > r.Totals.Handshakes || p.Mode != Churn && d.Count != r.Totals.Handshakes || d.P50 <= 0 {
				t.Errorf("%d handshakes, timed %+v", r.Totals.Handshakes, d)
			}
		})
	}
}

// A server that takes little at a time gets every byte all the same.
func TestTLSFullSocket(t *testing.T) {
	a := newAuthority(t)
	p := short(Echo, peer(t, func(n int, c *net.TCPConn) {
		c.SetReadBuffer(128 << 10)
		tlsEcho(n, tls.Server(c, a.config))
	}))
	p.TLS, p.TLSPin, p.Size, p.Conns = true, a.pin, 4<<20, 2
	r := carryOut(t, p)
	wantErrors(t, r, nil)
	if r.Totals.Messages+r.Totals.AfterEnd < 2 {
		t.Errorf("totals %+v", r.Totals)
	}
}

// patient is a connection that keeps what is written until the next Read, or flush: several writes arrive at once.
type patient struct {
	net.Conn
	kept []byte
}

func (p *patient) Write(b []byte) (int, error) {
	p.kept = append(p.kept, b...)
	return len(b), nil
}

func (p *patient) flush() {
	p.Conn.Write(p.kept)
	p.kept = nil
}

func (p *patient) Read(b []byte) (int, error) {
	p.flush()
	return p.Conn.Read(b)
}

// Bytes that arrive together with the end of the handshake are looked at: no event follows them.
func TestTLSBytesWithTheHandshake(t *testing.T) {
	a := newAuthority(t)
	a.config.MaxVersion = tls.VersionTLS12 // whose last flight is the server's
	p := short(Idle, peer(t, func(_ int, c *net.TCPConn) {
		slow := &patient{Conn: c}
		s := tls.Server(slow, a.config)
		if err := s.Handshake(); err != nil {
			t.Error(err)
		}
		s.Write(make([]byte, 100)) // nobody has asked for them
		slow.flush()
		io.Copy(io.Discard, c)
	}))
	p.TLS, p.TLSPin = true, a.pin
	r := carryOut(t, p)
	wantErrors(t, r, map[Kind]func(uint64) bool{WrongBytes: func(n uint64) bool { return n >= uint64(p.Conns) }})
}

// churn resumes sessions if asked, with TLS 1.3 and 1.2.
func TestTLSResume(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		a := newAuthority(t)
		a.config.MaxVersion = version
		enough := make(chan struct{})
		p := short(Churn, a.peer(t, func(n int, c *tls.Conn) {
			if n == 40 {
				close(enough)
			}
			tlsEcho(n, c)
		}))
		p.TLS, p.TLSCA, p.TLSResume = true, a.file, true
		r := carryOutUntil(t, p, enough)
		wantErrors(t, r, nil)
		// The first connections of each place begin before there is a session.
		if full := r.Totals.Handshakes - r.Totals.Resumed; r.Totals.Resumed == 0 || full == 0 || full > uint64(p.Conns) {
			t.Errorf("version %x: %d of %d handshakes were resumed", version, r.Totals.Resumed, r.Totals.Handshakes)
		}
	}
}

// A certificate that is not trusted, plain text, silence and a close end the handshake, each with an error that says so.
func TestTLSRefused(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	good := a.peer(t, tlsEcho)
	silent := make(chan struct{})
	defer close(silent)
	for _, tt := range []struct {
		name, addr string
		change     func(*Plan)
		kind       Kind
		want       string
	}{
		{"system's roots", good, func(p *Plan) {}, Handshake, "certificate"},
		{"another pin", good, func(p *Plan) { p.TLSPin = other.pin }, Handshake, "not that of -tls-pin"},
		{"another authority", good, func(p *Plan) { p.TLSCA = other.file }, Handshake, "certificate"},
		{"plain text", peer(t, func(_ int, c *net.TCPConn) { c.Write([]byte("220 welcome\r\n")); io.Copy(io.Discard, c) }),
			func(p *Plan) { p.TLSPin = a.pin }, Handshake, "does not look like a TLS handshake"},
		{"silence", peer(t, func(_ int, c *net.TCPConn) { <-silent }),
			func(p *Plan) { p.TLSPin, p.Timeout = a.pin, 100*time.Millisecond }, Handshake, "not done 100ms after the connect"},
		{"a close", peer(t, func(_ int, c *net.TCPConn) { c.CloseWrite(); io.Copy(io.Discard, c) }),
			func(p *Plan) { p.TLSPin = a.pin }, Handshake, "EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := short(Echo, tt.addr)
			p.TLS = true
			tt.change(&p)
			r, err := Run(t.Context(), p, Options{})
			if !errors.Is(err, ErrNoConnection) || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v does not say %q", err, tt.want)
			}
			wantErrors(t, r, map[Kind]func(uint64) bool{tt.kind: exactly(uint64(p.Conns))})
			if r.Totals.Handshakes != 0 {
				t.Errorf("%d handshakes", r.Totals.Handshakes)
			}
		})
	}
}

// Wrong bytes are found under TLS too, and so is an end, with close_notify or without.
func TestTLSTrouble(t *testing.T) {
	a := newAuthority(t)
	p := short(Echo, a.peer(t, func(_ int, c *tls.Conn) {
		b := make([]byte, 64)
		for n := 0; ; n++ {
			if _, err := io.ReadFull(c, b); err != nil {
				return
			}
			if n == 5 {
				b[40] ^= 1
			}
			c.Write(b)
		}
	}))
	p.TLS, p.TLSPin = true, a.pin
	r := carryOut(t, p)
	wantErrors(t, r, map[Kind]func(uint64) bool{WrongBytes: exactly(4)})

	for name, end := range map[string]func(*tls.Conn){"close_notify": func(c *tls.Conn) { c.Close() }, "FIN": func(c *tls.Conn) { c.NetConn().Close() }} {
		p.Addr = a.peer(t, func(n int, c *tls.Conn) {
			b := make([]byte, 64)
			io.ReadFull(c, b)
			c.Write(b)
			io.ReadFull(c, b)
			end(c)
		})
		r = carryOut(t, p)
		if n := r.Errors[EarlyEnd] + r.Errors[Reset]; n != 4 || r.Errors.Total() != 4 {
			t.Errorf("%s: errors %v, samples %+v", name, r.Errors, r.ErrorSamples)
		}
	}
}

// A plan with settings of TLS that do not fit is refused, with what to do.
func TestTLSPlans(t *testing.T) {
	pin := strings.Repeat("AB:", 31) + "ab" // as openssl prints it
	for _, tt := range []struct {
		plan Plan
		want string // "" for none
	}{
		{Plan{TLS: true}, ""},
		{Plan{TLS: true, TLSPin: pin}, ""},
		{Plan{TLS: true, TLSPin: "abcd"}, "tls-pin abcd: use the SHA-256"},
		{Plan{TLS: true, TLSPin: strings.Repeat("xy", 32)}, "use the SHA-256"},
		{Plan{TLSPin: pin}, "it needs -tls"},
		{Plan{TLSCA: "ca.pem"}, "it needs -tls"},
		{Plan{TLSResume: true}, "it needs -tls"},
		{Plan{TLS: true, TLSPin: pin, TLSCA: "ca.pem"}, "either"},
	} {
		tt.plan.Mode, tt.plan.Addr = Churn, "127.0.0.1:1"
		err := tt.plan.Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.plan, err, tt.want)
		}
	}
	for _, file := range []string{"/does/not/exist", os.Args[0]} {
		p := short(Echo, "127.0.0.1:1")
		p.TLS, p.TLSCA = true, file
		var wrong *PlanError
		if _, err := Run(t.Context(), p, Options{}); !errors.As(err, &wrong) || wrong.Field != "tls-ca" {
			t.Errorf("%s: %v", file, err)
		}
	}
	for addr, want := range map[string]string{"example.org:1": "example.org", "[::1]:1": "::1", ":1": "localhost", "unix:/a:b": "localhost"} {
		if got := (&Plan{Addr: addr}).serverName(); got != want {
			t.Errorf("the server at %s has to be %s, not %s", addr, got, want)
		}
	}
}
