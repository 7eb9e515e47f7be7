package echoserver

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A pair is a certificate in two files.
type pair struct {
	cert, key string
	leaf      *x509.Certificate
}

// newPair makes a certificate and writes it into a folder, with times of modification that no earlier pair in that folder has.
func newPair(t *testing.T, dir string, version int) pair {
	t.Helper()
	c, err := selfSigned(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	p := pair{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), c.Leaf}
	p.write(t, p.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Leaf.Raw}), version)
	p.write(t, p.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), version)
	return p
}

func (p pair) write(t *testing.T, path string, data []byte, version int) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(time.Duration(version) * time.Minute)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// echoed checks the echo of 64 bytes.
func echoed(c net.Conn) error {
	c.SetDeadline(time.Now().Add(patience))
	said := noise(64)
	if _, err := c.Write(said); err != nil {
		return err
	}
	heard := make([]byte, len(said))
	if _, err := io.ReadFull(c, heard); err != nil {
		return err
	}
	if string(heard) != string(said) {
		return errors.New("another echo")
	}
	return nil
}

// tlsCall connects, checks an echo, and returns what was negotiated.
func tlsCall(t *testing.T, a net.Addr, config *tls.Config) tls.ConnectionState {
	t.Helper()
	d := &net.Dialer{Timeout: patience}
	c, err := tls.DialWithDialer(d, a.Network(), a.String(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := echoed(c); err != nil {
		t.Fatal(err)
	}
	return c.ConnectionState()
}

// trusting returns the config of a client that trusts the certificate and no other.
func trusting(leaf *x509.Certificate) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{RootCAs: roots, ServerName: "localhost"}
}

// hurry has the files of certificates looked at for every handshake.
func hurry(t *testing.T) {
	before := certPoll
	certPoll = 0
	t.Cleanup(func() { certPoll = before })
}

// A pair of files that is replaced serves the next client. A bad one is refused with one line in the log, and the one before stays.
func TestTLSFilesChange(t *testing.T) {
	hurry(t)
	dir := t.TempDir()
	first := newPair(t, dir, 0)
	s := start(t, "-addr", "127.0.0.1:0", "-tls-cert", first.cert, "-tls-key", first.key)
	old := s.dial()
	held := tls.Client(old, trusting(first.leaf))
	for range 2 {
		if err := echoed(held); err != nil {
			t.Fatal(err)
		}
		tlsCall(t, s.addr(), trusting(first.leaf))
	}
	s.log.wait(t, fingerprint(first.leaf), 1)

	second := newPair(t, dir, 1)
	tlsCall(t, s.addr(), trusting(second.leaf))
	s.log.wait(t, fingerprint(second.leaf), 1)

	other := newPair(t, t.TempDir(), 2) // a key of another certificate
	key, err := os.ReadFile(other.key)
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(second.key)
	if err != nil {
		t.Fatal(err)
	}
	const refused = "the changed TLS certificate is refused"
	second.write(t, second.key, key, 3)
	for range 3 {
		tlsCall(t, s.addr(), trusting(second.leaf))
	}
	s.log.wait(t, refused, 1)
	second.write(t, second.key, good, 4)
	tlsCall(t, s.addr(), trusting(second.leaf))
	s.log.wait(t, fingerprint(second.leaf), 2)
	if err := os.Remove(second.cert); err != nil {
		t.Fatal(err)
	}
	tlsCall(t, s.addr(), trusting(second.leaf))
	tlsCall(t, s.addr(), trusting(second.leaf))
	s.log.wait(t, refused, 2)
	if n := strings.Count(s.log.String(), refused); n != 2 {
		t.Errorf("%d lines for two bad pairs:\n%s", n, s.log)
	}
	third := newPair(t, dir, 5)
	tlsCall(t, s.addr(), trusting(third.leaf))
	if err := echoed(held); err != nil {
		t.Errorf("a session from before the changes: %v", err)
	}
}

// The files are not looked at more often than once in certPoll.
func TestTLSFilesAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	first := newPair(t, dir, 0)
	f, err := newCertFiles(first.cert, first.key, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	f.looked = time.Now().Add(time.Hour) // the last look is less than certPoll ago
	second := newPair(t, dir, 1)
	if c, err := f.get(nil); err != nil || !c.Leaf.Equal(first.leaf) {
		t.Errorf("the files were read at once, %v", err)
	}
	f.mu.Lock() // another handshake is looking: this one does not wait
	f.looked = time.Time{}
	if c, err := f.get(nil); err != nil || !c.Leaf.Equal(first.leaf) {
		t.Errorf("another certificate, %v", err)
	}
	f.mu.Unlock()
	if c, err := f.get(nil); err != nil || !c.Leaf.Equal(second.leaf) {
		t.Errorf("the change was not seen, %v", err)
	}
}

// A bad pair, and settings that contradict each other, end the start with exit code 2 and an error that names the flag.
func TestTLSBadStart(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	p, other := newPair(t, dir, 0), newPair(t, elsewhere, 0)
	text := filepath.Join(dir, "text")
	p.write(t, text, []byte("no certificate\n"), 0)
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"-tls-cert", p.cert, "-tls-key", other.key}, "-tls-cert: tls: private key does not match"},
		{[]string{"-tls-cert", text, "-tls-key", p.key}, "-tls-cert: tls: failed to find any PEM data"},
		{[]string{"-tls-cert", filepath.Join(dir, "none"), "-tls-key", p.key}, "no such file"},
		{[]string{"-tls-cert", p.cert}, "belong together"},
		{[]string{"-tls-key", p.key}, "belong together"},
		{[]string{"-tls-self-signed", "-tls-cert", p.cert, "-tls-key", p.key}, "leave out either"},
	} {
		out, log := newTranscript(), newTranscript()
		code := Main(t.Context(), append([]string{"-addr", "127.0.0.1:0"}, tt.args...), nil, out, log)
		if code != exitUsage || !strings.Contains(log.String(), tt.want) || out.String() != "" {
			t.Errorf("%v: exit code %d, output %q, log %q; want code %d and %q", tt.args, code, out, log, exitUsage, tt.want)
		}
	}
}

// pinning returns the config of a client that accepts the certificate with a fingerprint, and remembers sessions.
func pinning(t *testing.T, want string) *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true, ServerName: "localhost", ClientSessionCache: tls.NewLRUClientSessionCache(4),
		VerifyConnection: func(s tls.ConnectionState) error {
			if got := fingerprint(s.PeerCertificates[0]); got != want {
				t.Errorf("the certificate has the fingerprint %s, want %s", got, want)
			}
			return nil
		},
	}
}

// logged returns the fingerprint that the log tells.
func (s *server) logged() string {
	s.t.Helper()
	s.log.wait(s.t, "until=", 1)
	found := regexp.MustCompile(`msg="TLS certificate" sha256=([0-9a-f]{64}) `).FindStringSubmatch(s.log.String())
	if found == nil {
		s.t.Fatalf("no fingerprint in the log:\n%s", s.log)
	}
	return found[1]
}

// The self-signed certificate is for this machine, has the fingerprint in the log, and sessions are resumed.
func TestTLSSelfSigned(t *testing.T) {
	s := start(t, "-addr", "127.0.0.1:0", "-tls-self-signed")
	config := pinning(t, s.logged())
	state := tlsCall(t, s.addr(), config)
	leaf := state.PeerCertificates[0]
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve.Params().Name != "P-256" {
		t.Errorf("the key is %T", leaf.PublicKey)
	}
	names := []string{"localhost", "127.0.0.1", "::1"}
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	for _, name := range names {
		verify := trusting(leaf)
		verify.ServerName = name
		tlsCall(t, s.addr(), verify)
	}
	if !tlsCall(t, s.addr(), config).DidResume {
		t.Error("the second session was not resumed")
	}
}

// Ticket keys change daily, and the last ones still decrypt; what a process hands over is what the next one gets.
func TestTLSTicketKeys(t *testing.T) {
	config := &tls.Config{}
	k, err := newTickets(config, nil)
	if err != nil {
		t.Fatal(err)
	}
	start := k.keys[0].Made
	ticket, err := k.wrap(tls.ConnectionState{}, sessionState(t))
	if err != nil {
		t.Fatal(err)
	}
	valid := func() bool {
		s, err := config.DecryptTicket(ticket, tls.ConnectionState{})
		return err == nil && s != nil
	}
	for day := range 30 {
		first := k.keys[0].Key
		if k.rotate(start.Add(time.Duration(day)*ticketRotation + ticketRotation - time.Second)); !bytes.Equal(first, k.keys[0].Key) {
			t.Fatalf("day %d: a new key after less than a day", day)
		}
		if !k.rotate(start.Add(time.Duration(day+1) * ticketRotation)) {
			t.Fatalf("day %d: no new key", day)
		}
		if got, want := valid(), day+1 < 7; got != want {
			t.Errorf("after %d days a ticket is valid: %v", day+1, got)
		}
		if len(k.keys) > 7 {
			t.Fatalf("%d keys", len(k.keys))
		}
	}
	if !k.rotate(start) || !k.rotate(start.Add(-48*time.Hour)) { // the clock was set back
		t.Error("no new key after the clock was set back")
	}
	for range 20 {
		k.rotate(k.keys[0].Made.Add(-time.Minute))
	}
	if len(k.keys) != mostTicketKeys {
		t.Errorf("%d keys, want %d", len(k.keys), mostTicketKeys)
	}

	own, err := selfSigned(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := (&tlsServer{tickets: k, own: own}).handOver() // as many bytes as it can be
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	if info, err := pipe.Stat(); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		t.Errorf("%v is no pipe, %v", info, err)
	}
}

// What a predecessor hands over and is not as it must be ends the start, with an error that says what it is.
func TestTLSSecretsThatAreNone(t *testing.T) {
	for value, want := range map[string]string{"x": "want the number of a descriptor", "3": "want the number of a descriptor", "-1": "want the number"} {
		if _, err := takeSecrets([]string{secretsFD + "=" + value}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", value, err)
		}
	}
	if s, err := takeSecrets([]string{"PATH=/bin"}); s != nil || err != nil {
		t.Errorf("%v, %v without the variable", s, err)
	}
	own, err := selfSigned(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*secrets{
		"a short key":    {Tickets: []ticketKey{{[]byte("short"), time.Now()}}},
		"no certificate": {Certificate: []byte("no certificate")},
		"no key":         {Certificate: own.Certificate[0], Key: []byte("no key")},
	} {
		if _, err := newTLS(&config{tlsSelfSigned: true}, s, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	past, err := selfSigned(time.Now().Add(-2 * selfSignedTime))
	if err != nil {
		t.Fatal(err)
	}
	if c, err := (&secrets{Certificate: past.Certificate[0]}).certificate(); c != nil || err != nil {
		t.Errorf("an expired certificate is handed on: %v, %v", c, err)
	}
}

// sessionState returns what a ticket is made of.
func sessionState(t *testing.T) *tls.SessionState {
	t.Helper()
	var state *tls.SessionState
	cert, err := selfSigned(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	server := &tls.Config{Certificates: []tls.Certificate{*cert}, WrapSession: func(_ tls.ConnectionState, s *tls.SessionState) ([]byte, error) {
		state = s
		return []byte("ticket"), nil
	}}
	a, b := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- tls.Server(a, server).HandshakeContext(context.Background()) }()
	client := trusting(cert.Leaf)
	client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	c := tls.Client(b, client)
	go c.Read(make([]byte, 1)) // takes the ticket
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	a.Close()
	b.Close()
	return state
}
