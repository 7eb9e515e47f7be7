package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// connect connects to the embedded server, or to that at URL.
func (c *Cluster) connect(password string) (*nats.Conn, error) {
	o := c.options
	wait := o.FailAfter / 12
	opts := []nats.Option{
		nats.Name("servercore " + o.Name + " " + c.id.String()),
		nats.NoEcho(), // local members have it already
		nats.MaxReconnects(-1), nats.ReconnectWait(wait), nats.ReconnectJitter(wait, wait), nats.IgnoreAuthErrorAbort(),
		nats.ReconnectBufSize(-1), // nothing is kept for later (N2)
		nats.PingInterval(o.FailAfter / 3), nats.MaxPingsOutstanding(2),
		nats.Timeout(2 * time.Second), nats.FlusherTimeout(o.FailAfter / 2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { c.busLost(err) }),
		nats.ReconnectHandler(func(*nats.Conn) { c.busBack() }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { c.busError(err) }),
	}
	if c.server != nil {
		opts = append(opts, nats.InProcessServer(c.server))
		if password != "" {
			opts = append(opts, nats.UserInfo(routeUser, password))
		}
		return nats.Connect("", opts...)
	}
	if o.TLS != nil {
		opts = append(opts, nats.Secure(o.TLS))
	}
	if o.Credentials != "" {
		credentials, err := credentialsOption(o.Credentials)
		if err != nil {
			return nil, err
		}
		opts = append(opts, credentials)
	}
	nc, err := nats.Connect(o.URL, opts...)
	if err != nil {
		return nil, connectError(o.URL, err)
	}
	if err := checkServer(nc); err != nil {
		nc.Close()
		return nil, err
	}
	return nc, nil
}

// credentialsOption reads a file far enough to know what it is.
func credentialsOption(file string) (nats.Option, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, wrong("Credentials", "%v", err)
	}
	if bytes.Contains(content, []byte("NATS USER JWT")) {
		return nats.UserCredentials(file), nil
	}
	o, err := nats.NkeyOptionFromSeed(file)
	if err != nil {
		return nil, wrong("Credentials", "%s is neither the credentials of a NATS user nor the seed of an nkey", file)
	}
	return o, nil
}

// connectError says what to do. It has no password in it.
func connectError(list string, err error) error {
	var hosts []string
	for _, s := range strings.Split(list, ",") {
		if u, err := url.Parse(strings.TrimSpace(s)); err == nil {
			hosts = append(hosts, u.Host)
		}
	}
	at := strings.Join(hosts, ", ")
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked):
		return fmt.Errorf("%w by NATS at %s: user, password, token or Credentials are not right: %w", ErrRefused, at, err)
	case isTLS(err):
		return fmt.Errorf("%w: TLS with NATS at %s fails (Options.TLS): %w", ErrRefused, at, err)
	case errors.Is(err, nats.ErrNoEchoNotSupported):
		return fmt.Errorf("%w: 2.2 is needed, at %s: %w", ErrVersion, at, err)
	case errors.Is(err, nats.ErrNoServers), errors.Is(err, nats.ErrTimeout), errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w: no NATS server answers at %s: %w", ErrUnavailable, at, err)
	}
	return fmt.Errorf("cluster: connecting to NATS at %s: %w", at, err)
}

// isTLS reports whether the two sides do not agree on TLS: whether to use it, or on a certificate.
func isTLS(err error) bool {
	var alert *net.OpError // crypto/tls reports what the other side objects to so
	return errors.Is(err, nats.ErrTLS) || errors.Is(err, nats.ErrSecureConnRequired) || errors.Is(err, nats.ErrSecureConnWanted) ||
		errors.As(err, &alert) && alert.Op == "remote error"
}

// checkServer wants what Send needs, to be told that nobody listens, and room for what nodes say to one another.
func checkServer(nc *nats.Conn) error {
	version := nc.ConnectedServerVersion()
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil || major < 2 || major == 2 && minor < 2 || !nc.HeadersSupported() {
		return fmt.Errorf("%w: %s has version %q, and 2.2 with headers is needed", ErrVersion, nc.ConnectedAddr(), version)
	}
	if most := nc.MaxPayload(); most < minPayload {
		return wrong("URL", "the server at %s takes messages of %d bytes, and %d are needed; raise its max_payload", nc.ConnectedAddr(), most, minPayload)
	}
	return nil
}

// busLost is called when the connection is gone.
func (c *Cluster) busLost(err error) {
	c.mu.Lock()
	c.up.Store(false) // under mu, as begin and busBack set it
	if !c.closed {
		c.machine.SetUp(false, c.now())
		c.handleEvents()
		c.options.Logger.Warn("The connection to NATS is gone; what is local goes on.", "err", err)
	}
	c.mu.Unlock()
	c.out.clear()
}

// busBack is called when there is a connection again. Subscriptions are made anew by then.
func (c *Cluster) busBack() {
	most := c.bus.MaxPayload() // which may wait for a write, so not under mu
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.measure(most)
	c.machine.SetUp(true, c.now())
	c.handleEvents()
	c.up.Store(true)
	c.options.Logger.Info("There is a connection to NATS again.")
	c.wake()
}

// busError is called for errors that end nothing.
func (c *Cluster) busError(err error) {
	if errors.Is(err, nats.ErrSlowConsumer) {
		c.stats.slow.Add(1)
	}
	c.writeFailed(err)
	c.limited.warn(c.options.Logger, "NATS reports an error.", err)
}
