package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/servercore-go/servercore/internal/freeport"
)

// What a new user sees: three processes with one command, users of different nodes in one room, a name and a line for one user across nodes,
// the history on each node; then a node is killed, and one is told to end.
func TestDemo(t *testing.T) {
	d := runDemo(t, "-drain", "10s")
	anna, ben := enter(t, d.nodes[0].lines, "anna"), enter(t, d.nodes[1].lines, "ben")
	anna.until("/who", "* anna, ben")
	anna.until("/to ben psst", "* to ben: psst")
	ben.expect("* anna, to you: psst")
	anna.say("/to carl psst")
	anna.expect("* not sent to carl: ")

	// Nobody has been on the third node. It hears the lobby all the same, from when it has a route to the others.
	for heard := false; !heard; {
		ben.say("hello, anna")
		anna.expect("ben: hello, anna")
		anna.say("hello, ben")
		ben.expect("anna: hello, ben")
		carl := dial(t, d.nodes[2].lines)
		carl.expect("in lobby, with ")
		history := ""
		for line := carl.line(); line != "* this is node 3\n"; line = carl.line() {
			if history += line; line == "" {
				t.Fatalf("carl has got %q", history)
			}
		}
		if heard = strings.HasSuffix(history, "ben: hello, anna\nanna: hello, ben\n"); !heard {
			carl.say("/quit")
			carl.ended()
		}
	}

	d.signal(t, 0, syscall.SIGKILL)
	anna.ended()
	anna = enter(t, d.lines, "anna") // by the balancer, which leaves the dead node out
	ben.say("are you back?")
	anna.expect("ben: are you back?")

	second := enter(t, d.nodes[2].lines, "ben") // from now on ben is here
	ben.ended()
	erin := enter(t, d.nodes[1].lines, "erin")
	erin.until("/who", "* anna, ben, erin, guest") // the last one is carl
	if err := syscall.Kill(d.nodes[1].pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	erin.expect("* this node ends; connect again")
	erin = enter(t, d.lines, "erin") // ends the one before
	erin.say("I am here")
	second.expect("erin: I am here")
}

// Nodes on several machines need a secret and certificates: the flags give them, the variable the secret. The node is ready when its page
// says so.
func TestNodesWithTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := writeCertificate(t, dir)
	secret := func(name string) string {
		if name == "CHAT_CLUSTER_SECRET" {
			return "a long text that nobody guesses"
		}
		return ""
	}
	route := free(t)
	var nodes []config
	for i, flags := range [][]string{{"-node", "a", "-cluster-listen", route}, {"-node", "b", "-cluster-listen", free(t), "-cluster-routes", route}} {
		c, err := parse(append(flags, "-cluster-cert", cert, "-cluster-key", key, "-cluster-ca", cert, "-drain", "100ms",
			"-addr", free(t), "-web", "", "-observe", free(t)), secret, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, c)
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- serve(ctx, c) }()
		t.Cleanup(func() {
			stop()
			if err := <-ended; err != nil {
				t.Errorf("node %d: %v", i, err)
			}
		})
		awaitReady(t, "http://"+c.observe+"/readyz")
	}
	anna, ben := enter(t, nodes[0].addr, "anna"), enter(t, nodes[1].addr, "ben")
	anna.until("/who", "* anna, ben")
	r, err := http.Get("http://" + nodes[0].observe + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := io.ReadAll(r.Body)
	r.Body.Close()
	if err != nil || !strings.Contains(string(metrics), "\nservercore_cluster_nodes ") {
		t.Errorf("%v; /metrics has no numbers of the cluster:\n%s", err, metrics)
	}
	ben.say("hello")
	anna.expect("ben: hello")

	problems, err := promlint.New(strings.NewReader(string(metrics))).Lint()
	if err != nil {
		t.Error(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "servercore_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}

	wrong := nodes[1]
	wrong.secret, wrong.listen, wrong.addr, wrong.observe = "another text", free(t), free(t), ""
	if err := serve(t.Context(), wrong); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("with a wrong secret: %v", err)
	}
}

// A node that drains is not ready, and healthy, while a user stays on it.
func TestDrainingNodeIsNotReady(t *testing.T) {
	c, err := parse([]string{"-node", "a", "-drain", "20s", "-addr", free(t), "-web", "", "-observe", free(t)}, func(string) string { return "" }, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, c) }()
	ready, healthy := "http://"+c.observe+"/readyz", "http://"+c.observe+"/healthz"
	awaitReady(t, ready)
	anna := enter(t, c.addr, "anna")
	stop()
	anna.expect("* this node ends; connect again")
	for page, want := range map[string]int{ready: http.StatusServiceUnavailable, healthy: http.StatusOK} {
		r, err := http.Get(page)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != want {
			t.Errorf("%s: %d, want %d", page, r.StatusCode, want)
		}
	}
	anna.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// The options that cannot be are told.
func TestParse(t *testing.T) {
	for args, want := range map[string]string{
		"-nodes 0":              "-nodes is from 1 to 9",
		"-nodes 10":             "-nodes is from 1 to 9",
		"-node a -cluster-ca f": "belong together",
		"-nats nats://a -cluster-listen 127.0.0.1:1": "exclude each other",
		"three":   `"three" is no flag`,
		"-nodes":  "needs an argument",
		"-drain ": "CHAT_DRAIN",
	} {
		getenv := func(name string) string {
			return map[string]string{"CHAT_DRAIN": "soon"}[name]
		}
		if args != "-drain " {
			getenv = func(string) string { return "" }
		} else {
			args = ""
		}
		if _, err := parse(strings.Fields(args), getenv, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
	}
	getenv := func(name string) string {
		return map[string]string{"CHAT_NODE": "x", "CHAT_CLUSTER_SECRET": "s", "CHAT_DRAIN": "7s"}[name]
	}
	if c, err := parse([]string{"-node", "y"}, getenv, io.Discard); err != nil || c.node != "y" || c.secret != "s" || c.drain != 7*time.Second {
		t.Errorf("%+v, %v: want flags first, then variables", c, err)
	}
}

// free is an address that nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	a, err := freeport.Addr("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// awaitReady asks until the answer is 200.
func awaitReady(t *testing.T, url string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); ; {
		r, err := http.Get(url)
		if err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s is not ready: %v", url, err)
		}
	}
}

// writeCertificate writes a certificate for 127.0.0.1 that signs itself, and its key.
func writeCertificate(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "node"}, SerialNumber: big.NewInt(1),
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}
