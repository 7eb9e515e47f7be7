package engine

import "github.com/servercore-go/servercore/session"

// An Option says how the sessions of one listener, or of one Dial, differ from the engine's others.
type Option func(*origin) error

// origin is what the sessions of one listener, or of one Dial, have in common.
type origin struct {
	network string
	factory session.Factory
}

func newOrigin(network string, f session.Factory, opts []Option) (origin, error) {
	o := origin{network: network, factory: f}
	for _, option := range opts {
		if err := option(&o); err != nil {
			return o, err
		}
	}
	return o, nil
}
