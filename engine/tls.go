package engine

import (
	"crypto/tls"
	"net"

	layertls "github.com/servercore-go/servercore/layer/tls"
)

// TLS has the sessions of a listener, or of a Dial, speak TLS, by package crypto/tls. Everything that holds for a session holds above it:
// sizes, counts and limits are those of the application's bytes. Session.TLS tells what was negotiated.
//
// The config is shared, not copied, and must not be changed afterwards, as in net/http. GetCertificate and GetConfigForClient replace
// certificates without a restart; SetSessionTicketKeys may be called at any time, and keys that a later process has too let clients resume
// after a restart. A listener's config needs a certificate. Dial takes the name to verify from the address if ServerName is empty, and a nil
// config has the defaults. Renegotiation is not supported: CheckClient of package layer/tls says so.
//
// The handshake has Options.HandshakeTimeout. It computes on a few goroutines of their own (half of GOMAXPROCS), so that a flood of handshakes
// delays other handshakes and not the sessions. The functions in the config run there too. One that fails is counted in
// Stats.Refused.Handshake and logged with its cause, a line a second at most. An established session has no goroutine; an idle one has 5.3 KB
// of memory besides (TLS 1.3), which is crypto/tls's.
//
// Disconnect delivers what was sent, then close_notify, then FIN. The peer's close_notify is its FIN for the application. A FIN without it ends the
// session with session.ErrTruncated.
func TLS(config *tls.Config) Option {
	return func(o *origin) error { return once("TLS", &o.tls, &tlsOption{config}, o.tls != nil) }
}

// tlsOption is what TLS was given.
type tlsOption struct{ config *tls.Config }

// check says why the config cannot work for a listener, or for a dial to that address.
func (t *tlsOption) check(dialed bool, address string) error {
	if t == nil {
		return nil
	}
	if dialed {
		return layertls.CheckClient(t.config, serverName(address))
	}
	return layertls.CheckServer(t.config)
}

// tlsLayer is the layer that TLS puts under a session.
type tlsLayer = *layertls.Layer

// layer makes the layer of one connection.
func (t *tlsOption) layer(e *Engine, h Handshake) tlsLayer {
	if h.Dialed {
		return layertls.Client(t.config, serverName(h.Address), &e.handshakes, h.Local, h.Remote)
	}
	return layertls.Server(t.config, &e.handshakes, h.Local, h.Remote)
}

// serverName returns the host of an address that was dialled, "" if it has none.
func serverName(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	return host
}
