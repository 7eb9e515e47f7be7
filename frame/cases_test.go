package frame_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/servercore-go/servercore/frame"
)

// splitCase is one call of Split. err is what the error must match; n == 0 without err means "not complete yet".
type splitCase struct {
	name   string
	f      frame.Framer
	data   string
	packet string
	n      int
	err    error
}

func checkSplits(t *testing.T, cases []splitCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			data := []byte(c.data)
			packet, n, err := c.f.Split(data)
			checkAnswer(t, c.f, data, packet, n, err)
			if string(packet) != c.packet || n != c.n || !errors.Is(err, c.err) {
				t.Errorf("%#v: Split(%q) = %q, %d, %v, want %q, %d, %v", c.f, c.data, packet, n, err, c.packet, c.n, c.err)
			}
			if len(data) <= longest {
				checkStream(t, c.f, data, rand.New(rand.NewPCG(uint64(len(data)), 0)))
			}
		})
	}
}

// appendCase is one call of Append.
type appendCase struct {
	name    string
	f       frame.Framer
	payload string
	framed  string
	err     error
}

func checkAppends(t *testing.T, cases []appendCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			framed, err := c.f.Append(nil, []byte(c.payload))
			if string(framed) != c.framed || !errors.Is(err, c.err) {
				t.Errorf("%#v: Append(%q) = %q, %v, want %q, %v", c.f, c.payload, framed, err, c.framed, c.err)
			}
			checkRoundTrip(t, c.f, []byte(c.payload))
		})
	}
}

// fuzz runs checkStream with data as a stream, and checkRoundTrip with data as a payload.
func fuzz(t *testing.T, f frame.Framer, data []byte, seed uint64) {
	if len(data) > longest {
		t.Skip()
	}
	checkStream(t, f, data, rand.New(rand.NewPCG(seed, 0)))
	checkRoundTrip(t, f, data)
}
