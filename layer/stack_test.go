package layer_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/checksum"
	"github.com/servercore-go/servercore/layer"
	layertls "github.com/servercore-go/servercore/layer/tls"
	"github.com/servercore-go/servercore/layer/websocket"
	"github.com/servercore-go/servercore/session"
)

// end is one side of a connection without a wire.
type end struct {
	t     testing.TB
	l     session.Handshaker
	wake  chan struct{}
	cut   int // bytes given to Open at once
	in    []byte
	more  bool
	asked bool // Open must be called: it was woken
	got   []string
	texts []bool
	err   error  // of Open
	dst   []byte // what Open gets once the handshake is done
}

func newEnd(t testing.TB, l session.Handshaker, cut int) *end {
	e := &end{t: t, l: l, wake: make(chan struct{}, 1), cut: cut, asked: true, dst: make([]byte, 1<<16)}
	l.Start(func() {
		select {
		case e.wake <- struct{}{}:
		default:
		}
	})
	t.Cleanup(l.Drop)
	return e
}

// open has the layer open what has come, as far as it goes.
func (e *end) open() (moved bool) {
	for e.err == nil {
		select {
		case <-e.wake:
			e.asked = true
		default:
		}
		if len(e.in) == 0 && !e.more && !e.asked {
			return moved
		}
		established := e.l.Established()
		var dst []byte
		if established {
			dst = e.dst
		}
		piece := bytes.Clone(e.in[:min(len(e.in), e.cut)])
		data, used, more, err := e.l.Open(dst, piece)
		for i := range piece { // nothing may be kept of it
			piece[i] = 0xEE
		}
		if established && err == nil && data == nil && !more && used != len(piece) {
			e.t.Fatalf("no data, no more, and %d of %d bytes used", used, len(piece))
		}
		if !established && data != nil {
			e.t.Fatalf("the handshake returns %q", data)
		}
		if data != nil {
			e.got = append(e.got, string(data))
			t, ok := e.l.(interface{ Text() bool })
			e.texts = append(e.texts, ok && t.Text())
		}
		e.in, e.more, e.err, e.asked = e.in[used:], more, err, false
		if !moved && used == 0 && data == nil && !more && err == nil {
			return e.l.Established() != established
		}
		moved = true
		if !established && e.l.Established() {
			return true
		}
	}
	return moved
}

// run exchanges what both have to say until done.
func run(a, b *end, done func() bool) {
	a.t.Helper()
	for deadline := time.After(30 * time.Second); ; {
		moved := a.open()
		moved = b.open() || moved
		if done() {
			return
		}
		for _, pair := range [][2]*end{{a, b}, {b, a}} {
			if pair[0].l.Pending() {
				moved, pair[1].in = true, pair[0].l.Own(pair[1].in, true)
			}
		}
		if done() {
			return
		}
		if moved {
			continue
		}
		select {
		case <-a.wake:
			a.asked = true
		case <-b.wake:
			b.asked = true
		case <-deadline:
			a.t.Fatalf("nothing moves: established %v %v, errors %v, %v", a.l.Established(), b.l.Established(), a.err, b.err)
		}
	}
}

func establish(a, b *end) {
	a.t.Helper()
	run(a, b, func() bool { return a.l.Established() && b.l.Established() && !a.l.Pending() && !b.l.Pending() })
}

// send seals a message, already framed, for the other side.
func (e *end) send(to *end, framed []byte) {
	e.t.Helper()
	for len(framed) > 0 {
		n := min(len(framed), 16<<10)
		var err error
		if to.in, err = e.l.(session.Sealer).Seal(to.in, framed[:n]); err != nil {
			e.t.Fatal(err)
		}
		framed = framed[n:]
	}
}

// configs returns those of a server and of a client that trusts it.
func configs(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "servercore test"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: roots, ServerName: "localhost"}
}

// kind is two layers on top of each other.
type kind struct {
	name string
	pair func(t testing.TB) (server, client *layer.Stacked)
	// frame makes a message of a payload.
	frame func(server bool, payload string) []byte
}

func kinds(t testing.TB) []kind {
	server, client := configs(t)
	return []kind{{
		"checksum on checksum",
		func(t testing.TB) (*layer.Stacked, *layer.Stacked) {
			return layer.Stack(checksum.NewSealer(checksum.Options{Server: true}), checksum.NewLayer(checksum.Options{Server: true})),
				layer.Stack(checksum.NewSealer(checksum.Options{}), checksum.NewLayer(checksum.Options{}))
		},
		func(server bool, payload string) []byte {
			b, err := checksum.Framer{Server: server}.Append(nil, []byte(payload))
			if err != nil {
				t.Error(err)
			}
			return b
		},
	}, {
		"WebSocket on TLS",
		func(t testing.TB) (*layer.Stacked, *layer.Stacked) {
			return secure(t, server, client, websocket.Options{})
		},
		func(server bool, payload string) []byte { return message(0x81, !server, payload) },
	}}
}

// secure returns both sides of WebSocket on TLS.
func secure(t testing.TB, server, client *tls.Config, o websocket.Options) (*layer.Stacked, *layer.Stacked) {
	t.Helper()
	h := &layertls.Handshakes{}
	s, err := websocket.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	c, err := websocket.NewClient(websocket.Options{}, "wss://localhost/", nil)
	if err != nil {
		t.Fatal(err)
	}
	return layer.Stack(layertls.Server(server, h, nil, nil), s.Layer(nil)), layer.Stack(layertls.Client(client, "", h, nil, nil), c)
}

// message is a frame of WebSocket, with a mask of zeros if it is masked.
func message(first byte, masked bool, payload string) []byte {
	b, bit := []byte{first}, byte(0)
	if masked {
		bit = 0x80
	}
	switch n := len(payload); {
	case n < 126:
		b = append(b, bit|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, bit|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, bit|127), uint64(n))
	}
	if masked {
		b = append(b, 0, 0, 0, 0)
	}
	return append(b, payload...)
}

// However the wire is cut and however little memory Open gets, the same messages come out, and both last words are the end.
func TestStackExchangesMessages(t *testing.T) {
	sizes := []int{0, 1, 125, 126, 1000, 16 << 10, 16<<10 + 1, 60000}
	for _, k := range kinds(t) {
		for _, cut := range []int{1, 5, 1000, 1 << 20} {
			for _, dst := range []int{1, 100, 1 << 16} {
				t.Run(fmt.Sprintf("%s, cut %d, memory %d", k.name, cut, dst), func(t *testing.T) {
					server, client := k.pair(t)
					s, c := newEnd(t, server, cut), newEnd(t, client, cut)
					s.dst, c.dst = s.dst[:dst], c.dst[:dst]
					establish(s, c)
					var want []string
					for i, n := range sizes {
						if n > 1000 && cut < 100 {
							continue
						}
						payload := strings.Repeat(string(rune('a'+i)), n)
						want = append(want, payload)
						s.send(c, k.frame(true, payload))
						c.send(s, k.frame(false, payload))
					}
					run(s, c, func() bool { return len(s.got) == len(want) && len(c.got) == len(want) })
					for i := range want {
						if s.got[i] != want[i] || c.got[i] != want[i] {
							t.Fatalf("message %d: %d and %d bytes, want %d", i, len(s.got[i]), len(c.got[i]), len(want[i]))
						}
					}
					server.Finish(&session.CloseError{Code: 4000, Reason: "enough"})
					run(s, c, func() bool { return c.err != nil })
					var reason *session.CloseError
					if !errors.Is(c.err, io.EOF) || !errors.As(c.err, &reason) || reason.Code != 4000 || reason.Reason != "enough" {
						t.Errorf("the client's end is %v", c.err)
					}
					if _, err := server.Seal(nil, []byte("x")); err == nil {
						t.Error("Seal works behind the last word")
					}
					if server.Pending() {
						t.Error("something follows the last word")
					}
					client.Finish(c.err)
					client.Finish(nil) // does nothing
					run(s, c, func() bool { return s.err != nil })
					if !errors.Is(s.err, io.EOF) || server.Ended() != nil || client.Ended() != nil {
						t.Errorf("the server's end is %v; ended %v, %v", s.err, server.Ended(), client.Ended())
					}
					if _, used, more, err := server.Open(nil, []byte("later")); used != 5 || more || err != s.err {
						t.Errorf("later Open: used %d, more %v, %v", used, more, err)
					}
				})
			}
		}
	}
}

// What comes behind the upgrade in the same record is neither lost nor early.
func TestStackKeepsWhatFollowsTheHandshake(t *testing.T) {
	server, client := configs(t)
	both, _ := secure(t, server, client, websocket.Options{})
	h := &layertls.Handshakes{}
	s, c := newEnd(t, both, 1<<20), newEnd(t, layertls.Client(client, "", h, nil, nil), 1<<20)
	run(s, c, func() bool { return c.l.Established() && !c.l.Pending() })
	request := "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
		"Sec-WebSocket-Version: 13\r\n\r\n"
	c.send(s, append(append([]byte(request), message(0x81, true, "text")...), message(0x82, true, "binary")...))
	run(s, c, func() bool { return s.l.Established() })
	if len(s.got) != 0 || !s.more || !strings.HasPrefix(string(both.Request(nil).Host), "localhost") {
		t.Fatalf("got %q, more %v", s.got, s.more)
	}
	run(s, c, func() bool { return len(s.got) == 2 })
	if s.got[0] != "text" || s.got[1] != "binary" || !s.texts[0] || s.texts[1] || both.ConnectionState().Version != tls.VersionTLS13 || both.Framing() == nil {
		t.Errorf("got %q", s.got)
	}
	c.send(s, message(0x89, true, "ping"))
	run(s, c, func() bool { return strings.HasSuffix(strings.Join(c.got, ""), "\r\n\r\n\x8a\x04ping") })
	if !strings.HasPrefix(c.got[0], "HTTP/1.1 101 ") {
		t.Errorf("the answer is %q", c.got)
	}

	c.l.Finish(nil) // close_notify without a close frame
	run(s, c, func() bool { return s.err != nil })
	if !errors.Is(s.err, session.ErrTruncated) || errors.Is(s.err, io.EOF) {
		t.Errorf("the end is %v", s.err)
	}
}

// A refused upgrade is answered inside TLS, with close_notify behind it.
func TestStackRefusesAnUpgrade(t *testing.T) {
	server, client := configs(t)
	for _, passes := range []bool{false, true} {
		both, _ := secure(t, server, client, websocket.Options{PassHTTP: passes})
		s, c := newEnd(t, both, 1<<20), newEnd(t, layertls.Client(client, "", &layertls.Handshakes{}, nil, nil), 1<<20)
		run(s, c, func() bool { return c.l.Established() && !c.l.Pending() })
		c.send(s, []byte("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody"))
		run(s, c, func() bool { return s.err != nil })
		if !errors.Is(s.err, session.ErrHandshake) || errors.Is(s.err, websocket.ErrNotUpgrade) != passes {
			t.Fatalf("the error is %v", s.err)
		}
		if passes {
			below, above, rest, more := both.Split()
			above.Drop()
			if string(rest) != "body" || more {
				t.Errorf("behind the header is %q, more %v", rest, more)
			}
			s.l, s.err = below, nil
			t.Cleanup(below.Drop)
			s.send(c, []byte("reply"))
			run(s, c, func() bool { return len(c.got) == 1 })
			if c.got[0] != "reply" {
				t.Errorf("the client reads %q", c.got)
			}
			s.l = refused{} // dropped already
			continue
		}
		run(s, c, func() bool { return c.err != nil })
		if c.err != io.EOF || len(c.got) != 1 || !strings.HasPrefix(c.got[0], "HTTP/1.1 4") {
			t.Errorf("the client reads %q, %v", c.got, c.err)
		}
	}
}

// refused is a layer in place of one that is not used any more.
type refused struct{ session.Handshaker }

// Deadlines are the earlier of the two, and a layer that cannot be postponed is not.
func TestStackDeadlines(t *testing.T) {
	below := checksum.NewSealer(checksum.Options{Server: true, ProbeEvery: time.Minute})
	above := checksum.NewLayer(checksum.Options{Server: true, ProbeEvery: time.Second})
	s := newEnd(t, layer.Stack(below, above), 1<<20)
	c := newEnd(t, layer.Stack(checksum.NewSealer(checksum.Options{}), checksum.NewLayer(checksum.Options{})), 1<<20)
	establish(s, c)
	both := s.l.(*layer.Stacked)
	if err := both.Expire(time.Hour); err != nil || both.NextAt() != time.Hour+time.Second {
		t.Errorf("next at %v, %v", both.NextAt(), err)
	}
	if err := both.Expire(time.Hour + time.Second); err != nil || !both.Pending() { // a probe
		t.Errorf("pending %v, %v", both.Pending(), err)
	}
	run(s, c, func() bool { return above.Counts().Answered == 1 })
	if err := both.Expire(2 * time.Hour); err != nil {
		t.Error(err)
	}
	both.Postpone(3 * time.Hour)
	if _, _, _, err := both.Open(nil, nil); !errors.Is(err, session.ErrIdle) {
		t.Errorf("an answer that does not come: %v", err)
	}
}

// What the application sends is sealed once.
func TestStackHasOneSealer(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("two sealers are stacked")
		}
	}()
	sealer := func() *checksum.Sealer {
		s := checksum.NewSealer(checksum.Options{})
		t.Cleanup(s.Drop)
		return s
	}
	layer.Stack(sealer(), sealer())
}
