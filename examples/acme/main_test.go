package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
	"golang.org/x/crypto/acme/autocert"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/internal/freeport"
	"github.com/servercore-go/servercore/session"
)

// name is the server's, which the test's own DNS leads to 127.0.0.1.
const name = "www.servercore.test"

const patience = 30 * time.Second

// authority is Pebble, the small ACME server of Let's Encrypt for tests. It checks names as the real one does, but on other ports.
type authority struct {
	directory string
	client    *http.Client   // that trusts the directory
	roots     *x509.CertPool // for the certificates that it issues
	log       *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// resolver starts a DNS server that leads each name to 127.0.0.1.
func resolver(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{Listener: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, question *dns.Msg) {
		answer := new(dns.Msg).SetReply(question)
		if q := question.Question[0]; q.Qtype == dns.TypeA {
			answer.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.IPv4(127, 0, 0, 1)}}
		}
		_ = w.WriteMsg(answer)
	})}
	go func() { _ = s.ActivateAndServe() }()
	t.Cleanup(func() { _ = s.Shutdown() })
	return l.Addr().String()
}

// valid is how long a certificate of the authority is. Managers renew it in its last 30 days at the earliest.
const valid = 90 * 24 * time.Hour

// startAuthority starts one that checks names on these ports, and whose certificates are valid for so long.
func startAuthority(t *testing.T, plain, secure int, valid time.Duration) *authority {
	t.Helper()
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	t.Setenv("PEBBLE_WFE_NONCEREJECT", "0")
	a := &authority{roots: x509.NewCertPool(), log: new(lockedBuffer)}
	logger := log.New(a.log, "", 0)
	store := db.NewMemoryStore()
	issuer := ca.New(logger, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {Description: "of tests", ValidityPeriod: uint64(valid.Seconds())}})
	checker := va.New(logger, plain, secure, true, resolver(t), store)
	front := wfe.New(logger, store, checker, issuer, []string{"servercore.test"}, true, false, 0, 0)
	handler := front.Handler()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Let's Encrypt tells where the order is that it finalizes, and x/crypto/acme asks there. Pebble does not.
		if id, found := strings.CutPrefix(r.URL.Path, "/finalize-order/"); found {
			w.Header().Set("Location", "https://"+r.Host+"/my-order/"+id)
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the authority's log:\n%s", a.log)
		}
	})
	a.directory, a.client = s.URL+wfe.DirectoryPath, s.Client()
	a.roots.AddCert(issuer.GetRootCert(0).Cert)
	return a
}

// start starts a server whose certificates come from the manager, and ends it with the test.
func start(t *testing.T, m *autocert.Manager, secure, plain string) *server {
	t.Helper()
	s, err := serve(m, secure, plain)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.Close()
		<-s.Done()
	})
	return s
}

// ports returns two that were free just now: the authority and the server have to know each other's.
func ports(t *testing.T) (plain, secure *net.TCPAddr) {
	t.Helper()
	var a [2]*net.TCPAddr
	for i := range a {
		addr, err := freeport.Addr("127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		if a[i], err = net.ResolveTCPAddr("tcp", addr); err != nil {
			t.Fatal(err)
		}
	}
	return a[0], a[1]
}

// received gets messages.
type received struct {
	session.Session
	messages chan string
}

func (r *received) OnRecv(p []byte) { r.messages <- string(p) }

// check uses a server as browsers do: the page, its WebSocket, the way from http to https.
func check(t *testing.T, s *server, roots *x509.CertPool) {
	t.Helper()
	config := &tls.Config{RootCAs: roots, ServerName: name}
	c := &http.Client{Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			to := s.plain
			if strings.HasSuffix(address, ":443") {
				to = s.secure
			}
			return new(net.Dialer).DialContext(ctx, network, to.Addr().String())
		}}}
	for url, want := range map[string]struct {
		status   int
		location string
		body     string
	}{
		"https://" + name + "/":        {200, "", page},
		"https://" + name + "/nothing": {404, "", ""},
		"http://" + name + "/x?y=z":    {302, "https://" + name + "/x?y=z", ""},
	} {
		r, err := c.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if err != nil || r.StatusCode != want.status || r.Header.Get("Location") != want.location || want.body != "" && string(body) != want.body {
			t.Errorf("%s: status %d, location %q, %d bytes, %v", url, r.StatusCode, r.Header.Get("Location"), len(body), err)
		}
	}
	got := &received{messages: make(chan string, 1)}
	newClient := func() session.Handler { return got }
	if _, err := s.Dial(t.Context(), "tcp", s.secure.Addr().String(), newClient, engine.TLS(config), engine.WebSocket(engine.WebSocketOptions{Path: "/ws", Text: true})); err != nil {
		t.Fatal(err)
	}
	if err := got.Send([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-got.messages:
		if m != "hello" {
			t.Errorf("the echo is %q", m)
		}
	case <-time.After(patience):
		t.Error("no echo")
	}
	var refused *engine.HandshakeError
	if _, err := s.Dial(t.Context(), "tcp", s.plain.Addr().String(), newClient, engine.WebSocket(engine.WebSocketOptions{Path: "/ws"})); !errors.As(err, &refused) || refused.Status != 403 {
		t.Errorf("a WebSocket without TLS: %v", err)
	}
}

// A certificate is issued when the first client comes, and kept in the folder for the next server.
func TestCertificateIsIssued(t *testing.T) {
	for _, challenge := range []string{"tls-alpn-01", "http-01"} {
		t.Run(challenge, func(t *testing.T) {
			plain, secure := ports(t)
			checked := secure.Port
			if challenge == "http-01" {
				nobody, _ := ports(t) // what the authority finds closed
				checked = nobody.Port
			}
			a := startAuthority(t, plain.Port, checked, valid)
			folder := t.TempDir()
			m := newManager(folder, a.directory, name)
			m.Client.HTTPClient = a.client
			ours := m.HostPolicy
			m.HostPolicy = func(ctx context.Context, host string) error {
				return ours(ctx, strings.TrimSuffix(host, fmt.Sprint(":", plain.Port))) // on port 80 the host of a request has no port
			}
			s := start(t, m, secure.String(), plain.String())

			// A name that is not ours gets no certificate, and the authority is not asked for it.
			if c, err := tls.Dial("tcp", s.secure.Addr().String(), &tls.Config{RootCAs: a.roots, ServerName: "elsewhere.servercore.test"}); err == nil {
				t.Error("there is a certificate for a name that is not ours")
				_ = c.Close()
			}
			check(t, s, a.roots)
			if text := a.log.String(); !strings.Contains(text, "set VALID by completed challenge") || strings.Contains(text, "elsewhere") {
				t.Error("the authority has not validated the name, or was asked for another one")
			}
			if challenge == "http-01" && !strings.Contains(a.log.String(), "set INVALID by completed challenge") {
				t.Error("the authority has not tried TLS-ALPN-01 in vain before HTTP-01")
			}
			if challenge == "tls-alpn-01" && s.Stats().Refused.HandshakeLate > 0 {
				t.Errorf("refused: %+v", s.Stats().Refused)
			}

			// The next server, on other ports, finds the certificate in the folder, and the authority is gone.
			next := newManager(folder, "http://127.0.0.1:0/none", name)
			check(t, start(t, next, "127.0.0.1:0", "127.0.0.1:0"), a.roots)
		})
	}
}

// memory is an autocert.Cache: a manager cannot be told to stop, and may still renew when the test, and its folders, are gone.
type memory struct{ files sync.Map }

func (m *memory) Get(_ context.Context, name string) ([]byte, error) {
	if data, ok := m.files.Load(name); ok {
		return data.([]byte), nil
	}
	return nil, autocert.ErrCacheMiss
}

func (m *memory) Put(_ context.Context, name string, data []byte) error {
	m.files.Store(name, data)
	return nil
}

func (m *memory) Delete(_ context.Context, name string) error {
	m.files.Delete(name)
	return nil
}

// A certificate is renewed while the server runs: new connections get the next one, and those that are there do not notice.
func TestCertificateIsRenewed(t *testing.T) {
	plain, secure := ports(t)
	a := startAuthority(t, plain.Port, secure.Port, 24*time.Hour)
	m := newManager("", a.directory, name)
	m.Cache = new(memory)
	m.Client.HTTPClient = a.client
	m.RenewBefore = 48 * time.Hour // longer than a certificate is valid: the next one is due as soon as there is one
	s := start(t, m, secure.String(), plain.String())
	config := &tls.Config{RootCAs: a.roots, ServerName: name, NextProtos: []string{"http/1.1"}}
	serial := func() string {
		c, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", s.secure.Addr().String(), config)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	first := serial()
	there := &received{messages: make(chan string, 1)}
	if _, err := s.Dial(t.Context(), "tcp", s.secure.Addr().String(), func() session.Handler { return there }, engine.TLS(config),
		engine.WebSocket(engine.WebSocketOptions{Path: "/ws", Text: true})); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); serial() == first; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v new connections get the first certificate still", patience)
		}
	}
	if err := there.Send([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-there.messages:
	case <-time.After(patience):
		t.Error("a session that was there before has no echo")
	}
}

// While one handshake waits for the authority, others are served: here an authority that does not answer.
func TestAWaitingHandshakeDelaysNobody(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(asked)
		<-answer
	}))
	defer silent.Close()
	defer close(answer)
	m := newManager(t.TempDir(), silent.URL, name, "known.servercore.test")
	known, roots := issue(t, "known.servercore.test")
	if err := m.Cache.Put(t.Context(), "known.servercore.test", known); err != nil {
		t.Fatal(err)
	}
	s := start(t, m, "127.0.0.1:0", "127.0.0.1:0")
	waiting, err := net.Dial("tcp", s.secure.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	go func() { _ = tls.Client(waiting, &tls.Config{ServerName: name, RootCAs: roots}).Handshake() }() // ends with waiting
	select {
	case <-asked:
	case <-time.After(patience):
		t.Fatal("the authority is not asked")
	}
	for range 10 {
		d := &net.Dialer{Timeout: patience}
		c, err := tls.DialWithDialer(d, "tcp", s.secure.Addr().String(), &tls.Config{ServerName: "known.servercore.test", RootCAs: roots})
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
}

// issue makes a certificate as a folder of autocert has it: key and certificate in PEM.
func issue(t *testing.T, name string) (files []byte, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 3, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(leaf)
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...), roots
}
