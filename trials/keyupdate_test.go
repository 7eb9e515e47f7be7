//go:build linux

package trials

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
)

// roughTLS is a client of TLS 1.3 that reads with crypto/tls and writes records that crypto/tls never writes (RFC 8446, sections 5 and 7).
// Its cipher suite is TLS_AES_128_GCM_SHA256.
type roughTLS struct {
	*tls.Conn
	wire   io.Writer
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	number uint64 // of the next record
}

// Types of records.
const (
	recordAlert     = 21
	recordHandshake = 22
	recordData      = 23
)

// roughly begins TLS on a connection.
func (c *client) roughly(t *testing.T) *roughTLS {
	t.Helper()
	var log bytes.Buffer
	config := clientTLS()
	config.MinVersion, config.KeyLogWriter = tls.VersionTLS13, &log
	r := &roughTLS{Conn: tls.Client(c.TCPConn, config), wire: c.TCPConn}
	must(t, r.Handshake())
	if suite := r.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
		t.Fatalf("cipher suite %s: this trial needs a processor with AES instructions", tls.CipherSuiteName(suite))
	}
	for line := range strings.Lines(log.String()) {
		if f := strings.Fields(line); f[0] == "CLIENT_TRAFFIC_SECRET_0" {
			secret, err := hex.DecodeString(f[2])
			must(t, err)
			must(t, r.use(secret))
		}
	}
	c.over = r
	return r
}

// expand is HKDF-Expand-Label without a context.
func (r *roughTLS) expand(label string, n int) []byte {
	label = "tls13 " + label
	info := append([]byte{byte(n >> 8), byte(n), byte(len(label))}, label...)
	key, err := hkdf.Expand(sha256.New, r.secret, string(append(info, 0)), n)
	if err != nil {
		panic(err) // the length is constant
	}
	return key
}

// use makes the keys of a secret.
func (r *roughTLS) use(secret []byte) error {
	r.secret, r.number = secret, 0
	block, err := aes.NewCipher(r.expand("key", 16))
	if err == nil {
		r.aead, err = cipher.NewGCM(block)
	}
	r.iv = r.expand("iv", 12)
	return err
}

// record appends a record to b.
func (r *roughTLS) record(b []byte, kind byte, content []byte) []byte {
	nonce := slices.Clone(r.iv)
	for i, x := range binary.BigEndian.AppendUint64(nil, r.number) {
		nonce[4+i] ^= x
	}
	r.number++
	n := len(content) + 1 + r.aead.Overhead()
	header := []byte{recordData, 3, 3, byte(n >> 8), byte(n)}
	return r.aead.Seal(append(b, header...), nonce, append(slices.Clone(content), kind), header)
}

// keyUpdate appends a record that asks for an answer and changes the keys.
func (r *roughTLS) keyUpdate(b []byte) []byte {
	b = r.record(b, recordHandshake, []byte{24, 0, 0, 1, 1})
	if err := r.use(r.expand("traffic upd", 32)); err != nil {
		panic(err) // the length of a key is constant
	}
	return b
}

// Write writes p, 16 KiB at most, as one record.
func (r *roughTLS) Write(p []byte) (int, error) {
	if _, err := r.wire.Write(r.record(nil, recordData, p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// CloseWrite sends close_notify.
func (r *roughTLS) CloseWrite() error {
	_, err := r.wire.Write(r.record(nil, recordAlert, []byte{1, 0}))
	return err
}

func init() {
	plans["T49"] = func() plan {
		return plan{tls: true, thrift: true, options: engine.Options{LingerTimeout: 300 * time.Millisecond, DrainTimeout: lasting(10*time.Second, time.Second)}}
	}
}

// plain makes a connection of the oracle's that has not begun TLS.
func (o *oracle) plain(receive int) *client {
	o.t.Helper()
	c, err := connect(dialer(receive), strings.TrimPrefix(o.at.Records, overTLS))
	must(o.t, err)
	o.watch(c)
	return c
}

// T49: sessions of TLS whose clients ask for new keys without end: those that read the answers are served meanwhile and after it, those
// that do not are ended. Clients that begin a new handshake, or send a record that was changed, get an alert. A FIN without close_notify is
// told as such, behind every byte before it.
func TestT49EstablishedTLS(t *testing.T) {
	o := begin(t, "T49", how{})
	n, lasts := 10, lasting(10*time.Second, time.Second)
	base := o.forgetPeak()
	var updates, flooded, ended atomic.Int64
	var load sync.WaitGroup
	for i := range 2 * n {
		c := o.plain(8 << 10)
		r := c.roughly(t)
		load.Go(func() {
			until := time.Now().Add(lasts)
			if i >= n { // until the server ends it
				for until = until.Add(patience); time.Now().Before(until); updates.Add(100) {
					var b []byte
					for range 100 {
						b = r.keyUpdate(b)
					}
					if _, err := c.TCPConn.Write(b); err != nil {
						flooded.Add(1)
						return
					}
				}
				return
			}
			for k := 0; time.Now().Before(until); k++ {
				var b []byte
				for range 10 {
					b = r.keyUpdate(b)
				}
				updates.Add(10)
				if _, err := c.TCPConn.Write(b); err != nil {
					t.Error(err)
					return
				}
				if err := c.echo(64); err != nil {
					t.Errorf("an echo after %d key updates: %v", 10*k, err)
					return
				}
			}
			if c.CloseWrite() == nil && c.takeAll() == nil {
				ended.Add(1)
			}
		})
	}
	load.Wait()
	o.check("those that read are served, and end in good order", int(ended.Load()) == n, "%d of %d, %d key updates in all", ended.Load(), n, updates.Load())
	o.check("those that do not read are ended", int(flooded.Load()) == n, "%d of %d", flooded.Load(), n)
	o.brokenRecords()
	o.truncated()
	bound := 2*n*64<<10 + 8<<20
	grown, ok := o.grownTo(base, bound)
	o.check("RSS growth <= 64 KiB each, 8 MiB", ok, "%s of %s", size(grown), size(bound))
	o.finish()
}

// brokenRecords judges records that no client may send once the handshake is done.
func (o *oracle) brokenRecords() {
	o.t.Helper()
	n := scaled(500, 50)
	var alerts atomic.Int64
	want := []string{"unexpected message", "bad record MAC", "record overflow"}
	hello := clientHello(o.t)[5:]
	each(n, 20, func(i int) {
		c := o.plain(0)
		r := c.roughly(o.t)
		if err := c.echo(64); err != nil {
			o.t.Error(err)
		}
		var b []byte
		switch i % len(want) {
		case 0:
			b = r.record(nil, recordHandshake, hello)
		case 1:
			b = r.record(nil, recordData, []byte("x"))
			b[len(b)-1]++
		case 2:
			b = append([]byte{recordData, 3, 3, 0xff, 0xff}, make([]byte, 20_000)...)
		}
		_, _ = c.TCPConn.Write(b)
		_, err := r.Read(make([]byte, 1))
		if err != nil && strings.Contains(err.Error(), want[i%len(want)]) {
			alerts.Add(1)
		} else {
			o.t.Errorf("the server answers with %v, want %q", err, want[i%len(want)])
		}
		_ = c.Close()
	})
	o.check("a handshake, a changed record and one too long get their alerts", int(alerts.Load()) == n, "%d of %d", alerts.Load(), n)
}

// truncated judges streams that end without close_notify.
func (o *oracle) truncated() {
	o.t.Helper()
	n := scaled(500, 50)
	var whole atomic.Int64
	clients := make([]*client, n)
	for i := range clients {
		clients[i] = o.connect()
	}
	each(n, 20, func(i int) {
		c := clients[i]
		payload := make([]byte, 20_000)
		payload[0] = verbEcho
		if err := errors.Join(c.ask(payload), c.TCPConn.CloseWrite()); err != nil {
			o.t.Error(err)
			return
		}
		if c.takeAll() == nil && c.in.seq == 1 {
			whole.Add(1)
		}
		_ = c.Close()
	})
	told := 0
	for _, c := range clients {
		if l := o.ended(c, patience); because(l, "truncated") && l.Whole && l.Records == 1 {
			told++
		}
	}
	o.check("a FIN without close_notify is told, behind every byte", told == n && int(whole.Load()) == n, "%d of %d; %d got their answer and close_notify",
		told, n, whole.Load())
}
