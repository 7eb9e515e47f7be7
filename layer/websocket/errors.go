package websocket

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/servercore-go/servercore/session"
)

// Close codes: RFC 6455, section 7.4.1, and the IANA registry "WebSocket Close Code Number".
const (
	codeNormal        = 1000
	codeGoingAway     = 1001
	codeProtocolError = 1002
	codeNone          = 1005 // never on the wire: a close frame without a code
	codeAbnormal      = 1006 // never on the wire: no close frame
	codeBadPayload    = 1007
	codePolicy        = 1008
	codeTooBig        = 1009
	codeInternalError = 1011
)

// validCode reports whether a close frame may carry code: the codes that the registry has and that may travel, those for libraries and
// frameworks (3000 to 3999) and those for applications (4000 to 4999).
func validCode(code int) bool {
	return code >= codeNormal && code <= 1003 || code >= codeBadPayload && code <= 1014 || code >= 3000 && code <= 4999
}

// A ProtocolError says what the peer did against RFC 6455 or against Options.MaxMessage. Open returns it, and Finish sends its code.
type ProtocolError struct {
	Code int    // 1002 against the protocol, 1007 not UTF-8 or not deflate, 1009 longer than MaxMessage
	Text string // for people
}

func (e *ProtocolError) Error() string { return "websocket: " + e.Text }

func protocolErrorf(format string, args ...any) error {
	return &ProtocolError{codeProtocolError, fmt.Sprintf(format, args...)}
}

var (
	errUTF8       = &ProtocolError{codeBadPayload, "a text message is not UTF-8"}
	errReasonUTF8 = &ProtocolError{codeBadPayload, "the reason in a close frame is not UTF-8"}
)

// ErrNotUpgrade is returned by Open for a request that is not an upgrade, if Options.PassHTTP is set. NotUpgrade returns the request then.
// It matches session.ErrHandshake.
var ErrNotUpgrade = fmt.Errorf("websocket: the request is not an upgrade: %w", session.ErrHandshake)

// A peerClose is the end by a close frame of the peer.
type peerClose struct{ frame session.CloseError }

func (e *peerClose) Error() string   { return e.frame.Error() }
func (e *peerClose) Unwrap() []error { return []error{&e.frame, io.EOF} }

// errNoClose is what Ended returns for a wire that ended without a close frame.
var errNoClose error = &noClose{session.CloseError{Code: codeAbnormal, Reason: "no close frame"}}

type noClose struct{ frame session.CloseError }

func (*noClose) Error() string     { return "websocket: the connection ended without a close frame" }
func (e *noClose) Unwrap() []error { return []error{session.ErrTruncated, &e.frame} }

var (
	errNoPong     = fmt.Errorf("websocket: no pong came in time: %w", session.ErrIdle)
	errCutUpgrade = fmt.Errorf("websocket: the connection ended within the upgrade: %w: %w", session.ErrHandshake, session.ErrTruncated)
	errSendOnly   = errors.New("websocket: this framer makes frames; Layer.Open takes them apart")
)

// A StatusError is an error of Options.Check that names the status of the refusal.
type StatusError struct {
	Code    int    // HTTP status, 400 to 599; others become 403
	Message string // the text of the answer; "" for the status' own
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("websocket: status %d: %s", e.Code, e.Message)
}

// StatusCode returns Code.
func (e *StatusError) StatusCode() int { return e.Code }

// A HandshakeError is an upgrade that was refused: by us, on the server's side, or by the server, on a client's. It matches
// session.ErrHandshake, and the error of Options.Check if there is one.
type HandshakeError struct {
	Status int         // HTTP status; 0 if the peer sent no HTTP
	Text   string      // what was wrong
	Header http.Header // what a server's answer has besides; nil for none
	Err    error       // of Options.Check, or nil
}

func (e *HandshakeError) Error() string {
	text := "websocket: upgrade refused: "
	if e.Status != 0 {
		text += fmt.Sprintf("%d %s: ", e.Status, http.StatusText(e.Status))
	}
	return text + e.Text
}

// StatusCode returns Status.
func (e *HandshakeError) StatusCode() int { return e.Status }

func (e *HandshakeError) Unwrap() []error {
	if e.Err != nil {
		return []error{session.ErrHandshake, e.Err}
	}
	return []error{session.ErrHandshake}
}

// lastCode returns the code and the reason of the close frame that ends a session for reason. The code is codeNone for a frame without.
// peer is the code of the peer's close frame, 0 without.
func lastCode(reason error, peer int) (code int, text string) {
	var ours *session.CloseError
	var wrong *ProtocolError
	switch {
	case errors.Is(reason, session.ErrTruncated):
		return codeProtocolError, ""
	case errors.As(reason, &ours):
		switch {
		case ours.Code == codeNone:
			return codeNone, ""
		case ours.Code == 0:
			return codeNormal, ours.Reason
		case !validCode(ours.Code):
			return codeInternalError, ""
		case peer == ours.Code:
			return peer, "" // the answer to a close frame has its code, not its reason
		}
		return ours.Code, ours.Reason
	case peer != 0:
		return peer, ""
	case errors.As(reason, &wrong):
		return wrong.Code, wrong.Text
	case errors.Is(reason, session.ErrShutdown):
		return codeGoingAway, ""
	case errors.Is(reason, session.ErrRecvRate):
		return codePolicy, ""
	case errors.Is(reason, session.ErrPanic):
		return codeInternalError, ""
	}
	return codeNormal, ""
}
