package frame

import (
	"errors"
	"fmt"
	"strings"
)

// What Split and Append refuse. Test with errors.Is; the texts are for people and may change. The error of a framer
// with an invalid field matches neither: it is a mistake of the program, not of a peer.
var (
	// ErrTooLarge: the packet is larger than the framer's maximum, or than its length field can say.
	ErrTooLarge = errors.New("frame: packet too large")

	// ErrMalformed: what was received cannot be the beginning of a packet, or what is to be sent would be read as
	// something else.
	ErrMalformed = errors.New("frame: malformed packet")
)

// prefix begins every error of this package, once.
const prefix = "frame: "

// refusal is ErrTooLarge or ErrMalformed with what it is about in front.
type refusal struct {
	about string
	kind  error
}

func (r *refusal) Error() string {
	return prefix + r.about + ": " + strings.TrimPrefix(r.kind.Error(), prefix)
}

func (r *refusal) Unwrap() error { return r.kind }

func refuse(kind error, format string, args ...any) error {
	return &refusal{fmt.Sprintf(format, args...), kind}
}

func tooLarge(size uint64, most int) error {
	return refuse(ErrTooLarge, "packet of %d bytes, at most %d", size, most)
}

// invalid is the error of a field no framer can work with.
func invalid(field string, value any, want string) error {
	return fmt.Errorf("%s%s is %v, want %s", prefix, field, value, want)
}

// maximum returns what a field that bounds the packet stands for.
func maximum(field string, value int) (int, error) {
	if value < 0 {
		return 0, invalid(field, value, "0 or more")
	}
	if value == 0 {
		return DefaultMax, nil
	}
	return value, nil
}
