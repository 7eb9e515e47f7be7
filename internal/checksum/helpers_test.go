package checksum

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/servercore-go/servercore/session"
)

var (
	_ session.Handshaker = (*Layer)(nil)
	_ session.Handshaker = (*Sealer)(nil)
	_ session.Sealer     = (*Sealer)(nil)
)

// end is one side of a connection in memory.
type end struct {
	*Layer
	sealer *Sealer // nil for Framing
}

func newEnd(t testing.TB, shape Shape, o Options) *end {
	t.Helper()
	e := new(end)
	if shape == Sealing {
		e.sealer = NewSealer(o)
		e.Layer = &e.sealer.Layer
	} else {
		e.Layer = NewLayer(o)
	}
	t.Cleanup(func() {
		if !e.dropped {
			e.Drop()
		}
	})
	return e
}

// send appends the records of plain to dst: a message of shape Framing, any number of bytes of shape Sealing.
func (e *end) send(t testing.TB, dst, plain []byte) []byte {
	t.Helper()
	var err error
	if e.sealer == nil {
		dst, err = Framer{Server: e.server}.Append(dst, plain)
	}
	for e.sealer != nil && len(plain) > 0 && err == nil {
		n := min(len(plain), MaxSeal)
		dst, err = e.sealer.Seal(dst, plain[:n])
		plain = plain[n:]
	}
	if err != nil {
		t.Fatal(err)
	}
	return dst
}

// newPair returns both sides after the handshake, a sender first.
func newPair(t testing.TB, shape Shape, fromServer bool) (from, to *end) {
	t.Helper()
	client, server := newEnd(t, shape, Options{}), newEnd(t, shape, Options{Server: true})
	shake(t, client, server)
	if fromServer {
		return server, client
	}
	return client, server
}

func shake(t testing.TB, client, server *end) {
	t.Helper()
	for _, e := range [][2]*end{{client, server}, {server, client}} {
		hello := e[0].Own(nil, true)
		if data, used, more, err := e[1].Open(nil, hello); data != nil || used != len(hello) || more || err != nil {
			t.Fatalf("Open of the hello: %q, %d of %d bytes, more %v, error %v", data, used, len(hello), more, err)
		}
	}
	if !client.Established() || !server.Established() || client.Pending() || server.Pending() {
		t.Fatal("the handshake is not done")
	}
}

// receiver calls Open as package session does, and checks what it promises.
type receiver struct {
	*end
	room func() int // the capacity of dst for the next call; 0 at most now and then
	data [][]byte   // what Open has returned, each call's by itself
	err  error
	dst  []byte
}

// memory returns a dst of n bytes, with a capacity that Open must leave alone.
func (r *receiver) memory(n int) []byte {
	if cap(r.dst) < n+100 {
		r.dst = make([]byte, n+100)
	}
	return r.dst[:n]
}

func (r *receiver) all() []byte { return bytes.Join(r.data, nil) }

// feed gives it in, until in is used or there is an error. It returns what is left.
func (r *receiver) feed(t testing.TB, in []byte) []byte {
	t.Helper()
	given := append(make([]byte, 0, len(in)), in...)
	in, before := given, in
	more := false
	for (len(in) > 0 || more) && r.err == nil {
		dst := r.memory(r.room())
		was := r.Established()
		var data []byte
		var used int
		data, used, more, r.err = r.Open(dst, in)
		switch {
		case used < 0 || used > len(in):
			t.Fatalf("Open used %d of %d bytes", used, len(in))
		case overlap(data, in):
			t.Fatal("Open returned memory of in")
		case r.sealer != nil && len(data) > len(dst):
			t.Fatalf("Open returned %d bytes for a dst of %d", len(data), len(dst))
		case len(data) > len(dst) && overlap(data, dst):
			t.Fatal("Open used dst beyond its length")
		case len(data) > 0 && len(data) <= len(dst) && !overlap(data, dst):
			t.Fatal("Open returned other memory than dst, where it fits")
		case data == nil && !more && r.err == nil && used < len(in) && was:
			t.Fatalf("Open used %d of %d bytes and asks for more", used, len(in))
		case data == nil && more && len(dst) > 0:
			t.Fatal("Open has more and returned nothing")
		case data != nil && !was:
			t.Fatal("data before the handshake was done")
		case r.err != nil && more:
			t.Fatal("more after an error")
		}
		if data != nil {
			r.data = append(r.data, append([]byte{}, data...))
		}
		in = in[used:]
	}
	if !bytes.Equal(given, before) {
		t.Fatal("Open wrote to in")
	}
	return in
}

func overlap(a, b []byte) bool {
	if cap(a) == 0 || cap(b) == 0 {
		return false
	}
	a, b = a[:1:cap(a)], b[:1:cap(b)]
	x, y := uintptr(unsafe.Pointer(&a[0])), uintptr(unsafe.Pointer(&b[0]))
	return x < y+uintptr(cap(b)) && y < x+uintptr(cap(a))
}

// always returns a receiver's room of n bytes.
func always(n int) func() int { return func() int { return n } }

// feedCut feeds in in pieces of at most most bytes.
func (r *receiver) feedCut(t testing.TB, in []byte, random *rand.Rand, most int) {
	t.Helper()
	for len(in) > 0 && r.err == nil {
		n := 1 + random.IntN(min(most, len(in)))
		r.feed(t, in[:n])
		in = in[n:]
	}
}

// pattern returns n bytes that tell where they are.
func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7 + i>>8)
	}
	return p
}

// bothWays runs f for each shape and direction.
func bothWays(t *testing.T, f func(t *testing.T, shape Shape, fromServer bool)) {
	for _, shape := range []Shape{Sealing, Framing} {
		for _, server := range []bool{false, true} {
			name := shape.String() + "/client to server"
			if server {
				name = shape.String() + "/server to client"
			}
			t.Run(name, func(t *testing.T) { f(t, shape, server) })
		}
	}
}
