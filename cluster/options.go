package cluster

import (
	"cmp"
	"crypto/tls"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"
)

// Options say where the bus is. The zero value is a cluster of one node: a NATS server in the process, with no port open.
type Options struct {
	// Name keeps clusters apart that share a bus. Letters, digits, - and _. Default "servercore".
	Name string

	// URL has the addresses of NATS servers, separated by commas: nats://a:4222,nats://b:4222, or tls://. Each may have a user and
	// password, or a token, before an @. Empty: the server is embedded.
	URL string

	// Credentials is a file: of a NATS user (.creds), or with the seed of an nkey. Only with URL.
	Credentials string

	// TLS is for connections to URL. Default: what the URL and the server ask for, with the system's roots.
	TLS *tls.Config

	// Embedded is the server in this process. Nil: one that is alone. Not with URL.
	Embedded *Embedded

	// FailAfter is how long a node may be silent until it is taken for down: its claims are free then, and its members gone. Heartbeats are
	// sent six times as often. All nodes should have the same value. Default 3 s, at least 300 ms.
	FailAfter time.Duration

	// QueueLimit bounds what waits for the bus, and what waits from the bus for the loops: bytes for each of the two. What does not fit is
	// dropped and counted. Default 16 MiB.
	QueueLimit int

	// SendTimeout bounds how long Send waits for an answer, whatever its context says. Default 5 s.
	SendTimeout time.Duration

	// Logger gets what the bus reports and which nodes come and go. Default slog.Default().
	Logger *slog.Logger
}

// Embedded is a NATS server in the process. Several of them form a cluster by routes.
type Embedded struct {
	// Cluster is the name that all servers of the cluster must have. Default "servercore".
	Cluster string

	// Listen is where other nodes connect to: host:port, port 0 for any (see Cluster.RouteAddr). Other hosts than loopback need Secret and
	// TLS. Empty, with Routes: a port of 127.0.0.1. Empty, without: no port, and no other nodes.
	Listen string

	// Routes are addresses, host:port, of other nodes. One that is up is enough: it tells about the others. A node's own address is
	// ignored. Other hosts than loopback need Secret and TLS.
	Routes []string

	// Secret is what nodes prove to each other. Nodes on loopback can do without.
	Secret string

	// TLS is for routes: with a certificate that is good for server and client, and RootCAs that verify the others' (also as clients,
	// unless ClientCAs is set).
	TLS *tls.Config

	// Dir is where the server may keep files. It keeps none: claims and rooms are in memory.
	Dir string
}

// networked reports whether there may be other nodes.
func (e *Embedded) networked() bool { return e.Listen != "" || len(e.Routes) > 0 }

// withDefaults returns the options with defaults, or what is wrong with them.
func (o Options) withDefaults() (Options, error) {
	o.Name = cmp.Or(o.Name, "servercore")
	o.FailAfter = cmp.Or(o.FailAfter, 3*time.Second)
	o.QueueLimit = cmp.Or(o.QueueLimit, 16<<20)
	o.SendTimeout = cmp.Or(o.SendTimeout, 5*time.Second)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	switch {
	case strings.Trim(o.Name, letters) != "":
		return o, wrong("Name", "%q has other characters than letters, digits, - and _", o.Name)
	case o.FailAfter < 300*time.Millisecond:
		return o, wrong("FailAfter", "%v is less than 300 ms", o.FailAfter)
	case o.QueueLimit < 0:
		return o, wrong("QueueLimit", "%d is negative", o.QueueLimit)
	case o.SendTimeout < 0:
		return o, wrong("SendTimeout", "%v is negative", o.SendTimeout)
	case o.URL != "" && o.Embedded != nil:
		return o, wrong("Embedded", "not together with URL")
	case o.URL == "" && o.Credentials != "":
		return o, wrong("Credentials", "only with URL")
	case o.URL == "" && o.TLS != nil:
		return o, wrong("TLS", "only with URL; routes have Embedded.TLS")
	}
	if o.URL != "" {
		return o, checkURLs(o.URL)
	}
	e := Embedded{}
	if o.Embedded != nil {
		e = *o.Embedded
	}
	o.Embedded = &e
	return o, e.check()
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

// checkURLs looks at the addresses of servers. No error has a password in it.
func checkURLs(list string) error {
	for i, s := range strings.Split(list, ",") {
		u, err := url.Parse(strings.TrimSpace(s))
		if err != nil {
			return wrong("URL", "address %d is no URL", i+1)
		}
		switch u.Scheme {
		case "nats", "tls", "ws", "wss":
		default:
			return wrong("URL", "address %d has scheme %q; want nats or tls", i+1, u.Scheme)
		}
		if u.Hostname() == "" {
			return wrong("URL", "address %d has no host", i+1)
		}
	}
	return nil
}

// check fills in defaults, and says what is wrong.
func (e *Embedded) check() error {
	e.Cluster = cmp.Or(e.Cluster, "servercore")
	if strings.Trim(e.Cluster, letters) != "" {
		return wrong("Embedded.Cluster", "%q has other characters than letters, digits, - and _", e.Cluster)
	}
	if !e.networked() {
		return nil
	}
	e.Listen = cmp.Or(e.Listen, "127.0.0.1:0")
	if err := e.checkAddress("Embedded.Listen", e.Listen); err != nil {
		return err
	}
	for _, r := range e.Routes {
		if err := e.checkAddress("Embedded.Routes", r); err != nil {
			return err
		}
	}
	if e.TLS != nil && len(e.TLS.Certificates) == 0 && e.TLS.GetCertificate == nil {
		return wrong("Embedded.TLS", "has no certificate")
	}
	return nil
}

// checkAddress wants secret and TLS for what leaves the machine (N5).
func (e *Embedded) checkAddress(field, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || port == "" {
		return wrong(field, "%q is not host:port", address)
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	if e.Secret == "" || e.TLS == nil {
		return wrong(field, "%s is not loopback, so Secret and TLS are needed", address)
	}
	return nil
}
