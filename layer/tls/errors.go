package tls

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/servercore-go/servercore/session"
)

// A Cause says why a handshake failed, in the few classes that a counter has room for.
type Cause uint8

const (
	CauseOther       Cause = iota // an error of the application's callbacks, of crypto/tls itself, or one that fits nowhere else
	CausePlainText                // the peer does not speak TLS
	CauseVersion                  // no version in common
	CauseParameters               // no cipher suite, curve or signature algorithm in common
	CauseServerName               // no certificate for the name that the client asks for
	CauseALPN                     // no application protocol in common
	CauseCertificate              // the peer's certificate is missing or not accepted
	CauseRefused                  // the peer sent an alert: it does not accept what we sent
	CauseProtocol                 // the peer breaks the rules of TLS
	CauseTruncated                // the peer closed the connection before the end
	CauseCrowded                  // Handshakes.Waiting was reached, and this one had waited the longest
	CausePanic                    // a callback of the application panicked or called runtime.Goexit
	causes
)

var causeTexts = [causes]string{"other", "plain text", "version", "parameters", "server name", "ALPN", "certificate", "refused by the peer",
	"protocol", "truncated", "crowded", "panic"}

// String returns a short text, the same for each Cause, such as "server name".
func (c Cause) String() string {
	if c >= causes {
		return "invalid"
	}
	return causeTexts[c]
}

// A HandshakeError is what Open returns when the handshake has failed. It matches session.ErrHandshake and what it wraps.
type HandshakeError struct {
	Cause Cause
	Err   error // of crypto/tls, of a callback, or ours
}

func (e *HandshakeError) Error() string {
	return fmt.Sprintf("TLS handshake failed (%v): %v", e.Cause, e.Err)
}
func (e *HandshakeError) Unwrap() []error { return []error{session.ErrHandshake, e.Err} }

var (
	errCrowded        = errors.New("too many handshakes wait for their peers, and this one has waited the longest")
	errTooMuch        = errors.New("tls: the client sends more than a handshake needs")
	errDropped        = errors.New("tls: the connection is closed")
	errTruncated      = fmt.Errorf("the peer closed the connection before the end of the handshake: %w", session.ErrTruncated)
	errNotEstablished = errors.New("tls: Seal before the end of the handshake")
	errFinished       = errors.New("tls: Seal after Finish")
	errFlood          = errors.New("tls: the peer asks for answers of the protocol (key updates) faster than it takes them")
	errWouldBlock     = net.Error(wouldBlock{})
)

// wouldBlock is the read error that crypto/tls does not keep: its Temporary is true (crypto/tls, conn.go, readRecordOrCCS).
type wouldBlock struct{}

func (wouldBlock) Error() string   { return "tls: no whole record yet" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }

// Alerts that say more than the error of crypto/tls does (RFC 8446 section 6). The alert is looked at as it is sent, in clear text.
var causeOfAlert = map[byte]Cause{
	10: CauseProtocol, 20: CauseProtocol, 22: CauseProtocol, 47: CauseProtocol, 50: CauseProtocol, 51: CauseProtocol,
	109: CauseProtocol, 110: CauseProtocol,
	40: CauseParameters, 70: CauseVersion, 112: CauseServerName, 120: CauseALPN,
	42: CauseCertificate, 43: CauseCertificate, 44: CauseCertificate, 45: CauseCertificate, 46: CauseCertificate, 48: CauseCertificate,
	116: CauseCertificate,
}

// describe makes a HandshakeError of what crypto/tls returned. alert is the one that was sent in clear text, 0 for none.
func describe(err error, alert byte, client bool) *HandshakeError {
	var header tls.RecordHeaderError
	var certificate *tls.CertificateVerificationError
	var op *net.OpError
	var known *HandshakeError
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, errTooMuch):
		return &HandshakeError{CauseProtocol, err}
	case errors.Is(err, errTruncated):
		return &HandshakeError{CauseTruncated, err}
	case errors.Is(err, errCrowded):
		return &HandshakeError{CauseCrowded, err}
	case errors.As(err, &header):
		if header.Conn == nil {
			return &HandshakeError{CauseProtocol, err}
		}
		peer := "client"
		if client {
			peer = "server"
		}
		return &HandshakeError{CausePlainText, fmt.Errorf("the %s does not speak TLS, its first bytes are %q: %w", peer, header.RecordHeader[:], err)}
	case errors.As(err, &certificate):
		return &HandshakeError{CauseCertificate, err}
	case errors.As(err, &op) && op.Op == "remote error":
		return &HandshakeError{CauseRefused, err}
	case strings.Contains(err.Error(), "provide a certificate"): // the alert is handshake_failure in TLS 1.2, and encrypted in TLS 1.3
		return &HandshakeError{CauseCertificate, err}
	case causeOfAlert[alert] != CauseOther:
		return &HandshakeError{causeOfAlert[alert], err}
	}
	return &HandshakeError{CauseOther, err}
}

// badRequest is what net/http answers to a client that speaks HTTP to a TLS port, word for word.
const badRequest = "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"

// answer returns what a client that does not speak TLS is told in its own protocol, or "".
func answer(err error) string {
	var header tls.RecordHeaderError
	if !errors.As(err, &header) || header.Conn == nil {
		return ""
	}
	// The methods of RFC 9110 section 9 and RFC 5789, and the preface of HTTP/2, by their first five bytes.
	switch string(header.RecordHeader[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "DELET", "PATCH", "CONNE", "TRACE", "PRI *":
		return badRequest
	}
	return ""
}

// outcome says what an error means that ends a handshake: of crypto/tls, or of a callback of the application's, which may panic when it is
// asked, as a nil pointer does. ended: the peer's stream has. text is that of answer.
func outcome(err error, alert byte, client bool) (why *HandshakeError, ended bool, text string) {
	defer func() {
		if value := recover(); value != nil {
			why = &HandshakeError{CausePanic, fmt.Errorf("a callback has returned a %T that panics when it is asked: %v", err, value)}
		}
	}()
	if err == nil {
		return nil, false, ""
	}
	_ = err.Error()
	return describe(err, alert, client), errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF), answer(err)
}
