package bench

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// TLS by crypto/tls, on the worker. There is no goroutine to wake up between the arrival of bytes and their check, so times mean the same
// as without TLS. A handshake blocks in crypto/tls, so it is a coroutine: it runs when its bytes have come and gives the worker back when it
// needs more. What it computes, about 0.5 ms for a full one, delays the worker's other connections. With churn and ramp that happens under
// load and shows in all their times; a warning says so.

// tlsConfig returns the config of all connections of a plan, nil without TLS. With the system's roots, they are read now and not within a
// handshake.
func (p *Plan) tlsConfig() (*tls.Config, error) {
	if !p.TLS {
		return nil, nil
	}
	c := &tls.Config{ServerName: p.serverName()}
	var err error
	switch {
	case p.TLSPin != "":
		pin := p.pin()
		c.InsecureSkipVerify = true // in favour of the pin, which VerifyConnection checks for resumed sessions too
		c.VerifyConnection = func(s tls.ConnectionState) error {
			if got := sha256.Sum256(s.PeerCertificates[0].Raw); string(got[:]) != string(pin) {
				return fmt.Errorf("the server's certificate has the SHA-256 %x, not that of -tls-pin", got)
			}
			return nil
		}
	case p.TLSCA != "":
		var data []byte
		if data, err = os.ReadFile(p.TLSCA); err != nil {
			return nil, &PlanError{"tls-ca", p.TLSCA, err.Error()}
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(data) {
			return nil, &PlanError{"tls-ca", p.TLSCA, "no certificate is in it; use a PEM file"}
		}
	default:
		if c.RootCAs, err = x509.SystemCertPool(); err != nil {
			return nil, fmt.Errorf("bench: the system's certificates: %w", err)
		}
	}
	return c, nil
}

// serverName returns the name for which the server must have a certificate.
func (p *Plan) serverName() string {
	if p.TLSName != "" {
		return p.TLSName
	}
	if host, _, err := net.SplitHostPort(p.Addr); err == nil && host != "" && !strings.HasPrefix(p.Addr, "unix:") {
		return host
	}
	return "localhost"
}

// pin returns the SHA-256 that TLSPin is, nil if it is none. openssl writes it with colons.
func (p *Plan) pin() []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(p.TLSPin, ":", ""))
	if err != nil || len(b) != sha256.Size {
		return nil
	}
	return b
}

func (p *Plan) validateTLS() error {
	switch {
	case !p.TLS && p.TLSPin != "":
		return &PlanError{"tls-pin", p.TLSPin, "it needs -tls"}
	case !p.TLS && p.TLSCA != "":
		return &PlanError{"tls-ca", p.TLSCA, "it needs -tls"}
	case !p.TLS && p.TLSName != "":
		return &PlanError{"tls-name", p.TLSName, "it needs -tls"}
	case strings.ContainsFunc(p.TLSName, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '/' }):
		return &PlanError{"tls-name", strconv.Quote(p.TLSName), "use the name of a host, such as example.org"}
	case !p.TLS && p.TLSResume:
		return &PlanError{"tls-resume", "", "it needs -tls"}
	case p.TLSPin != "" && p.TLSCA != "":
		return &PlanError{"tls-ca", p.TLSCA, "use either it or -tls-pin"}
	case p.TLSPin != "" && p.pin() == nil:
		return &PlanError{"tls-pin", p.TLSPin, "use the SHA-256 of the server's certificate, 64 hexadecimal digits"}
	}
	return nil
}

var (
	errAgain   = net.Error(again{})
	errStopped = errors.New("the handshake was given up")
)

// again is the read error that crypto/tls does not keep, because it is Temporary: the next Read goes on where this one ended.
type again struct{}

func (again) Error() string   { return "nothing has arrived" }
func (again) Timeout() bool   { return true }
func (again) Temporary() bool { return true }

// secured is the TLS of one connection, and the net.Conn below it. Only its worker uses it, but for send and flush of a publisher.
type secured struct {
	conn *tls.Conn
	fd   int

	next  func() (struct{}, bool) // goes on with the handshake
	stop  func()                  // gives it up
	yield func(struct{}) bool     // waits for bytes; nil when the handshake is done
	err   error                   // of the handshake
	since int64                   // when it began

	drained bool // the last read was short: nothing is left until the next event
	toEnd   bool // the peer has closed: a short read is not the end

	mu  sync.Mutex
	out []byte // records that the kernel has not taken yet
}

func newSecured(fd int, config *tls.Config, now int64) *secured {
	s := &secured{fd: fd, since: now}
	s.conn = tls.Client(s, config)
	s.next, s.stop = iter.Pull(func(yield func(struct{}) bool) {
		s.yield = yield
		s.err = s.conn.Handshake()
		s.yield = nil
	})
	return s
}

// event says that the descriptor is ready.
func (s *secured) event(closed bool) {
	s.drained = false
	s.toEnd = s.toEnd || closed
}

// shake goes on with the handshake and reports whether it is done. err says how.
func (s *secured) shake() (done bool) {
	if _, waits := s.next(); waits {
		return false
	}
	if errno := s.flush(); errno != 0 && s.err == nil {
		s.err = errno
	}
	return true
}

// Read is called by crypto/tls for records.
func (s *secured) Read(p []byte) (int, error) {
	for {
		if errno := s.flush(); errno != 0 && s.yield != nil { // later the read tells
			return 0, errno
		}
		n, errno := 0, unix.EAGAIN
		if !s.drained {
			n, errno = read(s.fd, p)
		}
		switch {
		case errno == unix.EINTR:
		case errno == unix.EAGAIN && s.yield == nil:
			return 0, errAgain
		case errno == unix.EAGAIN:
			if !s.yield(struct{}{}) {
				return 0, errStopped
			}
		case errno != 0:
			return 0, errno
		case n == 0:
			return 0, io.EOF
		default:
			s.drained = n < len(p) && !s.toEnd
			return n, nil
		}
	}
}

// Write is called by crypto/tls for records. They leave by flush.
func (s *secured) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out = append(s.out, p...)
	return len(p), nil
}

// flush gives the kernel what it takes. The rest stays.
func (s *secured) flush() unix.Errno {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := 0
	defer func() { s.out = s.out[:copy(s.out, s.out[at:])] }()
	for at < len(s.out) {
		n, errno := write(s.fd, s.out[at:])
		switch errno {
		case 0:
			at += n
		case unix.EINTR:
		case unix.EAGAIN:
			return 0
		default:
			return errno
		}
	}
	return 0
}

// read is like the system's: it returns the bytes that have come, io.EOF at their end, or unix.EAGAIN if there are none.
func (s *secured) read(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var k int
		k, err = s.conn.Read(p[n:])
		n += k
	}
	var errno unix.Errno
	switch {
	case n > 0: // an error comes again with the next call
		return n, nil
	case err == errAgain:
		return 0, unix.EAGAIN
	case err == io.ErrUnexpectedEOF: // FIN without close_notify
		return 0, io.EOF
	case errors.As(err, &errno):
		return 0, errno
	}
	return 0, err
}

// send is like the system's write. It takes nothing while earlier records wait for the kernel, and else all of p.
func (s *secured) send(p []byte) (int, unix.Errno) {
	if errno := s.flush(); errno != 0 {
		return 0, errno
	}
	if s.waiting() {
		return 0, unix.EAGAIN
	}
	if _, err := s.conn.Write(p); err != nil {
		return 0, unix.EPIPE // the peer has broken TLS: the next read tells how
	}
	if errno := s.flush(); errno != 0 {
		return 0, errno
	}
	return len(p), 0
}

func (s *secured) waiting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.out) > 0
}

// end sends close_notify if the connection is open, or gives the handshake up. The descriptor is closed after it.
func (s *secured) end(open bool) {
	s.stop()
	if open && s.conn.CloseWrite() == nil {
		s.flush()
	}
}

// The rest of a net.Conn. crypto/tls calls none of it here: nobody sets deadlines or closes the tls.Conn.
func (s *secured) Close() error                     { return nil }
func (s *secured) LocalAddr() net.Addr              { return nil }
func (s *secured) RemoteAddr() net.Addr             { return nil }
func (s *secured) SetDeadline(time.Time) error      { return nil }
func (s *secured) SetReadDeadline(time.Time) error  { return nil }
func (s *secured) SetWriteDeadline(time.Time) error { return nil }

// handshake goes on with the handshake of c and reports whether it is done and the connection is still there.
func (w *worker) handshake(c *conn, closed bool) bool {
	c.tls.event(closed)
	if !c.tls.shake() {
		return false
	}
	now := w.clock()
	if err := c.tls.err; err != nil {
		w.handshakeFailed(c, err, now)
		return false
	}
	w.rec.now.handshakes++
	if c.tls.conn.ConnectionState().DidResume {
		w.rec.now.resumed++
	}
	if w.run.plan.Mode != Churn || w.run.measured(c.begun) {
		w.rec.time(handshakeTime, now-c.tls.since)
	}
	w.secure(c, now)
	return c.state == open || c.state == upgrading
}

// handshakeFailed closes a connection whose handshake has failed, and counts it.
func (w *worker) handshakeFailed(c *conn, err error, now int64) {
	kind := Handshake
	if k := classify(err); k != Other {
		kind = k
	}
	w.error(kind, 1, c, "TLS handshake: "+err.Error(), now)
	w.hangUp(c)
	w.load.ended(w, c, now)
}
