package tls

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/servercore-go/servercore/session"
)

var versions = map[string]uint16{"TLS1.2": tls.VersionTLS12, "TLS1.3": tls.VersionTLS13}

// eachVersion runs a test with configs for one version of TLS.
func eachVersion(t *testing.T, f func(t *testing.T, server, client *tls.Config)) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			server, client := serverConfig(), clientConfig()
			server.MinVersion, server.MaxVersion = version, version
			client.MinVersion, client.MaxVersion = version, version
			f(t, server, client)
		})
	}
}

// A peer of crypto/tls gets back what it sent, and both close_notifies arrive, however the input is cut.
func TestEchoWithCryptoTLS(t *testing.T) {
	eachVersion(t, func(t *testing.T, server, client *tls.Config) {
		for _, cut := range []int{1, 7, 4096} {
			t.Run(fmt.Sprintf("server, cut %d", cut), func(t *testing.T) {
				echo(t, cut, func(conn net.Conn) *tls.Conn { return tls.Client(conn, client) }, newServer(t, server, &Handshakes{}))
			})
			t.Run(fmt.Sprintf("client, cut %d", cut), func(t *testing.T) {
				echo(t, cut, func(conn net.Conn) *tls.Conn { return tls.Server(conn, server) }, newClient(t, client, &Handshakes{}))
			})
		}
	})
}

func echo(t *testing.T, cut int, peerOf func(net.Conn) *tls.Conn, e *end) {
	near, far := net.Pipe()
	e.cut = cut
	d := drive(e, near, func() {
		if len(e.got) > 0 {
			e.seal(e.got)
			e.got = e.got[:0]
		}
		if e.err == io.EOF {
			e.layer.Finish(nil)
		}
	})
	peer := peerOf(far)
	want := pattern(100_000)
	sent := make(chan error, 1)
	go func() {
		_, err := peer.Write(want)
		sent <- err
	}()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(peer, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("the echo is not what was sent; %v", err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if err := peer.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := peer.Read(got); n != 0 || err != io.EOF {
		t.Errorf("after both close_notifies the peer reads %d bytes and %v, want EOF", n, err)
	}
	d.do(func() {
		if err := e.layer.Ended(); e.err != io.EOF || err != nil {
			t.Errorf("Open ended with %v, Ended says %v", e.err, err)
		}
	})
	far.Close()
}

// Two layers, and close_notify in both orders: what is sent after the peer's close_notify arrives.
func TestHalfClose(t *testing.T) {
	eachVersion(t, func(t *testing.T, server, client *tls.Config) {
		for _, order := range []string{"client first", "server first"} {
			t.Run(order, func(t *testing.T) {
				s, c := pair(t, server, client)
				first, second := c, s
				if order == "server first" {
					first, second = s, c
				}
				first.seal([]byte("last words"))
				first.layer.Finish(nil)
				deliver(first, second)
				if string(second.got) != "last words" || second.err != io.EOF || second.layer.Ended() != nil {
					t.Fatalf("got %q and %v, Ended %v", second.got, second.err, second.layer.Ended())
				}
				if out, err := first.layer.Seal(nil, []byte("more")); err == nil || len(out) > 0 {
					t.Errorf("Seal after Finish: %v, %d bytes", err, len(out))
				}
				second.seal(pattern(40_000))
				second.layer.Finish(nil)
				second.layer.Finish(nil) // once is enough
				deliver(second, first)
				if !bytes.Equal(first.got, pattern(40_000)) || first.err != io.EOF || first.layer.Ended() != nil {
					t.Errorf("the first to finish got %d bytes and %v, Ended %v", len(first.got), first.err, first.layer.Ended())
				}
				if first.layer.Pending() || second.layer.Pending() {
					t.Error("bytes are pending after the last word")
				}
				// What comes behind the last word is taken and ignored.
				data, used, more, err := first.layer.Open(first.dst, []byte("garbage"))
				if len(data) != 0 || used != 7 || more || err != io.EOF {
					t.Errorf("after the last word Open returned %q, %d, %t, %v", data, used, more, err)
				}
			})
		}
	})
}

// Bytes that come in one piece with the end of the handshake are delivered after it, whatever their number, and so is close_notify.
func TestBytesBehindTheHandshake(t *testing.T) {
	eachVersion(t, func(t *testing.T, server, client *tls.Config) {
		for _, size := range []int{1, 1000, 16 << 10, 200_000} {
			for _, cut := range []int{1000, 1 << 20} {
				h := &Handshakes{}
				s, c := newServer(t, server, h), newClient(t, client, h)
				s.cut = cut
				// The server sees nothing of the client's last flight before the client's data is there too.
				exchange(s, c, c.layer.Established)
				want := pattern(size)
				c.seal(want)
				c.layer.Finish(nil)
				exchange(s, c, func() bool { return s.failed() })
				if s.err != io.EOF || !bytes.Equal(s.got, want) {
					t.Fatalf("%d bytes behind the handshake, cut %d: got %d and %v", size, cut, len(s.got), s.err)
				}
			}
		}
	})
}

// The destination may be as small as one byte: nothing is lost, more tells that there is more.
func TestSmallDestination(t *testing.T) {
	eachVersion(t, func(t *testing.T, server, client *tls.Config) {
		s, c := pair(t, server, client)
		for _, size := range []int{1, 3, 1000} {
			s.dst, s.got = make([]byte, size), nil
			for _, n := range []int{1, size, 2 * size, 5000} {
				c.seal(pattern(n))
			}
			deliver(c, s)
			want := bytes.Join([][]byte{pattern(1), pattern(size), pattern(2 * size), pattern(5000)}, nil)
			if !bytes.Equal(s.got, want) {
				t.Fatalf("with a destination of %d bytes %d bytes came out, want %d", size, len(s.got), len(want))
			}
		}
		c.seal([]byte("x"))
		c.own()
		data, used, more, err := s.layer.Open(nil, c.out)
		if len(data) != 0 || used != 0 || !more || err != nil {
			t.Errorf("without a destination Open returned %d bytes, %d, %t, %v", len(data), used, more, err)
		}
	})
}

func TestDiscard(t *testing.T) {
	eachVersion(t, func(t *testing.T, server, client *tls.Config) {
		for _, size := range []int{0, 100} {
			s, c := pair(t, server, client)
			s.dst = make([]byte, size)
			s.layer.Discard()
			c.seal(pattern(50_000))
			c.layer.Finish(nil)
			deliver(c, s)
			if len(s.got) != 0 || s.err != io.EOF {
				t.Errorf("after Discard %d bytes came out, and %v, want 0 and EOF", len(s.got), s.err)
			}
		}
	})
}

// A FIN without close_notify is told, at each stage.
func TestTruncation(t *testing.T) {
	eachVersion(t, func(t *testing.T, server, client *tls.Config) {
		s, c := pair(t, server, client)
		if err := s.layer.Ended(); !errors.Is(err, session.ErrTruncated) || !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, session.ErrHandshake) {
			t.Errorf("between records: %v", err)
		}
		c.seal(pattern(1000))
		s.kept = c.out[:500]
		if s.open(); s.failed() || len(s.got) != 0 || !errors.Is(s.layer.Ended(), session.ErrTruncated) {
			t.Errorf("in a record: %v, %d bytes, %v", s.err, len(s.got), s.layer.Ended())
		}
		s.kept = c.out[500:]
		if s.open(); !bytes.Equal(s.got, pattern(1000)) {
			t.Error("the rest of the record did not arrive")
		}
		c.out = c.out[:0]
		c.layer.Finish(nil)
		c.own()
		s.kept = c.out[:len(c.out)-1]
		if s.open(); s.failed() || !errors.Is(s.layer.Ended(), session.ErrTruncated) {
			t.Errorf("in close_notify: %v, %v", s.err, s.layer.Ended())
		}
		s.kept = c.out[len(c.out)-1:]
		if s.open(); s.err != io.EOF || s.layer.Ended() != nil {
			t.Errorf("after close_notify: %v, %v", s.err, s.layer.Ended())
		}
	})
}

// 64 KiB of plain bytes, the most of one write, take less than 4 KiB more on the wire, also while crypto/tls makes small records.
func TestSealedSize(t *testing.T) {
	eachVersion(t, func(t *testing.T, server, client *tls.Config) {
		s, _ := pair(t, server, client)
		for i := range 4 {
			s.out = s.out[:0]
			s.seal(pattern(64 << 10))
			if n := len(s.out); n <= 64<<10 || n > 68<<10 {
				t.Errorf("write %d of 64 KiB takes %d bytes", i+1, n)
			}
		}
	})
}

// TLS's addresses, state and deadlines.
func TestStateAndConfigChecks(t *testing.T) {
	s, c := pair(t, serverConfig(), clientConfig())
	if state := s.layer.ConnectionState(); !state.HandshakeComplete || state.ServerName != "server.test" || state.Version != tls.VersionTLS13 {
		t.Errorf("the server's state is %+v", state)
	}
	if state := c.layer.ConnectionState(); len(state.PeerCertificates) != 1 || state.PeerCertificates[0].Subject.CommonName != "server.test" {
		t.Errorf("the client's state is %+v", state)
	}
	if s.layer.NextAt() != 0 || s.layer.Expire(1) != nil {
		t.Error("TLS has a deadline")
	}
	if CheckServer(nil) == nil || CheckServer(&tls.Config{}) == nil || CheckServer(serverConfig()) != nil {
		t.Error("CheckServer")
	}
	renegotiates := clientConfig()
	renegotiates.Renegotiation = tls.RenegotiateOnceAsClient
	if CheckClient(nil, "") == nil || CheckClient(&tls.Config{}, "") == nil || CheckClient(renegotiates, "") == nil {
		t.Error("CheckClient lets a bad config pass")
	}
	if CheckClient(nil, "x") != nil || CheckClient(clientConfig(), "") != nil || CheckClient(&tls.Config{InsecureSkipVerify: true}, "") != nil {
		t.Error("CheckClient refuses a good config")
	}
	// The name given to Client takes effect, and the config is not changed.
	config := &tls.Config{RootCAs: testAuthority().roots}
	h := &Handshakes{}
	named := newEnd(t, Client(config, "server.test", h, nil, nil))
	t.Cleanup(named.layer.Drop)
	establish(newServer(t, serverConfig(), h), named)
	if config.ServerName != "" || named.layer.ConnectionState().ServerName != "server.test" {
		t.Errorf("config has the name %q, the connection %q", config.ServerName, named.layer.ConnectionState().ServerName)
	}
}

// After Finish nothing is sealed, not even after a fault that crypto/tls has no alert for.
func TestFinishIsFinal(t *testing.T) {
	s, out, _ := rawClient(t)
	s.kept = out.record(typeAlert, []byte{2, 80}) // crypto/tls would go on writing
	s.open()
	s.layer.Finish(s.err)
	if wire, err := s.layer.Seal(nil, []byte("x")); err == nil || len(wire) > 0 {
		t.Errorf("Seal: %v, %d bytes", err, len(wire))
	}
}
