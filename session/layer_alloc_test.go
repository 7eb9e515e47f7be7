//go:build !race

package session_test

import (
	"testing"

	"github.com/servercore-go/servercore/internal/checksum"
	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

// An echo through a layer allocates nothing in steady state, small or large, whatever the kernel takes at once. A probe neither.
func TestLayeredEchoDoesNotAllocate(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		for _, size := range []int{64, 60_000, 64 << 10} {
			if k.framer != nil && size > 60_000 {
				continue // more than a packet may have
			}
			for _, most := range []int{0, 20_000} {
				l := newLoop(t, everyLimit)
				p := newLayers(t, k, checksum.Options{})
				c := p.bind(l, &echo{}, nil)
				c.Connected()
				quiet(c)
				c.MaxWrite = most
				payload, plain, wire := make([]byte, size), []byte(nil), []byte(nil)
				probing := false
				receive := func() {
					wire = wire[:0]
					if probing { // the peer does not read, so its probes stay unanswered in its books: the session's layer answers
						probing = false
						_ = p.layer.Probe(payload[:10])
						wire = p.layer.Own(wire, true)
					}
					if plain = append(plain[:0], payload...); k.framer != nil {
						plain, _ = k.framer.Append(plain[:0], payload)
					}
					if p.seals == nil {
						wire, _ = checksum.Framer{}.Append(wire, plain)
					}
					for rest := plain; p.seals != nil && len(rest) > 0; {
						n := min(len(rest), checksum.MaxSeal)
						wire, _ = p.seals.Seal(wire, rest[:n])
						rest = rest[n:]
					}
					c.Driver.Receive(wire)
					for c.Session().Pending() > 0 {
						c.Driver.Resume()
					}
				}
				l.Inside(func() { wantAllocs(t, 0, receive) })
				sent := l.Shared.Counters.BytesOut.Load()
				if in := l.Shared.Counters.BytesIn.Load(); sent < uint64(1000*size) || in < uint64(1000*size) || c.Session().Err() != nil {
					t.Errorf("%d bytes: %d in, %d out, Err %v", size, in, sent, c.Session().Err())
				}
				probing = true
				l.Inside(receive)
				if n := p.ours.Counts().AnswersOut; n != 1 {
					t.Errorf("%d answers", n)
				}
			}
		}
	})
}

// What few sessions need is kept small.
func TestLayeredSessionFitsItsSizeClass(t *testing.T) {
	rare, layered := session.Sizes()
	t.Logf("rare has %d bytes, layered %d", rare, layered)
	if rare > 144 || layered > 64 {
		t.Errorf("rare has %d bytes, layered %d; want at most 144 and 64", rare, layered)
	}
}

// A session with a layer that is idle holds no buffer.
func TestLayeredIdleHoldsNoMemory(t *testing.T) {
	eachLayered(t, func(t *testing.T, k *layeredKind) {
		h := &testkit.Handler{Recv: answer}
		l, p := connectLayered(t, k, session.Limits{}, h)
		p.c.MaxWrite, p.c.Chunk = 100, 7
		p.send("one", "two")
		p.probe("?")
		l.Run()
		p.want("onetwo", false)
		if n := memory(t, h); n != 0 {
			t.Errorf("%d bytes are held", n)
		}
	})
}
