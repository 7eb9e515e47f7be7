package servercore_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"net"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/enginetest"
	layer "github.com/servercore-go/servercore/internal/checksum"
	"github.com/servercore-go/servercore/internal/wsconn"
	"github.com/servercore-go/servercore/layer/websocket"
	"github.com/servercore-go/servercore/session"
)

func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given { // the tests wait most of the time
		_ = flag.Set("test.parallel", "12")
	}
	// The runtime's own descriptors and the like exist from here on.
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		_ = l.Close()
	}
	os.Exit(m.Run())
}

// The contract holds on every kind of connection, on one loop and on several. Select promises as subtests:
//
//	go test -run 'TestContract/unix.*/E4' .
func TestContract(t *testing.T) {
	for _, v := range variants() {
		t.Run(name(v), func(t *testing.T) { enginetest.Run(t, v.Variant) })
	}
}

// variant is one with the name of what is under its sessions, "" for nothing.
type variant struct {
	enginetest.Variant
	under string
}

// plainly returns variants with nothing under their sessions.
func plainly(all ...enginetest.Variant) (some []variant) {
	for _, v := range all {
		some = append(some, variant{Variant: v})
	}
	return some
}

// variants with -short are those that the gate runs under the race detector: on one loop and on several, offloaded or not, and one
// of each other kind.
func variants() (all []variant) {
	if testing.Short() {
		return append(plainly(
			enginetest.Variant{Network: "tcp4", Loops: 1},
			enginetest.Variant{Network: "tcp4", Loops: 4, Framed: true},
			enginetest.Variant{Network: "tcp4", Loops: 1, Offloaded: true},
			enginetest.Variant{Network: "unix", Loops: 4, Dialled: true, Offloaded: true, Framed: true}),
			layered(enginetest.Variant{Network: "tcp4", Loops: 1}),
			webSocket(enginetest.Variant{Network: "tcp4", Loops: 4}, true))
	}
	for _, loops := range []int{1, 4} {
		for _, offloaded := range []bool{false, true} {
			all = append(all, plainly(
				enginetest.Variant{Network: "tcp4", Loops: loops, Offloaded: offloaded},
				enginetest.Variant{Network: "unix", Loops: loops, Offloaded: offloaded})...)
		}
	}
	all = append(all, plainly(
		enginetest.Variant{Network: "tcp4", Loops: 4, Framed: true},
		enginetest.Variant{Network: "unix", Loops: 1, Framed: true, Offloaded: true},
		enginetest.Variant{Network: "tcp4", Loops: 1, Dialled: true},
		enginetest.Variant{Network: "unix", Loops: 4, Dialled: true, Offloaded: true, Framed: true})...)
	all = append(all,
		layered(enginetest.Variant{Network: "tcp4", Loops: 4, Offloaded: true}),
		layered(enginetest.Variant{Network: "tcp4", Loops: 4, Framed: true, Dialled: true}),
		secured(enginetest.Variant{Network: "tcp4", Loops: 4}),
		webSocket(enginetest.Variant{Network: "tcp4", Loops: 1}, false),
		webSocket(enginetest.Variant{Network: "tcp4", Loops: 4}, true))
	if b, err := os.ReadFile("/proc/net/if_inet6"); err != nil || strings.Contains(string(b), " lo\n") {
		all = append(all, plainly(enginetest.Variant{Network: "tcp6", Loops: 4})...)
	}
	if runtime.GOOS == "linux" {
		var last atomic.Int64
		all = append(all, plainly(enginetest.Variant{Network: "unix", Loops: 4, Address: func(testing.TB) string {
			return fmt.Sprintf("@servercore-contract-%d-%d", os.Getpid(), last.Add(1)) // the abstract space
		}})...)
	}
	return all
}

// layered puts a layer under the sessions of a variant that changes every byte on the wire, and answers probes of the clients'.
func layered(v enginetest.Variant) variant {
	v.Client = func(c net.Conn) (net.Conn, error) {
		side := layer.Client
		if v.Dialled {
			side = layer.Server
		}
		top := side(c, layer.Sealing)
		return top, top.Handshake()
	}
	v.Options = func() []engine.Option {
		return []engine.Option{engine.Layered(func(h engine.Handshake) session.Handshaker {
			return layer.NewSealer(layer.Options{Server: !h.Dialed})
		})}
	}
	return variant{v, "layered"}
}

// secured has the sessions of a variant speak TLS.
func secured(v enginetest.Variant) variant {
	v.Client = func(c net.Conn) (net.Conn, error) {
		top := tls.Client(c, clientConfig)
		return finisher{top}, top.Handshake()
	}
	v.Options = func() []engine.Option { return []engine.Option{engine.TLS(serverConfig)} }
	return variant{v, "tls"}
}

// webSocket has the sessions of a variant speak ws, or wss.
func webSocket(v enginetest.Variant, secure bool) variant {
	v.Messages = true
	v.Client = func(c net.Conn) (net.Conn, error) {
		scheme := "ws"
		if secure {
			scheme, c = "wss", finisher{tls.Client(c, clientConfig)}
		}
		top, err := wsconn.Client(c, websocket.Options{MaxMessage: 64 << 20}, scheme+"://localhost/", nil)
		if err != nil {
			return nil, err
		}
		return top, nil
	}
	v.Options = func() []engine.Option {
		o := engine.WebSocketOptions{MaxMessage: 64 << 20, PingInterval: -1} // some clients do not read for long
		opts := []engine.Option{engine.WebSocket(o)}
		if secure {
			opts = append(opts, engine.TLS(serverConfig))
		}
		return opts
	}
	if secure {
		return variant{v, "wss"}
	}
	return variant{v, "ws"}
}

// finisher is a client's TLS whose CloseWrite sends FIN behind close_notify.
type finisher struct{ *tls.Conn }

func (f finisher) CloseWrite() error {
	return errors.Join(f.Conn.CloseWrite(), f.NetConn().(interface{ CloseWrite() error }).CloseWrite())
}

func (f finisher) Close() error { // the peer may have gone
	_ = f.Conn.CloseWrite()
	return f.NetConn().Close()
}

// serverConfig and clientConfig are those of a server for localhost and of a client that trusts it.
var serverConfig, clientConfig = func() (server, client *tls.Config) {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
		&tls.Config{RootCAs: roots, ServerName: "localhost"}
}()

// name says what is special about a variant.
func name(v variant) string {
	name := fmt.Sprintf("%s,loops=%d", v.Network, v.Loops)
	for _, special := range []struct {
		name string
		has  bool
	}{{"abstract", v.Address != nil}, {"offloaded", v.Offloaded}, {"framed", v.Framed}, {"dialled", v.Dialled}} {
		if special.has {
			name += "," + special.name
		}
	}
	if v.under != "" {
		name += "," + v.under
	}
	return name
}
