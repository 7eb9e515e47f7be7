package cluster

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/servercore-go/servercore/internal/freeport"
)

// N5 and T6: what cannot be, or would let others in, is an error that names the field.
func TestOpenRefusesOptions(t *testing.T) {
	secret := &Embedded{Listen: "0.0.0.0:0", Secret: "s"}
	for field, o := range map[string]Options{
		"Name":             {Name: "a b"},
		"FailAfter":        {FailAfter: time.Millisecond},
		"QueueLimit":       {QueueLimit: -1},
		"SendTimeout":      {SendTimeout: -1},
		"Embedded:":        {URL: "nats://a", Embedded: &Embedded{}},
		"Credentials":      {Credentials: "x"},
		"TLS":              {TLS: &tls.Config{}},
		"URL: address 2":   {URL: "nats://a:1,http://b"},
		"URL: address 1":   {URL: "nats://:1"},
		"Embedded.Cluster": {Embedded: &Embedded{Cluster: "a b"}},
		"Embedded.Listen":  {Embedded: &Embedded{Listen: "nohost"}},
		"needed":           {Embedded: secret},
		"Embedded.Routes":  {Embedded: &Embedded{Routes: []string{"10.1.2.3:6222"}, TLS: &tls.Config{}}},
		"Embedded.TLS":     {Embedded: &Embedded{Listen: "127.0.0.1:0", TLS: &tls.Config{}}},
		"port":             {Embedded: &Embedded{Listen: "127.0.0.1:http"}},
	} {
		c, err := Open(o)
		if err == nil {
			c.Close()
		}
		if want(t, field, err, ErrOptions); err != nil && !strings.Contains(err.Error(), field) {
			t.Errorf("%s is not named: %v", field, err)
		}
	}
}

// N5: a node with another secret, another name of the cluster, or a certificate of somebody else is refused, and told why.
func TestOpenRefusedByAnotherNode(t *testing.T) {
	ours, theirs := certificates(t), certificates(t)
	a := open(t, Options{Embedded: &Embedded{Cluster: "one", Listen: "127.0.0.1:0", Secret: "right"}})
	b := open(t, Options{Embedded: &Embedded{Cluster: "one", Listen: "127.0.0.1:0", Secret: "right", TLS: ours}})
	for name, e := range map[string]Embedded{
		"Secret":  {Cluster: "one", Routes: []string{a.RouteAddr().String()}, Secret: "wrong"},
		"Cluster": {Cluster: "two", Routes: []string{a.RouteAddr().String()}, Secret: "right"},
		"TLS":     {Cluster: "one", Routes: []string{b.RouteAddr().String()}, Secret: "right", TLS: theirs},
	} {
		c, err := Open(Options{Embedded: &e, Logger: quiet})
		if err == nil {
			c.Close()
		}
		want(t, name, err, ErrRefused)
		if err != nil && (!strings.Contains(err.Error(), "Embedded."+name) || strings.Contains(err.Error(), "right")) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := open(t, Options{Embedded: &Embedded{Cluster: "one", Routes: []string{b.RouteAddr().String()}, Secret: "right", TLS: ours}})
	know(t, b, c)
	if len(a.Nodes()) != 1 {
		t.Errorf("a knows %v", a.Nodes())
	}
	taken := a.RouteAddr().String()
	if d, err := Open(Options{Embedded: &Embedded{Listen: taken}, Logger: quiet}); err == nil || !strings.Contains(err.Error(), taken) {
		t.Errorf("a port in use: %v", err)
		if err == nil {
			d.Close()
		}
	}
	// The listener for clients is there, on loopback, and lets nobody in.
	address := a.server.Addr().(*net.TCPAddr)
	if !address.IP.IsLoopback() {
		t.Errorf("clients can come from elsewhere: %v", address)
	}
	if nc, err := nats.Connect("nats://" + address.String()); err == nil {
		nc.Close()
		t.Error("a client without credentials is let in")
	}
}

// N5: who is refused by this node, or only looks whether somebody listens, does not keep it from starting.
func TestOpenBesideStrangers(t *testing.T) {
	ours := certificates(t)
	for name, e := range map[string]*Embedded{
		"a probe":                {},
		"another secret":         {Cluster: "one", Secret: "wrong", TLS: ours},
		"another cluster":        {Cluster: "two", Secret: "right", TLS: ours},
		"another's certificates": {Cluster: "one", Secret: "right", TLS: certificates(t)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listen, nobody := freePort(t), freePort(t)
			if e.Cluster == "" {
				stop := make(chan struct{})
				var probing sync.WaitGroup
				probing.Go(func() {
					for {
						select {
						case <-stop:
							return
						case <-time.After(5 * time.Millisecond):
						}
						if c, err := net.Dial("tcp", listen); err == nil {
							fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
							c.Close()
						}
					}
				})
				defer probing.Wait()
				defer close(stop)
			} else {
				e.Routes = []string{listen} // nobody is there yet
				open(t, Options{Embedded: e})
			}
			for range 2 {
				n, err := Open(Options{Embedded: &Embedded{Cluster: "one", Secret: "right", TLS: ours, Listen: listen, Routes: []string{nobody}}, Logger: quiet})
				must(t, err)
				must(t, n.Close())
			}
		})
	}
}

// N5: a node that takes its time to refuse us has a route to us until then. Open does not take that for acceptance.
func TestOpenRefusedLate(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { refuseLate(conn, l.Addr().(*net.TCPAddr).Port) })
		}
	})
	defer running.Wait()
	defer l.Close()
	c, err := Open(Options{Embedded: &Embedded{Cluster: "one", Routes: []string{l.Addr().String()}}, Logger: quiet})
	if err == nil {
		c.Close()
	}
	want(t, "Open", err, ErrRefused)
}

// refuseLate is the end of a route that presents itself as NATS does, and says 100 ms after it was told who comes that it does not want it.
func refuseLate(conn net.Conn, port int) {
	defer conn.Close()
	fmt.Fprintf(conn, `INFO {"server_id":"LATE","server_name":"late","version":"2.14.2","host":"127.0.0.1","port":%d,"proto":1,"headers":true,"max_payload":1048576,`+
		`"cluster":"one","auth_required":true}`+"\r\n", port)
	if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil { // CONNECT
		return
	}
	<-time.After(100 * time.Millisecond)
	fmt.Fprint(conn, "-ERR 'Authorization Violation'\r\n")
}

// A NATS server that says nothing, and one that takes less in a message than nodes have to say.
func TestOpenServerOfNoUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	for url, what := range map[string]struct {
		is   error
		says string
	}{
		"nats://" + l.Addr().String():                               {ErrUnavailable, l.Addr().String()},
		natsServer(t, server.Options{MaxPayload: 1000}).ClientURL(): {ErrOptions, "max_payload"},
	} {
		c, err := Open(Options{URL: url, Logger: quiet})
		if err == nil {
			c.Close()
		}
		if want(t, url, err, what.is); err == nil || !strings.Contains(err.Error(), what.says) {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// A server outside, with each kind of credentials, right and wrong. No error has a password in it.
func TestOpenExternal(t *testing.T) {
	dir := t.TempDir()
	key, err := nkeys.CreateUser()
	must(t, err)
	seed, _ := key.Seed()
	public, _ := key.PublicKey()
	other, _ := nkeys.CreateUser()
	otherSeed, _ := other.Seed()
	files := map[string][]byte{"right.nk": seed, "wrong.nk": otherSeed, "nothing": []byte("hello")}
	for name, content := range files {
		must(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	users := natsServer(t, server.Options{Username: "u", Password: "password"})
	token := natsServer(t, server.Options{Authorization: "token"})
	nkey := natsServer(t, server.Options{Nkeys: []*server.NkeyUser{{Nkey: public}}})
	limited := natsServer(t, server.Options{Users: []*server.User{{Username: "u", Password: "password",
		Permissions: &server.Permissions{Subscribe: &server.SubjectPermission{Allow: []string{"other.>"}}}}}})
	free := freePort(t)
	for _, tt := range []struct {
		what, url, credentials string
		err                    error
	}{
		{"user", "nats://u:password@" + users.Addr().String(), "", nil},
		{"wrong password", "nats://u:passwort@" + users.Addr().String(), "", ErrRefused},
		{"no user", users.ClientURL(), "", ErrRefused},
		{"token", "nats://token@" + token.Addr().String(), "", nil},
		{"wrong token", "nats://tokyo@" + token.Addr().String(), "", ErrRefused},
		{"nkey", nkey.ClientURL(), "right.nk", nil},
		{"wrong nkey", nkey.ClientURL(), "wrong.nk", ErrRefused},
		{"no key", nkey.ClientURL(), "nothing", ErrOptions},
		{"no file", nkey.ClientURL(), "missing", ErrOptions},
		{"permissions", "nats://u:password@" + limited.Addr().String(), "", ErrRefused},
		{"nobody there", "nats://u:password@" + free, "", ErrUnavailable},
		{"one of two", "nats://u:password@" + free + ",nats://u:password@" + users.Addr().String(), "", nil},
	} {
		o := Options{URL: tt.url, Logger: quiet}
		if tt.credentials != "" {
			o.Credentials = filepath.Join(dir, tt.credentials)
		}
		c, err := Open(o)
		if err == nil {
			must(t, c.Close())
		}
		if tt.err == nil && err != nil || tt.err != nil {
			want(t, tt.what, err, tt.err)
		}
		if err != nil && (strings.Contains(err.Error(), "passwor") || strings.Contains(err.Error(), "tok")) && !strings.Contains(err.Error(), "user, password, token") {
			t.Errorf("%s: %v", tt.what, err)
		}
	}
}

// A server that is too old is told so.
func TestOpenOldServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	served := make(chan struct{})
	go func() {
		defer close(served)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprintf(c, "INFO {\"server_id\":\"x\",\"version\":\"2.1.9\",\"proto\":1,\"max_payload\":1048576}\r\n")
		for in := bufio.NewScanner(c); in.Scan(); {
			if in.Text() == "PING" {
				fmt.Fprint(c, "PONG\r\n")
			}
		}
	}()
	_, err = Open(Options{URL: "nats://" + l.Addr().String(), Logger: quiet})
	want(t, "2.1.9", err, ErrVersion)
	if err != nil && !strings.Contains(err.Error(), "2.1.9") {
		t.Error(err)
	}
	await(t, served, "the server has ended")
}

// Clusters with different names on one bus do not meet.
func TestNamesKeepApart(t *testing.T) {
	s := natsServer(t, server.Options{})
	a, b, c := open(t, Options{URL: s.ClientURL()}), open(t, Options{URL: s.ClientURL()}), open(t, Options{URL: s.ClientURL(), Name: "other"})
	know(t, a, b)
	u, v := a.connect(), c.connect()
	must(t, a.Claim(ctx(t), "k", u))
	must(t, c.Claim(ctx(t), "k", v))
	if u.Err() != nil || len(c.Nodes()) != 1 {
		t.Errorf("%v, %v", u.Err(), c.Nodes())
	}
}

func freePort(t testing.TB) string {
	t.Helper()
	addr, err := freeport.Addr("127.0.0.1")
	must(t, err)
	return addr
}

// certificates is a configuration with an authority of its own and a certificate for 127.0.0.1.
func certificates(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "node"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, RootCAs: pool}
}
