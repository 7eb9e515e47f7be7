package tls

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"

	"github.com/servercore-go/servercore/pool"
	"github.com/servercore-go/servercore/session"
)

// A Layer is one connection's TLS: a session.Sealer on crypto/tls. Server and Client make one.
type Layer struct {
	conn      *tls.Conn  // set by the handshake's goroutine, constant once the handshake is done
	handshake *handshake // nil when it is done
	local     net.Addr
	remote    net.Addr

	// The loop's.
	err      error // what Open returns from now on
	in       []byte
	out      []byte       // what Seal appends to
	left     *pool.Buffer // input that came behind the handshake, from leftAt on
	own      *pool.Buffer // what crypto/tls has written on its own
	fed      records      // where the input of crypto/tls ends
	whole    int          // records that crypto/tls has been given and may not have read: 0 if it has read all
	leftAt   int
	answers  int32 // number of records of our own that Own has not taken
	sealing  bool
	discard  bool
	alerted  bool // a fatal alert was sent or received
	finished bool
}

var (
	_ session.Handshaker = (*Layer)(nil)
	_ session.Sealer     = (*Layer)(nil)
)

// Server returns the server's side of a connection. config is shared and not changed; it has to pass CheckServer. h is shared by all
// connections of an engine. The addresses are what the config's callbacks see as ClientHelloInfo.Conn, of which nothing else may be used;
// they may be nil. Nothing happens before Start.
func Server(config *tls.Config, h *Handshakes, local, remote net.Addr) *Layer {
	return newLayer(config, h, false, local, remote)
}

// Client returns the client's side of a connection. config is shared and not changed, and may be nil; with serverName it has to pass
// CheckClient. serverName is the host whose certificate is expected, and takes effect if config has no ServerName: a copy of config is made
// for this connection then. h may be the one of the servers.
func Client(config *tls.Config, serverName string, h *Handshakes, local, remote net.Addr) *Layer {
	if config == nil {
		config = &tls.Config{ServerName: serverName}
	} else if config.ServerName == "" && serverName != "" {
		config = config.Clone()
		config.ServerName = serverName
	}
	return newLayer(config, h, true, local, remote)
}

func newLayer(config *tls.Config, h *Handshakes, client bool, local, remote net.Addr) *Layer {
	l := &Layer{local: local, remote: remote}
	l.handshake = &handshake{pool: h, layer: l, config: config, client: client}
	if !client {
		l.handshake.most = mostInput
		if config.ClientAuth != tls.NoClientCert || config.GetConfigForClient != nil {
			l.handshake.most = mostWithCertificate
		}
	}
	return l
}

// CheckServer says why no handshake with config can succeed, as far as config itself tells.
func CheckServer(config *tls.Config) error {
	if config == nil || len(config.Certificates) == 0 && config.GetCertificate == nil && config.GetConfigForClient == nil {
		return errors.New("tls: the server's config needs Certificates, GetCertificate or GetConfigForClient")
	}
	return nil
}

// CheckClient says why Client cannot use config and serverName: the name to verify is missing, or renegotiation is on. A renegotiation is a
// handshake in the middle of the stream, which would make the loop wait.
func CheckClient(config *tls.Config, serverName string) error {
	switch {
	case serverName == "" && (config == nil || config.ServerName == "" && !config.InsecureSkipVerify):
		return errors.New("tls: the client's config needs ServerName or InsecureSkipVerify")
	case config != nil && config.Renegotiation != tls.RenegotiateNever:
		return errors.New("tls: Config.Renegotiation is not supported, set it to RenegotiateNever")
	}
	return nil
}

// Start begins the handshake. wake is called from other goroutines when there is a reason to call Open (with or without input) and Own:
// bytes to send, room for input, the end of the handshake. It must return soon, and must not call the layer. When Drop has returned, or
// the Open that finds the handshake done, wake does not run and is not called any more.
func (l *Layer) Start(wake func()) {
	hs := l.handshake
	h := hs.pool
	h.mu.Lock()
	defer h.mu.Unlock()
	hs.wake = wake
	if hs.client {
		h.start(hs)
	}
}

// Established reports whether Open has found the handshake done.
func (l *Layer) Established() bool { return l.handshake == nil }

// ConnectionState returns what was negotiated: version, names, certificates. It may be called from any goroutine once the layer is
// established, also after Drop. Each call makes a copy.
func (l *Layer) ConnectionState() tls.ConnectionState { return l.conn.ConnectionState() }

// Discard says that Open returns no bytes any more.
func (l *Layer) Discard() { l.discard = true }

// Pending reports whether there are bytes of TLS's own to send: of the handshake, answers to key updates, alerts.
func (l *Layer) Pending() bool {
	if l.handshake != nil {
		return l.handshake.hasOwn()
	}
	return l.own != nil
}

// Own appends the bytes of TLS's own that wait: of the handshake, answers to key updates, alerts. They have their place in the stream of
// records already: between is not looked at.
func (l *Layer) Own(dst []byte, between bool) []byte {
	own := l.own
	if l.handshake != nil {
		own = l.handshake.takeOwn()
	}
	l.own, l.answers = nil, 0
	if own != nil {
		dst = append(dst, own.B...)
		own.Release()
	}
	return dst
}

// Seal appends the records of plain, behind the bytes of TLS's own if there are any. It fails after Finish and after an alert was sent.
func (l *Layer) Seal(dst, plain []byte) ([]byte, error) {
	if l.handshake != nil {
		return dst, errNotEstablished
	}
	if l.finished {
		return dst, errFinished
	}
	if l.own != nil {
		dst = l.Own(dst, true)
	}
	l.out, l.sealing = dst, true
	_, err := l.conn.Write(plain)
	dst = l.out
	l.out, l.sealing = nil, false
	return dst, err
}

// Finish makes close_notify, unless a fatal alert was sent or received: that was the last word. Later, what Open would answer is dropped.
func (l *Layer) Finish(reason error) {
	if l.handshake != nil || l.finished {
		return
	}
	if !l.alerted {
		l.conn.CloseWrite() // writes to memory, and so cannot fail
	}
	l.finished = true
}

// Ended returns nil if the peer has sent close_notify, else an error that matches session.ErrTruncated. During the handshake it returns an
// error that also matches session.ErrHandshake if more input was needed, and nil if the handshake is at work or done: its outcome comes by
// wake and Open then, and Ended is asked again behind the last byte.
func (l *Layer) Ended() error {
	switch {
	case l.handshake != nil && l.err != nil:
		return l.err
	case l.handshake != nil:
		return l.handshake.ended()
	case l.err == io.EOF:
		return nil
	}
	return session.ErrTruncated
}

// NextAt returns 0: TLS has no deadlines.
func (l *Layer) NextAt() time.Duration { return 0 }

// Expire does nothing.
func (l *Layer) Expire(time.Duration) error { return nil }

// Drop gives back what the layer holds. A handshake under way ends; wake is not called any more.
func (l *Layer) Drop() {
	if l.handshake != nil {
		l.handshake.drop()
	}
	release(&l.left)
	release(&l.own)
	l.in, l.out = nil, nil
}
