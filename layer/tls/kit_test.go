package tls

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"
)

// The time that a test waits for an event that has to come.
const patience = 30 * time.Second

// authority signs the certificates of the tests.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	roots       *x509.CertPool
}

var testAuthority = sync.OnceValue(func() *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a := &authority{key: key, roots: x509.NewCertPool()}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err == nil {
		a.certificate, err = x509.ParseCertificate(der)
	}
	if err != nil {
		panic(err)
	}
	a.roots.AddCert(a.certificate)
	return a
})

// issue makes a certificate for the names, for servers and clients.
func (a *authority) issue(names ...string) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

var testCertificate = sync.OnceValue(func() tls.Certificate { return testAuthority().issue("server.test") })

func serverConfig() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{testCertificate()}}
}

func clientConfig() *tls.Config {
	return &tls.Config{RootCAs: testAuthority().roots, ServerName: "server.test"}
}

var testLocal, testRemote = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2}

// end is a Layer with what a loop keeps for it. Its methods check on each call what Open and Own promise.
type end struct {
	t     testing.TB
	layer *Layer
	wakes chan struct{}
	dst   []byte
	cut   int    // most bytes of one Open
	kept  []byte // wire bytes that Open has not taken
	got   []byte // bytes for the application
	err   error  // what Open returned
	out   []byte // wire bytes for the peer
	first []byte // the first bytes of the layer's own
}

func newEnd(t testing.TB, l *Layer) *end {
	wakes := make(chan struct{}, 1)
	l.Start(func() { // does not hold the end: its buffers are not the layer's memory
		select {
		case wakes <- struct{}{}:
		default:
		}
	})
	return &end{t: t, layer: l, wakes: wakes, cut: 64 << 10}
}

func newServer(t testing.TB, config *tls.Config, h *Handshakes) *end {
	e := newEnd(t, Server(config, h, testLocal, testRemote))
	t.Cleanup(e.layer.Drop)
	return e
}

func newClient(t testing.TB, config *tls.Config, h *Handshakes) *end {
	e := newEnd(t, Client(config, "", h, testLocal, testRemote))
	t.Cleanup(e.layer.Drop)
	return e
}

// open gives all that is kept to Open, in pieces, and collects what comes out. It returns whether anything was taken or changed.
func (e *end) open() (moved bool) {
	for {
		in := e.kept[:min(e.cut, len(e.kept))]
		before := e.layer.Established()
		if before && e.dst == nil {
			e.dst = make([]byte, 64<<10)
		}
		var saved []byte
		if len(in) <= 64 {
			saved = bytes.Clone(in)
		}
		data, used, more, err := e.layer.Open(e.dst, in)
		if used < 0 || used > len(in) || len(data) > len(e.dst) || data != nil && (len(data) == 0 || &data[0] != &e.dst[0]) || saved != nil && !bytes.Equal(saved, in) {
			e.t.Fatalf("Open used %d of %d bytes, returned %d, or wrote to its input", used, len(in), len(data))
		}
		if before && err == nil && len(data) == 0 && !more && used < len(in) {
			e.t.Fatalf("Open used %d of %d bytes and wants more", used, len(in))
		}
		if !before && len(data) > 0 {
			e.t.Fatal("Open returned data before it was established")
		}
		if !before && e.layer.Established() && (used > 0 || len(in) > 0 && !more) {
			e.t.Fatalf("the Open that found the handshake done used %d of %d bytes, more is %t", used, len(in), more)
		}
		moved = moved || used > 0 || more || before != e.layer.Established() || err != nil && e.err == nil
		e.got = append(e.got, data...)
		e.kept = e.kept[used:]
		if err != nil {
			e.err = err
			return moved
		}
		if !more && (len(e.kept) == 0 || used == 0) {
			return moved
		}
	}
}

// own collects the bytes of the layer's own.
func (e *end) own() (moved bool) {
	pending := e.layer.Pending()
	before := len(e.out)
	e.out = e.layer.Own(e.out, false)
	if pending && len(e.out) == before || e.layer.Established() && !pending && len(e.out) > before {
		e.t.Fatalf("Pending said %t, Own brought %d bytes", pending, len(e.out)-before)
	}
	if e.first == nil && len(e.out) > before {
		e.first = bytes.Clone(e.out)
	}
	return len(e.out) > before
}

// seal seals p in pieces of 16 KiB.
func (e *end) seal(p []byte) {
	e.t.Helper()
	for len(p) > 0 {
		n := min(len(p), 16<<10)
		var err error
		if e.out, err = e.layer.Seal(e.out, p[:n]); err != nil {
			e.t.Fatalf("Seal: %v", err)
		}
		p = p[n:]
	}
}

// turn opens and takes own bytes until nothing moves.
func (e *end) turn() (moved bool) {
	for e.open() || e.own() {
		moved = true
	}
	return moved
}

func (e *end) failed() bool { return e.err != nil }

// waitFor takes turns until done says so.
func (e *end) waitFor(done func() bool) {
	e.t.Helper()
	for e.turn(); !done(); e.turn() {
		select {
		case <-e.wakes:
		case <-time.After(patience):
			e.t.Fatal("no wake came")
		}
	}
}

// exchange carries bytes between two ends until done says so.
func exchange(a, b *end, done func() bool) {
	a.t.Helper()
	for {
		moved := a.turn()
		moved = b.turn() || moved
		moved = moved || len(a.out)+len(b.out) > 0
		a.kept, b.out = append(a.kept, b.out...), b.out[:0]
		b.kept, a.out = append(b.kept, a.out...), a.out[:0]
		if done() {
			return
		}
		if moved {
			continue
		}
		select {
		case <-a.wakes:
		case <-b.wakes:
		case <-time.After(patience):
			a.t.Fatalf("nothing moves: errors %v and %v", a.err, b.err)
		}
	}
}

// establish carries the handshake, and all that belongs to it, from one to the other.
func establish(a, b *end) {
	a.t.Helper()
	exchange(a, b, func() bool {
		if a.failed() || b.failed() {
			a.t.Fatalf("handshake: %v and %v", a.err, b.err)
		}
		return a.layer.Established() && b.layer.Established() && len(a.kept)+len(b.kept)+len(a.out)+len(b.out) == 0 && !a.turn() && !b.turn()
	})
}

func pair(t testing.TB, server, client *tls.Config) (s, c *end) {
	t.Helper()
	h := &Handshakes{}
	s, c = newServer(t, server, h), newClient(t, client, h)
	establish(s, c)
	return s, c
}

// deliver carries what a has for b, and opens it.
func deliver(a, b *end) {
	a.own()
	b.kept, a.out = append(b.kept, a.out...), a.out[:0]
	b.open()
}

// pattern is n bytes that tell their place.
func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7 + i>>8*13 + i>>16)
	}
	return p
}

// wire end to end: a Layer driven over a net.Conn by a loop of its own, for peers of crypto/tls itself.
type driver struct {
	*end
	conn    net.Conn
	input   chan []byte
	calls   chan func()
	fin     bool
	onTurn  func()
	stopped chan struct{}
}

// drive runs the loop of a Layer over conn until the test ends. onTurn runs after each turn, on the loop.
func drive(e *end, conn net.Conn, onTurn func()) *driver {
	d := &driver{end: e, conn: conn, input: make(chan []byte), calls: make(chan func()), onTurn: onTurn, stopped: make(chan struct{})}
	quit := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(d.input)
		for {
			p := make([]byte, 4096)
			n, err := conn.Read(p)
			if err != nil {
				return
			}
			select {
			case d.input <- p[:n]:
			case <-quit:
				return
			}
		}
	})
	go func() {
		defer close(d.stopped)
		d.loop(quit)
	}()
	e.t.Cleanup(func() {
		close(quit)
		conn.Close()
		<-d.stopped
		reading.Wait()
	})
	return d
}

func (d *driver) loop(quit chan struct{}) {
	input := d.input
	for {
		d.turn()
		if d.onTurn != nil {
			d.onTurn()
		}
		if d.own(); len(d.out) > 0 {
			d.conn.Write(d.out) // a peer that is gone is seen by the reader
			d.out = d.out[:0]
		}
		select {
		case p, ok := <-input:
			if d.kept = append(d.kept, p...); !ok {
				d.fin, input = true, nil
			}
		case <-d.wakes:
		case f := <-d.calls:
			f()
		case <-quit:
			return
		}
	}
}

// do runs f on the loop.
func (d *driver) do(f func()) {
	done := make(chan struct{})
	d.calls <- func() { f(); close(done) }
	<-done
}
