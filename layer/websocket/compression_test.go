package websocket_test

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/servercore-go/servercore/layer/websocket"
)

const rsv1 = 0x40

const offer = "Sec-WebSocket-Extensions: permessage-deflate"

// both is an answer that a client's layer takes.
const both = offer + "; server_no_context_takeover; client_no_context_takeover"

var compressing = websocket.Options{Compression: true}

// writers are made once for each level: one has more than a megabyte.
var writers = map[int]*flate.Writer{}

// deflated is p as a peer compresses it, with the standard library.
func deflated(t testing.TB, p string, level int) string {
	t.Helper()
	var b bytes.Buffer
	w := writers[level]
	if w == nil {
		var err error
		if w, err = flate.NewWriter(nil, level); err != nil {
			t.Fatal(err)
		}
		writers[level] = w
	}
	w.Reset(&b)
	_, err := w.Write([]byte(p))
	if err == nil {
		err = w.Flush()
	}
	out, found := strings.CutSuffix(b.String(), "\x00\x00\xff\xff")
	if err != nil || !found {
		t.Fatalf("%v, ends with %x", err, out)
	}
	return out
}

// bodies are payloads of n bytes of the kinds that groups 12.1 to 12.5 have: JSON, random, text of a novel, a page, one letter.
func bodies(n int) map[string]string {
	r := rand.New(rand.NewPCG(12, uint64(n)))
	var json, random, novel, page strings.Builder
	words := strings.Fields("Habe nun ach Philosophie Juristerei und Medizin und leider auch Theologie durchaus studiert mit hei\u00dfem Bem\u00fchn")
	for json.Len() < n || novel.Len() < n || page.Len() < n || random.Len() < n {
		fmt.Fprintf(&json, `{"id":%d,"name":"player%d","score":%d},`, r.IntN(10_000), r.IntN(100), r.IntN(1_000_000))
		fmt.Fprintf(&page, "<tr><td>%d</td><td class=%q>%s</td></tr>\n", r.IntN(1000), words[r.IntN(len(words))], words[r.IntN(len(words))])
		novel.WriteString(words[r.IntN(len(words))] + " ")
		random.WriteByte(byte(r.IntN(128)))
		random.WriteByte(byte(r.IntN(128)))
	}
	cut := func(s string) string { return strings.ToValidUTF8(s[:n], "?") }
	return map[string]string{"12.1": cut(json.String()), "12.2": cut(random.String()), "12.3": cut(novel.String()), "12.4": cut(page.String()),
		"12.5": strings.Repeat("*", n)}
}

// sizes are the lengths of messages of groups 12 and 13, and of their frames, 0 for one frame.
var sizes = [][2]int{{16, 0}, {64, 0}, {256, 0}, {1024, 0}, {4096, 0}, {8192, 0}, {16384, 0}, {32768, 0}, {65536, 0}, {131072, 0}, {8192, 256}, {16384, 256},
	{32768, 256}, {65536, 256}, {131072, 256}, {131072, 1024}, {131072, 4096}, {131072, 32768}}

// compressedFrames is a compressed message.
func compressedFrames(op byte, wire string, size int) []frame {
	if size == 0 {
		return []frame{{fin | rsv1 | op, wire}}
	}
	frames := split(op, wire, size)
	frames[0].first |= rsv1
	return frames
}

func TestAutobahn12And13Compressed(t *testing.T) {
	for i, size := range sizes {
		for group, p := range bodies(size[0]) {
			note(t, fmt.Sprintf("%s.%d", group, i+1))
			for side, client := range []bool{false, true} {
				if size[0] > 4096 && side == i%2 {
					continue // both sides for short messages, in turn for long ones
				}
				var frames []frame
				var messages []string
				for _, level := range []int{flate.BestSpeed, flate.DefaultCompression, flate.HuffmanOnly, flate.NoCompression} {
					wire := deflated(t, p, level)
					frames = append(frames, compressedFrames(text, wire, size[1])...)
					messages = append(messages, aText(p))
					if size[0] <= 4096 {
						frames = append(frames, compressedFrames(binaryOp, wire, size[1])...)
						messages = append(messages, aBinary(p))
					}
				}
				frames = append(frames, frame{fin | text, p}) // a message may be sent as it is
				messages = append(messages, aText(p))
				wire := encodeAll(!client, frames...)
				for k, c := range cuts(len(wire)) {
					if testing.Short() && k != i%3 {
						continue
					}
					room := []int{256 << 10, 1000, 0}[(i+k)%3]
					l := compressingSide(t, client)
					h := hear(t, l, wire, c, make([]byte, room), client)
					if !slices.Equal(h.messages, messages) || h.err != nil || !l.IsIdle() {
						t.Fatalf("%s.%d, client %v, %s, room for %d: %v, messages %q", group, i+1, client, c.name, room, h.err, h.messages)
					}
				}
			}
		}
	}
	noBuffers(t)
}

func compressingSide(t testing.TB, client bool) *websocket.Layer {
	t.Helper()
	if client {
		return dialled(t, compressing, both)
	}
	return accepted(t, compressing, offer)
}

// Each offer of group 13 is accepted; messages of each size come in, and go out as the standard library inflates them.
func TestAutobahn13Offers(t *testing.T) {
	const plain, takeover, bits8, bits15 = "permessage-deflate; client_no_context_takeover; client_max_window_bits", "; server_no_context_takeover",
		"; server_max_window_bits=8", "; server_max_window_bits=15"
	var layers []*websocket.Layer
	for k, offers := range []string{plain, plain + takeover, plain + bits8, plain + bits15, plain + takeover + bits8, plain + takeover + bits15,
		plain + takeover + bits8 + ", " + plain + takeover + ", " + plain} {
		layers = append(layers, accepted(t, compressing, "Sec-WebSocket-Extensions: "+offers))
		if !layers[k].Compressed() {
			t.Errorf("13.%d: %s was not accepted", k+1, offers)
		}
	}
	for i, size := range sizes {
		if testing.Short() && i%3 > 0 {
			continue
		}
		p := bodies(size[0])["12.1"]
		wire := encodeAll(true, compressedFrames(text, deflated(t, p, flate.DefaultCompression), size[1])...)
		for k, l := range layers {
			id := fmt.Sprintf("13.%d.%d", k+1, i+1)
			note(t, id)
			if h := hear(t, l, wire, cuts(len(wire))[1], make([]byte, 64<<10), false); h.err != nil || !slices.Equal(h.messages, []string{aText(p)}) {
				t.Fatalf("%s: %v, messages %q", id, h.err, h.messages)
			}
			out, err := l.Framer(1).Append(nil, []byte(p))
			if err != nil {
				t.Fatal(err)
			}
			f := decode(t, out, false)[0]
			if compressed := f.first&rsv1 != 0; compressed != (len(p) >= websocket.CompressAbove) {
				t.Errorf("%s: %d bytes: compressed %v", id, len(p), compressed)
			} else if compressed {
				f.payload = inflated(t, f.payload)
			}
			if f.payload != p {
				t.Errorf("%s: %d bytes went out as %d others", id, len(p), len(f.payload))
			}
		}
	}
	noBuffers(t)
}

// inflated is the payload of a compressed message as the standard library inflates it.
func inflated(t testing.TB, wire string) string {
	t.Helper()
	p, err := io.ReadAll(flate.NewReader(strings.NewReader(wire + "\x00\x00\xff\xff\x01\x00\x00\xff\xff"))) // and a block that is the last
	if err != nil {
		t.Fatal(err)
	}
	return string(p)
}

// What one side's framer makes is what the other side opens, whatever window was agreed on; and it is smaller, if it can be.
func TestAutobahn13WindowsOfTheFramer(t *testing.T) {
	for _, bits := range []int{8, 9, 11, 14, 15} {
		server := accepted(t, compressing, fmt.Sprintf("%s; server_max_window_bits=%d", offer, bits))
		client := dialled(t, compressing, fmt.Sprintf("%s; server_max_window_bits=%d", both, bits))
		for _, size := range []int{0, 1, 511, 512, 513, 4096, 40_000} {
			for group, p := range bodies(size) {
				for kind := range 2 {
					wire, err := server.Framer(kind).Append([]byte("before"), []byte(p))
					if err != nil || string(wire[:6]) != "before" {
						t.Fatal(err)
					}
					back, err := client.Framer(kind).Append(nil, []byte(p))
					if err != nil {
						t.Fatal(err)
					}
					if size >= 4096 && group != "12.2" && len(wire) > size*3/4 {
						t.Errorf("%d bits, %s: %d bytes became %d", bits, group, size, len(wire))
					}
					want := []string{aBinary(p), aText(p)}[kind]
					if h := hear(t, client, wire[6:], cuts(0)[0], nil, true); !slices.Equal(h.messages, []string{want}) {
						t.Errorf("%d bits, %s of %d: the client heard %v, %q", bits, group, size, h.err, h.messages)
					}
					if h := hear(t, server, back, cuts(0)[0], nil, false); !slices.Equal(h.messages, []string{want}) {
						t.Errorf("%d bits, %s of %d: the server heard %v, %q", bits, group, size, h.err, h.messages)
					}
				}
			}
		}
	}
	noBuffers(t)
}

// incompressible is n bytes that look random, always the same ones: how small a compressor makes bytes is theirs to say. With others each
// time, one of some 2,000 runs failed: of bytes in which it finds nothing the compressor looks at fewer and fewer, and now and then it looks
// past a repetition.
func incompressible(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{13}).Read(b)
	return b
}

// The compressor looks no further back than the window that the client has: random bytes that repeat after a window and a byte do not get
// smaller.
func TestAutobahn13WindowIsKept(t *testing.T) {
	for bits := 9; bits <= 14; bits++ {
		block := incompressible(1<<bits + 1)
		p := bytes.Repeat(block, 4)
		small, err := accepted(t, compressing, fmt.Sprintf("%s; server_max_window_bits=%d", offer, bits)).Framer(0).Append(nil, p)
		if err != nil {
			t.Fatal(err)
		}
		full, err := accepted(t, compressing, offer).Framer(0).Append(nil, p)
		if err != nil {
			t.Fatal(err)
		}
		if len(full) > len(p)/3 || len(small) < len(p) {
			t.Errorf("%d bits: %d bytes became %d, with the full window %d", bits, len(p), len(small), len(full))
		}
	}
}

// Which messages are compressed: those from CompressAbove on that get smaller. Control frames never are.
func TestWhatIsCompressed(t *testing.T) {
	l := accepted(t, compressing, offer)
	for _, tt := range []struct {
		payload string
		first   byte
	}{
		{strings.Repeat("a", websocket.CompressAbove-1), fin | binaryOp},
		{strings.Repeat("a", websocket.CompressAbove), fin | rsv1 | binaryOp},
		{string(incompressible(2000)), fin | binaryOp},
	} {
		wire, err := l.Framer(0).Append(nil, []byte(tt.payload))
		if err != nil || wire[0] != tt.first {
			t.Errorf("%d bytes: first byte %#x, want %#x, %v", len(tt.payload), wire[0], tt.first, err)
		}
	}
	wire, err := accepted(t, compressing).Framer(0).Append(nil, []byte(strings.Repeat("a", 5000)))
	if err != nil || wire[0] != fin|binaryOp {
		t.Errorf("not agreed on: first byte %#x, %v", wire[0], err)
	}
}

// Messages of RFC 7692, section 7.2.3, and others at the edge of what it says.
func TestCompressedForms(t *testing.T) {
	final := "\xf3\x48\xcd\xc9\xc9\x07\x00" // a final block, and the zero that follows it
	for _, tt := range []struct {
		name, wire string
		want       string
		code       int
	}{
		{"7.2.3.1, one block", "\xf2\x48\xcd\xc9\xc9\x07\x00", "Hello", 0},
		{"7.2.3.2, with the block before", "\xf2\x00\x11\x00\x00", "", 1007}, // needs the context, which was not agreed on
		{"7.2.3.3, stored", "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", "Hello", 0},
		{"7.2.3.4, final", final + "\x00", "Hello", 0},
		{"7.2.3.5, two blocks", "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", "Hello", 0},
		{"7.2.3.6, empty", "\x00", "", 0},
		{"empty, as zlib takes it", "", "", 0},
		{"two finals", final + final + "\x00", "HelloHello", 0},
		{"a final, and then a look back before it", final + "\xf2\x00\x11\x00\x00", "HelloHello", 0},
		{"16 finals", strings.Repeat("\x03\x00", 16) + "\x00", "", 0},
		{"17 finals", strings.Repeat("\x03\x00", 17) + "\x00", "", 1007},
		{"garbage", "\xff\xff\xff", "", 1007},
		{"a stored block that is cut", "\x00\x50\x00\xaf\xffHello", "", 1007},
		{"a distance before the beginning", "\x72\x04\x11\x00", "", 1007},
	} {
		for _, client := range []bool{false, true} {
			for _, room := range []int{100, 0} {
				l := compressingSide(t, client)
				h := hear(t, l, frame{fin | rsv1 | binaryOp, tt.wire}.encode(!client), cuts(100)[2], make([]byte, room), client)
				if code(h.err) != tt.code || tt.code == 0 && !slices.Equal(h.messages, []string{aBinary(tt.want)}) {
					t.Errorf("%s, client %v: %v, messages %q", tt.name, client, h.err, h.messages)
				}
			}
		}
	}
	noBuffers(t)
}

// Where the bit of a compressed message may not stand.
func TestCompressedBitOutOfPlace(t *testing.T) {
	hello := deflated(t, "Hello", 1)
	for name, tt := range map[string]struct {
		l      *websocket.Layer
		frames []frame
	}{
		"not agreed on":       {accepted(t, compressing), []frame{{fin | rsv1 | text, hello}}},
		"not wanted":          {accepted(t, websocket.Options{}, offer), []frame{{fin | rsv1 | text, hello}}},
		"in a continuation":   {accepted(t, compressing, offer), []frame{{rsv1 | text, hello[:2]}, {fin | rsv1 | cont, hello[2:]}}},
		"in a ping":           {accepted(t, compressing, offer), []frame{{fin | rsv1 | ping, ""}}},
		"in a close frame":    {accepted(t, compressing, offer), []frame{{fin | rsv1 | closeOp, ""}}},
		"with another bit":    {accepted(t, compressing, offer), []frame{{fin | rsv1 | 0x20 | text, hello}}},
		"of a server's frame": {dialled(t, compressing), []frame{{fin | rsv1 | text, hello}}},
	} {
		client := name == "of a server's frame"
		if h := hear(t, tt.l, encodeAll(!client, tt.frames...), cuts(0)[0], nil, client); code(h.err) != 1002 || h.messages != nil {
			t.Errorf("%s: %v, messages %q", name, h.err, h.messages)
		}
	}
}

// Text is checked after it was inflated.
func TestCompressedTextIsUTF8(t *testing.T) {
	for _, p := range []string{"\xff", greek[:len(greek)-1], strings.Repeat("a", 100_000) + "\xc0"} {
		l := accepted(t, compressing, offer)
		if h := hear(t, l, frame{fin | rsv1 | text, deflated(t, p, 1)}.encode(true), cuts(0)[0], nil, false); code(h.err) != 1007 {
			t.Errorf("%.20q: %v", p, h.err)
		}
	}
	noBuffers(t)
}

// A message that inflates to more than MaxMessage ends the session with 1009, and memory stays below that on the way. What is longer when
// it is compressed is taken within what deflate can add.
func TestMaxMessageOfCompressed(t *testing.T) {
	const most = 10_000
	for _, tt := range []struct {
		name, wire string
		code       int
	}{
		{"the most", deflated(t, strings.Repeat("a", most), 9), 0},
		{"a byte more", deflated(t, strings.Repeat("a", most+1), 9), 1009},
		{"a bomb", deflated(t, strings.Repeat("a", 8<<20), 9), 1009},
		{"the most, stored", deflated(t, strings.Repeat("a", most), 0), 0},
		{"an endless row of empty blocks", strings.Repeat("\x00\x00\x00\xff\xff", most), 1009},
	} {
		for _, room := range []int{0, 1000, most, most + 1, 64 << 10} {
			s := websocket.Options{Compression: true, MaxMessage: most}
			h := hear(t, accepted(t, s, offer), frame{fin | rsv1 | text, tt.wire}.encode(true), cuts(0)[0], make([]byte, room), false)
			if code(h.err) != tt.code || tt.code == 0 && len(h.messages) != 1 {
				t.Errorf("%s, room for %d: %v, messages %q", tt.name, room, h.err, h.messages)
			}
		}
	}
	noBuffers(t)
}

// A text message that is not UTF-8 is refused when it is sent, and a framer does not take messages apart.
func TestFramerRefuses(t *testing.T) {
	l := accepted(t, websocket.Options{})
	if wire, err := l.Framer(1).Append([]byte("x"), []byte("\xff")); err == nil || string(wire) != "x" {
		t.Errorf("%x, %v", wire, err)
	}
	if _, _, err := l.Framer(1).Split(nil); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("Split: %v", err)
	}
}

// A bound that no message reaches is none, with compression too.
func TestCompressedWithoutABound(t *testing.T) {
	o := compressing
	o.MaxMessage = math.MaxInt
	p := strings.Repeat("a", 100_000)
	l := accepted(t, o, offer)
	if h := hear(t, l, frame{fin | rsv1 | binaryOp, deflated(t, p, 1)}.encode(true), cuts(0)[0], nil, false); h.err != nil || !slices.Equal(h.messages, []string{aBinary(p)}) {
		t.Errorf("%v, %d messages", h.err, len(h.messages))
	}
	noBuffers(t)
}
