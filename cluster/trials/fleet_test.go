//go:build linux

package trials

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/servercore-go/servercore/cluster"
)

// kind is a way to have a bus.
type kind string

const (
	alone    kind = "embedded default" // one node, whose bus nobody else reaches
	routes   kind = "embedded routes"  // each node has a server; they are connected by routes, with secret and TLS
	outside  kind = "nats-server"      // Debian's, one
	outside2 kind = "nats-server x 2"  // Debian's, two that are connected by a route: node 0 uses the first, the others the second
)

var kinds = []kind{alone, routes, outside, outside2}

// Hosts of the places.
const (
	firstNode = 11
	firstBus  = 21
)

const (
	password = "a-password-of-the-bus"
	secret   = "a-secret-of-the-nodes"
)

var fleets atomic.Int32 // as many as there were, for the numbers of networks

// fleet is the nodes, the bus and the clients of one trial.
type fleet struct {
	t      *testing.T
	trial  string
	kind   kind
	net    *network
	nodes  []*machine
	buses  []*process // nats-server
	files  string     // where certificates and configurations are
	began  time.Time
	closer closer
	counts struct{ heard, told, doubled, disordered atomic.Int64 }

	mu     sync.Mutex
	faults []string
}

// machine is a node with its place.
type machine struct {
	*process
	*place
	started
	settings
	index  int
	client string // where clients connect
}

// launch starts as many nodes on a bus of that kind, and waits until all know one another. clocks says how wrong their clocks are.
func launch(t *testing.T, trial string, k kind, count int, clocks ...time.Duration) *fleet {
	t.Helper()
	f := &fleet{t: t, trial: trial + ", " + string(k), kind: k, files: t.TempDir(), began: time.Now()}
	demand(t, f.trial)
	f.net = newNetwork(t, int(fleets.Add(1)))
	t.Cleanup(f.closer.close)
	for i := range map[kind]int{outside: 1, outside2: 2}[k] {
		f.buses = append(f.buses, nil)
		f.startBus(i)
	}
	if k == routes {
		f.certificates()
	}
	for i := range count {
		m := &machine{index: i, place: f.net.place(fmt.Sprint("node", i), firstNode+i)}
		m.settings = f.settings(i, count)
		if len(clocks) > 0 {
			m.Clock = clocks[i%len(clocks)]
		}
		m.client = m.settings.Listen
		f.nodes = append(f.nodes, m)
		f.startNode(i)
	}
	f.whole()
	return f
}

// demand skips the trial, visibly, where it cannot be run.
func demand(t *testing.T, trial string) {
	t.Helper()
	why := os.Getenv(hubVariable)
	for _, tool := range []string{"ip", "iptables", "ss", "nats-server"} {
		if _, err := exec.LookPath(tool); err != nil && why == "" {
			why = err.Error()
		}
	}
	if why != "" {
		addRow(row{trial, "", why, "not run"})
		t.Skip(why)
	}
}

// settings are those of node i of count.
func (f *fleet) settings(i, count int) settings {
	p := f.net.place(fmt.Sprint("node", i), firstNode+i)
	s := settings{Listen: p.address + ":7000", Grace: 20 * time.Second}
	switch f.kind {
	case routes:
		s.Route, s.Secret, s.Files = p.address+":6222", secret, filepath.Join(f.files, "node")
		for j := range count {
			if j != i {
				s.Others = append(s.Others, fmt.Sprintf("10.98.%d.%d:6222", f.net.number, firstNode+j))
			}
		}
	case outside:
		s.URL = f.busURL(0)
	case outside2:
		s.URL = f.busURL(min(i, 1))
	}
	return s
}

func (f *fleet) busURL(i int) string {
	return fmt.Sprintf("nats://node:%s@10.98.%d.%d:4222", password, f.net.number, firstBus+i)
}

// startNode starts the process of a node, and waits until it is open.
func (f *fleet) startNode(i int) {
	f.t.Helper()
	m := f.nodes[i]
	m.process = f.run(m.place, m.settings)
	if m.started = next[started](m.process, "start"); m.Problem != "" {
		f.t.Fatalf("node %d: %s", i, m.Problem)
	}
}

// run starts this program as a node.
func (f *fleet) run(p *place, s settings) *process {
	f.t.Helper()
	text, err := json.Marshal(s)
	must(f.t, err)
	self, err := os.Executable()
	must(f.t, err)
	return p.start(nodeVariable+"="+string(text), self)
}

// busConfiguration is that of Debian's nats-server. A split is noticed by pings; their interval is two minutes by default.
const busConfiguration = `
listen: "%[1]s:4222"
ping_interval: "1s"
ping_max: 2
write_deadline: "3s"
authorization { user: node, password: "%[2]s" }
`

const busCluster = `
cluster {
	name: trial
	listen: "%[1]s:6222"
	authorization { user: route, password: "%[2]s" }
	routes: ["nats-route://route:%[2]s@%[3]s:6222"]
}
`

// startBus starts a NATS server, where it was before if it was killed, and waits until it answers.
func (f *fleet) startBus(i int) {
	f.t.Helper()
	p := f.net.place(fmt.Sprint("bus", i), firstBus+i)
	text := fmt.Sprintf(busConfiguration, p.address, password)
	if f.kind == outside2 {
		text += fmt.Sprintf(busCluster, p.address, password, fmt.Sprintf("10.98.%d.%d", f.net.number, firstBus+1-i))
	}
	file := filepath.Join(f.files, fmt.Sprintf("bus%d.conf", i))
	must(f.t, os.WriteFile(file, []byte(text), 0o600))
	f.buses[i] = p.start("", "nats-server", "-c", file)
	until(f.t, "nats-server answers", func() bool {
		conn, err := net.DialTimeout("tcp", p.address+":4222", time.Second)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
}

// certificates writes an authority, and a certificate for all nodes.
func (f *fleet) certificates() {
	must(f.t, writeCertificates(filepath.Join(f.files, "node"), f.net.number))
}

func writeCertificates(name string, subnet int) error {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "trial"}, NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "node"}, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	for host := firstNode; host < firstBus; host++ {
		leaf.IPAddresses = append(leaf.IPAddresses, net.IPv4(10, 98, byte(subnet), byte(host)))
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	for suffix, block := range map[string]*pem.Block{
		".ca": {Type: "CERTIFICATE", Bytes: caDER}, ".crt": {Type: "CERTIFICATE", Bytes: leafDER}, ".key": {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(name+suffix, pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// whole waits until all nodes know one another, and returns how long that has taken.
func (f *fleet) whole() time.Duration {
	f.t.Helper()
	return until(f.t, "all nodes know one another", func() bool { return f.isWhole(f.nodes...) })
}

// isWhole reports whether these nodes, and no others, know one another and the bus.
func (f *fleet) isWhole(nodes ...*machine) bool {
	f.t.Helper()
	for _, m := range nodes {
		if s := ask[state](m.process, "state"); s.Nodes != len(nodes) || !s.Available {
			return false
		}
	}
	return true
}

// fault notes what must not be.
func (f *fleet) fault(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, fmt.Sprintf(format, args...))
}

// check judges a criterion: a row of the table, and an error of the test.
func (f *fleet) check(criterion string, ok bool, format string, args ...any) {
	f.t.Helper()
	r := row{f.trial, criterion, fmt.Sprintf(format, args...), "pass"}
	if !ok {
		r.verdict = "FAIL"
		f.t.Errorf("%s: %s", criterion, r.measured)
	}
	addRow(r)
}

// judge judges what every trial has in common (O1, N1): processes live and have no disaster to tell of, nothing came twice or out of order.
func (f *fleet) judge() {
	f.t.Helper()
	for i, m := range f.nodes {
		select {
		case <-m.exited:
			f.fault("node %d has ended", i)
		default:
		}
		if what := disaster.FindString(m.said()); what != "" {
			f.fault("node %d said: %s", i, what)
		}
	}
	f.mu.Lock()
	faults := len(f.faults)
	all := strings.Join(f.faults, "; ")
	f.mu.Unlock()
	c := &f.counts
	f.check("no message twice, none out of order, no process in trouble", c.doubled.Load()+c.disordered.Load() == 0 && faults == 0,
		"%d received; %d twice, %d out of order, %d faults %s", c.heard.Load()+c.told.Load(), c.doubled.Load(), c.disordered.Load(), faults, all)
	if f.t.Failed() {
		for i, m := range f.nodes {
			f.t.Logf("node %d (%v) said:\n%s", i, m.ID, m.said())
		}
	}
}

// states are what all nodes say of themselves.
func (f *fleet) states() (all []state) {
	f.t.Helper()
	for _, m := range f.nodes {
		all = append(all, ask[state](m.process, "state"))
	}
	return all
}

// ids are the identities of the nodes.
func (f *fleet) owner(id cluster.NodeID) int {
	for i, m := range f.nodes {
		if m.ID == id {
			return i
		}
	}
	return -1
}

// closer closes connections when a trial ends.
type closer struct {
	mu   sync.Mutex
	open []io.Closer
}

func (c *closer) add(x io.Closer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = append(c.open, x)
}

func (c *closer) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range c.open {
		_ = x.Close()
	}
}
