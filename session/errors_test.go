package session_test

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/servercore-go/servercore/session"
)

// L5, L3: each sentinel matches itself, what the standard library has for it, and nothing else.
func TestErrorsMatchWhatTheySay(t *testing.T) {
	std := []error{net.ErrClosed, io.EOF, io.ErrUnexpectedEOF, os.ErrDeadlineExceeded}
	sentinels := map[error]error{
		session.ErrClosed:       net.ErrClosed,
		session.ErrPeerClosed:   io.EOF,
		session.ErrIdle:         os.ErrDeadlineExceeded,
		session.ErrWriteStall:   os.ErrDeadlineExceeded,
		session.ErrDrainTimeout: os.ErrDeadlineExceeded,
		session.ErrPeerReset:    nil,
		session.ErrDisconnected: nil,
		session.ErrAborted:      nil,
		session.ErrSendLimit:    nil,
		session.ErrPanic:        nil,
		session.ErrHandshake:    nil,
		session.ErrTruncated:    io.ErrUnexpectedEOF,
		session.ErrShutdown:     nil,
	}
	texts := map[string]bool{}
	for err, also := range sentinels {
		if text := err.Error(); !strings.HasPrefix(text, "session: ") || len(text) < 15 || texts[text] {
			t.Errorf("text %q", text)
		} else {
			texts[text] = true
		}
		for other := range sentinels {
			if errors.Is(err, other) != (err == other) {
				t.Errorf("%v matches %v: %t", err, other, err != other)
			}
		}
		for _, s := range std {
			if errors.Is(err, s) != (s == also) {
				t.Errorf("%v matches %v: %t", err, s, s != also)
			}
		}
	}
}

func TestPeerResetMatchesTheSystemsError(t *testing.T) {
	for _, tt := range []struct {
		err      error
		deadline bool
	}{
		{syscall.ECONNRESET, false},
		{syscall.EPIPE, false},
		{syscall.ETIMEDOUT, true}, // keep-alive or TCP_USER_TIMEOUT
		{errors.New("any"), false},
	} {
		err := session.PeerReset(tt.err)
		if !errors.Is(err, session.ErrPeerReset) || !errors.Is(err, tt.err) ||
			errors.Is(err, os.ErrDeadlineExceeded) != tt.deadline || !strings.Contains(err.Error(), tt.err.Error()) {
			t.Errorf("PeerReset(%v) = %v", tt.err, err)
		}
	}
}
