package session_test

import (
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/servercore-go/servercore/frame"
	"github.com/servercore-go/servercore/internal/checksum"
	"github.com/servercore-go/servercore/internal/testkit"
	"github.com/servercore-go/servercore/session"
)

// layeredKind is a way to put a layer under a session.
type layeredKind struct {
	name    string
	shape   checksum.Shape
	framer  frame.Framer     // the application's, over a sealing layer; nil for none
	framing *session.Framing // of the session
}

var (
	sealing       = &layeredKind{"sealing", checksum.Sealing, nil, nil}
	sealingFramed = &layeredKind{"sealing with a framer", checksum.Sealing, frame.ServerCore{}, session.NewFraming(frame.ServerCore{})}
	framing       = &layeredKind{"framing", checksum.Framing, nil, session.NewSendFraming(checksum.Framer{Server: true})}
	layeredKinds  = []*layeredKind{sealing, sealingFramed, framing}
)

// messages reports whether what is sent keeps its limits.
func (k *layeredKind) messages() bool { return k.framing != nil }

// layeredPeer is the peer of a session with a layer: what the kernel took is opened, and what the peer sends is sealed.
type layeredPeer struct {
	t      testing.TB
	c      *testkit.Conn
	kind   *layeredKind
	ours   *checksum.Layer  // the session's
	sealer *checksum.Sealer // the same, nil if it does not seal
	layer  *checksum.Layer  // the peer's
	more   bool             // what its last Open has returned, for bind
	seals  *checksum.Sealer // the same, nil if it does not seal

	opened   int      // bytes of c.Wire
	stream   []byte   // plain bytes that are no whole packet yet, with a framer
	got      []byte   // the application's bytes
	messages []string // the same in messages, if there are
	word     error    // the session's last word
	err      error    // what Open has found besides
}

// newLayers returns the layers of both sides after the handshake.
func newLayers(t testing.TB, k *layeredKind, o checksum.Options) *layeredPeer {
	t.Helper()
	p := &layeredPeer{t: t, kind: k}
	o.Server = true
	if k.shape == checksum.Sealing {
		p.sealer, p.seals = checksum.NewSealer(o), checksum.NewSealer(checksum.Options{})
		p.ours, p.layer = &p.sealer.Layer, &p.seals.Layer
	} else {
		p.ours, p.layer = checksum.NewLayer(o), checksum.NewLayer(checksum.Options{})
	}
	t.Cleanup(p.layer.Drop)
	for _, side := range [][2]*checksum.Layer{{p.layer, p.ours}, {p.ours, p.layer}} {
		if _, _, _, err := side[1].Open(nil, side[0].Own(nil, true)); err != nil {
			t.Fatal(err)
		}
	}
	if !p.ours.Established() || !p.layer.Established() || p.ours.Pending() || p.layer.Pending() {
		t.Fatal("the handshake is not done")
	}
	return p
}

// ofSession returns the layer of the session's side.
func (p *layeredPeer) ofSession() session.Layer {
	if p.sealer != nil {
		return p.sealer
	}
	return p.ours
}

// bindLayered puts layer, or that of p if it is nil, under the session of h. OnConnected has not run.
func (p *layeredPeer) bind(l *testkit.Loop, h session.Handler, layer session.Layer) *testkit.Conn {
	p.t.Helper()
	if layer == nil {
		layer = p.ofSession()
	}
	c, err := l.BindLayer(h, p.kind.framing, layer, p.more)
	if err != nil {
		p.t.Fatal(err)
	}
	p.c = c
	return c
}

// connectLayered is connect for a session with a layer.
func connectLayered(t testing.TB, k *layeredKind, limits session.Limits, h session.Handler) (*testkit.Loop, *layeredPeer) {
	t.Helper()
	return connectLayeredWith(t, k, limits, h, checksum.Options{})
}

func connectLayeredWith(t testing.TB, k *layeredKind, limits session.Limits, h session.Handler, o checksum.Options) (*testkit.Loop, *layeredPeer) {
	t.Helper()
	l := newLoop(t, limits)
	p := newLayers(t, k, o)
	if h, ok := h.(*testkit.Handler); ok {
		h.Framed = k.messages()
	}
	p.bind(l, h, nil).Connected()
	return l, p
}

// wire returns the application's bytes as they stand on the wire of the peer.
func (p *layeredPeer) wire(dst []byte, payload string) []byte {
	p.t.Helper()
	var err error
	switch plain := []byte(payload); {
	case p.seals == nil:
		dst, err = checksum.Framer{}.Append(dst, plain)
	default:
		if p.kind.framer != nil {
			if plain, err = p.kind.framer.Append(nil, plain); err != nil {
				p.t.Fatal(err)
			}
		}
		for len(plain) > 0 && err == nil {
			n := min(len(plain), checksum.MaxSeal)
			dst, err = p.seals.Seal(dst, plain[:n])
			plain = plain[n:]
		}
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return dst
}

// send has the peer send each of payloads.
func (p *layeredPeer) send(payloads ...string) {
	p.t.Helper()
	for _, s := range payloads {
		p.c.PeerWrite(p.wire(nil, s))
	}
}

// probe has the peer send a probe.
func (p *layeredPeer) probe(payload string) {
	p.t.Helper()
	if err := p.layer.Probe([]byte(payload)); err != nil {
		p.t.Fatal(err)
	}
	p.sendOwn()
}

// sendOwn has the peer send what its layer has to send.
func (p *layeredPeer) sendOwn() { p.c.PeerWrite(p.layer.Own(nil, true)) }

// finish has the peer say its last word.
func (p *layeredPeer) finish(reason error) {
	p.layer.Finish(reason)
	p.sendOwn()
}

// read opens what the kernel took.
func (p *layeredPeer) read() {
	var dst [4096]byte
	for more := true; p.err == nil && p.word == nil && (more || p.opened < len(p.c.Wire)); {
		data, n, again, err := p.layer.Open(dst[:], p.c.Wire[p.opened:])
		p.opened, more = p.opened+n, again
		p.take(data)
		switch {
		case errors.Is(err, io.EOF):
			p.word = err
		case err != nil:
			p.err = err
		}
	}
	if p.word != nil && p.opened < len(p.c.Wire) {
		p.err = errors.Join(p.err, errors.New("bytes after the last word"))
	}
}

// take takes what the layer has opened.
func (p *layeredPeer) take(data []byte) {
	switch {
	case data == nil:
	case p.kind.framer == nil:
		p.got = append(p.got, data...)
		if p.kind.messages() {
			p.messages = append(p.messages, string(data))
		}
	default:
		p.stream = append(p.stream, data...)
		for {
			packet, n, err := p.kind.framer.Split(p.stream)
			if n == 0 || err != nil {
				p.err = err
				return
			}
			p.stream = p.stream[n:]
			p.got, p.messages = append(p.got, packet...), append(p.messages, string(packet))
		}
	}
}

// want reads and compares: the application's bytes, and whether the last word has come.
func (p *layeredPeer) want(got string, word bool) {
	p.t.Helper()
	p.read()
	if p.err != nil {
		p.t.Errorf("the peer found: %v", p.err)
	}
	if string(p.got) != got {
		p.t.Errorf("the peer got %.80q (%d bytes), want %.80q (%d)", p.got, len(p.got), got, len(got))
	}
	if (p.word != nil) != word {
		p.t.Errorf("the session's last word: %v, want one: %t", p.word, word)
	}
}

// wantMessages reads and compares messages.
func (p *layeredPeer) wantMessages(want ...string) {
	p.t.Helper()
	p.read()
	if p.err != nil {
		p.t.Errorf("the peer found: %v", p.err)
	}
	if p.kind.messages() && !slices.Equal(p.messages, want) {
		p.t.Errorf("the peer got %.80q (%d messages), want %.80q (%d)", p.messages, len(p.messages), want, len(want))
	}
}

// wantAnswered reads, and expects that all probes of the peer are answered.
func (p *layeredPeer) wantAnswered(probes int) {
	p.t.Helper()
	p.read()
	if p.err != nil {
		p.t.Errorf("the peer found: %v", p.err)
	}
	if n := p.layer.Counts().Answered; n != probes {
		p.t.Errorf("%d of %d probes are answered", n, probes)
	}
}

// eachLayered runs f for each kind of layer.
func eachLayered(t *testing.T, f func(t *testing.T, k *layeredKind)) {
	for _, k := range layeredKinds {
		t.Run(k.name, func(t *testing.T) { f(t, k) })
	}
}
