//go:build linux

package trials

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
)

// overTLS begins an address whose server speaks TLS.
const overTLS = "tls:"

// serverTLS makes the config of a server. The clients of the trials accept any certificate: it is not what is tried.
func serverTLS() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, nil
}

func clientTLS() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }

// secure begins TLS on a connection, within its dialer's time.
func (c *client) secure(within time.Duration) error {
	over := tls.Client(c.TCPConn, clientTLS())
	c.over = over
	_ = c.SetDeadline(time.Now().Add(within))
	err := over.Handshake()
	if err != nil {
		_ = c.Close()
		return err
	}
	return c.SetDeadline(time.Time{})
}

// Read reads what the server has sent.
func (c *client) Read(b []byte) (int, error) {
	if c.over != nil {
		return c.over.Read(b)
	}
	return c.TCPConn.Read(b)
}

// CloseWrite sends FIN, or close_notify or a close frame, which are the FIN of TLS and of WebSocket.
func (c *client) CloseWrite() error {
	if c.over != nil {
		return c.over.CloseWrite()
	}
	return c.TCPConn.CloseWrite()
}

// handshakeAllowed is the server's HandshakeTimeout in T42.
func handshakeAllowed() time.Duration { return lasting(30*time.Second, 6*time.Second) }

func init() {
	plans["T42"] = func() plan {
		return plan{tls: true, thrift: true, options: engine.Options{HandshakeTimeout: handshakeAllowed(), LingerTimeout: 300 * time.Millisecond}}
	}
}

// clientHello returns the first flight of a TLS client, a ClientHello.
func clientHello(t *testing.T) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	go func() { _ = tls.Client(theirs, clientTLS()).Handshake() }()
	header := make([]byte, 5)
	_, err := io.ReadFull(ours, header)
	must(t, err)
	body := make([]byte, int(header[3])<<8|int(header[4]))
	_, err = io.ReadFull(ours, body)
	must(t, err)
	_ = ours.Close()
	return append(header, body...)
}

// An assault is one way not to make a handshake.
type assault struct {
	name   string
	stalls bool // the server has to end it, by its deadline
	parked bool // it may hold a goroutine of the server meanwhile
	answer string
	act    func(c *net.TCPConn, hello []byte)
}

var assaults = []assault{
	{name: "silent", stalls: true, act: func(*net.TCPConn, []byte) {}},
	{name: "half a ClientHello", stalls: true, act: func(c *net.TCPConn, hello []byte) { _, _ = c.Write(hello[:len(hello)/2]) }},
	{name: "no second flight", stalls: true, parked: true, act: func(c *net.TCPConn, hello []byte) { _, _ = c.Write(hello) }},
	{name: "truncated", act: func(c *net.TCPConn, hello []byte) {
		_, _ = c.Write(hello[:len(hello)-1])
		_ = c.CloseWrite()
	}},
	{name: "truncated after the first flight", act: func(c *net.TCPConn, hello []byte) { _, _ = c.Write(hello); _ = c.CloseWrite() }},
	{name: "oversized", act: func(c *net.TCPConn, hello []byte) {
		// A ClientHello of 16 MiB, in records of 16 KiB.
		body := make([]byte, 1<<14)
		record := append([]byte{22, 3, 1, 1 << 6, 0}, body...)
		copy(record[5:], []byte{1, 0xff, 0xff, 0xff, 3, 3})
		for sent := 0; sent < 16<<20; sent += len(record) {
			if _, err := c.Write(record); err != nil {
				return
			}
			clear(record[5:11])
		}
	}},
	{name: "garbage", act: func(c *net.TCPConn, _ []byte) {
		b := make([]byte, 4<<10)
		_, _ = rand.Read(b)
		b[0] |= 0x80 // no type of a record
		_, _ = c.Write(b)
	}},
	{name: "plain text", answer: "HTTP/1.0 400 Bad Request", act: func(c *net.TCPConn, _ []byte) {
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	}},
}

// T42: handshakes that stall, are cut, are too large, are no TLS at all: they cost a bounded amount of memory and of goroutines, end in time,
// and the sessions beside them, which speak TLS too, lose nothing.
//
// Fails if a handshake has a goroutine from its first byte on: call start for every byte in receive of layer/tls/handshake.go.
func TestT42Handshakes(t *testing.T) {
	o := begin(t, "T42", how{})
	address := strings.TrimPrefix(o.at.Records, overTLS)
	hello := clientHello(t)
	n := scaled(5000, 1000) / len(assaults)
	const atOnce = 50 // of those that the server ends at once
	base, before := o.forgetPeak(), o.report()

	var stalled, others sync.WaitGroup
	var wrong atomic.Int64 // an end that is not in time, or an answer that is not the one expected
	var earliest, latest atomic.Int64
	earliest.Store(int64(time.Hour))
	parked := 0
	places := make(chan struct{}, atOnce)
	began := time.Now()
	for i := range n * len(assaults) {
		a := assaults[i%len(assaults)]
		time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / 500)))
		c, err := net.DialTimeout("tcp", address, patience)
		must(t, err)
		at := time.Now()
		_ = c.SetDeadline(at.Add(handshakeAllowed() + patience))
		if a.parked {
			parked++
		}
		if a.stalls {
			stalled.Go(func() {
				defer c.Close()
				a.act(c.(*net.TCPConn), hello)
				_, err := io.Copy(io.Discard, c)
				took := int64(time.Since(at))
				for least := earliest.Load(); took < least && !earliest.CompareAndSwap(least, took); least = earliest.Load() {
				}
				for most := latest.Load(); took > most && !latest.CompareAndSwap(most, took); most = latest.Load() {
				}
				if isTimeout(err) {
					wrong.Add(1)
				}
			})
			continue
		}
		places <- struct{}{}
		others.Go(func() {
			defer func() { <-places }()
			defer c.Close()
			a.act(c.(*net.TCPConn), hello)
			got, err := io.ReadAll(c)
			if isTimeout(err) || !strings.HasPrefix(string(got), a.answer) {
				wrong.Add(1)
			}
		})
	}
	others.Wait()
	r := o.report()
	o.check("a goroutine only where the second flight is waited for", r.Goroutines <= before.Goroutines+parked+5,
		"%d goroutines, %d before, %d such handshakes", r.Goroutines, before.Goroutines, parked)
	o.check("no session of them", r.Live == bystanders, "%d sessions", r.Live)
	stalled.Wait()
	allowed := handshakeAllowed()
	first, last := time.Duration(earliest.Load()), time.Duration(latest.Load())
	o.check("those that stall end at HandshakeTimeout +-10 %", wrong.Load() == 0 && first > allowed*9/10 && last < allowed+within(allowed/10),
		"%d, after %v to %v of %v; %d wrong ends or answers", 3*n, round(first), round(last), allowed, wrong.Load())
	bound := n*len(assaults)*8<<10 + atOnce*160<<10 + 4<<20
	grown, ok := o.grownTo(base, bound)
	o.check("RSS growth <= 8 KiB each, 160 KiB for each of 50 at once, 4 MiB", ok, "%s of %s", size(grown), size(bound))
	eventually(patience, func() bool {
		r = o.report()
		return r.Stats.Refused.Handshake+r.Stats.Refused.HandshakeLate >= uint64(n*len(assaults))
	})
	failed, late := r.Stats.Refused.Handshake, r.Stats.Refused.HandshakeLate
	o.check("each counted once", failed == uint64(5*n) && late == uint64(3*n), "%d of %d failed, %d of %d late", failed, 5*n, late, 3*n)
	o.finish()
}
