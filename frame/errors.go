package frame

import (
	"errors"
	"fmt"
	"strings"
)

// Errors of Split and Append, for errors.Is. The error texts are for people and may change. The error of an invalid
// field of a framer matches neither: it is a mistake of the program, not of a peer.
var (
	// ErrTooLarge: the packet is larger than the framer's maximum, or than its length field can express.
	ErrTooLarge = errors.New("frame: packet too large")

	// ErrMalformed: the received bytes cannot be the beginning of a packet, or Split would not return the payload that
	// is to be sent.
	ErrMalformed = errors.New("frame: malformed packet")
)

// prefix begins every error of this package, once.
const prefix = "frame: "

// refusal is ErrTooLarge or ErrMalformed with details, which its text begins with.
type refusal struct {
	details string
	kind    error
}

func (r *refusal) Error() string {
	return prefix + r.details + ": " + strings.TrimPrefix(r.kind.Error(), prefix)
}

func (r *refusal) Unwrap() error { return r.kind }

func refuse(kind error, format string, args ...any) error {
	return &refusal{fmt.Sprintf(format, args...), kind}
}

func tooLarge(size uint64, most int) error {
	return refuse(ErrTooLarge, "packet of %d bytes, at most %d", size, most)
}

// invalid returns the error of an invalid field.
func invalid(field string, value any, want string) error {
	return fmt.Errorf("%s%s is %v, want %s", prefix, field, value, want)
}

// maximum returns the maximum that a field stands for: its value, or DefaultMax for 0.
func maximum(field string, value int) (int, error) {
	if value < 0 {
		return 0, invalid(field, value, "0 or more")
	}
	if value == 0 {
		return DefaultMax, nil
	}
	return value, nil
}
