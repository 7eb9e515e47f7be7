package checksum

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/servercore-go/servercore/session"
)

func TestRoundTripCutAnywhere(t *testing.T) {
	all := []int{1, 2, 1023, 1024, 1025, 3, 5000, 16 << 10, 16<<10 + 1, 64 << 10, 3}
	bothWays(t, func(t *testing.T, shape Shape, server bool) {
		for _, cut := range []int{1, 7, 1000, 4096, 1 << 20} {
			for _, room := range []int{1, 10, 1024, 1500, 64 << 10} {
				sizes := all
				if cut*room < 5000 { // many calls
					sizes = all[:6]
				}
				random := rand.New(rand.NewPCG(uint64(cut), uint64(room)))
				from, to := newPair(t, shape, server)
				var wire, want []byte
				for i, n := range sizes {
					p := pattern(n)
					want = append(want, p...)
					wire = from.send(t, wire, p)
					if i == 3 {
						if err := from.Probe([]byte("are you there?")); err != nil {
							t.Fatal(err)
						}
						wire = from.Own(wire, true)
					}
				}
				from.Finish(nil)
				wire = from.Own(wire, true)
				r := &receiver{end: to, room: always(room)}
				r.feedCut(t, wire, random, cut)
				if !bytes.Equal(r.all(), want) {
					t.Fatalf("cut %d, room %d: %d bytes came of %d", cut, room, len(r.all()), len(want))
				}
				if r.err != io.EOF || to.Ended() != nil || !to.PeerDone() {
					t.Fatalf("cut %d, room %d: error %v, Ended %v", cut, room, r.err, to.Ended())
				}
				if shape == Framing && len(r.data) != len(sizes) {
					t.Fatalf("cut %d, room %d: %d messages of %d", cut, room, len(r.data), len(sizes))
				}
				if c := to.Counts(); c.ProbesIn != 1 || !to.Pending() {
					t.Fatalf("cut %d, room %d: %+v", cut, room, c)
				}
			}
		}
	})
}

// A dst of no bytes is legal too: the bytes of one record wait in the layer.
func TestOpenIntoNothing(t *testing.T) {
	from, to := newPair(t, Sealing, false)
	wire := from.send(t, nil, pattern(2000))
	data, used, more, err := to.Open(nil, wire)
	if data != nil || used != MaxPayload+Overhead || !more || err != nil {
		t.Fatalf("Open(nil) = %d bytes, used %d, more %v, error %v", len(data), used, more, err)
	}
	if data, n, more, err := to.Open(nil, wire[used:]); data != nil || n != 0 || !more || err != nil {
		t.Fatalf("Open(nil) again = %d bytes, used %d, more %v, error %v", len(data), n, more, err)
	}
	r := &receiver{end: to, room: always(600)}
	r.feed(t, wire[used:])
	if r.err != nil || !bytes.Equal(r.all(), pattern(2000)) {
		t.Errorf("%d bytes, error %v", len(r.all()), r.err)
	}
}

func TestEmptyMessagesAreMessages(t *testing.T) {
	from, to := newPair(t, Framing, true)
	wire := from.send(t, from.send(t, from.send(t, nil, nil), []byte("x")), nil)
	for _, room := range []int{0, 8} {
		r := &receiver{end: to, room: always(room)}
		r.feed(t, wire)
		if r.err != nil || len(r.data) != 3 || string(r.all()) != "x" {
			t.Errorf("room %d: messages %q, error %v", room, r.data, r.err)
		}
	}
}

// wrong is a stream that Open must refuse. It begins after the handshake, if not said otherwise. have is the wire of "one", "two", "three", as
// records 1 to 3 or as messages.
type wrong struct {
	name   string
	shapes string // "S", "F" or "SF"
	raw    bool   // before the handshake
	make   func(r [3][]byte, from *end) []byte
	data   string // what comes before the error
	text   string // of the error
}

func record8(k kind, number uint32, payload string) []byte {
	return appendRecord(nil, k, number, []byte(payload))
}

var wrongs = []wrong{
	{name: "a bit of the payload", shapes: "SF", data: "one", text: "says CRC", make: func(r [3][]byte, _ *end) []byte {
		r[1][headerSize] ^= 1
		return bytes.Join(r[:], nil)
	}},
	{name: "a bit of the CRC", shapes: "SF", data: "one", text: "says CRC", make: func(r [3][]byte, _ *end) []byte {
		r[1][len(r[1])-1] ^= 0x80
		return bytes.Join(r[:], nil)
	}},
	{name: "a bit of the number", shapes: "SF", text: "says CRC", make: func(r [3][]byte, _ *end) []byte {
		r[0][4] ^= 1
		return r[0]
	}},
	{name: "lost", shapes: "S", data: "one", text: "record 2 is missing: record 3 (data) came", make: func(r [3][]byte, _ *end) []byte {
		return append(r[0], r[2]...)
	}},
	{name: "twice", shapes: "S", data: "onetwo", text: "record 2 (data) came twice", make: func(r [3][]byte, _ *end) []byte {
		return bytes.Join([][]byte{r[0], r[1], r[1]}, nil)
	}},
	{name: "order", shapes: "S", data: "one", text: "record 2 is missing: record 3 (data) came", make: func(r [3][]byte, _ *end) []byte {
		return bytes.Join([][]byte{r[0], r[2], r[1]}, nil)
	}},
	{name: "sealed twice", shapes: "S", data: "onetwothree", text: "record 4 is missing: record 5 (data) came", make: func(r [3][]byte, from *end) []byte {
		lost, _ := from.sealer.Seal(nil, []byte("four"))
		again, _ := from.sealer.Seal(nil, []byte("four"))
		if bytes.Equal(lost, again) {
			return nil
		}
		return append(bytes.Join(r[:], nil), again...)
	}},
	{name: "a probe twice", shapes: "F", data: "one", text: "record 1 (probe) came twice", make: func(r [3][]byte, _ *end) []byte {
		p := record8(kindProbe, 1, "p")
		return bytes.Join([][]byte{r[0], p, p, r[1]}, nil)
	}},
	{name: "a probe lost", shapes: "F", data: "one", text: "record 1 is missing: record 2 (probe) came", make: func(r [3][]byte, _ *end) []byte {
		return bytes.Join([][]byte{r[0], record8(kindProbe, 2, "p"), r[1]}, nil)
	}},
	{name: "a probe inside a message", shapes: "F", data: "one", text: "says CRC", make: func(r [3][]byte, _ *end) []byte {
		p := record8(kindProbe, 1, "p")
		return bytes.Join([][]byte{r[0], r[1][:9], p, r[1][9:]}, nil)
	}},
	{name: "a message with a number", shapes: "F", text: "a message with the number 7", make: func([3][]byte, *end) []byte {
		return record8(kindData, 7, "x")
	}},
	{name: "too long", shapes: "S", data: "one", text: "a record (data) of 1025 bytes, at most 1024", make: func(r [3][]byte, _ *end) []byte {
		return append(r[0], record8(kindData, 2, strings.Repeat("x", 1025))[:headerSize]...)
	}},
	{name: "a message too long", shapes: "F", data: "one", text: "a record (data) of 65537 bytes, at most 65536", make: func(r [3][]byte, _ *end) []byte {
		return append(r[0], record8(kindData, 0, strings.Repeat("x", 65537))[:headerSize]...)
	}},
	{name: "a probe too long", shapes: "SF", text: "a record (probe) of 1025 bytes", make: func([3][]byte, *end) []byte {
		return record8(kindProbe, 1, strings.Repeat("x", 1025))
	}},
	{name: "empty", shapes: "S", text: "record 1 (data) is empty", make: func([3][]byte, *end) []byte { return record8(kindData, 1, "") }},
	{name: "kind 0", shapes: "SF", text: "no known kind", make: func([3][]byte, *end) []byte { return record8(0, 1, "") }},
	{name: "kind 6", shapes: "SF", text: "no known kind", make: func([3][]byte, *end) []byte { return record8(6, 1, "") }},
	{name: "an echo", shapes: "SF", text: "comes back", make: func([3][]byte, *end) []byte { return record8(kindData|fromServer, 0, "x") }},
	{name: "a second hello", shapes: "SF", text: "second hello", make: func([3][]byte, *end) []byte { return record8(kindHello, 1, "") }},
	{name: "an answer to nothing", shapes: "SF", text: "for no probe", make: func([3][]byte, *end) []byte { return record8(kindAnswer, 1, "") }},
	{name: "half a code", shapes: "SF", text: "half a code", make: func([3][]byte, *end) []byte { return record8(kindClose, 1, "x") }},
	{name: "data after close", shapes: "SF", data: "one", text: "after close", make: func(r [3][]byte, from *end) []byte {
		from.numberOut = 2
		if from.sealer == nil {
			from.numberOut = 1
		}
		from.Finish(nil)
		return append(from.Own(r[0], true), r[2]...)
	}},
	{name: "data before hello", shapes: "SF", raw: true, text: "record 0 (data) came before hello", make: func([3][]byte, *end) []byte {
		return record8(kindData, 0, "x")
	}},
	{name: "a probe before hello", shapes: "SF", raw: true, text: "record 0 (probe) came before hello", make: func([3][]byte, *end) []byte {
		return record8(kindProbe, 0, "x")
	}},
	{name: "a message of 64 KiB before hello", shapes: "SF", raw: true, text: "at most 1024", make: func([3][]byte, *end) []byte {
		return record8(kindData, 0, strings.Repeat("x", MaxMessage))[:headerSize]
	}},
	{name: "another greeting", shapes: "SF", raw: true, text: "does not begin", make: func([3][]byte, *end) []byte {
		return record8(kindHello, 0, "checksum/2 sealing")
	}},
	{name: "the other shape", shapes: "S", raw: true, text: "the peer's shape is framing, ours is sealing", make: func([3][]byte, *end) []byte {
		return record8(kindHello, 0, "checksum/1 framing")
	}},
	{name: "HTTP", shapes: "SF", raw: true, text: "bytes, at most 1024", make: func([3][]byte, *end) []byte { return []byte("GET / HT") }},
	{name: "TLS", shapes: "SF", raw: true, text: "bytes, at most 1024", make: func([3][]byte, *end) []byte { return []byte("\x16\x03\x01\x00\xf0\x01\x00\x00") }},
	{name: "refused", shapes: "SF", raw: true, text: "the peer refused: session: close code 9: no", make: func([3][]byte, *end) []byte {
		return record8(kindClose, 0, "\x00\x09no")
	}},
	{name: "closed", shapes: "SF", raw: true, text: "the peer closed before its hello", make: func([3][]byte, *end) []byte { return record8(kindClose, 0, "") }},
}

func TestOpenErrors(t *testing.T) {
	for _, shape := range []Shape{Sealing, Framing} {
		for _, w := range wrongs {
			if !strings.Contains(w.shapes, strings.ToUpper(shape.String()[:1])) {
				continue
			}
			t.Run(fmt.Sprint(shape, "/", w.name), func(t *testing.T) {
				for _, cut := range []int{1, 5, 1 << 20} {
					checkWrong(t, shape, w, cut)
				}
			})
		}
	}
}

func checkWrong(t *testing.T, shape Shape, w wrong, cut int) {
	t.Helper()
	from, to := newPair(t, shape, false)
	if w.raw {
		to = newEnd(t, shape, Options{Server: true})
	}
	var three [3][]byte
	for i, p := range []string{"one", "two", "three"} {
		three[i] = from.send(t, nil, []byte(p))
	}
	r := &receiver{end: to, room: always(100)}
	wire := w.make(three, from)
	for len(wire) > 0 && (r.err == nil || r.err == io.EOF) {
		n := min(cut, len(wire))
		r.err = nil
		if left := r.feed(t, wire[:n]); r.err == io.EOF {
			n -= len(left)
		}
		wire = wire[n:]
	}
	if r.err == nil || !strings.Contains(r.err.Error(), w.text) || string(r.all()) != w.data {
		t.Fatalf("cut %d: data %q, error %v, want %q and %q", cut, r.all(), r.err, w.data, w.text)
	}
	if errors.Is(r.err, session.ErrHandshake) != w.raw || errors.Is(r.err, io.EOF) {
		t.Errorf("error %v matches the wrong errors", r.err)
	}
	if _, used, _, err := to.Open(make([]byte, 10), nil); used != 0 || err != r.err {
		t.Errorf("the next Open: %v, used %d", err, used)
	}
	if refused := to.finishing; refused != (w.raw && !to.PeerDone()) {
		t.Errorf("the layer refuses by itself: %v", refused)
	}
}

// A handshake that fails brings a close that tells the other side why.
func TestRefusedHandshake(t *testing.T) {
	client, server := newEnd(t, Sealing, Options{}), newEnd(t, Framing, Options{Server: true})
	if _, _, _, err := server.Open(nil, client.Own(nil, true)); !errors.Is(err, session.ErrHandshake) {
		t.Fatal(err)
	}
	if !server.Pending() || server.Established() {
		t.Fatalf("pending %v, established %v", server.Pending(), server.Established())
	}
	_, _, _, err := client.Open(nil, server.Own(nil, true))
	var reason *session.CloseError
	if !errors.Is(err, session.ErrHandshake) || !errors.As(err, &reason) || !strings.Contains(reason.Reason, "the peer's shape is sealing, ours is framing") {
		t.Errorf("the client's error: %v", err)
	}
	if server.Pending() || client.Pending() {
		t.Error("something is pending after the last word")
	}
}

// Open takes the hello and leaves what is behind it.
func TestOpenLeavesWhatIsBehindTheHello(t *testing.T) {
	for _, cut := range []int{1, 1 << 20} {
		client, server := newEnd(t, Sealing, Options{}), newEnd(t, Sealing, Options{Server: true})
		wire := client.Own(nil, true)
		hello := len(wire)
		wire = client.send(t, wire, []byte("at once"))
		used := 0
		for !server.Established() {
			_, n, more, err := server.Open(nil, wire[used:min(used+cut, len(wire))])
			if more || err != nil {
				t.Fatal(more, err)
			}
			used += n
		}
		if used != hello {
			t.Fatalf("cut %d: %d bytes used for a hello of %d", cut, used, hello)
		}
		r := &receiver{end: server, room: always(100)}
		if r.feed(t, wire[used:]); string(r.all()) != "at once" || r.err != nil {
			t.Errorf("%q, %v", r.all(), r.err)
		}
	}
}

// A FIN at any byte but after the last word is truncation.
func TestTruncationAtEveryByte(t *testing.T) {
	bothWays(t, func(t *testing.T, shape Shape, server bool) {
		for at := 0; ; at++ {
			from, to := newPair(t, shape, server)
			wire := from.send(t, from.send(t, nil, []byte("first")), []byte("second"))
			from.Finish(errors.New("enough"))
			wire = from.Own(wire, true)
			r := &receiver{end: to, room: always(100)}
			r.feed(t, wire[:at])
			if !strings.HasPrefix("firstsecond", string(r.all())) {
				t.Fatalf("%d bytes: %q", at, r.all())
			}
			if at == len(wire) {
				var reason *session.CloseError
				if to.Ended() != nil || !errors.Is(r.err, io.EOF) || !errors.As(r.err, &reason) || *reason != (session.CloseError{Reason: "enough"}) {
					t.Errorf("at the end: %v, %v", to.Ended(), r.err)
				}
				return
			}
			if err := to.Ended(); err != session.ErrTruncated || !errors.Is(err, io.ErrUnexpectedEOF) || r.err != nil {
				t.Fatalf("%d of %d bytes: Ended %v, error %v", at, len(wire), err, r.err)
			}
		}
	})
	if err := newEnd(t, Sealing, Options{Server: true}).Ended(); err != session.ErrTruncated {
		t.Errorf("before the handshake: %v", err)
	}
}

// After Discard there is no data, and all else is as before.
func TestDiscard(t *testing.T) {
	bothWays(t, func(t *testing.T, shape Shape, server bool) {
		from, to := newPair(t, shape, server)
		wire := from.send(t, nil, pattern(1000))
		if shape == Sealing { // a part waits in the layer
			if _, _, more, err := to.Open(make([]byte, 10), wire); !more || err != nil {
				t.Fatal(more, err)
			}
			wire = nil
		}
		to.Discard()
		wire = from.send(t, wire, pattern(3000))
		if err := from.Probe([]byte("still there?")); err != nil {
			t.Fatal(err)
		}
		wire = from.Own(wire, true)
		r := &receiver{end: to, room: always(100)}
		r.feed(t, wire)
		if len(r.data) > 0 || r.err != nil || !to.Pending() {
			t.Errorf("%d bytes, error %v, pending %v", len(r.all()), r.err, to.Pending())
		}
		wire = from.send(t, nil, []byte("x"))
		wire[len(wire)-1] ^= 1
		if r.feed(t, wire); r.err == nil {
			t.Error("a wrong CRC is no error after Discard")
		}
	})
}

// In steady state Open, Seal and Own do not allocate.
func TestNoAllocation(t *testing.T) {
	bothWays(t, func(t *testing.T, shape Shape, server bool) {
		from, to := newPair(t, shape, server)
		plain, dst := pattern(3000), make([]byte, 8192)
		wire, back := make([]byte, 0, 8192), make([]byte, 0, 2048)
		framer := Framer{Server: server}
		if n := testing.AllocsPerRun(100, func() {
			wire = wire[:0]
			if shape == Sealing {
				wire, _ = from.sealer.Seal(wire, plain)
			} else {
				wire, _ = framer.Append(wire, plain)
			}
			_ = from.Probe(plain[:100])
			wire = from.Own(wire, true)
			got := 0
			for in := wire; len(in) > 0; { // 700 bytes at a time: records are cut
				piece := in[:min(700, len(in))]
				data, used, _, err := to.Open(dst, piece)
				if err != nil {
					t.Fatal(err)
				}
				got += len(data)
				in = in[used:]
			}
			back = to.Own(back[:0], true)
			if _, used, _, err := from.Open(dst, back); used != len(back) || err != nil || got != len(plain) {
				t.Fatal(used, err, got)
			}
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
		if c := from.Counts(); c.ProbesOut != c.Answered || c.Answered < 100 {
			t.Errorf("%+v", c)
		}
	})
}
