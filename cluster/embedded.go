package cluster

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// routeUser is the name with which nodes prove the secret.
const routeUser = "servercore"

// startEmbedded starts a server in this process. The password is what its client needs.
func startEmbedded(e *Embedded, failAfter time.Duration, log *slog.Logger) (s *server.Server, password string, err error) {
	o := &server.Options{
		NoSigs: true, NoLog: true, NoSystemAccount: true, DontListen: true,
		WriteDeadline: failAfter, StoreDir: e.Dir,
	}
	watch := &serverLog{log: log, routes: e.Routes}
	if e.networked() {
		// The listener for routes is ready only after one for clients is. Nobody knows the password of that one.
		password = rand.Text()
		o.DontListen, o.Host, o.Port = false, "127.0.0.1", server.RANDOM_PORT
		o.Username, o.Password = routeUser, password
		if err := e.routes(o, failAfter); err != nil {
			return nil, "", err
		}
	}
	if s, err = server.NewServer(o); err != nil {
		return nil, "", fmt.Errorf("cluster: the embedded server: %w", err)
	}
	s.SetLoggerV2(watch, false, false, false)
	s.Start()
	ready := false
	for began := time.Now(); !ready && watch.why() == nil && time.Since(began) < 5*time.Second; {
		ready = s.ReadyForConnections(100 * time.Millisecond)
	}
	if !ready {
		err = watch.why()
		s.Shutdown()
		s.WaitForShutdown()
		if err == nil {
			err = fmt.Errorf("cluster: the embedded server is not ready after 5 s, address %s", e.Listen)
		}
		return nil, "", err
	}
	if err := awaitRoute(s, e, watch); err != nil {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, "", err
	}
	return s, password, nil
}

// routes fills in what concerns other nodes.
func (e *Embedded) routes(o *server.Options, failAfter time.Duration) error {
	host, port, _ := net.SplitHostPort(e.Listen)
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return wrong("Embedded.Listen", "port %q is no number up to 65535", port)
	}
	o.Cluster = server.ClusterOpts{
		Name: e.Cluster, Host: host, Port: int(n), AuthTimeout: 2, ConnectRetries: 1 << 30,
		// A route that is dead, and not closed, is found as fast as a node that is.
		PingInterval: failAfter / 3, MaxPingsOut: 2, WriteDeadline: failAfter,
	}
	if n == 0 {
		o.Cluster.Port = server.RANDOM_PORT
	}
	if e.Secret != "" {
		o.Cluster.Username, o.Cluster.Password = routeUser, e.Secret
	}
	if e.TLS != nil {
		c := e.TLS.Clone()
		c.ClientAuth = tls.RequireAndVerifyClientCert
		if c.ClientCAs == nil {
			c.ClientCAs = c.RootCAs
		}
		o.Cluster.TLSConfig, o.Cluster.TLSTimeout = c, 2
	}
	for _, r := range e.Routes {
		u := &url.URL{Scheme: "nats-route", Host: r}
		if e.Secret != "" {
			u.User = url.UserPassword(routeUser, e.Secret)
		}
		o.Routes = append(o.Routes, u)
	}
	return nil
}

// unproven is how long a route may be there without a sign that the other node has accepted it, and count all the same.
const unproven = 300 * time.Millisecond

// isAccepted reports whether the other end of a route has shown that it takes us: it has sent its subscriptions, or answered a ping. A
// route is there before that, as soon as we have presented ourselves, and also when we are about to be refused.
func isAccepted(s *server.Server) bool {
	routes, err := s.Routez(nil)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(routes.Routes, func(r *server.RouteInfo) bool {
		rtt, err := time.ParseDuration(r.RTT)
		return r.NumSubs > 0 || err == nil && rtt > 0
	})
}

// awaitRoute waits until another node is connected, or refuses us. If one of them is not up it waits for a second: perhaps none is. Else
// for three: a refusal can be lost with its connection, and the next attempt is a second later.
func awaitRoute(s *server.Server, e *Embedded, watch *serverLog) error {
	if len(e.Routes) == 0 {
		return nil
	}
	began := time.Now()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	var since time.Time // when the route of now was first seen
	for {
		if err := watch.why(); err != nil {
			return err
		}
		if s.NumRoutes() == 0 {
			since = time.Time{}
		} else if since.IsZero() {
			since = time.Now()
		}
		if !since.IsZero() && (isAccepted(s) || time.Since(since) > unproven) {
			return nil
		}
		if took := time.Since(began); took > 3*time.Second || took > time.Second && watch.isAbsent() {
			return nil
		}
		<-look.C
	}
}

// serverLog is the server's logger. It hands warnings and errors on, and remembers why this node was refused.
type serverLog struct {
	log    *slog.Logger
	routes []string

	mu      sync.Mutex
	refused error
	absent  bool // another node could not be connected to
	said    map[string]time.Time
}

// why returns why this node was refused, nil if it was not.
func (l *serverLog) why() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refused
}

func (l *serverLog) isAbsent() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.absent
}

func (l *serverLog) note(level slog.Level, format string, v []any) {
	text := fmt.Sprintf(format, v...)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused == nil {
		l.refused = l.refusal(text)
	}
	l.absent = l.absent || strings.HasPrefix(text, "Error trying to connect to route")
	if l.said == nil || len(l.said) > 100 {
		l.said = make(map[string]time.Time)
	}
	if strings.HasPrefix(text, "Plaintext passwords") {
		return // they are in this process only
	}
	if now := time.Now(); now.Sub(l.said[format]) > 10*time.Second { // reconnecting says the same again and again
		l.said[format] = now
		l.log.Log(context.Background(), level, "The embedded NATS server reports: "+text)
	}
}

// refusal is what a line means for this node. Lines about connections that others have made are not about it: they begin with an
// address that is in no route.
func (l *serverLog) refusal(text string) error {
	if at, _, is := strings.Cut(text, " - rid:"); is {
		_, port, _ := net.SplitHostPort(at)
		if !slices.ContainsFunc(l.routes, func(r string) bool { return strings.HasSuffix(r, ":"+port) }) {
			return nil
		}
	}
	return refusal(text)
}

// refusal says what a line of the server's log means for the operator, nil if it is no refusal.
func refusal(text string) error {
	switch {
	case strings.Contains(text, "Route Error") && strings.Contains(text, "Authorization Violation"):
		return fmt.Errorf("%w by another node: the secret differs (Embedded.Secret)", ErrRefused)
	case strings.Contains(text, "Cluster Name Conflict"), strings.Contains(text, "Route Error") && strings.Contains(text, "cluster name"):
		return fmt.Errorf("%w by another node: the name of the cluster differs (Embedded.Cluster)", ErrRefused)
	case strings.Contains(text, "TLS route handshake error"):
		return fmt.Errorf("%w: TLS with another node fails (Embedded.TLS): %s", ErrRefused, text)
	case strings.Contains(text, "Error listening on"):
		return fmt.Errorf("cluster: Embedded.Listen: %s", text)
	}
	return nil
}

// Noticef implements server.Logger. A conflict of names is a notice that a connection was closed.
func (l *serverLog) Noticef(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused == nil {
		l.refused = l.refusal(fmt.Sprintf(format, v...))
	}
}

// Warnf implements server.Logger.
func (l *serverLog) Warnf(format string, v ...any) { l.note(slog.LevelWarn, format, v) }

// Fatalf implements server.Logger. The server goes on, or is not ready.
func (l *serverLog) Fatalf(format string, v ...any) { l.note(slog.LevelError, format, v) }

// Errorf implements server.Logger.
func (l *serverLog) Errorf(format string, v ...any) { l.note(slog.LevelWarn, format, v) }

// Debugf implements server.Logger.
func (l *serverLog) Debugf(string, ...any) {}

// Tracef implements server.Logger.
func (l *serverLog) Tracef(string, ...any) {}
